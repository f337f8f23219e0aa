// Package network makes and removes the bed's network.
//
// All programs of a bed run in one network namespace of its own, and pods in
// namespaces beside it. So its bridges, its packet filter rules and chains,
// its forwarding switch and its listening ports are never the machine's: they
// vanish with the namespace, whatever state they were left in. One pair of
// virtual interfaces and two routes connect the machine to it. The namespace
// has no default route: nothing in the bed reaches beyond the machine.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"quadraft.dev/bed/internal/config"
)

// controlLink is the bed's end of the link to the machine.
const controlLink = "control"

// Conflict tells whether a route of the machine already leads into one of the
// bed's networks.
func Conflict(bed config.Bed, routes []netip.Prefix) error {
	for _, route := range routes {
		for name, network := range map[string]netip.Prefix{"POD": bed.PodNetwork, "SERVICE": bed.ServiceNetwork} {
			if route.Bits() > 0 && route.Overlaps(network) {
				return fmt.Errorf("the machine has a route to %s, which overlaps the bed's network %s: choose another with QUADRAFT_BED_%s_NETWORK", route, network, name)
			}
		}
	}
	return nil
}

// Check tells whether the bed's names and networks are free on the machine.
func Check(bed config.Bed) error {
	if _, err := netlink.LinkByName(bed.HostLink); err == nil {
		return fmt.Errorf("the machine has a network interface %s already: choose another name with QUADRAFT_BED_LINK, or take down the bed that it belongs to", bed.HostLink)
	}
	found, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var routes []netip.Prefix
	for _, route := range found {
		if route.Dst == nil {
			continue
		}
		address, isAddress := netip.AddrFromSlice(route.Dst.IP)
		bits, _ := route.Dst.Mask.Size()
		if isAddress {
			routes = append(routes, netip.PrefixFrom(address.Unmap(), bits))
		}
	}
	return Conflict(bed, routes)
}

// Up makes the namespace, the link, the routes and one bridge for each node.
func Up(bed config.Bed) error {
	if err := makeNamespace(bed.NetworkNamespace()); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	namespace, err := os.Open(bed.NetworkNamespace())
	if err != nil {
		return err
	}
	defer func() { _ = namespace.Close() }()

	attributes := netlink.NewLinkAttrs()
	attributes.Name = bed.HostLink
	link := &netlink.Veth{LinkAttrs: attributes, PeerName: controlLink, PeerNamespace: netlink.NsFd(int(namespace.Fd()))}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add the link %s: %w", bed.HostLink, err)
	}
	if err := configure(link, bed.HostAddress, bed.ControlNetwork.Bits()); err != nil {
		return err
	}
	err = Inside(bed, func() error {
		for _, file := range []string{"/proc/sys/net/ipv4/ip_forward"} {
			if err := os.WriteFile(file, []byte("1"), 0); err != nil {
				return err
			}
		}
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(loopback); err != nil {
			return err
		}
		control, err := netlink.LinkByName(controlLink)
		if err != nil {
			return err
		}
		if err := configure(control, bed.ControlAddress, bed.ControlNetwork.Bits()); err != nil {
			return err
		}
		for _, node := range bed.Nodes {
			if err := addBridge(node); err != nil {
				return fmt.Errorf("bridge of %s: %w", node.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, network := range []netip.Prefix{bed.PodNetwork, bed.ServiceNetwork} {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: toNet(network), Gw: net.IP(bed.ControlAddress.AsSlice())}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("route to %s: %w", network, err)
		}
	}
	return nil
}

// Down removes the link; the routes go with it. The namespace is a mount in
// the state folder and goes with the other mounts.
func Down(bed config.Bed) error {
	link, err := netlink.LinkByName(bed.HostLink)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the link %s: %w", bed.HostLink, err)
	}
	if link.Type() != "veth" {
		return fmt.Errorf("%s is not the bed's link but of type %s: it stays", bed.HostLink, link.Type())
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove the link %s: %w", bed.HostLink, err)
	}
	return nil
}

// Inside runs a function in the bed's network namespace; what it starts stays
// there.
func Inside(bed config.Bed, action func() error) error {
	namespace, err := os.Open(bed.NetworkNamespace())
	if err != nil {
		return err
	}
	defer func() { _ = namespace.Close() }()
	return onOwnThread(func() error {
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return action()
	})
}

func makeNamespace(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
}

// onOwnThread runs a function on a thread that ends with it, so that no other
// code of this process ever finds itself in another namespace.
func onOwnThread(action func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		result <- action()
	}()
	return <-result
}

func addBridge(node config.Node) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = node.Bridge
	// An address of its own: otherwise the bridge takes the lowest of its
	// ports', which changes as pods come and go, and neighbours lose it.
	address := node.Address.As4()
	attributes.HardwareAddr = net.HardwareAddr{0x02, 0x71, address[0], address[1], address[2], address[3]}
	bridge := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	return configure(bridge, node.Address, node.Network.Bits())
}

func configure(link netlink.Link, address netip.Addr, bits int) error {
	name := link.Attrs().Name
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, 32)}}); err != nil {
		return fmt.Errorf("address %s of %s: %w", address, name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

func toNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}

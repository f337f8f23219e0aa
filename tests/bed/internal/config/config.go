// Package config says where everything of one bed lives: folders, addresses
// and nodes. All of it follows from a handful of settings, so that a bed can
// be found again, and taken down, from its state folder alone.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Settings are what a user may choose. They are stored in the state folder at
// `up`, and later commands read them from there.
type Settings struct {
	StateFolder    string       `json:"stateFolder"`
	PodNetwork     netip.Prefix `json:"podNetwork"`
	ServiceNetwork netip.Prefix `json:"serviceNetwork"`
	HostLink       string       `json:"hostLink"`
	NodeCount      int          `json:"nodeCount"`
}

// Bed is one bed with all that follows from its settings.
type Bed struct {
	Settings
	// HostAddress is the machine's end of the link into the bed.
	HostAddress netip.Addr
	// ControlAddress is the bed's end: the API server, etcd, DNS and the other
	// parts that belong to no node listen there.
	ControlAddress netip.Addr
	// ControlNetwork is the network of that link.
	ControlNetwork netip.Prefix
	// APIServiceAddress is the cluster address of the service `kubernetes`.
	APIServiceAddress netip.Addr
	Nodes             []Node
}

// Node is one kubelet with its own container runtime, pods and volumes. The
// nodes of a bed share its network namespace, each with a bridge and a pod
// network of its own.
type Node struct {
	Name    string
	Folder  string
	Bridge  string
	Network netip.Prefix
	// Address is the node's own address: that of its bridge.
	Address netip.Addr
	// CgroupRoot is below the bed's; the kubelet puts all pods under it.
	CgroupRoot string
}

const (
	defaultStateFolder    = "/var/lib/quadraft-bed"
	defaultPodNetwork     = "10.244.0.0/16"
	defaultServiceNetwork = "10.96.0.0/16"
	defaultHostLink       = "quadraft0"

	// APIPort is where the API server listens on the control address.
	APIPort = 6443
	// ClusterDomain is the DNS domain of the cluster.
	ClusterDomain = "cluster.local"
	// KubernetesVersion is that of the Kubernetes modules in go.mod.
	KubernetesVersion = "v1.34.4"
)

// FromEnvironment reads the settings by a function like os.Getenv.
func FromEnvironment(getenv func(string) string) (Settings, error) {
	value := func(name, fallback string) string {
		if text := getenv(name); text != "" {
			return text
		}
		return fallback
	}
	stateFolder, err := filepath.Abs(value("QUADRAFT_BED_STATE", defaultStateFolder))
	if err != nil {
		return Settings{}, fmt.Errorf("QUADRAFT_BED_STATE: %w", err)
	}
	podNetwork, err := netip.ParsePrefix(value("QUADRAFT_BED_POD_NETWORK", defaultPodNetwork))
	if err != nil {
		return Settings{}, fmt.Errorf("QUADRAFT_BED_POD_NETWORK: %w", err)
	}
	serviceNetwork, err := netip.ParsePrefix(value("QUADRAFT_BED_SERVICE_NETWORK", defaultServiceNetwork))
	if err != nil {
		return Settings{}, fmt.Errorf("QUADRAFT_BED_SERVICE_NETWORK: %w", err)
	}
	return Settings{
		StateFolder:    stateFolder,
		PodNetwork:     podNetwork,
		ServiceNetwork: serviceNetwork,
		HostLink:       value("QUADRAFT_BED_LINK", defaultHostLink),
		NodeCount:      1,
	}, nil
}

// New checks the settings and works out everything else.
func New(settings Settings) (Bed, error) {
	if !filepath.IsAbs(settings.StateFolder) || filepath.Clean(settings.StateFolder) == "/" {
		return Bed{}, fmt.Errorf("the state folder %q is not an absolute path below the root", settings.StateFolder)
	}
	settings.StateFolder = filepath.Clean(settings.StateFolder)
	// The longest socket path of the kernel is 107 bytes; ours add less than 60.
	if len(settings.StateFolder) > 45 {
		return Bed{}, fmt.Errorf("the state folder %q is longer than 45 bytes: sockets in it would not open", settings.StateFolder)
	}
	if len(settings.HostLink) == 0 || len(settings.HostLink) > 15 {
		return Bed{}, fmt.Errorf("the link name %q is not between 1 and 15 bytes long", settings.HostLink)
	}
	if settings.NodeCount < 1 || settings.NodeCount > 200 {
		return Bed{}, fmt.Errorf("a bed has between 1 and 200 nodes, not %d", settings.NodeCount)
	}
	for name, network := range map[string]netip.Prefix{"pod": settings.PodNetwork, "service": settings.ServiceNetwork} {
		if !network.Addr().Is4() || network.Bits() != 16 || network != network.Masked() {
			return Bed{}, fmt.Errorf("the %s network %s is not an IPv4 network with 16 bits such as 10.244.0.0/16", name, network)
		}
	}
	if settings.PodNetwork.Overlaps(settings.ServiceNetwork) {
		return Bed{}, fmt.Errorf("the pod network %s and the service network %s overlap", settings.PodNetwork, settings.ServiceNetwork)
	}
	bed := Bed{Settings: settings}
	// The first networks of the pods' sixteen bits are the nodes', the last is
	// the control link's.
	bed.ControlNetwork = subnet(settings.PodNetwork, 255)
	bed.HostAddress = host(bed.ControlNetwork, 1)
	bed.ControlAddress = host(bed.ControlNetwork, 2)
	bed.APIServiceAddress = host(settings.ServiceNetwork, 1)
	for index := range settings.NodeCount {
		name := fmt.Sprintf("node-%d", index)
		network := subnet(settings.PodNetwork, byte(index))
		bed.Nodes = append(bed.Nodes, Node{
			Name:       name,
			Folder:     bed.Path("nodes", name),
			Bridge:     fmt.Sprintf("bridge%d", index),
			Network:    network,
			Address:    host(network, 1),
			CgroupRoot: bed.CgroupRoot() + "/" + name,
		})
	}
	return bed, nil
}

func subnet(network netip.Prefix, third byte) netip.Prefix {
	bytes := network.Addr().As4()
	bytes[2] = third
	return netip.PrefixFrom(netip.AddrFrom4(bytes), 24)
}

func host(network netip.Prefix, last byte) netip.Addr {
	bytes := network.Addr().As4()
	bytes[3] = last
	return netip.AddrFrom4(bytes)
}

// Path is a path in the state folder.
func (bed Bed) Path(elements ...string) string {
	return filepath.Join(append([]string{bed.StateFolder}, elements...)...)
}

// Identity tells this bed from any other on the machine.
func (bed Bed) Identity() string {
	digest := sha256.Sum256([]byte(bed.StateFolder))
	return hex.EncodeToString(digest[:4])
}

// CgroupRoot is the cgroup that holds all pods, in every hierarchy.
func (bed Bed) CgroupRoot() string { return "/quadraft-bed-" + bed.Identity() }

// NetworkName names the pod network to the CNI plugins.
func (bed Bed) NetworkName() string { return "quadraft-bed-" + bed.Identity() }

// NetworkNamespace is the file that keeps the bed's network namespace.
func (bed Bed) NetworkNamespace() string { return bed.Path("network-namespace") }

// Kubeconfig is the administrator's.
func (bed Bed) Kubeconfig() string { return bed.Path("kubeconfig") }

// Log is where a component writes.
func (bed Bed) Log(component string) string { return bed.Path("logs", component+".log") }

// APIServerURL is how everything but pods reaches the API server.
func (bed Bed) APIServerURL() string {
	return fmt.Sprintf("https://%s:%d", bed.ControlAddress, APIPort)
}

// Node finds a node by its name.
func (bed Bed) Node(name string) (Node, bool) {
	for _, node := range bed.Nodes {
		if node.Name == name {
			return node, true
		}
	}
	return Node{}, false
}

// Path is a path in the node's folder.
func (node Node) Path(elements ...string) string {
	return filepath.Join(append([]string{node.Folder}, elements...)...)
}

// ContainerdSocket is where the node's container runtime listens.
func (node Node) ContainerdSocket() string { return node.Path("run", "containerd.sock") }

// Volumes holds one folder for each of the node's persistent volumes.
func (node Node) Volumes() string { return node.Path("volumes") }

const settingsFile = "settings.json"

// Load reads the settings of the bed that was brought up in a state folder;
// false when there is none.
func Load(stateFolder string) (Settings, bool, error) {
	content, err := os.ReadFile(filepath.Join(stateFolder, settingsFile))
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, false, nil
	}
	if err != nil {
		return Settings{}, false, err
	}
	var settings Settings
	if err := json.Unmarshal(content, &settings); err != nil {
		// A kill may have come while it was written; then nothing that depends
		// on it was made yet.
		return Settings{}, false, nil
	}
	// The folder may have been reached by another path than before.
	settings.StateFolder = filepath.Clean(stateFolder)
	return settings, true, nil
}

// Store writes the settings into the state folder.
func (bed Bed) Store() error {
	content, err := json.MarshalIndent(bed.Settings, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(bed.Path(settingsFile), append(content, '\n'), 0o644)
}

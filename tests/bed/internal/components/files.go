package components

import (
	"encoding/json"
	"fmt"

	"quadraft.dev/bed/internal/config"
)

// PauseImage is the image that holds a pod's namespaces open.
const PauseImage = "quadraft.dev/bed/pause:1"

type object = map[string]any

// KubeletConfiguration is the content of a node's kubelet file.
func KubeletConfiguration(bed config.Bed, node config.Node) ([]byte, error) {
	name := KubeletName(node)
	return json.MarshalIndent(object{
		"apiVersion":         "kubelet.config.k8s.io/v1beta1",
		"kind":               "KubeletConfiguration",
		"address":            node.Address.String(),
		"healthzBindAddress": node.Address.String(),
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": authority(bed)},
		},
		"authorization":            object{"mode": "Webhook"},
		"tlsCertFile":              certificate(bed, name),
		"tlsPrivateKeyFile":        key(bed, name),
		"clusterDNS":               []string{bed.ControlAddress.String()},
		"clusterDomain":            config.ClusterDomain,
		"resolvConf":               "/dev/null",
		"containerRuntimeEndpoint": "unix://" + node.ContainerdSocket(),
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               node.CgroupRoot,
		"enforceNodeAllocatable":   []string{},
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		// The bed has no rules against martians to add, and kube-proxy has its own.
		"makeIPTablesUtilChains": false,
		"podLogsDir":             node.Path("pod-logs"),
		"volumePluginDir":        node.Path("volume-plugins"),
		// Images come from no registry: one that is collected is lost.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard": map[string]string{
			"memory.available":  "50Mi",
			"nodefs.available":  "1%",
			"nodefs.inodesFree": "1%",
			"imagefs.available": "1%",
		},
	}, "", "  ")
}

// ProxyConfiguration is the content of kube-proxy's file.
func ProxyConfiguration(bed config.Bed) ([]byte, error) {
	return json.MarshalIndent(object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"bindAddress":        bed.ControlAddress.String(),
		"clientConnection":   object{"kubeconfig": KubeconfigOf(bed, "kube-proxy")},
		"clusterCIDR":        bed.PodNetwork.String(),
		"detectLocalMode":    "ClusterCIDR",
		"healthzBindAddress": bed.ControlAddress.String() + ":10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"hostnameOverride":   bed.Nodes[0].Name,
		"mode":               "iptables",
		"oomScoreAdj":        0,
		"iptables": object{
			// Answers between pods of one bridge would not come back through
			// the translation where the kernel filters no bridged packets.
			"masqueradeAll":      true,
			"localhostNodePorts": false,
			"minSyncPeriod":      "100ms",
		},
		// Zero leaves the machine's own limits and times alone.
		"conntrack": object{
			"maxPerCore":            0,
			"min":                   0,
			"tcpEstablishedTimeout": "0s",
			"tcpCloseWaitTimeout":   "0s",
		},
	}, "", "  ")
}

// Corefile is CoreDNS's configuration: the cluster's names, fresh from the API
// (no cache), and "no such name" for everything else.
func Corefile(bed config.Bed) []byte {
	return fmt.Appendf(nil, `%[2]s in-addr.arpa ip6.arpa {
	bind %[1]s
	errors
	kubernetes %[2]s in-addr.arpa ip6.arpa {
		kubeconfig %[3]s
		pods insecure
		ttl 1
	}
}

. {
	bind %[1]s
	errors
	template ANY ANY . {
		rcode NXDOMAIN
	}
}
`, bed.ControlAddress, config.ClusterDomain, KubeconfigOf(bed, "coredns"))
}

// ContainerdConfiguration is the content of a node's container runtime file.
// Every folder that has a default outside the node's is moved into it.
func ContainerdConfiguration(node config.Node, networkPlugins string) []byte {
	return fmt.Appendf(nil, `version = 2
root = %q
state = %q
temp = %q
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = %q

[ttrpc]
  address = %q

[plugins."io.containerd.internal.v1.opt"]
  path = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # The machine may not let anybody lower the score of a process.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = %q
        SystemdCgroup = false
`,
		node.Path("containerd"), node.Path("run", "containerd"), node.Path("temporary"),
		node.ContainerdSocket(), node.ContainerdSocket()+".ttrpc", node.Path("opt"), PauseImage,
		networkPlugins, node.Path("network-configuration"), node.Path("run", "runc"))
}

// NetworkConfiguration is the pod network of a node, for the CNI plugins.
func NetworkConfiguration(bed config.Bed, node config.Node) ([]byte, error) {
	return json.MarshalIndent(object{
		"cniVersion": "0.4.0",
		"name":       bed.NetworkName(),
		"plugins": []object{{
			"type":        "bridge",
			"bridge":      node.Bridge,
			"isGateway":   true,
			"ipMasq":      false,
			"hairpinMode": true,
			"ipam": object{
				"type":    "host-local",
				"dataDir": node.Path("addresses"),
				"ranges":  [][]object{{{"subnet": node.Network.String(), "gateway": node.Address.String()}}},
				"routes":  []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	}, "", "  ")
}

// Package components says how each program of the bed is configured: its
// arguments, files, certificates and rights.
package components

import (
	"fmt"

	"quadraft.dev/bed/internal/config"
)

const etcdURL = "https://127.0.0.1:2379"

// EtcdArguments are those of the one etcd. Everything of a bed is thrown away
// after a crash of the machine, so its writes need not be durable.
func EtcdArguments(bed config.Bed) []string {
	return []string{
		"--name=bed",
		"--data-dir=" + bed.Path("etcd"),
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=bed=http://127.0.0.1:2380",
		"--cert-file=" + certificate(bed, "etcd"),
		"--key-file=" + key(bed, "etcd"),
		"--client-cert-auth=true",
		"--trusted-ca-file=" + authority(bed),
		"--unsafe-no-fsync=true",
	}
}

// APIServerArguments are those of the API server.
func APIServerArguments(bed config.Bed) []string {
	return []string{
		"--advertise-address=" + bed.ControlAddress.String(),
		"--bind-address=" + bed.ControlAddress.String(),
		fmt.Sprintf("--secure-port=%d", config.APIPort),
		"--etcd-servers=" + etcdURL,
		"--etcd-cafile=" + authority(bed),
		"--etcd-certfile=" + certificate(bed, "etcd-client"),
		"--etcd-keyfile=" + key(bed, "etcd-client"),
		"--client-ca-file=" + authority(bed),
		// Nobody has a certificate of this name. Without these settings other
		// components complain every minute that there are none.
		"--requestheader-client-ca-file=" + authority(bed),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--tls-cert-file=" + certificate(bed, "kube-apiserver"),
		"--tls-private-key-file=" + key(bed, "kube-apiserver"),
		"--kubelet-certificate-authority=" + authority(bed),
		"--kubelet-client-certificate=" + certificate(bed, "kubelet-client"),
		"--kubelet-client-key=" + key(bed, "kubelet-client"),
		// Nodes have no names that anything resolves.
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		// Policies that change objects, which meshes would do by webhooks.
		"--feature-gates=MutatingAdmissionPolicy=true",
		"--runtime-config=admissionregistration.k8s.io/v1beta1=true",
		"--service-account-issuer=https://kubernetes.default.svc." + config.ClusterDomain,
		"--service-account-key-file=" + certificate(bed, "service-account"),
		"--service-account-signing-key-file=" + key(bed, "service-account"),
		"--service-cluster-ip-range=" + bed.ServiceNetwork.String(),
		"--allow-privileged=true",
		"--profiling=false",
	}
}

// ControllerManagerArguments are those of the controller manager.
func ControllerManagerArguments(bed config.Bed) []string {
	return append(clientArguments(bed, "kube-controller-manager"),
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+key(bed, "service-account"),
		"--root-ca-file="+authority(bed),
		"--cluster-signing-cert-file="+authority(bed),
		"--cluster-signing-key-file="+key(bed, "authority"),
		"--cluster-cidr="+bed.PodNetwork.String(),
		"--service-cluster-ip-range="+bed.ServiceNetwork.String(),
		// Its default is a folder of the machine's, which it would make.
		"--flex-volume-plugin-dir="+bed.Path("volume-plugins"),
		"--profiling=false",
	)
}

// SchedulerArguments are those of the scheduler.
func SchedulerArguments(bed config.Bed) []string {
	return append(clientArguments(bed, "kube-scheduler"), "--leader-elect=false", "--profiling=false")
}

func clientArguments(bed config.Bed, name string) []string {
	kubeconfig := KubeconfigOf(bed, name)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + bed.ControlAddress.String(),
		"--tls-cert-file=" + certificate(bed, name),
		"--tls-private-key-file=" + key(bed, name),
	}
}

// KubeletArguments are those of a node's kubelet; the rest is in its file.
func KubeletArguments(bed config.Bed, node config.Node) []string {
	return []string{
		"--config=" + node.Path("kubelet.json"),
		"--kubeconfig=" + KubeconfigOf(bed, KubeletName(node)),
		"--hostname-override=" + node.Name,
		"--node-ip=" + node.Address.String(),
		"--root-dir=" + node.Path("kubelet"),
		"--cert-dir=" + node.Path("kubelet-certificates"),
		"--node-labels=topology.kubernetes.io/zone=" + node.Name,
	}
}

// ProxyArguments are those of kube-proxy. All nodes share the bed's network
// namespace, so one serves them all.
func ProxyArguments(bed config.Bed) []string {
	return []string{"--config=" + bed.Path("kube-proxy.json")}
}

// ContainerdArguments are those of a node's container runtime.
func ContainerdArguments(node config.Node) []string {
	return []string{"--config", node.Path("containerd.toml")}
}

// DNSArguments are those of CoreDNS.
func DNSArguments(bed config.Bed) []string {
	return []string{"-conf", bed.Path("Corefile")}
}

// KubeletName and ContainerdName name a node's programs.
func KubeletName(node config.Node) string { return "kubelet-" + node.Name }

// ContainerdName names a node's container runtime.
func ContainerdName(node config.Node) string { return "containerd-" + node.Name }

func authority(bed config.Bed) string                { return certificate(bed, "authority") }
func certificate(bed config.Bed, name string) string { return bed.Path("certificates", name+".crt") }
func key(bed config.Bed, name string) string         { return bed.Path("certificates", name+".key") }

// KubeconfigOf is the path of a component's kubeconfig.
func KubeconfigOf(bed config.Bed, name string) string {
	return bed.Path("certificates", name+".kubeconfig")
}

package components

import (
	"net/netip"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"quadraft.dev/bed/internal/certificates"
	"quadraft.dev/bed/internal/config"
)

// credential is one certificate; some come with a kubeconfig.
type credential struct {
	name       string
	request    certificates.Request
	kubeconfig string
}

func credentials(bed config.Bed) []credential {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	control := []netip.Addr{bed.ControlAddress, loopback}
	service := "kubernetes.default.svc"
	list := []credential{
		{"etcd", certificates.Request{User: "etcd", Addresses: control}, ""},
		{"etcd-client", certificates.Request{User: "kube-apiserver"}, ""},
		{"kube-apiserver", certificates.Request{
			User:      "kube-apiserver",
			Names:     []string{"localhost", "kubernetes", "kubernetes.default", service, service + "." + config.ClusterDomain},
			Addresses: append(control, bed.APIServiceAddress),
		}, ""},
		{"kubelet-client", certificates.Request{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}}, ""},
		{"kube-controller-manager", certificates.Request{User: "system:kube-controller-manager", Addresses: control}, KubeconfigOf(bed, "kube-controller-manager")},
		{"kube-scheduler", certificates.Request{User: "system:kube-scheduler", Addresses: control}, KubeconfigOf(bed, "kube-scheduler")},
		{"kube-proxy", certificates.Request{User: "system:kube-proxy"}, KubeconfigOf(bed, "kube-proxy")},
		{"coredns", certificates.Request{User: dnsUser}, KubeconfigOf(bed, "coredns")},
		{"provisioner", certificates.Request{User: provisionerUser}, KubeconfigOf(bed, "provisioner")},
		{"administrator", certificates.Request{User: "administrator", Groups: []string{"system:masters"}}, bed.Kubeconfig()},
	}
	for _, node := range bed.Nodes {
		name := KubeletName(node)
		list = append(list, credential{name, certificates.Request{
			User:      "system:node:" + node.Name,
			Groups:    []string{"system:nodes"},
			Names:     []string{node.Name},
			Addresses: []netip.Addr{node.Address},
		}, KubeconfigOf(bed, name)})
	}
	return list
}

// WriteCredentials makes a new authority with all keys, certificates and
// kubeconfigs of the bed.
func WriteCredentials(bed config.Bed, now time.Time) error {
	authority, err := certificates.NewAuthority(now)
	if err != nil {
		return err
	}
	pair := certificates.Pair{Certificate: authority.PEM, Key: authority.KeyPEM}
	if err := pair.Write(bed.Path("certificates", "authority")); err != nil {
		return err
	}
	accounts, err := certificates.NewServiceAccountKey()
	if err != nil {
		return err
	}
	if err := accounts.Write(bed.Path("certificates", "service-account")); err != nil {
		return err
	}
	for _, credential := range credentials(bed) {
		pair, err := authority.Issue(credential.request, now)
		if err != nil {
			return err
		}
		if err := pair.Write(bed.Path("certificates", credential.name)); err != nil {
			return err
		}
		if credential.kubeconfig == "" {
			continue
		}
		content, err := Kubeconfig(bed, authority.PEM, pair, credential.request.User)
		if err != nil {
			return err
		}
		if err := os.WriteFile(credential.kubeconfig, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig is one that needs no other file.
func Kubeconfig(bed config.Bed, authority []byte, pair certificates.Pair, user string) ([]byte, error) {
	const name = "quadraft-bed"
	content := clientcmdapi.NewConfig()
	content.Clusters[name] = &clientcmdapi.Cluster{Server: bed.APIServerURL(), CertificateAuthorityData: authority}
	content.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Certificate, ClientKeyData: pair.Key}
	content.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	content.CurrentContext = name
	return clientcmd.Write(*content)
}

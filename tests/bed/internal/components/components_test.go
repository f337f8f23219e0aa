package components

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"quadraft.dev/bed/internal/certificates"
	"quadraft.dev/bed/internal/config"
)

func newBed(t *testing.T, nodes int) config.Bed {
	t.Helper()
	settings, err := config.FromEnvironment(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	settings.NodeCount = nodes
	bed, err := config.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	return bed
}

// allowed are the only paths outside the state folder that a component names.
var allowed = []string{"/dev/null", "/usr/lib/cni"}

func TestNoComponentIsPointedOutsideTheStateFolder(t *testing.T) {
	bed := newBed(t, 2)
	var texts []string
	for _, arguments := range [][]string{
		EtcdArguments(bed), APIServerArguments(bed), ControllerManagerArguments(bed), SchedulerArguments(bed),
		ProxyArguments(bed), DNSArguments(bed), KubeletArguments(bed, bed.Nodes[1]), ContainerdArguments(bed.Nodes[1]),
	} {
		texts = append(texts, arguments...)
	}
	texts = append(texts, strings.Fields(string(ContainerdConfiguration(bed.Nodes[1], "/usr/lib/cni")))...)
	for _, text := range texts {
		_, value, found := strings.Cut(text, "=")
		if !found {
			value = text
		}
		value = strings.Trim(value, `"`)
		if strings.HasPrefix(value, "/") && !strings.HasPrefix(value, bed.StateFolder+"/") && !slices.Contains(allowed, value) {
			t.Errorf("%q is outside %s", text, bed.StateFolder)
		}
	}
}

func TestFilesAreValidAndOfTheirNode(t *testing.T) {
	bed := newBed(t, 2)
	kubelet, err := KubeletConfiguration(bed, bed.Nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	pods, err := NetworkConfiguration(bed, bed.Nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := ProxyConfiguration(bed)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"kubelet": kubelet, "network": pods, "proxy": proxy} {
		if !json.Valid(content) {
			t.Errorf("%s is not JSON", name)
		}
	}
	for _, wanted := range []string{`"10.244.1.1"`, bed.Nodes[1].CgroupRoot, bed.Nodes[1].ContainerdSocket()} {
		if !strings.Contains(string(kubelet), wanted) {
			t.Errorf("the kubelet's file lacks %s", wanted)
		}
	}
	for _, wanted := range []string{`"bridge1"`, `"10.244.1.0/24"`} {
		if !strings.Contains(string(pods), wanted) {
			t.Errorf("the network's file lacks %s", wanted)
		}
	}
	if strings.Contains(string(kubelet)+string(pods), bed.Nodes[0].Folder) {
		t.Error("the second node's files name the first node's folder")
	}
}

func TestEveryNodeHasItsOwnIdentity(t *testing.T) {
	bed := newBed(t, 3)
	users := map[string]bool{}
	for _, credential := range credentials(bed) {
		if slices.Contains(credential.request.Groups, "system:nodes") {
			users[credential.request.User] = true
		}
	}
	for _, node := range bed.Nodes {
		if !users["system:node:"+node.Name] {
			t.Errorf("%s has no certificate", node.Name)
		}
	}
	if len(users) != len(bed.Nodes) {
		t.Errorf("%d identities for %d nodes", len(users), len(bed.Nodes))
	}
}

func TestOnlyTheAdministratorAndTheApiServerAreMasters(t *testing.T) {
	var masters []string
	for _, credential := range credentials(newBed(t, 1)) {
		if slices.Contains(credential.request.Groups, "system:masters") {
			masters = append(masters, credential.name)
		}
	}
	if !slices.Equal(masters, []string{"kubelet-client", "administrator"}) {
		t.Errorf("masters: %v", masters)
	}
}

func TestAKubeconfigStandsAlone(t *testing.T) {
	bed := newBed(t, 1)
	authority, err := certificates.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(certificates.Request{User: "someone"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	content, err := Kubeconfig(bed, authority.PEM, pair, "someone")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Host != bed.APIServerURL() || len(loaded.CertData) == 0 || len(loaded.CAData) == 0 || loaded.CertFile != "" {
		t.Errorf("loaded %+v", loaded)
	}
}

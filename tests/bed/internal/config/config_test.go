package config

import (
	"net/netip"
	"strings"
	"testing"
)

func settings(t *testing.T, environment map[string]string) Settings {
	t.Helper()
	settings, err := FromEnvironment(func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestAddressesFollowFromTheNetworks(t *testing.T) {
	bed, err := New(settings(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"host":    {bed.HostAddress.String(), "10.244.255.1"},
		"control": {bed.ControlAddress.String(), "10.244.255.2"},
		"service": {bed.APIServiceAddress.String(), "10.96.0.1"},
		"node":    {bed.Nodes[0].Address.String(), "10.244.0.1"},
		"network": {bed.Nodes[0].Network.String(), "10.244.0.0/24"},
		"url":     {bed.APIServerURL(), "https://10.244.255.2:6443"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %s, want %s", what, pair[0], pair[1])
		}
	}
}

func TestNodesShareNothing(t *testing.T) {
	chosen := settings(t, nil)
	chosen.NodeCount = 5
	bed, err := New(chosen)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, node := range bed.Nodes {
		for _, thing := range []string{node.Folder, node.Bridge, node.Address.String(), node.CgroupRoot, node.ContainerdSocket(), node.Volumes()} {
			if other, taken := seen[thing]; taken {
				t.Errorf("%s and %s share %s", node.Name, other, thing)
			}
			seen[thing] = node.Name
		}
		if node.Network.Overlaps(bed.ControlNetwork) {
			t.Errorf("%s overlaps the control network", node.Name)
		}
		if !bed.PodNetwork.Contains(node.Address) {
			t.Errorf("%s is outside the pod network", node.Name)
		}
	}
}

func TestEverySettingIsTakenFromTheEnvironment(t *testing.T) {
	got := settings(t, map[string]string{
		"QUADRAFT_BED_STATE":           "/srv/bed/",
		"QUADRAFT_BED_POD_NETWORK":     "10.20.0.0/16",
		"QUADRAFT_BED_SERVICE_NETWORK": "10.30.0.0/16",
		"QUADRAFT_BED_LINK":            "other0",
	})
	want := Settings{"/srv/bed", netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.30.0.0/16"), "other0", 1}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"overlapping networks":   func(s *Settings) { s.ServiceNetwork = s.PodNetwork },
		"a small pod network":    func(s *Settings) { s.PodNetwork = netip.MustParsePrefix("10.1.0.0/24") },
		"host bits":              func(s *Settings) { s.PodNetwork = netip.MustParsePrefix("10.1.2.3/16") },
		"IPv6":                   func(s *Settings) { s.PodNetwork = netip.MustParsePrefix("fd00::/16") },
		"the root as folder":     func(s *Settings) { s.StateFolder = "/" },
		"a relative folder":      func(s *Settings) { s.StateFolder = "bed" },
		"a very long folder":     func(s *Settings) { s.StateFolder = "/" + strings.Repeat("a", 60) },
		"a link name too long":   func(s *Settings) { s.HostLink = "a-name-beyond-fifteen" },
		"no node":                func(s *Settings) { s.NodeCount = 0 },
		"more nodes than fit in": func(s *Settings) { s.NodeCount = 255 },
	} {
		chosen := settings(t, nil)
		change(&chosen)
		if _, err := New(chosen); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestSocketPathsFitTheKernel(t *testing.T) {
	chosen := settings(t, nil)
	chosen.StateFolder = "/" + strings.Repeat("a", 44)
	chosen.NodeCount = 200
	bed, err := New(chosen)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range bed.Nodes {
		if length := len(node.ContainerdSocket() + ".ttrpc"); length > 107 {
			t.Fatalf("the socket path of %s is %d bytes long", node.Name, length)
		}
	}
}

func TestStoredSettingsAreReadAgain(t *testing.T) {
	chosen := settings(t, nil)
	chosen.StateFolder = t.TempDir()
	if len(chosen.StateFolder) > 45 {
		t.Skip("the temporary folder's path is too long for a bed")
	}
	bed, err := New(chosen)
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := Load(chosen.StateFolder); found || err != nil {
		t.Fatalf("an empty folder: found %v, error %v", found, err)
	}
	if err := bed.Store(); err != nil {
		t.Fatal(err)
	}
	got, found, err := Load(chosen.StateFolder)
	if !found || err != nil || got != chosen {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
}

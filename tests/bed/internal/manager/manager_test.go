package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

func TestATailIsTheLastLinesShortened(t *testing.T) {
	got := Tail("one\ntwo\n"+strings.Repeat("x", 400)+"\n", 2)
	want := "    two\n    " + strings.Repeat("x", 300) + "…"
	if got != want {
		t.Errorf("got %q", got)
	}
}

func TestOnlyTheBedsNetworkResultsCount(t *testing.T) {
	sandboxes := map[string]bool{"abc": true}
	for name, wanted := range map[string]bool{
		"quadraft-bed-1-xyz-eth0":  true,
		"cni-loopback-abc-lo":      true,
		"cni-loopback-other-lo":    false,
		"quadraft-bed-12-xyz-eth0": false,
		"another-xyz-eth0":         false,
	} {
		if isResultOf(name, "quadraft-bed-1", sandboxes) != wanted {
			t.Errorf("%s", name)
		}
	}
}

func TestANodeIsReadyWhenItSaysSoAndIsNotTainted(t *testing.T) {
	ready := []core.NodeCondition{{Type: core.NodeReady, Status: core.ConditionTrue}}
	for name, test := range map[string]struct {
		node   core.Node
		wanted bool
	}{
		"ready":     {core.Node{Status: core.NodeStatus{Conditions: ready}}, true},
		"tainted":   {core.Node{Status: core.NodeStatus{Conditions: ready}, Spec: core.NodeSpec{Taints: []core.Taint{{Key: core.TaintNodeNotReady}}}}, false},
		"not ready": {core.Node{Status: core.NodeStatus{Conditions: []core.NodeCondition{{Type: core.NodeReady, Status: core.ConditionFalse}}}}, false},
		"silent":    {core.Node{}, false},
	} {
		if (nodeReady(&test.node) == nil) != test.wanted {
			t.Errorf("%s: want %v", name, test.wanted)
		}
	}
}

func TestKernelSettingsOfAnEarlierBootAreNotRestored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	// A value that could not be written if it were tried.
	content := `{"boot":"another","values":{"/proc/sys/no/such/setting":"1"}}`
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := restoreKernelSettings(path); err != nil {
		t.Error(err)
	}
}

func TestSavedKernelSettingsAreThePresentOnes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings")
	if err := saveKernelSettings(path); err != nil {
		t.Fatal(err)
	}
	// Nothing differs, so nothing is written: that needs no rights.
	if err := restoreKernelSettings(path); err != nil {
		t.Error(err)
	}
}

package processes

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestAStatIsReadWhateverTheCommandIsCalled(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for _, name := range []string{"kubelet", "a b", "a) S 1 (b", ")", "((", "new\nline"} {
		status, err := ParseStat("42 (" + name + ")" + tail)
		if err != nil || status.PID != 42 || status.StartTicks != 4711 || status.Zombie {
			t.Errorf("%q: %+v, %v", name, status, err)
		}
	}
}

func TestAZombieIsSeen(t *testing.T) {
	status, err := ParseStat("42 (x) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20")
	if err != nil || !status.Zombie {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestABrokenStatIsAnError(t *testing.T) {
	for _, content := range []string{"", "42", "42 (x", "42 (x) S 1", "x (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", ") ("} {
		if status, err := ParseStat(content); err == nil {
			t.Errorf("%q: %+v", content, status)
		}
	}
}

func TestAMarkMustBeExact(t *testing.T) {
	for environment, wanted := range map[string]bool{
		"A=1\x00QUADRAFT_BED_OWNER=/bed\x00B=2\x00": true,
		"QUADRAFT_BED_OWNER=/bed":                   true,
		"QUADRAFT_BED_OWNER=/bed2\x00":              false,
		"XQUADRAFT_BED_OWNER=/bed\x00":              false,
		"QUADRAFT_BED_STATE=/bed\x00":               false,
		"ARGUMENT=QUADRAFT_BED_OWNER=/bed\x00":      false,
		"":                                          false,
	} {
		if HasMark([]byte(environment), "/bed") != wanted {
			t.Errorf("%q", environment)
		}
	}
}

func TestACgroupCountsWithAllBelowItAndNothingBeside(t *testing.T) {
	for content, wanted := range map[string]bool{
		"4:memory:/quadraft-bed-1/node-0/kubepods/x\n3:cpu:/\n": true,
		"0::/quadraft-bed-1":                       true,
		"4:cpu,cpuacct:/quadraft-bed-1/kubepods\n": true,
		"0::/quadraft-bed-12/kubepods":             false,
		"0::/kubepods/quadraft-bed-1":              false,
		"0::/":                                     false,
		"":                                         false,
	} {
		if InCgroup(content, "/quadraft-bed-1") != wanted {
			t.Errorf("%q", content)
		}
	}
}

func TestAStartedProgramIsFoundByItsMarkAndEndsByItsIdentity(t *testing.T) {
	owner := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep on this machine")
	}
	running, err := Start(Program{"sleeper", sleep, []string{"sleep", "600"}}, owner, filepath.Join(owner, "log"), owner)
	if err != nil {
		t.Fatal(err)
	}
	if !running.Alive() {
		t.Fatal("not alive")
	}
	owned, err := Owned(owner, "/no-such-cgroup")
	if err != nil || len(owned) != 1 || owned[0] != running.Identity {
		t.Fatalf("owned %v, %v", owned, err)
	}
	other := Identity{running.PID, running.StartTicks + 1}
	if other.Alive() {
		t.Error("another process with the same number counts as this one")
	}
	if err := other.Signal(syscall.SIGKILL); err != nil || !running.Alive() {
		t.Fatalf("the signal for another process reached this one: %v", err)
	}
	if err := running.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-running.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("still running")
	}
	if running.Alive() {
		t.Error("alive after its end")
	}
}

func TestARecordOfAnEarlierBootIsNotAlive(t *testing.T) {
	status, err := read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !(Record{Identity: status.Identity, Boot: Boot()}).Alive() {
		t.Error("this process is not alive")
	}
	if (Record{Identity: status.Identity, Boot: "another"}).Alive() {
		t.Error("a record of an earlier boot counts")
	}
}

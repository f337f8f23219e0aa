// Package processes starts the bed's programs and finds and ends them again.
//
// A process is never known by its name or its number alone. It is the bed's
// when it was started by the bed and still has the start time written down
// then, when its environment carries the bed's mark (all programs that the bed
// starts, and what they start: container shims, network plugins), or when it
// lives in the bed's cgroup (everything in a pod).
package processes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OwnerVariable marks the environment of the bed's programs; its value is the
// state folder.
const OwnerVariable = "QUADRAFT_BED_OWNER"

// Identity is a process for as long as the machine runs: a number may be used
// again, but not with the same start time.
type Identity struct {
	PID int `json:"pid"`
	// StartTicks is the start time in clock ticks since the machine started.
	StartTicks uint64 `json:"startTicks"`
}

// Status is what /proc/PID/stat says.
type Status struct {
	Identity
	// Zombie is a process that has ended and waits for its parent to notice.
	Zombie bool
}

// ParseStat reads the content of /proc/PID/stat.
func ParseStat(content string) (Status, error) {
	// The command's name stands in parentheses and may hold anything, also
	// spaces and parentheses, so what follows is counted from the last one.
	end := strings.LastIndexByte(content, ')')
	start := strings.IndexByte(content, '(')
	if end < 0 || start < 0 || start > end {
		return Status{}, fmt.Errorf("not a process status: %q", content)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(content[:start]))
	if err != nil {
		return Status{}, fmt.Errorf("not a process status: %w", err)
	}
	fields := strings.Fields(content[end+1:])
	// The state is field 3 and the start time field 22 of the whole.
	if len(fields) < 20 {
		return Status{}, fmt.Errorf("a process status with %d fields after the name", len(fields))
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("start time: %w", err)
	}
	return Status{Identity{pid, ticks}, fields[0] == "Z" || fields[0] == "X"}, nil
}

// HasMark tells whether the content of /proc/PID/environ carries a bed's mark.
func HasMark(environment []byte, owner string) bool {
	mark := []byte(OwnerVariable + "=" + owner)
	for _, variable := range bytes.Split(environment, []byte{0}) {
		if bytes.Equal(variable, mark) {
			return true
		}
	}
	return false
}

// InCgroup tells whether the content of /proc/PID/cgroup places the process in
// a cgroup or below it, in any hierarchy.
func InCgroup(content, cgroup string) bool {
	for _, line := range strings.Split(content, "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && (parts[2] == cgroup || strings.HasPrefix(parts[2], cgroup+"/")) {
			return true
		}
	}
	return false
}

func read(pid int) (Status, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Status{}, err
	}
	return ParseStat(string(content))
}

// Of is the identity of the process that has a number now.
func Of(pid int) (Identity, error) {
	status, err := read(pid)
	return status.Identity, err
}

// Alive tells whether the very process still runs.
func (identity Identity) Alive() bool {
	status, err := read(identity.PID)
	return err == nil && status.Identity == identity && !status.Zombie
}

// Owned finds all living processes of a bed. The caller itself is never one.
func Owned(owner, cgroup string) ([]Identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var owned []Identity
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || pid == 1 {
			continue
		}
		status, err := read(pid)
		if err != nil || status.Zombie {
			continue // ended meanwhile
		}
		folder := filepath.Join("/proc", entry.Name())
		environment, err := os.ReadFile(filepath.Join(folder, "environ"))
		marked := err == nil && HasMark(environment, owner)
		if !marked {
			cgroups, err := os.ReadFile(filepath.Join(folder, "cgroup"))
			marked = err == nil && InCgroup(string(cgroups), cgroup)
		}
		// Between two reads the number may have gone to another process.
		if marked && status.Alive() {
			owned = append(owned, status.Identity)
		}
	}
	return owned, nil
}

// Signal sends a signal to the very process, never to another that has taken
// its number. It is no error when the process has ended.
func (identity Identity) Signal(signal os.Signal) error {
	// The handle refers to whoever has the number now and to nobody later.
	process, err := os.FindProcess(identity.PID)
	if err != nil {
		return nil
	}
	defer func() { _ = process.Release() }()
	if !identity.Alive() {
		return nil
	}
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d: %w", identity.PID, err)
	}
	return nil
}

// Command is what the process was called with, for people to read.
func (identity Identity) Command() string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", identity.PID))
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(content), "\x00", " "))
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return text
}

// ResidentBytes is the memory that the process holds, 0 when it has ended.
func (identity Identity) ResidentBytes() int64 {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", identity.PID))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(content))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

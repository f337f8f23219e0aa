package processes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Program is something to be started and to outlive the manager.
type Program struct {
	Name string
	Path string
	// Arguments begin with the name that the program goes by.
	Arguments []string
}

// Record is a started program, as written down in the state folder.
type Record struct {
	Name string `json:"name"`
	Identity
	// Boot is the machine's start that the process number belongs to.
	Boot string `json:"boot"`
	Log  string `json:"log"`
}

// Running is a program that this very manager started.
type Running struct {
	Record
	ended chan error
}

// Environment is what every program of the bed gets: nothing of the user's
// but the mark, so that a bed is the same from whatever shell it came up.
func Environment(owner string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C",
		"TMPDIR=" + filepath.Join(owner, "temporary"),
		OwnerVariable + "=" + owner,
	}
}

// Start starts a program in a session of its own, with its output in a log
// file, and writes down who it is.
func Start(program Program, owner, log, records string) (*Running, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	command := &exec.Cmd{Path: program.Path, Args: program.Arguments}
	command.Dir = "/"
	command.Env = Environment(owner)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program.Name, err)
	}
	status, err := read(command.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("%s ended at once: %w", program.Name, err)
	}
	running := &Running{
		Record: Record{Name: program.Name, Identity: status.Identity, Boot: Boot(), Log: log},
		ended:  make(chan error, 1),
	}
	go func() { running.ended <- command.Wait() }()
	content, err := json.Marshal(running.Record)
	if err != nil {
		return nil, err
	}
	return running, os.WriteFile(filepath.Join(records, program.Name+".json"), content, 0o644)
}

// Ended tells whether the program has ended, and how.
func (running *Running) Ended() (string, bool) {
	select {
	case err := <-running.ended:
		running.ended <- err
		if err == nil {
			return "exit status 0", true
		}
		return err.Error(), true
	default:
		return "", false
	}
}

// Records reads who was started, by the order of their names.
func Records(folder string) ([]Record, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		var record Record
		// A record cut off by a kill says nothing; the mark finds the process.
		if json.Unmarshal(content, &record) == nil {
			records = append(records, record)
		}
	}
	return records, nil
}

// Alive tells whether the recorded process still runs: the same number, the
// same start time, since the same start of the machine.
func (record Record) Alive() bool {
	return record.Boot == Boot() && record.Identity.Alive()
}

// Boot names the machine's present start.
func Boot() string {
	content, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

package manager

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"

	"quadraft.dev/bed/internal/processes"
)

const kernelFile = "kernel-settings.json"

// kernelSettings are the machine-wide ones that a kubelet changes. Those of
// the network belong to the bed's namespace and vanish with it.
var kernelSettings = []string{
	"/proc/sys/vm/overcommit_memory",
	"/proc/sys/vm/panic_on_oom",
	"/proc/sys/kernel/panic",
	"/proc/sys/kernel/panic_on_oops",
	"/proc/sys/kernel/keys/root_maxkeys",
	"/proc/sys/kernel/keys/root_maxbytes",
}

type savedSettings struct {
	Boot   string            `json:"boot"`
	Values map[string]string `json:"values"`
}

// saveKernelSettings writes the present values down, before any is changed.
func saveKernelSettings(path string) error {
	saved := savedSettings{Boot: processes.Boot(), Values: map[string]string{}}
	for _, setting := range kernelSettings {
		content, err := os.ReadFile(setting)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		saved.Values[setting] = strings.TrimSpace(string(content))
	}
	content, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// restoreKernelSettings sets what was written down, unless the machine has
// been started again since: then nothing of it was changed.
func restoreKernelSettings(path string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var saved savedSettings
	if json.Unmarshal(content, &saved) != nil || saved.Boot != processes.Boot() {
		return nil
	}
	for setting, value := range saved.Values {
		present, err := os.ReadFile(setting)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(present)) == value {
			continue
		}
		if err := os.WriteFile(setting, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

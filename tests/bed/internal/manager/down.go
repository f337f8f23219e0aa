package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"quadraft.dev/bed/internal/cgroups"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/mounts"
	"quadraft.dev/bed/internal/network"
	"quadraft.dev/bed/internal/processes"
)

// Down removes the bed with all its data; only the logs stay, until the next
// one comes up. It is no error when there is none.
func (manager *Manager) Down(ctx context.Context) error {
	begin := time.Now()
	if err := manager.clean(ctx, true); err != nil {
		return err
	}
	manager.say("down in %.1f s", time.Since(begin).Seconds())
	return nil
}

// clean removes whatever there is of a bed, in whatever state it was left.
func (manager *Manager) clean(ctx context.Context, keepLogs bool) error {
	bed := manager.bed
	// The earlier bed may have been made with other settings.
	settings, found, err := config.Load(bed.StateFolder)
	if err != nil {
		return err
	}
	if found {
		if bed, err = config.New(settings); err != nil {
			return fmt.Errorf("the settings of the earlier bed: %w", err)
		}
	}
	if err := os.RemoveAll(bed.Path(upFile)); err != nil {
		return err
	}
	if err := killAll(ctx, bed); err != nil {
		return err
	}
	// What the container runtime left outside the bed is known by its files
	// inside, so it goes before them.
	if err := removeTraces(bed); err != nil {
		return err
	}
	if _, err := mounts.Remove(bed.StateFolder); err != nil {
		return err
	}
	if found {
		if err := network.Down(bed); err != nil {
			return err
		}
	}
	removing, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := cgroups.Remove(removing, bed.CgroupRoot()); err != nil {
		return err
	}
	if err := restoreKernelSettings(bed.Path(kernelFile)); err != nil {
		return fmt.Errorf("restore the kernel's settings: %w", err)
	}
	entries, err := os.ReadDir(bed.StateFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == lockFile || (keepLogs && entry.Name() == "logs") || entry.Name() == settingsLast {
			continue
		}
		if err := os.RemoveAll(bed.Path(entry.Name())); err != nil {
			return err
		}
	}
	// Cut off before this, the next command still knows what to remove.
	return os.RemoveAll(bed.Path(settingsLast))
}

// settingsLast says what to clean, so it goes when all else has.
const settingsLast = "settings.json"

// killAll kills every process of the bed, and those that they were about to
// start, until there is none. Their data goes too: there is nothing to save.
func killAll(ctx context.Context, bed config.Bed) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	records, err := processes.Records(bed.Path("processes"))
	if err != nil {
		return err
	}
	for {
		owned, err := processes.Owned(bed.StateFolder, bed.CgroupRoot())
		if err != nil {
			return err
		}
		for _, record := range records {
			if record.Alive() {
				owned = append(owned, record.Identity)
			}
		}
		if len(owned) == 0 {
			return nil
		}
		for _, process := range owned {
			if err := process.Signal(syscall.SIGKILL); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of the bed do not end, the first is %d: %s", len(owned), owned[0].PID, owned[0].Command())
		case <-tick.C:
		}
	}
}

const (
	shimSockets       = "/run/containerd/s"
	networkResults    = "/var/lib/cni/results"
	containerLogLinks = "/var/log/containers"
)

// removeTraces removes what container runtime, network plugins and kubelet
// keep in folders that no setting moves: sockets, results and links. Folders
// that are empty then go too.
func removeTraces(bed config.Bed) error {
	var failures []error
	remove := func(path string) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	sandboxes := map[string]bool{}
	for _, node := range bed.Nodes {
		addresses, err := filepath.Glob(node.Path("run", "containerd", "io.containerd.runtime.v2.task", "*", "*", "address"))
		if err != nil {
			return err
		}
		for _, address := range addresses {
			content, err := os.ReadFile(address)
			socket := strings.TrimPrefix(strings.TrimSpace(string(content)), "unix://")
			if err == nil && filepath.Dir(socket) == shimSockets {
				remove(socket)
			}
		}
		for _, folder := range []string{node.Path("containerd"), node.Path("run", "containerd")} {
			found, err := filepath.Glob(filepath.Join(folder, "io.containerd.grpc.v1.cri", "sandboxes", "*"))
			if err != nil {
				return err
			}
			for _, sandbox := range found {
				sandboxes[filepath.Base(sandbox)] = true
			}
		}
	}
	results, err := filepath.Glob(filepath.Join(networkResults, "*"))
	if err != nil {
		return err
	}
	for _, result := range results {
		if isResultOf(filepath.Base(result), bed.NetworkName(), sandboxes) {
			remove(result)
		}
	}
	links, err := filepath.Glob(filepath.Join(containerLogLinks, "*"))
	if err != nil {
		return err
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, bed.StateFolder+"/") {
			remove(link)
		}
	}
	for _, folder := range []string{shimSockets, filepath.Dir(shimSockets), networkResults, filepath.Dir(networkResults), containerLogLinks} {
		// One that is not empty is still in use, and stays.
		_ = os.Remove(folder)
	}
	return errors.Join(failures...)
}

// isResultOf tells whether a file of network results, called
// NETWORK-SANDBOX-INTERFACE, belongs to the network or one of the sandboxes.
func isResultOf(name, network string, sandboxes map[string]bool) bool {
	if strings.HasPrefix(name, network+"-") {
		return true
	}
	for _, part := range strings.Split(name, "-") {
		if sandboxes[part] {
			return true
		}
	}
	return false
}

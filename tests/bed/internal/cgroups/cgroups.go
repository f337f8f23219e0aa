// Package cgroups makes and removes the cgroup that holds all pods of a bed,
// in the hierarchies of version 1 and in that of version 2.
package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchies lists where cgroup hierarchies are mounted, by the content of
// /proc/self/mountinfo. Links such as cpu,cpuacct to one hierarchy are no
// mounts and do not count.
func Hierarchies(mountinfo string) []string {
	var points []string
	for _, line := range strings.Split(mountinfo, "\n") {
		left, right, found := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !found || len(fields) < 5 {
			continue
		}
		if strings.HasPrefix(right, "cgroup ") || strings.HasPrefix(right, "cgroup2 ") {
			points = append(points, fields[4])
		}
	}
	return points
}

func hierarchies() ([]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	points := Hierarchies(string(content))
	if len(points) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted on this machine")
	}
	return points, nil
}

// Make makes a cgroup in every hierarchy; the kubelet wants it to exist.
func Make(cgroup string) error {
	points, err := hierarchies()
	if err != nil {
		return err
	}
	for _, point := range points {
		folder := point
		for _, element := range strings.Split(strings.Trim(cgroup, "/"), "/") {
			parent := folder
			folder = filepath.Join(folder, element)
			if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := inheritProcessors(parent, folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritProcessors fills what version 1 leaves empty in a new cpuset cgroup:
// without processors and memory nodes no process can enter it.
func inheritProcessors(parent, folder string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || len(strings.TrimSpace(string(own))) > 0 {
			continue
		}
		content, err := os.ReadFile(filepath.Join(parent, name))
		// In version 2 it is empty everywhere, and that is right there.
		if err != nil || len(strings.TrimSpace(string(content))) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a cgroup with all below it from every hierarchy. Its
// processes must have been killed; the kernel takes a moment to let go.
func Remove(ctx context.Context, cgroup string) error {
	points, err := hierarchies()
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var busy error
		for _, point := range points {
			if err := removeTree(filepath.Join(point, cgroup)); err != nil {
				busy = err
			}
		}
		if busy == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove the cgroup %s: %w", cgroup, busy)
		case <-tick.C:
		}
	}
}

func removeTree(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(folder); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", folder, err)
	}
	return nil
}

// Remaining lists the hierarchies in which the cgroup still exists.
func Remaining(cgroup string) ([]string, error) {
	points, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var remaining []string
	for _, point := range points {
		folder := filepath.Join(point, cgroup)
		if _, err := os.Stat(folder); err == nil {
			remaining = append(remaining, folder)
		}
	}
	return remaining, nil
}

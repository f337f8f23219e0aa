package images

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/runtime"
)

// Load imports the images of an archive into a node and returns the full names
// under which pods on it can use them from now on.
func Load(ctx context.Context, node config.Node, archive string) ([]string, error) {
	names, err := NamesIn(archive)
	if err != nil {
		return nil, err
	}
	arguments := []string{"images", "import"}
	if onlyTags(names) {
		// With a base, containerd leaves out what already has a full name.
		arguments = append(arguments, "--base-name", unnamedBase)
	}
	output, err := run(ctx, node, append(arguments, archive)...)
	if err != nil {
		return nil, err
	}
	var usable []string
	for _, imported := range ImportedNames(output) {
		for _, podName := range PodNames(imported) {
			if podName != imported {
				if _, err := run(ctx, node, "images", "tag", "--force", imported, podName); err != nil {
					return nil, err
				}
			}
			usable = append(usable, podName)
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("the container runtime imported none of %v", names)
	}
	slices.Sort(usable)
	usable = slices.Compact(usable)
	return usable, waitUntilUsable(ctx, node, usable)
}

func run(ctx context.Context, node config.Node, arguments ...string) (string, error) {
	arguments = append([]string{"--address", node.ContainerdSocket(), "--namespace", "k8s.io"}, arguments...)
	output, err := exec.CommandContext(ctx, "ctr", arguments...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(arguments[4:], " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// waitUntilUsable waits until the runtime's side that serves the kubelet, which
// learns of an import by an event, knows the images too. Otherwise a pod made
// at once may fail to find its image and wait for its next try.
func waitUntilUsable(ctx context.Context, node config.Node, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, name := range names {
		for {
			err := runtime.HasImage(ctx, node, name)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s was imported into %s, but its runtime does not know it: %w", name, node.Name, err)
			case <-tick.C:
			}
		}
	}
	return nil
}

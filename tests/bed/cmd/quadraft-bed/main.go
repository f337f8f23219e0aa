// Command quadraft-bed brings up a real Kubernetes on one machine, as root,
// without a container engine or an image registry, and takes it down again.
// The same binary is also all the parts of Kubernetes: called by the name of
// one (kubectl, kubelet, …), or with that name as its first argument, it is
// that part.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/images"
	"quadraft.dev/bed/internal/manager"
	"quadraft.dev/bed/internal/provisioner"
	"quadraft.dev/bed/internal/selftest"
)

const usage = `usage: bed COMMAND

  up                                 bring the bed up, unless it is; prints the path of its kubeconfig
  down                               take it down with all its data
  status                             what runs; exit code 1 when it is not whole
  kubeconfig                         the path of its kubeconfig
  load-image FILE...                 load OCI or Docker image archives; prints the names for pods
  volume-path NAMESPACE CLAIM        the folder that holds a claim's data
  process NAMESPACE POD [CONTAINER]  the process number of a container's main process
  kill NAMESPACE POD [CONTAINER]     end it by SIGKILL
  self-test                          try everything, twice, with a hard kill between; leaves the bed down

Settings are environment variables: QUADRAFT_BED_STATE, QUADRAFT_BED_POD_NETWORK,
QUADRAFT_BED_SERVICE_NETWORK, QUADRAFT_BED_LINK. See docs/test-bed.md.
`

func main() {
	name := filepath.Base(os.Args[0])
	arguments := os.Args[1:]
	if _, isComponent := components[name]; !isComponent && len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
	}
	if run, isComponent := components[name]; isComponent {
		os.Args = append([]string{name}, arguments...)
		os.Exit(run(arguments))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := command(ctx, name, arguments)
	stop()
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bed: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func command(ctx context.Context, name string, arguments []string) error {
	settings, err := config.FromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	count := len(arguments)
	switch name {
	case "up":
		return change(ctx, settings, func(work *manager.Manager, bed config.Bed) error {
			if err := work.Up(ctx); err != nil {
				return err
			}
			fmt.Println(bed.Kubeconfig())
			return nil
		})
	case "down":
		return change(ctx, settings, func(work *manager.Manager, _ config.Bed) error { return work.Down(ctx) })
	case "self-test":
		bed, err := config.New(settings)
		if err != nil {
			return err
		}
		tools, err := findTools()
		if err != nil {
			return err
		}
		return selftest.Run(ctx, bed, tools, filepath.Join(filepath.Dir(tools.Binary), "probe"), os.Stderr)
	}
	// The others work on the bed as it was brought up.
	if stored, found, err := config.Load(settings.StateFolder); err != nil {
		return err
	} else if found {
		settings = stored
	}
	bed, err := config.New(settings)
	if err != nil {
		return err
	}
	switch {
	case name == "status" && count == 0:
		return manager.Status(ctx, bed, os.Stdout)
	case name == "kubeconfig" && count == 0:
		if _, err := os.Stat(bed.Kubeconfig()); err != nil {
			return fmt.Errorf("there is no bed in %s", bed.StateFolder)
		}
		fmt.Println(bed.Kubeconfig())
		return nil
	case name == "load-image" && count > 0:
		return loadImages(ctx, bed, arguments)
	case name == "volume-path" && count == 2:
		path, err := manager.VolumePath(ctx, bed, arguments[0], arguments[1])
		if err != nil {
			return err
		}
		fmt.Println(path)
		return nil
	case name == "process" && (count == 2 || count == 3):
		process, err := manager.ContainerProcess(ctx, bed, arguments[0], arguments[1], optional(arguments))
		if err != nil {
			return err
		}
		fmt.Println(process.PID)
		return nil
	case name == "kill" && (count == 2 || count == 3):
		return manager.KillContainer(ctx, bed, arguments[0], arguments[1], optional(arguments))
	case name == "provisioner" && count == 2 && arguments[0] == "--state":
		return runProvisioner(ctx, arguments[1])
	}
	return errUsage
}

func optional(arguments []string) string {
	if len(arguments) > 2 {
		return arguments[2]
	}
	return ""
}

// change runs what changes the bed, one at a time.
func change(ctx context.Context, settings config.Settings, action func(*manager.Manager, config.Bed) error) error {
	bed, err := config.New(settings)
	if err != nil {
		return err
	}
	tools, err := findTools()
	if err != nil {
		return err
	}
	unlock, err := manager.Lock(ctx, bed, os.Stderr)
	if err != nil {
		return err
	}
	defer unlock()
	return action(manager.New(bed, tools, os.Stderr), bed)
}

// findTools finds the other programs beside this one.
func findTools() (manager.Tools, error) {
	binary, err := os.Executable()
	if err != nil {
		return manager.Tools{}, err
	}
	folder := filepath.Dir(binary)
	return manager.Tools{
		Binary:  binary,
		CoreDNS: filepath.Join(folder, "coredns"),
		Pause:   filepath.Join(folder, "pause"),
	}, nil
}

func loadImages(ctx context.Context, bed config.Bed, archives []string) error {
	for _, archive := range archives {
		var names []string
		for _, node := range bed.Nodes {
			loaded, err := images.Load(ctx, node, archive)
			if err != nil {
				return fmt.Errorf("%s into %s: %w", archive, node.Name, err)
			}
			names = loaded
		}
		for _, name := range names {
			fmt.Println(name)
		}
	}
	return nil
}

func runProvisioner(ctx context.Context, stateFolder string) error {
	settings, found, err := config.Load(stateFolder)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("there is no bed in %s", stateFolder)
	}
	bed, err := config.New(settings)
	if err != nil {
		return err
	}
	client, err := manager.ClientOf(manager.ProvisionerKubeconfig(bed))
	if err != nil {
		return err
	}
	return provisioner.Run(ctx, bed, client)
}

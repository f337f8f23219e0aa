// Package manager brings a bed up and takes it down.
package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"quadraft.dev/bed/internal/components"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/network"
	"quadraft.dev/bed/internal/processes"
)

// Tools are the programs that a bed is made of besides Debian's.
type Tools struct {
	// Binary is this very program, which is also all parts of Kubernetes.
	Binary  string
	CoreDNS string
	// Pause is the static program of the pause image.
	Pause string
}

// Manager is one command's work on one bed.
type Manager struct {
	bed     config.Bed
	tools   Tools
	output  io.Writer
	running []*processes.Running
}

// New is a manager that reports on what it does to a writer.
func New(bed config.Bed, tools Tools, output io.Writer) *Manager {
	return &Manager{bed: bed, tools: tools, output: output}
}

// Lock keeps other managers away from the bed until the returned function is
// called or the process ends.
func Lock(ctx context.Context, bed config.Bed, output io.Writer) (func(), error) {
	if err := os.MkdirAll(bed.StateFolder, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(bed.Path(lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_, _ = fmt.Fprintln(output, "bed: another command works on this bed: waiting for it")
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for errors.Is(err, unix.EWOULDBLOCK) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-tick.C:
				err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { _ = file.Close() }, nil
}

const (
	lockFile = "lock"
	upFile   = "up"
)

// step runs one step and reports its time.
func (manager *Manager) step(name string, action func() error) error {
	start := time.Now()
	err := action()
	elapsed := time.Since(start).Seconds()
	if err != nil {
		_, _ = fmt.Fprintf(manager.output, "bed: %s: failed after %.1f s\n", name, elapsed)
		return err
	}
	_, _ = fmt.Fprintf(manager.output, "bed: %-52s %5.1f s\n", name, elapsed)
	return nil
}

func (manager *Manager) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(manager.output, "bed: "+format+"\n", arguments...)
}

// start starts a program in the bed's network namespace.
func (manager *Manager) start(name, path string, arguments ...string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("%s has no name to go by", name)
	}
	return network.Inside(manager.bed, func() error {
		program := processes.Program{Name: name, Path: path, Arguments: arguments}
		running, err := processes.Start(program, manager.bed.StateFolder, manager.bed.Log(name), manager.bed.Path("processes"))
		if err != nil {
			return err
		}
		manager.running = append(manager.running, running)
		return nil
	})
}

// component starts a part of Kubernetes, which is this binary by another name.
func (manager *Manager) component(name, component string, arguments []string) error {
	return manager.start(name, manager.tools.Binary, append([]string{component}, arguments...)...)
}

// guiltyError names the program whose log tells why something failed.
type guiltyError struct {
	message  string
	programs []string
}

func (err *guiltyError) Error() string { return err.message }

// until waits for a condition. It gives up when the time is over, and at once
// when a program of the bed has ended, and then names the guilty.
func (manager *Manager) until(ctx context.Context, what string, limit time.Duration, guilty []string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		err := condition(attempt)
		done()
		if err == nil {
			return nil
		}
		for _, running := range manager.running {
			if how, ended := running.Ended(); ended {
				return &guiltyError{fmt.Sprintf("%s ended (%s) while the bed waited until %s", running.Name, how, what), []string{running.Name}}
			}
		}
		select {
		case <-ctx.Done():
			return &guiltyError{fmt.Sprintf("the bed waited %s in vain until %s: %v", limit, what, err), guilty}
		case <-tick.C:
		}
	}
}

// explain prints the end of the guilty programs' logs.
func (manager *Manager) explain(err error) {
	var guilty *guiltyError
	if !errors.As(err, &guilty) {
		return
	}
	for _, name := range guilty.programs {
		path := manager.bed.Log(name)
		content, readErr := os.ReadFile(path)
		if readErr != nil {
			continue
		}
		manager.say("the end of %s:", path)
		_, _ = fmt.Fprintln(manager.output, Tail(string(content), 30))
	}
}

// Tail is the last lines of a text, each shortened and indented.
func Tail(text string, count int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > count {
		lines = lines[len(lines)-count:]
	}
	for index, line := range lines {
		if len(line) > 300 {
			line = line[:300] + "…"
		}
		lines[index] = "    " + line
	}
	return strings.Join(lines, "\n")
}

// Client is the administrator's client of the bed.
func Client(bed config.Bed) (*kubernetes.Clientset, error) {
	return ClientOf(bed.Kubeconfig())
}

// ClientOf is a client by a kubeconfig.
func ClientOf(kubeconfig string) (*kubernetes.Clientset, error) {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	rest.QPS, rest.Burst = 100, 200
	return kubernetes.NewForConfig(rest)
}

// networkPlugins finds where the machine's packages put the CNI plugins.
func networkPlugins() (string, error) {
	for _, folder := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		complete := true
		for _, plugin := range []string{"bridge", "host-local", "loopback"} {
			if _, err := os.Stat(filepath.Join(folder, plugin)); err != nil {
				complete = false
			}
		}
		if complete {
			return folder, nil
		}
	}
	return "", errors.New("the network plugins bridge, host-local and loopback are not installed (Debian: containernetworking-plugins)")
}

// ProvisionerKubeconfig is the path of the volume provisioner's kubeconfig.
func ProvisionerKubeconfig(bed config.Bed) string {
	return components.KubeconfigOf(bed, "provisioner")
}

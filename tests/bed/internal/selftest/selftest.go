// Package selftest tries on a real machine all that a bed promises.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	intstrutil "k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/images"
	"quadraft.dev/bed/internal/manager"
	"quadraft.dev/bed/internal/processes"
)

const (
	namespace  = "self-test"
	probeImage = "quadraft.dev/bed/probe:1"
	text       = "written once"
)

type test struct {
	bed    config.Bed
	tools  manager.Tools
	probe  string
	output io.Writer
	client *kubernetes.Clientset
}

// Run tries everything and returns the first thing that is not as promised.
func Run(ctx context.Context, bed config.Bed, tools manager.Tools, probe string, output io.Writer) error {
	self := &test{bed: bed, tools: tools, probe: probe, output: output}
	if err := self.down(ctx); err != nil {
		return err
	}
	before, err := observe(bed)
	if err != nil {
		return err
	}
	unchanged := func(context.Context) error {
		after, err := observe(bed)
		if err != nil {
			return err
		}
		if differences := Difference(before, after); len(differences) > 0 {
			return errors.New(strings.Join(differences, "\n"))
		}
		return nil
	}
	for _, step := range []struct {
		name   string
		action func(context.Context) error
	}{
		{"up", self.up},
		{"up again is nothing to do", self.up},
		{"an image is loaded", self.load},
		{"restricted pods start, one with a volume", self.startPods},
		{"a privileged pod is refused", self.refusePrivileged},
		{"exec writes as a user that is not root", self.write},
		{"DNS finds the pod by the headless service", self.resolve},
		{"the service answers a pod, its own pod and the machine", self.serve},
		{"names outside are refused at once", self.resolveOutside},
		{"a killed container comes back with its data", self.kill},
		{"a pod deleted by force comes back with its data", self.deleteByForce},
		{"a volume grows", self.grow},
		{"a deleted claim takes its data with it", self.deleteClaim},
		{"down", self.down},
		{"nothing is left", unchanged},
		{"up a second time", self.up},
		{"pods for the hard kill start", func(ctx context.Context) error { return errors.Join(self.load(ctx), self.startPods(ctx)) }},
		{"everything is killed", self.killEverything},
		{"up after the hard kill", self.up},
		{"pods start after it", func(ctx context.Context) error { return errors.Join(self.load(ctx), self.startPods(ctx)) }},
		{"the manager is killed in the middle of up", self.killManager},
		{"down after that", self.down},
		{"nothing is left after all", unchanged},
		{"down again is nothing to do", self.down},
	} {
		start := time.Now()
		err := step.action(ctx)
		elapsed := time.Since(start).Seconds()
		if err != nil {
			_, _ = fmt.Fprintf(output, "FAILED %6.1f s  %s\n", elapsed, step.name)
			return fmt.Errorf("%s: %w", step.name, err)
		}
		_, _ = fmt.Fprintf(output, "passed %6.1f s  %s\n", elapsed, step.name)
	}
	return nil
}

// locked is a manager that has the bed for itself during an action.
func (self *test) locked(ctx context.Context, action func(*manager.Manager) error) error {
	unlock, err := manager.Lock(ctx, self.bed, self.output)
	if err != nil {
		return err
	}
	defer unlock()
	return action(manager.New(self.bed, self.tools, self.output))
}

func (self *test) up(ctx context.Context) error {
	err := self.locked(ctx, func(work *manager.Manager) error { return work.Up(ctx) })
	if err != nil {
		return err
	}
	self.client, err = manager.Client(self.bed)
	return err
}

func (self *test) down(ctx context.Context) error {
	return self.locked(ctx, func(work *manager.Manager) error { return work.Down(ctx) })
}

func (self *test) load(ctx context.Context) error {
	archive := filepath.Join(self.bed.StateFolder, "temporary", "probe.tar")
	if err := images.WriteScratch(archive, probeImage, self.probe); err != nil {
		return err
	}
	for _, node := range self.bed.Nodes {
		if _, err := images.Load(ctx, node, archive); err != nil {
			return err
		}
	}
	return os.Remove(archive)
}

func (self *test) startPods(ctx context.Context) error {
	_, err := self.client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{
		Name: namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	if err := self.until(ctx, "the service account", func() error {
		_, err := self.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", meta.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	claim := &core.PersistentVolumeClaim{
		ObjectMeta: meta.ObjectMeta{Name: "data"},
		Spec: core.PersistentVolumeClaimSpec{
			AccessModes: []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
			Resources:   core.VolumeResourceRequirements{Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("64Mi")}},
		},
	}
	if _, err := self.client.CoreV1().PersistentVolumeClaims(namespace).Create(ctx, claim, meta.CreateOptions{}); err != nil {
		return err
	}
	selector := map[string]string{"app": "server"}
	for _, service := range []*core.Service{
		{ObjectMeta: meta.ObjectMeta{Name: "peers"}, Spec: core.ServiceSpec{ClusterIP: core.ClusterIPNone, Selector: selector, Ports: []core.ServicePort{{Port: 8080}}}},
		{ObjectMeta: meta.ObjectMeta{Name: "web"}, Spec: core.ServiceSpec{Selector: selector, Ports: []core.ServicePort{{Port: 80, TargetPort: intstr(8080)}}}},
	} {
		if _, err := self.client.CoreV1().Services(namespace).Create(ctx, service, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	for _, pod := range []*core.Pod{newPod("server", true), newPod("client", false)} {
		if _, err := self.client.CoreV1().Pods(namespace).Create(ctx, pod, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	return errors.Join(self.ready(ctx, "server"), self.ready(ctx, "client"))
}

func intstr(port int) intstrutil.IntOrString { return intstrutil.FromInt32(int32(port)) }

func newPod(name string, withVolume bool) *core.Pod {
	yes, no, user := true, false, int64(65532)
	pod := &core.Pod{
		ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: core.PodSpec{
			Hostname:                     name,
			Subdomain:                    "peers",
			AutomountServiceAccountToken: &no,
			SecurityContext: &core.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
				SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []core.Container{{
				Name: "probe", Image: probeImage, Args: []string{"serve"}, ImagePullPolicy: core.PullNever,
				SecurityContext: &core.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &core.Capabilities{Drop: []core.Capability{"ALL"}},
				},
				ReadinessProbe: &core.Probe{PeriodSeconds: 1, ProbeHandler: core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: "/", Port: intstr(8080)}}},
			}},
		},
	}
	if withVolume {
		pod.Spec.Volumes = []core.Volume{{Name: "data", VolumeSource: core.VolumeSource{
			PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}
		pod.Spec.Containers[0].VolumeMounts = []core.VolumeMount{{Name: "data", MountPath: "/data"}}
	}
	return pod
}

func (self *test) refusePrivileged(ctx context.Context) error {
	pod := newPod("privileged", false)
	yes := true
	pod.Spec.Containers[0].SecurityContext = &core.SecurityContext{Privileged: &yes}
	_, err := self.client.CoreV1().Pods(namespace).Create(ctx, pod, meta.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("it was not forbidden: %w", err)
	}
	return nil
}

func (self *test) write(ctx context.Context) error {
	if _, err := self.exec(ctx, "server", "write", text); err != nil {
		return err
	}
	path, err := manager.VolumePath(ctx, self.bed, namespace, "data")
	if err != nil {
		return err
	}
	file := filepath.Join(path, "value")
	information, err := os.Stat(file)
	if err != nil {
		return err
	}
	if owner := information.Sys().(*syscall.Stat_t); owner.Uid != 65532 || owner.Gid != 65532 {
		return fmt.Errorf("%s belongs to %d:%d", file, owner.Uid, owner.Gid)
	}
	_, _ = fmt.Fprintf(self.output, "       the volume is %s\n", path)
	return equal(os.ReadFile(file))
}

func (self *test) resolve(ctx context.Context) error {
	pod, err := self.client.CoreV1().Pods(namespace).Get(ctx, "server", meta.GetOptions{})
	if err != nil {
		return err
	}
	for _, name := range []string{"server.peers", "server.peers." + namespace + ".svc", "server.peers." + namespace + ".svc.cluster.local."} {
		if err := self.until(ctx, name, func() error {
			got, err := self.exec(ctx, "client", "lookup", name)
			if err == nil && strings.TrimSpace(got) != pod.Status.PodIP {
				err = fmt.Errorf("got %q, want %s", got, pod.Status.PodIP)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (self *test) serve(ctx context.Context) error {
	for _, pod := range []string{"client", "server"} {
		if err := self.until(ctx, "the service from "+pod, func() error { return self.served(ctx, pod) }); err != nil {
			return err
		}
	}
	service, err := self.client.CoreV1().Services(namespace).Get(ctx, "web", meta.GetOptions{})
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + service.Spec.ClusterIP + "/")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return equal(io.ReadAll(response.Body))
}

func (self *test) served(ctx context.Context, pod string) error {
	got, err := self.exec(ctx, pod, "get", "http://web/")
	return equal([]byte(got), err)
}

func (self *test) resolveOutside(ctx context.Context) error {
	start := time.Now()
	if got, err := self.exec(ctx, "client", "lookup", "name.invalid."); err == nil {
		return fmt.Errorf("it has the addresses %s", got)
	}
	if elapsed := time.Since(start); elapsed > 4*time.Second {
		return fmt.Errorf("the answer took %s", elapsed)
	}
	return nil
}

func (self *test) kill(ctx context.Context) error {
	if err := manager.KillContainer(ctx, self.bed, namespace, "server", ""); err != nil {
		return err
	}
	if err := self.until(ctx, "the restart", func() error {
		pod, err := self.client.CoreV1().Pods(namespace).Get(ctx, "server", meta.GetOptions{})
		if err == nil && (len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].RestartCount == 0) {
			err = errors.New("not restarted yet")
		}
		return err
	}); err != nil {
		return err
	}
	if err := self.ready(ctx, "server"); err != nil {
		return err
	}
	return self.until(ctx, "the service", func() error { return self.served(ctx, "client") })
}

func (self *test) deleteByForce(ctx context.Context) error {
	now := int64(0)
	pods := self.client.CoreV1().Pods(namespace)
	if err := pods.Delete(ctx, "server", meta.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		return err
	}
	if err := self.until(ctx, "the new pod", func() error {
		_, err := pods.Create(ctx, newPod("server", true), meta.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	if err := self.ready(ctx, "server"); err != nil {
		return err
	}
	return self.until(ctx, "the service", func() error { return self.served(ctx, "client") })
}

func (self *test) grow(ctx context.Context) error {
	claims := self.client.CoreV1().PersistentVolumeClaims(namespace)
	patch := []byte(`{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}`)
	if _, err := claims.Patch(ctx, "data", types.MergePatchType, patch, meta.PatchOptions{}); err != nil {
		return err
	}
	return self.until(ctx, "the new size", func() error {
		claim, err := claims.Get(ctx, "data", meta.GetOptions{})
		if err != nil {
			return err
		}
		if size := claim.Status.Capacity[core.ResourceStorage]; size.String() != "128Mi" {
			return fmt.Errorf("it is %s", size.String())
		}
		return nil
	})
}

func (self *test) deleteClaim(ctx context.Context) error {
	path, err := manager.VolumePath(ctx, self.bed, namespace, "data")
	if err != nil {
		return err
	}
	if err := self.client.CoreV1().Pods(namespace).Delete(ctx, "server", meta.DeleteOptions{}); err != nil {
		return err
	}
	if err := self.client.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, "data", meta.DeleteOptions{}); err != nil {
		return err
	}
	return self.until(ctx, "the folder's end", func() error {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s still exists", path)
		}
		volumes, err := self.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
		if err == nil && len(volumes.Items) > 0 {
			err = fmt.Errorf("the volume %s still exists", volumes.Items[0].Name)
		}
		return err
	})
}

// killEverything is a power cut as far as one can be had without one: nothing
// of the bed gets the time to clean up.
func (self *test) killEverything(ctx context.Context) error {
	count := 0
	for {
		owned, err := processes.Owned(self.bed.StateFolder, self.bed.CgroupRoot())
		if err != nil {
			return err
		}
		if len(owned) == 0 {
			_, _ = fmt.Fprintf(self.output, "       %d processes\n", count)
			return nil
		}
		for _, process := range owned {
			count++
			if err := process.Signal(syscall.SIGKILL); err != nil {
				return err
			}
		}
		if err := self.until(ctx, "their end", func() error {
			for _, process := range owned {
				if process.Alive() {
					return fmt.Errorf("%d is alive", process.PID)
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// killManager kills a manager as soon as it has started the first program.
func (self *test) killManager(ctx context.Context) error {
	if err := self.killEverything(ctx); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, self.tools.Binary, "up")
	command.Env = append(os.Environ(), "QUADRAFT_BED_STATE="+self.bed.StateFolder)
	if err := command.Start(); err != nil {
		return err
	}
	err := self.until(ctx, "the first program", func() error {
		owned, err := processes.Owned(self.bed.StateFolder, self.bed.CgroupRoot())
		if err == nil && len(owned) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	killErr := command.Process.Kill()
	_ = command.Wait() // it was killed
	return errors.Join(err, killErr)
}

func (self *test) exec(ctx context.Context, pod string, arguments ...string) (string, error) {
	arguments = append([]string{"kubectl", "--kubeconfig", self.bed.Kubeconfig(), "--namespace", namespace, "exec", pod, "--", "/probe"}, arguments...)
	command := exec.CommandContext(ctx, self.tools.Binary, arguments...)
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return string(output), nil
}

func (self *test) ready(ctx context.Context, name string) error {
	return self.until(ctx, name+" to be ready", func() error {
		pod, err := self.client.CoreV1().Pods(namespace).Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == core.PodReady && condition.Status == core.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%s: %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
	})
}

// until waits for a condition, also on a busy machine.
func (self *test) until(ctx context.Context, what string, condition func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case <-tick.C:
		}
	}
}

func equal(got []byte, err error) error {
	if err == nil && strings.TrimSpace(string(got)) != text {
		err = fmt.Errorf("got %q, want %q", got, text)
	}
	return err
}

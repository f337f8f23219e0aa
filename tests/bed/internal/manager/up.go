package manager

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"quadraft.dev/bed/internal/cgroups"
	"quadraft.dev/bed/internal/components"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/images"
	"quadraft.dev/bed/internal/network"
	"quadraft.dev/bed/internal/processes"
	"quadraft.dev/bed/internal/runtime"
)

// patience is how long a step may take. It is far more than one needs on a
// machine that is free, for one that is busy with a build; a program that ends
// is noticed at once in any case.
const patience = 5 * time.Minute

// Up brings the bed up, unless it is: then nothing happens. What an earlier
// one left behind is removed first. When it fails it leaves nothing but logs.
func (manager *Manager) Up(ctx context.Context) error {
	begin := time.Now()
	if err := Whole(ctx, manager.bed); err == nil {
		manager.say("is up already")
		return nil
	} else if _, found, _ := config.Load(manager.bed.StateFolder); found {
		manager.say("an earlier bed is not whole (%v): starting afresh", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can bring up a bed")
	}
	if err := manager.step("remove what an earlier bed left", func() error { return manager.clean(ctx, false) }); err != nil {
		return err
	}
	// A conflict with the machine is found before anything is made, so that
	// nothing of somebody else's is taken for the bed's own later.
	if err := network.Check(manager.bed); err != nil {
		return err
	}
	err := manager.build(ctx)
	if err != nil {
		manager.explain(err)
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if cleanErr := manager.clean(cleaning, true); cleanErr != nil {
			manager.say("and cleaning up failed: %v", cleanErr)
		}
		return fmt.Errorf("%w (logs: %s)", err, manager.bed.Path("logs"))
	}
	manager.say("up in %.1f s", time.Since(begin).Seconds())
	return nil
}

func (manager *Manager) build(ctx context.Context) error {
	bed := manager.bed
	if err := manager.step("certificates and configuration", manager.prepare); err != nil {
		return err
	}
	if err := manager.step("network", func() error { return network.Up(bed) }); err != nil {
		return err
	}
	client, err := Client(bed)
	if err != nil {
		return err
	}
	if err := manager.step("container runtime", func() error { return manager.startFoundation(ctx) }); err != nil {
		return err
	}
	if err := manager.step("API server ready", func() error {
		return manager.until(ctx, "the API server was ready", patience, []string{"kube-apiserver", "etcd"}, func(ctx context.Context) error {
			return apiReady(ctx, client)
		})
	}); err != nil {
		return err
	}
	if err := manager.step("objects of the bed", func() error {
		return manager.until(ctx, "the storage class and roles were made", patience, []string{"kube-apiserver"}, func(ctx context.Context) error {
			return components.CreateObjects(ctx, client)
		})
	}); err != nil {
		return err
	}
	if err := manager.step("nodes registered", func() error { return manager.startRest(ctx, client) }); err != nil {
		return err
	}
	if err := manager.step("nodes ready", func() error {
		var guilty []string
		for _, node := range bed.Nodes {
			guilty = append(guilty, components.KubeletName(node), components.ContainerdName(node))
		}
		return manager.until(ctx, "all nodes were ready", patience, guilty, func(ctx context.Context) error {
			return nodesReady(ctx, client, bed)
		})
	}); err != nil {
		return err
	}
	if err := manager.step("controllers, DNS and services answer", func() error { return manager.waitForServices(ctx, client) }); err != nil {
		return err
	}
	return os.WriteFile(bed.Path(upFile), []byte(processes.Boot()+"\n"), 0o644)
}

// prepare writes all files.
func (manager *Manager) prepare() error {
	bed := manager.bed
	for _, folder := range []string{"logs", "processes", "certificates", "temporary", "volume-plugins", "etcd"} {
		// etcd insists that nobody else reads its folder; the logs are for all.
		mode := os.FileMode(0o700)
		if folder == "logs" {
			mode = 0o755
		}
		if err := os.MkdirAll(bed.Path(folder), mode); err != nil {
			return err
		}
	}
	if err := bed.Store(); err != nil {
		return err
	}
	if err := saveKernelSettings(bed.Path(kernelFile)); err != nil {
		return err
	}
	if err := components.WriteCredentials(bed, time.Now()); err != nil {
		return err
	}
	proxy, err := components.ProxyConfiguration(bed)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		bed.Path("kube-proxy.json"): proxy,
		bed.Path("Corefile"):        components.Corefile(bed),
	}
	plugins, err := networkPlugins()
	if err != nil {
		return err
	}
	for _, node := range bed.Nodes {
		kubelet, err := components.KubeletConfiguration(bed, node)
		if err != nil {
			return err
		}
		pods, err := components.NetworkConfiguration(bed, node)
		if err != nil {
			return err
		}
		files[node.Path("kubelet.json")] = kubelet
		files[node.Path("containerd.toml")] = components.ContainerdConfiguration(node, plugins)
		files[node.Path("network-configuration", "10-bed.conflist")] = pods
		for _, folder := range []string{"run", "temporary", "volumes", "pod-logs", "volume-plugins", "network-configuration"} {
			if err := os.MkdirAll(node.Path(folder), 0o755); err != nil {
				return err
			}
		}
		if err := cgroups.Make(node.CgroupRoot); err != nil {
			return fmt.Errorf("cgroup of %s: %w", node.Name, err)
		}
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return images.WriteScratch(bed.Path("pause.tar"), components.PauseImage, manager.tools.Pause)
}

// startFoundation starts what waits for nothing, and loads the pause image.
func (manager *Manager) startFoundation(ctx context.Context) error {
	bed := manager.bed
	if err := manager.component("etcd", "etcd", components.EtcdArguments(bed)); err != nil {
		return err
	}
	if err := manager.component("kube-apiserver", "kube-apiserver", components.APIServerArguments(bed)); err != nil {
		return err
	}
	containerd, err := exec.LookPath("containerd")
	if err != nil {
		return fmt.Errorf("containerd is not installed: %w", err)
	}
	for _, node := range bed.Nodes {
		arguments := append([]string{"containerd"}, components.ContainerdArguments(node)...)
		if err := manager.start(components.ContainerdName(node), containerd, arguments...); err != nil {
			return err
		}
	}
	for _, node := range bed.Nodes {
		guilty := []string{components.ContainerdName(node)}
		err := manager.until(ctx, "the container runtime of "+node.Name+" was ready", patience, guilty, func(ctx context.Context) error {
			return runtime.Ready(ctx, node)
		})
		if err != nil {
			return err
		}
		if _, err := images.Load(ctx, node, bed.Path("pause.tar")); err != nil {
			return err
		}
	}
	return nil
}

// startRest starts what needs the API server.
func (manager *Manager) startRest(ctx context.Context, client kubernetes.Interface) error {
	bed := manager.bed
	for _, node := range bed.Nodes {
		if err := manager.component(components.KubeletName(node), "kubelet", components.KubeletArguments(bed, node)); err != nil {
			return err
		}
	}
	if err := manager.component("kube-controller-manager", "kube-controller-manager", components.ControllerManagerArguments(bed)); err != nil {
		return err
	}
	if err := manager.component("kube-scheduler", "kube-scheduler", components.SchedulerArguments(bed)); err != nil {
		return err
	}
	if err := manager.start("provisioner", manager.tools.Binary, "quadraft-bed", "provisioner", "--state", bed.StateFolder); err != nil {
		return err
	}
	if err := manager.start("coredns", manager.tools.CoreDNS, append([]string{"coredns"}, components.DNSArguments(bed)...)...); err != nil {
		return err
	}
	for _, node := range bed.Nodes {
		err := manager.until(ctx, node.Name+" was registered", patience, []string{components.KubeletName(node)}, func(ctx context.Context) error {
			_, err := client.CoreV1().Nodes().Get(ctx, node.Name, meta.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	// It asks for its node once and waits ever longer when there is none.
	return manager.component("kube-proxy", "kube-proxy", components.ProxyArguments(bed))
}

func (manager *Manager) waitForServices(ctx context.Context, client kubernetes.Interface) error {
	bed := manager.bed
	web, err := httpClient(bed)
	if err != nil {
		return err
	}
	conditions := []struct {
		what, guilty string
		condition    func(context.Context) error
	}{
		{"the scheduler was healthy", "kube-scheduler", func(ctx context.Context) error {
			return answers(ctx, web, fmt.Sprintf("https://%s:10259/healthz", bed.ControlAddress))
		}},
		{"the default service account existed", "kube-controller-manager", func(ctx context.Context) error {
			_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{})
			return err
		}},
		{"every new pod could have the authority's certificate", "kube-controller-manager", func(ctx context.Context) error {
			_, err := client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", meta.GetOptions{})
			return err
		}},
		{"DNS answered", "coredns", func(ctx context.Context) error { return dnsAnswers(ctx, bed) }},
		{"service addresses led to their endpoints", "kube-proxy", func(ctx context.Context) error {
			return answers(ctx, web, fmt.Sprintf("https://%s/readyz", bed.APIServiceAddress))
		}},
	}
	for _, condition := range conditions {
		if err := manager.until(ctx, condition.what, patience, []string{condition.guilty}, condition.condition); err != nil {
			return err
		}
	}
	return nil
}

func apiReady(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

func nodesReady(ctx context.Context, client kubernetes.Interface, bed config.Bed) error {
	for _, node := range bed.Nodes {
		found, err := client.CoreV1().Nodes().Get(ctx, node.Name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if err := nodeReady(found); err != nil {
			return err
		}
	}
	return nil
}

func nodeReady(node *core.Node) error {
	for _, condition := range node.Status.Conditions {
		if condition.Type != core.NodeReady {
			continue
		}
		if condition.Status != core.ConditionTrue {
			return fmt.Errorf("%s is not ready: %s", node.Name, condition.Message)
		}
		// The controller manager takes the taint away a moment later.
		for _, taint := range node.Spec.Taints {
			if taint.Key == core.TaintNodeNotReady {
				return fmt.Errorf("%s is still tainted", node.Name)
			}
		}
		return nil
	}
	return fmt.Errorf("%s has not said whether it is ready", node.Name)
}

func dnsAnswers(ctx context.Context, bed config.Bed) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, protocol, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, protocol, net.JoinHostPort(bed.ControlAddress.String(), "53"))
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc."+config.ClusterDomain+".")
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if address == bed.APIServiceAddress.String() {
			return nil
		}
	}
	return fmt.Errorf("the service kubernetes has the addresses %v, not %s", addresses, bed.APIServiceAddress)
}

func httpClient(bed config.Bed) (*http.Client, error) {
	authority, err := os.ReadFile(filepath.Join(bed.Path("certificates"), "authority.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
	}, nil
}

func answers(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// Whole tells what is missing of a bed that is up.
func Whole(ctx context.Context, bed config.Bed) error {
	content, err := os.ReadFile(bed.Path(upFile))
	if err != nil {
		return errors.New("it was never completely up")
	}
	if string(content) != processes.Boot()+"\n" {
		return errors.New("the machine has been started again since")
	}
	records, err := processes.Records(bed.Path("processes"))
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("it has no processes")
	}
	for _, record := range records {
		if !record.Alive() {
			return fmt.Errorf("%s has stopped", record.Name)
		}
	}
	client, err := Client(bed)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := apiReady(ctx, client); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	return nodesReady(ctx, client, bed)
}

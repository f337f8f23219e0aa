package selftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"quadraft.dev/bed/internal/cgroups"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/processes"
)

// Traces are all that a bed could leave on a machine, by kind.
type Traces map[string][]string

// observe lists what there is now.
func observe(bed config.Bed) (Traces, error) {
	traces := Traces{}
	owned, err := processes.Owned(bed.StateFolder, bed.CgroupRoot())
	if err != nil {
		return nil, err
	}
	for _, process := range owned {
		traces["processes"] = append(traces["processes"], fmt.Sprintf("%d %s", process.PID, process.Command()))
	}
	information, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(information), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 {
			traces["mounts"] = append(traces["mounts"], fields[4])
		}
	}
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		traces["links"] = append(traces["links"], link.Name())
	}
	if traces["cgroups"], err = cgroups.Remaining(bed.CgroupRoot()); err != nil {
		return nil, err
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	traces["routes"] = strings.Split(strings.TrimSpace(string(routes)), "\n")
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		output, err := exec.Command(program).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		traces[program] = Rules(string(output))
	}
	for _, setting := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "vm/overcommit_memory", "vm/panic_on_oom",
		"kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/netfilter/nf_conntrack_max",
	} {
		content, err := os.ReadFile(filepath.Join("/proc/sys", setting))
		if err == nil {
			traces["kernel settings"] = append(traces["kernel settings"], setting+" = "+strings.TrimSpace(string(content)))
		}
	}
	for _, pattern := range []string{
		"/run/containerd/s/*", "/run/netns/*", "/var/lib/cni/*", "/var/lib/cni/results/*", "/var/log/containers/*", "/var/log/pods/*",
		"/var/lib/kubelet", "/var/lib/kubelet/*", "/etc/cni/net.d/*", "/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes", "/etc/kubernetes",
		"/var/run/kubernetes", "/tmp/hostpath_pv", "/tmp/containerd-mount*", "/var/lib/containerd/*",
		bed.Path("*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			// Logs and the lock stay on purpose.
			if path != bed.Path("logs") && path != bed.Path("lock") {
				traces["files"] = append(traces["files"], path)
			}
		}
	}
	return traces, nil
}

// Rules are the rules and chains in the output of iptables-save, without the
// counters, comments and empty tables that come and go by themselves.
func Rules(output string) []string {
	var rules []string
	table := ""
	for _, line := range strings.Split(output, "\n") {
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			fields := strings.Fields(line[1:])
			// Chains of the kernel have a policy; those of users have none.
			if len(fields) > 1 && fields[1] != "ACCEPT" {
				rules = append(rules, table+": chain "+fields[0]+" "+fields[1])
			}
		case strings.HasPrefix(line, "-"):
			rules = append(rules, table+": "+line)
		}
	}
	return rules
}

// Difference is what appeared and what vanished between two observations.
func Difference(before, after Traces) []string {
	var differences []string
	kinds := map[string]bool{}
	for kind := range before {
		kinds[kind] = true
	}
	for kind := range after {
		kinds[kind] = true
	}
	for kind := range kinds {
		for _, thing := range after[kind] {
			if !slices.Contains(before[kind], thing) {
				differences = append(differences, kind+": left behind: "+thing)
			}
		}
		for _, thing := range before[kind] {
			if !slices.Contains(after[kind], thing) {
				differences = append(differences, kind+": taken away: "+thing)
			}
		}
	}
	slices.Sort(differences)
	return differences
}

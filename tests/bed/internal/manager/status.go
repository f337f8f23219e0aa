package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"text/tabwriter"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"quadraft.dev/bed/internal/config"
	"quadraft.dev/bed/internal/processes"
	"quadraft.dev/bed/internal/runtime"
)

// Status prints the bed's programs and tells whether it is whole.
func Status(ctx context.Context, bed config.Bed, output io.Writer) error {
	records, err := processes.Records(bed.Path("processes"))
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("there is no bed in " + bed.StateFolder)
	}
	table := tabwriter.NewWriter(output, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PROGRAM\tPROCESS\tSTATE\tMEMORY\tLOG")
	var total int64
	for _, record := range records {
		state, memory := "stopped", int64(0)
		if record.Alive() {
			state, memory = "running", record.ResidentBytes()
		}
		total += memory
		_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%d MiB\t%s\n", record.Name, record.PID, state, memory>>20, record.Log)
	}
	_, _ = fmt.Fprintf(table, "all\t\t\t%d MiB\t\n", total>>20)
	if err := table.Flush(); err != nil {
		return err
	}
	if err := Whole(ctx, bed); err != nil {
		return fmt.Errorf("the bed is not whole: %w", err)
	}
	_, _ = fmt.Fprintf(output, "up: %s, nodes %s, kubeconfig %s\n", bed.APIServerURL(), strings.Join(nodeNames(bed), " "), bed.Kubeconfig())
	return nil
}

func nodeNames(bed config.Bed) []string {
	var names []string
	for _, node := range bed.Nodes {
		names = append(names, node.Name)
	}
	return names
}

// VolumePath is the folder on the machine that holds a claim's data.
func VolumePath(ctx context.Context, bed config.Bed, namespace, claim string) (string, error) {
	client, err := Client(bed)
	if err != nil {
		return "", err
	}
	found, err := client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, meta.GetOptions{})
	if err != nil {
		return "", err
	}
	if found.Status.Phase != core.ClaimBound {
		return "", fmt.Errorf("the claim %s/%s has no volume yet", namespace, claim)
	}
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, found.Spec.VolumeName, meta.GetOptions{})
	if err != nil {
		return "", err
	}
	if volume.Spec.Local == nil {
		return "", fmt.Errorf("the volume %s is not one of the bed's", volume.Name)
	}
	return volume.Spec.Local.Path, nil
}

// ContainerProcess finds the main process of a pod's container.
func ContainerProcess(ctx context.Context, bed config.Bed, namespace, pod, container string) (processes.Identity, error) {
	client, err := Client(bed)
	if err != nil {
		return processes.Identity{}, err
	}
	found, err := client.CoreV1().Pods(namespace).Get(ctx, pod, meta.GetOptions{})
	if err != nil {
		return processes.Identity{}, err
	}
	node, isNode := bed.Node(found.Spec.NodeName)
	if !isNode {
		return processes.Identity{}, fmt.Errorf("the pod %s/%s is on no node of the bed yet", namespace, pod)
	}
	pid, err := runtime.ContainerProcess(ctx, node, namespace, pod, container)
	if err != nil {
		return processes.Identity{}, err
	}
	return processes.Of(pid)
}

// KillContainer ends a container's main process by SIGKILL, as a crash would.
func KillContainer(ctx context.Context, bed config.Bed, namespace, pod, container string) error {
	process, err := ContainerProcess(ctx, bed, namespace, pod, container)
	if err != nil {
		return err
	}
	return process.Signal(syscall.SIGKILL)
}

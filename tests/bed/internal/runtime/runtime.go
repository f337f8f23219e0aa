// Package runtime talks to the container runtime of a node.
package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"quadraft.dev/bed/internal/config"
)

func connect(node config.Node) (*grpc.ClientConn, error) {
	// The library logs every attempt on a socket that is not there yet.
	probe, err := net.Dial("unix", node.ContainerdSocket())
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	return grpc.NewClient("unix://"+node.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Ready tells whether the runtime answers and can run containers.
func Ready(ctx context.Context, node config.Node) error {
	connection, err := connect(node)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	status, err := cri.NewRuntimeServiceClient(connection).Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range status.GetStatus().GetConditions() {
		if !condition.GetStatus() {
			return fmt.Errorf("%s: %s", condition.GetType(), condition.GetMessage())
		}
	}
	return nil
}

// HasImage tells whether pods can use an image by this name.
func HasImage(ctx context.Context, node config.Node, name string) error {
	connection, err := connect(node)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	status, err := cri.NewImageServiceClient(connection).ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return err
	}
	if status.GetImage() == nil {
		return fmt.Errorf("%s has no image %s", node.Name, name)
	}
	return nil
}

// ContainerProcess finds the process number, as the machine counts, of the
// main process of a pod's running container. Without a container's name the
// pod must have exactly one.
func ContainerProcess(ctx context.Context, node config.Node, namespace, pod, container string) (int, error) {
	connection, err := connect(node)
	if err != nil {
		return 0, err
	}
	defer func() { _ = connection.Close() }()
	client := cri.NewRuntimeServiceClient(connection)
	labels := map[string]string{"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": pod}
	if container != "" {
		labels["io.kubernetes.container.name"] = container
	}
	list, err := client.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: labels,
	}})
	if err != nil {
		return 0, err
	}
	if count := len(list.GetContainers()); count != 1 {
		return 0, fmt.Errorf("the pod %s/%s has %d such running containers on %s", namespace, pod, count, node.Name)
	}
	status, err := client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: list.GetContainers()[0].GetId(), Verbose: true})
	if err != nil {
		return 0, err
	}
	var information struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(status.GetInfo()["info"]), &information); err != nil {
		return 0, fmt.Errorf("the runtime's description of the container: %w", err)
	}
	if information.PID <= 1 {
		return 0, fmt.Errorf("the container of %s/%s has no process", namespace, pod)
	}
	return information.PID, nil
}

// Package provisioner makes and deletes the bed's persistent volumes: one
// folder each on the machine's disk, in the folder of the node that runs the
// pod.
//
// They are volumes of the kind `local`: the kubelet gives them to the pod's
// fsGroup as it does with a cloud's disks, so what runs without being root
// here does so there too. Kubernetes' own host-path provisioner for tests
// cannot serve: its folders are root's alone and lie in /tmp.
package provisioner

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"quadraft.dev/bed/internal/components"
	"quadraft.dev/bed/internal/config"
)

const (
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	nodeLabel     = "kubernetes.io/hostname"
)

// Action is what a claim needs done.
type Action int

// The actions.
const (
	Nothing Action = iota
	Provision
	Expand
)

// Decide tells what a claim needs.
func Decide(claim *core.PersistentVolumeClaim) Action {
	if claim.DeletionTimestamp != nil || claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != components.StorageClass {
		return Nothing
	}
	if claim.Spec.VolumeName == "" {
		// The scheduler names the node when it knows where the pod goes.
		if claim.Annotations[selectedNode] == "" {
			return Nothing
		}
		return Provision
	}
	wanted, present := claim.Spec.Resources.Requests[core.ResourceStorage], claim.Status.Capacity[core.ResourceStorage]
	if claim.Status.Phase == core.ClaimBound && wanted.Cmp(present) > 0 {
		return Expand
	}
	return Nothing
}

// Deletable tells whether a volume is this provisioner's and nobody's any more.
func Deletable(volume *core.PersistentVolume) bool {
	return volume.Annotations[provisionedBy] == components.Provisioner &&
		volume.DeletionTimestamp == nil &&
		volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete &&
		volume.Status.Phase == core.VolumeReleased &&
		volume.Spec.Local != nil
}

// VolumeFor is the volume that a claim on a node gets.
func VolumeFor(claim *core.PersistentVolumeClaim, node config.Node, policy core.PersistentVolumeReclaimPolicy) *core.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: components.Provisioner}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              components.StorageClass,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: filepath.Join(node.Volumes(), name)},
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: nodeLabel, Operator: core.NodeSelectorOpIn, Values: []string{node.Name},
				}},
			}}}},
		},
	}
}

type provisioner struct {
	bed     config.Bed
	client  kubernetes.Interface
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	queue   workqueue.TypedRateLimitingInterface[request]
}

// request is a claim, or with no namespace a volume.
type request struct{ namespace, name string }

// Run serves until the context ends.
func Run(ctx context.Context, bed config.Bed, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	claims, volumes := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	self := provisioner{
		bed: bed, client: client, claims: claims.Lister(), volumes: volumes.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[request](100*time.Millisecond, 10*time.Second)),
	}
	enqueue := func(thing any) {
		if accessor, isObject := thing.(meta.Object); isObject {
			self.queue.Add(request{accessor.GetNamespace(), accessor.GetName()})
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, thing any) { enqueue(thing) }}
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	klog.InfoS("Watching claims", "class", components.StorageClass)
	go func() {
		<-ctx.Done()
		self.queue.ShutDown()
	}()
	for {
		item, stop := self.queue.Get()
		if stop {
			return nil
		}
		if err := self.handle(ctx, item); err != nil {
			klog.ErrorS(err, "Will try again", "namespace", item.namespace, "name", item.name)
			self.queue.AddRateLimited(item)
		} else {
			self.queue.Forget(item)
		}
		self.queue.Done(item)
	}
}

func (self provisioner) handle(ctx context.Context, item request) error {
	if item.namespace == "" {
		volume, err := self.volumes.Get(item.name)
		if errors.IsNotFound(err) || (err == nil && !Deletable(volume)) {
			return nil
		}
		if err != nil {
			return err
		}
		return self.delete(ctx, volume)
	}
	claim, err := self.claims.PersistentVolumeClaims(item.namespace).Get(item.name)
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch Decide(claim) {
	case Provision:
		return self.provision(ctx, claim)
	case Expand:
		return self.expand(ctx, claim)
	case Nothing:
	}
	return nil
}

func (self provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	node, found := self.bed.Node(claim.Annotations[selectedNode])
	if !found {
		return fmt.Errorf("the bed has no node %q", claim.Annotations[selectedNode])
	}
	if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == core.PersistentVolumeBlock {
		return fmt.Errorf("the bed has no block volumes")
	}
	class, err := self.client.StorageV1().StorageClasses().Get(ctx, components.StorageClass, meta.GetOptions{})
	if err != nil {
		return err
	}
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	volume := VolumeFor(claim, node, policy)
	if err := os.MkdirAll(volume.Spec.Local.Path, 0o755); err != nil {
		return err
	}
	_, err = self.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		klog.InfoS("Made a volume", "claim", klog.KObj(claim), "path", volume.Spec.Local.Path)
	}
	return err
}

// expand only writes down the new size: a folder has none of its own.
func (self provisioner) expand(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	size := claim.Spec.Resources.Requests[core.ResourceStorage]
	capacity := map[string]any{"capacity": map[string]string{"storage": size.String()}}
	patch, err := json.Marshal(map[string]any{"spec": capacity})
	if err != nil {
		return err
	}
	if _, err := self.client.CoreV1().PersistentVolumes().Patch(ctx, claim.Spec.VolumeName, types.MergePatchType, patch, meta.PatchOptions{}); err != nil {
		return err
	}
	patch, err = json.Marshal(map[string]any{"status": capacity})
	if err != nil {
		return err
	}
	_, err = self.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
	return err
}

func (self provisioner) delete(ctx context.Context, volume *core.PersistentVolume) error {
	path := volume.Spec.Local.Path
	owned := false
	for _, node := range self.bed.Nodes {
		owned = owned || filepath.Dir(path) == node.Volumes()
	}
	if !owned {
		return fmt.Errorf("%s is not in the bed's volumes: it stays", path)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	klog.InfoS("Deleted a volume", "path", path)
	err := self.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{Preconditions: &meta.Preconditions{UID: &volume.UID}})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}

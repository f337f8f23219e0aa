package provisioner

import (
	"testing"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"quadraft.dev/bed/internal/components"
	"quadraft.dev/bed/internal/config"
)

func claim(change func(*core.PersistentVolumeClaim)) *core.PersistentVolumeClaim {
	class := components.StorageClass
	result := &core.PersistentVolumeClaim{
		ObjectMeta: meta.ObjectMeta{Name: "data", Namespace: "tests", UID: "u-1", Annotations: map[string]string{selectedNode: "node-0"}},
		Spec: core.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			Resources:        core.VolumeResourceRequirements{Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	change(result)
	return result
}

func bound(size string) func(*core.PersistentVolumeClaim) {
	return func(claim *core.PersistentVolumeClaim) {
		claim.Spec.VolumeName = "pvc-u-1"
		claim.Status.Phase = core.ClaimBound
		claim.Status.Capacity = core.ResourceList{core.ResourceStorage: resource.MustParse(size)}
	}
}

func TestAClaimGetsAVolumeOnceItsNodeIsKnown(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*core.PersistentVolumeClaim)
		wanted Action
	}{
		"scheduled":     {func(*core.PersistentVolumeClaim) {}, Provision},
		"unscheduled":   {func(c *core.PersistentVolumeClaim) { c.Annotations = nil }, Nothing},
		"another class": {func(c *core.PersistentVolumeClaim) { other := "other"; c.Spec.StorageClassName = &other }, Nothing},
		"no class":      {func(c *core.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }, Nothing},
		"deleted":       {func(c *core.PersistentVolumeClaim) { now := meta.Now(); c.DeletionTimestamp = &now }, Nothing},
		"bound":         {bound("1Gi"), Nothing},
		"bound smaller": {bound("512Mi"), Expand},
		"bound larger":  {bound("2Gi"), Nothing},
	} {
		if got := Decide(claim(test.change)); got != test.wanted {
			t.Errorf("%s: got %v, want %v", name, got, test.wanted)
		}
	}
}

func TestOnlyReleasedVolumesOfThisProvisionerAreDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*core.PersistentVolume)
		wanted bool
	}{
		"released": {func(*core.PersistentVolume) {}, true},
		"bound":    {func(v *core.PersistentVolume) { v.Status.Phase = core.VolumeBound }, false},
		"retained": {func(v *core.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = core.PersistentVolumeReclaimRetain
		}, false},
		"somebody's":    {func(v *core.PersistentVolume) { v.Annotations = nil }, false},
		"being deleted": {func(v *core.PersistentVolume) { now := meta.Now(); v.DeletionTimestamp = &now }, false},
	} {
		volume := VolumeFor(claim(func(*core.PersistentVolumeClaim) {}), config.Node{Name: "node-0", Folder: "/bed/nodes/node-0"}, core.PersistentVolumeReclaimDelete)
		volume.Status.Phase = core.VolumeReleased
		test.change(volume)
		if Deletable(volume) != test.wanted {
			t.Errorf("%s: want %v", name, test.wanted)
		}
	}
}

func TestAVolumeLiesOnItsNodeAndIsTheClaimsAlone(t *testing.T) {
	volume := VolumeFor(claim(func(*core.PersistentVolumeClaim) {}), config.Node{Name: "node-3", Folder: "/bed/nodes/node-3"}, core.PersistentVolumeReclaimDelete)
	if volume.Spec.Local.Path != "/bed/nodes/node-3/volumes/pvc-u-1" {
		t.Errorf("path %s", volume.Spec.Local.Path)
	}
	if volume.Spec.ClaimRef.UID != "u-1" || volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != "node-3" {
		t.Errorf("volume %+v", volume.Spec)
	}
}

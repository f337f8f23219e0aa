package components

import (
	"context"
	"fmt"

	rbac "k8s.io/api/rbac/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	dnsUser         = "quadraft-bed:dns"
	provisionerUser = "quadraft-bed:provisioner"

	// StorageClass is the default class of the bed.
	StorageClass = "standard"
	// Provisioner is who makes the volumes of that class.
	Provisioner = "bed.quadraft.dev/folder"
)

var rights = map[string][]rbac.PolicyRule{
	dnsUser: {
		{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces", "endpoints"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
	},
	provisionerUser: {
		{APIGroups: []string{""}, Resources: []string{"persistentvolumes"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
		{APIGroups: []string{""}, Resources: []string{"persistentvolumeclaims"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"persistentvolumeclaims/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}, Verbs: []string{"get"}},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	},
}

// CreateObjects makes what a fresh cluster needs: the rights of DNS and of the
// provisioner, and the default storage class.
func CreateObjects(ctx context.Context, client kubernetes.Interface) error {
	for user, rules := range rights {
		role := &rbac.ClusterRole{ObjectMeta: meta.ObjectMeta{Name: user}, Rules: rules}
		if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, meta.CreateOptions{}); err != nil && !errors.IsAlreadyExists(err) {
			return fmt.Errorf("role of %s: %w", user, err)
		}
		binding := &rbac.ClusterRoleBinding{
			ObjectMeta: meta.ObjectMeta{Name: user},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: user},
			Subjects:   []rbac.Subject{{APIGroup: rbac.GroupName, Kind: rbac.UserKind, Name: user}},
		}
		if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, meta.CreateOptions{}); err != nil && !errors.IsAlreadyExists(err) {
			return fmt.Errorf("binding of %s: %w", user, err)
		}
	}
	binding := storage.VolumeBindingWaitForFirstConsumer
	expansion := true
	class := &storage.StorageClass{
		ObjectMeta: meta.ObjectMeta{
			Name:        StorageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: Provisioner,
		// A volume lies on one node: the pod's node decides which.
		VolumeBindingMode:    &binding,
		AllowVolumeExpansion: &expansion,
	}
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class, meta.CreateOptions{}); err != nil && !errors.IsAlreadyExists(err) {
		return fmt.Errorf("storage class: %w", err)
	}
	return nil
}

package cgroups

import (
	"slices"
	"testing"
)

func TestHierarchiesOfBothVersionsAreFound(t *testing.T) {
	information := `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:20 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:21 / /sys/fs/cgroup/memory rw shared:4 - cgroup cgroup rw,memory
32 30 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:23 / /cgroup-like rw - tmpfs cgroup rw
`
	got := Hierarchies(information)
	if !slices.Equal(got, []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"}) {
		t.Errorf("got %v", got)
	}
}

package mounts

import (
	"slices"
	"testing"
)

func TestMountsBelowAFolderComeLastFirst(t *testing.T) {
	information := `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:20 / /bed/pods/a rw - tmpfs tmpfs rw
31 30 0:21 / /bed/pods/a/b rw - tmpfs tmpfs rw
32 22 0:22 / /bedside rw - tmpfs tmpfs rw
33 22 0:23 / /bed/with\040space\134 rw - tmpfs tmpfs rw
34 22 0:24 / /bed rw - tmpfs tmpfs rw
broken
`
	got := Below(information, "/bed")
	want := []string{"/bed", `/bed/with space\`, "/bed/pods/a/b", "/bed/pods/a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

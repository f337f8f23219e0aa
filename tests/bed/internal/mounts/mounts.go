// Package mounts finds and removes mounts below a folder.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Below lists the mount points below a folder in the content of
// /proc/self/mountinfo, the last mounted first.
func Below(mountinfo, folder string) []string {
	var points []string
	for _, line := range strings.Split(mountinfo, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if point == folder || strings.HasPrefix(point, folder+"/") {
			points = append([]string{point}, points...)
		}
	}
	return points
}

// unescape turns the kernel's octal escapes (of spaces, tabs, newlines and
// backslashes) back into bytes.
func unescape(text string) string {
	var result strings.Builder
	for index := 0; index < len(text); index++ {
		if text[index] == '\\' && index+3 < len(text) {
			if value, err := strconv.ParseUint(text[index+1:index+4], 8, 8); err == nil {
				result.WriteByte(byte(value))
				index += 3
				continue
			}
		}
		result.WriteByte(text[index])
	}
	return result.String()
}

// Remove unmounts everything below a folder and tells how many there were. A
// mount that is busy is detached: it is gone from the tree at once and from
// the kernel when its last user is.
func Remove(folder string) (int, error) {
	removed := 0
	for {
		content, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return removed, err
		}
		points := Below(string(content), folder)
		if len(points) == 0 {
			return removed, nil
		}
		before := removed
		var failure error
		for _, point := range points {
			err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
			}
			switch {
			case err == nil:
				removed++
			// Unmounting one may have taken another with it.
			case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT):
				failure = fmt.Errorf("unmount %s: %w", point, err)
			}
		}
		if removed == before {
			if failure == nil {
				failure = fmt.Errorf("%d mounts below %s cannot be removed, the first is %s", len(points), folder, points[0])
			}
			return removed, failure
		}
	}
}

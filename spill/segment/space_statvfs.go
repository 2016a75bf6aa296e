//go:build netbsd || illumos || solaris

package segment

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the free and the whole space of dir's file system, in
// bytes. statvfs(2) counts in fragments, f_frsize.
func freeSpace(dir string) (avail, total int64, err error) {
	var st unix.Statvfs_t
	if err := unix.Statvfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statvfs", Path: dir, Err: err}
	}

	unit := int64(st.Frsize)
	return clampSpace(uint64(st.Bavail), unit), clampSpace(uint64(st.Blocks), unit), nil
}

func inMemory(string) bool { return false }

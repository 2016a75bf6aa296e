//go:build darwin || freebsd || dragonfly

package segment

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the free and the whole space of dir's file system, in
// bytes. The f_bsize of BSD's statfs(2) is what statvfs(3) calls f_frsize. What
// is available can be less than nothing, to a user who may not use the reserve.
func freeSpace(dir string) (avail, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}

	unit := int64(st.Bsize)
	avail = clampSpace(uint64(max(int64(st.Bavail), 0)), unit)
	return avail, clampSpace(uint64(st.Blocks), unit), nil
}

func inMemory(string) bool { return false }

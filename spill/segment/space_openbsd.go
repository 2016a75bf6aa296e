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

	unit := int64(st.F_bsize)
	avail = clampSpace(uint64(max(st.F_bavail, 0)), unit)
	return avail, clampSpace(st.F_blocks, unit), nil
}

func inMemory(string) bool { return false }

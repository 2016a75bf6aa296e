package segment

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns the free and the whole space of dir's file system, in
// bytes. statfs(2) counts in fragments, f_frsize, which FUSE and virtiofs let
// differ from f_bsize, the best size of a transfer.
func freeSpace(dir string) (avail, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}

	avail, total = spaceOf(&st)
	return avail, total, nil
}

func spaceOf(st *unix.Statfs_t) (avail, total int64) {
	unit := int64(st.Frsize)
	if unit == 0 {
		unit = int64(st.Bsize) // Linux before 2.6
	}
	return clampSpace(st.Bavail, unit), clampSpace(st.Blocks, unit)
}

// inMemory reports whether dir is on a file system that itself takes memory:
// tmpfs or ramfs.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	return uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC
}

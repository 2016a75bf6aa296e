package spill

import "syscall"

// inMemory reports whether the directory is on a file system that takes memory itself: tmpfs or
// ramfs, by their magic numbers in statfs(2).
func inMemory(dir string) bool {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && (int64(st.Type) == tmpfs || uint32(st.Type) == ramfs)
}

//go:build unix

package segment

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openNoFollow opens a file, but not what a link in its place points to. A
// planted FIFO does not block it.
func openNoFollow(path string, mode int) (*os.File, error) {
	return os.OpenFile(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
}

func syncDir(d *os.File) error { return d.Sync() }

// isOwn reports whether the file belongs to the user that this process acts
// for.
func isOwn(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// checkWritable reports why files can't be made in dir, without making any.
func checkWritable(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return &os.PathError{Op: "use", Path: dir, Err: unix.ENOTDIR}
	}

	err = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		return fmt.Errorf("%s is not writable: %w", dir, err)
	}
	return nil
}

// noSpace reports whether err says that the file system, or the user's quota,
// is full.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// scarce reports whether err comes of a shortage that will pass: of file
// descriptors or memory.
func scarce(err error) bool { return noDescriptors(err) || errors.Is(err, unix.ENOMEM) }

func noDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// tooLarge reports whether err says that a file may grow no more.
func tooLarge(err error) bool { return errors.Is(err, unix.EFBIG) }

// cantSync reports whether err says that a directory can't be synced at all, as
// on CIFS, rather than that the attempt has failed.
func cantSync(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) ||
		errors.Is(err, unix.EOPNOTSUPP)
}

// isLink reports whether err says that a symbolic link was not followed.
func isLink(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EMLINK) || errors.Is(err, eftype)
}

// clampSpace returns the size of so many units, in bytes, or the largest int64.
func clampSpace(units uint64, unit int64) int64 {
	if unit <= 0 {
		return 0
	}
	if units > uint64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return int64(units) * unit
}

package spill

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func openNoFollow(path string) (*os.File, error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrInvalid}
	}
	return os.Open(path)
}

// syncDir does nothing: Windows has no fsync of a directory.
func syncDir(*os.File) error { return nil }

const lockName = "hopper.lock"

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		err = ErrLocked
	}
	return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
}

func unlockDir(f *os.File) error {
	err := f.Close()
	os.Remove(f.Name()) // another pipe may have it open by now: then it stays
	return err
}

func freeSpace(dir string) (avail, total int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var a, t uint64
	if err := windows.GetDiskFreeSpaceEx(path, &a, &t, nil); err != nil {
		return 0, 0, &os.PathError{Op: "free space", Path: dir, Err: err}
	}
	return int64(a), int64(t), nil
}

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func scarce(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }

func isLink(error) bool { return false } // openNoFollow has looked

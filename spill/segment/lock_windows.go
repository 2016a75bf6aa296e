package segment

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"example.com/hopper/spill"
)

func tryLock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return spill.ErrLocked
	}
	return err
}

// unlock closes the file, and the lock goes with it: no child process has it.
func unlock(f *os.File) error { return f.Close() }

// release closes the marker first, since no open file can be removed. Another
// store may have it open by then: it stays.
func (m marker) release() error {
	err := unlock(m.f)
	os.Remove(m.f.Name())
	return err
}

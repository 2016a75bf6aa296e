//go:build unix

package segment

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"example.com/hopper/spill"
)

// tryLock takes a flock(2). It belongs to the open file, not to the process, so
// that it keeps out other stores of the same process too.
func tryLock(f *os.File) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return spill.ErrLocked
	}
	return err
}

// unlock gives the lock up and closes the file. To close it would not be
// enough: a child process that is being started has the open file too, until it
// executes its program.
func unlock(f *os.File) error { return errors.Join(flock(f, unix.LOCK_UN), f.Close()) }

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release removes the marker before the lock goes: whoever has it open by then
// sees that it is stale.
func (m marker) release() error {
	return errors.Join(ignoreMissing(os.Remove(m.f.Name())), unlock(m.f))
}

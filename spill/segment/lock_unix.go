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
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return spill.ErrLocked
		}
		return err
	}
}

// release removes the marker before the lock goes: whoever has it open by then
// sees that it is stale.
func (l *lock) release() error {
	if l.marker {
		return errors.Join(ignoreMissing(os.Remove(l.f.Name())), l.f.Close())
	}
	return l.f.Close()
}

package segment

import (
	"errors"
	"fmt"
	"os"

	"example.com/hopper/spill"
)

// A lock keeps others from using a directory: other stores of this process too.
// The system drops it when the process ends, however it ends.
type lock interface {
	release() error // and removes a file that was made for the lock
	unlock() error  // and leaves that file, for a sweep
}

// A marker is a lock on a file that was made for it, and goes with it.
type marker struct{ f *os.File }

func (m marker) unlock() error { return unlock(m.f) }

// errStale says that the file which was locked has been removed meanwhile.
var errStale = errors.New("the lock file was removed while it was being locked")

// lockMarker locks an open marker file. Whoever held the lock before may have
// removed the file after it was opened here, so that a lock on it is worth
// nothing: only if the path still leads to this very file is it ours.
func lockMarker(f *os.File) (marker, error) {
	if err := tryLock(f); err != nil {
		return marker{}, lockError(f.Name(), err)
	}

	opened, err1 := f.Stat()
	named, err2 := os.Lstat(f.Name())
	if err1 != nil || err2 != nil || !os.SameFile(opened, named) {
		return marker{}, lockError(f.Name(), errStale)
	}
	return marker{f}, nil
}

// lockMarkerFile locks the marker file at path, and makes it if need be.
func lockMarkerFile(path string) (marker, error) {
	for {
		f, err := openNoFollow(path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return marker{}, err
		}

		m, err := lockMarker(f)
		if err == nil {
			return m, nil
		}
		f.Close()
		if !errors.Is(err, errStale) {
			return marker{}, err
		}
	}
}

// isLocked reports whether err says that another store has the lock.
func isLocked(err error) bool { return errors.Is(err, spill.ErrLocked) }

func lockError(path string, err error) error {
	if isLocked(err) {
		return fmt.Errorf("%w: %s", err, path)
	}
	return &os.PathError{Op: "lock", Path: path, Err: err}
}

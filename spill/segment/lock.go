package segment

import (
	"errors"
	"fmt"
	"os"

	"example.com/hopper/spill"
)

// A lock keeps others from using a directory: other stores of this process too.
// The system drops it when the process ends, however it ends.
type lock struct {
	f      *os.File
	marker bool // f is a file made for the lock, and goes with it
}

// errStale says that the file which was locked has been removed meanwhile.
var errStale = errors.New("the lock file was removed while it was being locked")

// lockMarker locks an open marker file. Whoever held the lock before may have
// removed the file after it was opened here, so that a lock on it is worth
// nothing: only if the path still leads to this very file is it ours.
func lockMarker(f *os.File) (*lock, error) {
	if err := tryLock(f); err != nil {
		return nil, lockError(f.Name(), err)
	}

	opened, err1 := f.Stat()
	named, err2 := os.Lstat(f.Name())
	if err1 != nil || err2 != nil || !os.SameFile(opened, named) {
		return nil, lockError(f.Name(), errStale)
	}
	return &lock{f, true}, nil
}

// lockMarkerFile locks the marker file at path, and makes it if need be.
func lockMarkerFile(path string) (*lock, error) {
	for {
		f, err := openNoFollow(path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return nil, err
		}

		l, err := lockMarker(f)
		if err == nil {
			return l, nil
		}
		f.Close()
		if !errors.Is(err, errStale) {
			return nil, err
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

package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tempPrefix begins the names of temporary directories. Each has a marker file,
// lockName, that its store holds a lock on, so that what a killed process left
// can be told from what is in use.
const tempPrefix = "hopper-"

// CheckTemp reports why no directory can be made in [os.TempDir], which a store
// without a Dir needs at its first Append. It looks once in the life of the
// process, and leaves nothing there. It does not block for long, and is safe
// for concurrent use.
func CheckTemp() error { return checkTemp() }

var checkTemp = sync.OnceValue(func() error {
	if err := checkWritable(os.TempDir()); err != nil {
		return explain(fmt.Errorf("use the temporary directory: %w", err))
	}
	return nil
})

// emptyFor is how long an empty directory has been there that no process is
// about to use.
const emptyFor = time.Hour

// swept says that this process has removed what others have left.
var swept atomic.Bool

// makeTemp makes the temporary directory.
func (d *directory) makeTemp() error {
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return err
	}
	if swept.CompareAndSwap(false, true) {
		sweep(parent)
	}

	path, m, err := newTemp(parent)
	if err != nil {
		return explain(fmt.Errorf("make a temporary directory: %w", err))
	}
	d.path, d.lock = path, m
	d.tellMemory()
	return nil
}

// newTemp makes a temporary directory, for its owner alone whatever the umask,
// and locks its marker.
func newTemp(parent string) (path string, m marker, err error) {
	const tries = 100
	for range tries {
		if path, err = os.MkdirTemp(parent, tempPrefix); err != nil {
			return "", m, err
		}
		if m, err = markTemp(path); err == nil {
			return path, m, nil
		}

		// Another process may have swept the directory away before it was
		// locked: then the next one does.
		if !errors.Is(err, errStale) && !isLocked(err) && !errors.Is(err, os.ErrNotExist) {
			return "", m, err
		}
	}
	return "", m, err
}

// markTemp puts a locked marker into a new directory, or removes both.
func markTemp(dir string) (m marker, err error) {
	err = os.Chmod(dir, 0o700)
	var f *os.File
	if err == nil {
		f, err = createPrivate(filepath.Join(dir, lockName))
	}
	if err == nil {
		if m, err = lockMarker(f); err == nil {
			return m, nil
		}
		f.Close()
		os.Remove(f.Name())
	}
	os.Remove(dir)
	return m, err
}

// sweep removes the temporary directories that killed processes have left in
// parent: those of this user that have a marker which nobody has locked, or
// nothing at all, for so long that nobody is about to put a marker there. What
// else is in them stays, and so do they.
func sweep(parent string) {
	names, _ := osFS{}.List(parent)
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			sweepDir(filepath.Join(parent, name))
		}
	}
}

func sweepDir(dir string) {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() || !isOwn(fi) {
		return
	}
	if time.Since(fi.ModTime()) > emptyFor {
		os.Remove(dir) // if it is empty
	}

	path := filepath.Join(dir, lockName)
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() || !isOwn(fi) {
		return
	}
	f, err := openNoFollow(path, os.O_RDWR)
	if err != nil {
		return
	}
	m, err := lockMarker(f)
	if err != nil { // somebody uses it, or has just removed it
		f.Close()
		return
	}

	names, _ := osFS{}.List(dir)
	for _, name := range names {
		if ext, _, err := parseName(name); err == nil && (ext == segmentExt || ext == retainedExt) {
			os.Remove(filepath.Join(dir, name))
		}
	}
	m.release()
	os.Remove(dir)
}

package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/hopper/spill"
)

// tempPrefix begins the names of temporary directories. Each has a marker file,
// lockName, that its store holds a lock on, so that what a killed process left
// can be told from what is in use.
const tempPrefix = "hopper-"

// CheckTemp reports why no directory can be made in [os.TempDir], which a store
// without a Dir needs at its first Append. It looks once in the life of the
// process, and leaves nothing there. It does not block for long, and is safe for
// concurrent use.
func CheckTemp() error { return checkTemp() }

var checkTemp = sync.OnceValue(func() error {
	if err := checkWritable(os.TempDir()); err != nil {
		return explain(fmt.Errorf("use the temporary directory: %w", err))
	}
	return nil
})

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

	d.path, d.lock, err = newTemp(parent)
	if err != nil {
		d.path = ""
		return explain(fmt.Errorf("make a temporary directory: %w", err))
	}
	d.tellMemory()
	return nil
}

// newTemp makes a temporary directory, for its owner alone whatever the umask,
// and locks its marker.
func newTemp(parent string) (path string, l *lock, err error) {
	const tries = 100
	for range tries {
		if path, err = os.MkdirTemp(parent, tempPrefix); err != nil {
			return "", nil, err
		}
		if l, err = markTemp(path); err == nil {
			return path, l, nil
		}

		// Another process may have swept the directory away before it was locked:
		// then the next one does.
		if !errors.Is(err, errStale) && !isLocked(err) && !errors.Is(err, os.ErrNotExist) {
			return "", nil, err
		}
	}
	return "", nil, err
}

// markTemp puts a locked marker into a new directory, or removes both.
func markTemp(dir string) (l *lock, err error) {
	err = os.Chmod(dir, 0o700)
	var f *os.File
	if err == nil {
		f, err = createPrivate(filepath.Join(dir, lockName))
	}
	if err == nil {
		if l, err = lockMarker(f); err == nil {
			return l, nil
		}
		f.Close()
		os.Remove(f.Name())
	}
	os.Remove(dir)
	return nil, err
}

// sweep removes the temporary directories that killed processes have left in
// parent: those of this user that have a marker which nobody has locked. What
// else is in them stays, and so do they.
func sweep(parent string) {
	d, err := os.Open(parent)
	if err != nil {
		return
	}
	names, _ := d.Readdirnames(-1)
	d.Close()

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
	marker := filepath.Join(dir, lockName)
	if fi, err := os.Lstat(marker); err != nil || !fi.Mode().IsRegular() || !isOwn(fi) {
		return
	}
	f, err := openNoFollow(marker, os.O_RDWR)
	if err != nil {
		return
	}
	l, err := lockMarker(f)
	if err != nil { // somebody uses it, or has just removed it
		f.Close()
		return
	}

	names, _ := osFS{}.List(dir)
	for _, name := range names {
		if isOurs(name) {
			os.Remove(filepath.Join(dir, name))
		}
	}
	l.release()
	os.Remove(dir)
}

// isOurs reports whether a store without a name for its directory gives such
// names to files.
func isOurs(name string) bool {
	_, segment, err := parseSegmentName(name)
	if segment {
		return err == nil
	}
	digits, mark := strings.CutSuffix(name, retainedExt)
	_, number, err := parseSeq(digits, spill.MaxSeq)
	return mark && number && err == nil
}

package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"example.com/hopper/spill"
)

// A directory holds the segments of one store. It belongs to the goroutine that
// changes the store.
type directory struct {
	fs      fsys
	log     *slog.Logger
	durable bool // files made and removed are to stay so after a power cut

	path      string // "": a temporary one that is not there now
	temporary bool
	lock      lock        // nil: it is not in use
	is        fs.FileInfo // to know it again; nil: not seen yet
	made      []string    // by open: the directory, and those that it is in

	dirty      bool // files were made or removed since the last sync
	unsyncable bool // the file system can't sync directories
	toldMemory bool // it has been said that the directory is in memory
}

// ensure makes the temporary directory, if it is one and not there.
func (d *directory) ensure() error {
	if d.path != "" {
		return nil
	}
	return d.makeTemp()
}

// open makes and locks the directory. It leaves nothing behind if that fails.
func (d *directory) open(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}

	d.path = path
	if d.made, err = makeDir(path); err == nil {
		d.lock, err = lockDir(path)
	}
	if err == nil {
		err = d.probe()
	}
	if err != nil {
		d.giveUp()
		return explain(err)
	}

	d.tellMemory()
	return nil
}

// giveUp lets go of a directory that could not be taken into use, and removes
// what has been made of it.
func (d *directory) giveUp() {
	if d.lock != nil {
		d.lock.release()
		d.lock = nil
	}
	for _, dir := range slices.Backward(d.made) {
		os.Remove(dir) // unless somebody else has put something there
	}
	d.path, d.is, d.made = "", nil, nil
}

// explain makes an error of the file system one of this package, and adds what
// to do about it.
func explain(err error) error {
	switch {
	case err == nil || isLocked(err) || isRefusal(err):
		return err
	case noDescriptors(err):
		return fmt.Errorf("spill: %w: raise the limit of open files (ulimit -n)", err)
	}
	return fmt.Errorf("spill: %w", err)
}

// isRefusal reports whether err says that a segment is not for this store.
func isRefusal(err error) bool {
	return errors.Is(err, spill.ErrVersion) || errors.As(err, new(*spill.LabelError))
}

// makeDir makes a directory, and those it is in, for their owner alone,
// whatever the umask, and returns which, the outermost first. One that is there
// stays as it is.
func makeDir(dir string) (made []string, err error) {
	fi, err := os.Stat(dir)
	switch {
	case err == nil && fi.IsDir():
		return nil, nil
	case err == nil:
		return nil, fmt.Errorf("%s is a file, not a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}

	if parent := filepath.Dir(dir); parent != dir {
		if made, err = makeDir(parent); err != nil {
			return made, err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return made, ignoreExisting(err)
	}
	return append(made, dir), os.Chmod(dir, 0o700)
}

func ignoreExisting(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// probe finds out whether files can be made in the directory. A full disk is no
// obstacle: the items that fill it have to get out.
func (d *directory) probe() error {
	path := d.join(probeName)
	err := d.remove(path)
	if err == nil {
		var f file
		f, err = d.create(path)
		if noSpace(err) || scarce(err) {
			return nil
		}
		if err == nil {
			err = errors.Join(f.Close(), d.remove(path))
		}
	}

	if err != nil {
		return fmt.Errorf("directory %s is not writable: %w", d.path, err)
	}
	return nil
}

// check reports that the directory is gone, with an error that matches
// fs.ErrNotExist. If there is another in its place, the files in that are not
// this store's.
func (d *directory) check() error {
	fi, err := os.Stat(d.path)
	switch {
	case err != nil:
		return err
	case d.is == nil:
		d.is = fi
	case !os.SameFile(fi, d.is):
		return &fs.PathError{Op: "use", Path: d.path, Err: errReplaced}
	}
	return nil
}

var errReplaced = fmt.Errorf("the directory has been replaced: %w", fs.ErrNotExist)

// create makes a file.
func (d *directory) create(path string) (file, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	d.dirty = true
	return d.fs.Create(path)
}

// remove deletes a file, if it is there.
func (d *directory) remove(path string) error {
	err := d.check()
	if err == nil {
		d.dirty = true
		err = d.fs.Remove(path)
	}
	return ignoreMissing(err)
}

// list returns the names of the files that are there, in order.
func (d *directory) list() ([]string, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	return d.fs.List(d.path)
}

// has reports whether there is a file of that name, or something else.
func (d *directory) has(name string) (bool, error) {
	f, err := d.fs.Open(d.join(name))
	switch {
	case err == nil:
		return true, f.Close()
	case notRegular(err):
		return true, nil
	}
	return false, ignoreMissing(err)
}

func (d *directory) join(name string) string { return filepath.Join(d.path, name) }

// tellMemory warns, once, of a directory that takes memory itself.
func (d *directory) tellMemory() {
	if d.toldMemory || !inMemory(d.path) {
		return
	}
	d.toldMemory = true
	d.log.Warn("spill: the directory is in memory (tmpfs): items there still take memory",
		"dir", d.path)
}

// sync makes the creation and removal of files durable, where items are to
// survive. A file system that can't do that at all is taken as it is, and a
// directory that is gone needs none.
func (d *directory) sync() error {
	if !d.durable || d.unsyncable {
		return nil
	}

	err := d.fs.SyncDir(d.path)
	d.dirty = d.dirty && err != nil
	if cantSync(err) {
		d.unsyncable = true
		d.log.Warn("spill: the file system can't sync directories: a power cut may cost segments",
			"dir", d.path, "error", err)
		return nil
	}
	return ignoreMissing(err)
}

// mark makes an empty file, whose name is all that it says.
func (d *directory) mark(name string) error {
	f, err := d.create(d.join(name))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), d.sync())
}

// room reports the free and the whole space. Of 0 in all nothing is known: then
// the writes decide. Only a directory that is gone is an error.
func (d *directory) room() (avail, total int64, err error) {
	avail, total, err = d.fs.Free(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, 0, err
	case err != nil:
		return 0, 0, nil
	}
	return avail, total, nil
}

// close lets go of the directory, and removes a temporary one, if it is empty.
// Else its marker stays, for another process to sweep it away.
func (d *directory) close(empty bool) error {
	l := d.lock
	if l == nil {
		return nil
	}
	d.lock = nil
	if d.temporary && !empty {
		return l.unlock()
	}

	err := l.release()
	if d.temporary {
		err = errors.Join(err, ignoreMissing(os.Remove(d.path)))
		d.path, d.is = "", nil
	}
	return err
}

package segment

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// fsys is all that a store wants of the file system once it has its directory,
// so that tests can fail each operation. The paths are whole ones.
type fsys interface {
	Create(path string) (file, error) // for reading and appending; fails if there is anything
	Open(path string) (file, error)   // for reading; fails for anything but a regular file
	Remove(path string) error
	List(dir string) ([]string, error) // names, in order
	Sync(path string) error            // of a file that is not open
	SyncDir(dir string) error
	Free(dir string) (avail, total int64, err error) // bytes; of 0 in all nothing is known
}

type file interface {
	io.Writer // appends
	io.ReaderAt
	Size() (int64, error)
	Stat() (size int64, modified time.Time, err error)
	Sync() error
	Truncate(size int64) error
	io.Closer
}

// osFS is the real file system.
type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Stat() (size int64, modified time.Time, err error) {
	fi, err := f.File.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	return fi.Size(), fi.ModTime(), nil
}

// Size looks for the end. Linux makes the write that follows an fstat(2) record
// a finer time, which costs more than both calls.
func (f osFile) Size() (int64, error) { return f.Seek(0, io.SeekEnd) }

func (osFS) Create(path string) (file, error) {
	f, err := createPrivate(path)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// createPrivate makes a file for its owner alone.
func createPrivate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		f.Chmod(0o600) // a umask can have taken the owner's bits; it can't have added any
	}
	return f, err
}

func (osFS) Open(path string) (file, error) {
	f, err := openNoFollow(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}

	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	return osFile{f}, nil
}

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (osFS) Sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) // Windows wants to write what it syncs
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

func (osFS) Free(dir string) (avail, total int64, err error) { return freeSpace(dir) }

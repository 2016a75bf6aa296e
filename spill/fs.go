package spill

import (
	"io"
	"io/fs"
	"os"
)

// fsys is all that the package wants of a file system, so that tests can fail each
// operation. The paths are whole ones.
type fsys interface {
	Create(path string) (file, error) // for reading and appending; fails if path exists, links included
	Open(path string) (file, error)   // for reading; fails for anything but a regular file
	Remove(path string) error
	List(dir string) ([]string, error) // names, in no particular order
	Sync(path string) error            // of a file that is not open
	SyncDir(dir string) error
	Free(dir string) (avail, total int64, err error) // bytes
}

type file interface {
	io.Writer // appends
	io.ReaderAt
	Size() (int64, error)
	Sync() error
	Truncate(size int64) error
	io.Closer
}

// osFS is the real file system.
type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (osFS) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	f.Chmod(0o600) // a umask can have taken the owner's bits; it can't have added any
	return osFile{f}, nil
}

func (osFS) Open(path string) (file, error) {
	f, err := openNoFollow(path)
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
	return d.Readdirnames(-1)
}

func (osFS) Sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0) // Windows wants to write what it flushes
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

//go:build unix && !illumos && !solaris

package segment

import "os"

// A dirLock is a lock on the directory itself, so that no file is needed.
type dirLock struct{ f *os.File }

func (l dirLock) release() error { return unlock(l.f) }
func (l dirLock) unlock() error  { return unlock(l.f) }

func lockDir(dir string) (lock, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}

	if err := tryLock(d); err != nil {
		d.Close()
		return nil, lockError(dir, err)
	}
	return dirLock{d}, nil
}

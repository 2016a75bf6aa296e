//go:build unix && !illumos && !solaris

package segment

import "os"

// lockDir locks the directory itself, so that no file is needed.
func lockDir(dir string) (*lock, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}

	if err := tryLock(d); err != nil {
		d.Close()
		return nil, lockError(dir, err)
	}
	return &lock{f: d}, nil
}

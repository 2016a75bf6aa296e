//go:build windows || illumos || solaris

package segment

import "path/filepath"

// lockDir locks a file in the directory, where a directory can't be locked for
// want of write access.
func lockDir(dir string) (lock, error) {
	m, err := lockMarkerFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	return m, nil
}

package segment

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// openNoFollow opens a file, but not what a link in its place points to.
func openNoFollow(path string, mode int) (*os.File, error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrInvalid}
	}
	return os.OpenFile(path, mode, 0o600)
}

// syncDir does nothing: Windows has no fsync of a directory.
func syncDir(*os.File) error { return nil }

// isOwn takes every file for the user's own: each user has a temporary
// directory to itself.
func isOwn(os.FileInfo) bool { return true }

// checkWritable reports why files can't be made in dir. It makes and removes
// one, since the access rights of Windows are told by nothing less.
func checkWritable(dir string) error {
	f, err := os.CreateTemp(dir, tempPrefix)
	if noSpace(err) || scarce(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func freeSpace(dir string) (avail, total int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}

	var a, t uint64
	if err := windows.GetDiskFreeSpaceEx(path, &a, &t, nil); err != nil {
		return 0, 0, &os.PathError{Op: "free space", Path: dir, Err: err}
	}
	return int64(a), int64(t), nil
}

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func scarce(err error) bool {
	return noDescriptors(err) || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY)
}

func noDescriptors(err error) bool { return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) }

func tooLarge(err error) bool { return errors.Is(err, windows.ERROR_FILE_TOO_LARGE) }

func cantSync(error) bool { return false }

func isLink(error) bool { return false } // openNoFollow has looked

func inMemory(string) bool { return false }

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/golang/snappy"
)

// restName is a file beside the segments, with what was taken from the pump and not yet written to stdout when a run was
// stopped: it comes before the segments. It is a snappy stream, for its checksum.
const restName = "hopper.rest"

// newExt is ends the name of a file that is being written.
const newExt = ".new"

// saveRest replaces the file, durably, or removes it where there is nothing to save.
func saveRest(dir string, rest []byte) error {
	path := filepath.Join(dir, restName)
	if len(rest) == 0 {
		return removeRest(dir)
	}
	os.Remove(path + newExt) // left by a crash
	f, err := os.OpenFile(path+newExt, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := snappy.NewBufferedWriter(f)
	_, err = w.Write(rest)
	err = errors.Join(err, w.Close())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func removeRest(dir string) error {
	err := os.Remove(filepath.Join(dir, restName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// loadRest returns what saveRest saved in dir, nil if nothing.
func loadRest(dir string) ([]byte, error) {
	path := filepath.Join(dir, restName)
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(snappy.NewReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: it held the first bytes to come: remove it to go on without them", path, err)
	}
	return rest, nil
}

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"github.com/golang/snappy"
)

// restName is a file beside the segments, with what was taken from the pump and
// not yet written to stdout when a run was stopped: it comes before the
// segments. See writeRest.
const restName = "hopper.rest"

// newExt is ends the name of a file that is being written.
const newExt = ".new"

// saveRest replaces the file, durably, or removes it where there is nothing to
// save.
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
	if err = writeRest(f, rest); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	if d, err := os.Open(dir); err == nil { // Windows can't, and need not
		d.Sync()
		d.Close()
	}
	return nil
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
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rest, err := readRest(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: it held the first bytes to come: "+
			"remove it to go on without them", path, err)
	}
	return rest, nil
}

// writeRest writes the length of rest and rest as a snappy stream, whose
// framing does not notice if a chunk is missing.
func writeRest(w io.Writer, rest []byte) error {
	s := snappy.NewBufferedWriter(w)
	s.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(rest))))
	s.Write(rest)
	return s.Close() // the first error stays
}

func readRest(r io.Reader) ([]byte, error) {
	s := snappy.NewReader(r)
	var length [8]byte
	if _, err := io.ReadFull(s, length[:]); err != nil {
		return nil, snappy.ErrCorrupt
	}
	n := binary.LittleEndian.Uint64(length[:])
	rest, err := io.ReadAll(io.LimitReader(s, int64(min(n, math.MaxInt64-1))+1))
	if err == nil && uint64(len(rest)) != n {
		err = snappy.ErrCorrupt
	}
	return rest, err
}

//go:build !linux

package main

import (
	"io"
	"os"
)

// interruptible returns f: only on Linux can a read or write that blocks be
// ended, at a pipe.
func interruptible(f *os.File, _ int) io.ReadWriter { return f }

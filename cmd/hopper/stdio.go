package main

import (
	"io"
	"os"
	"runtime"
	"syscall"
)

// interruptible returns f, opened once more such that a blocked read or write can be ended with a deadline. Only
// Linux can do that, for pipes. The pipe is made larger, too. There f, named as /dev/stdin, is left as it is: its mode is shared with other processes.
func interruptible(f *os.File, flag int) *os.File {
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeNamedPipe == 0 || runtime.GOOS != "linux" {
		return f
	}
	again, err := os.OpenFile(f.Name(), flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return f
	}
	growPipe(again)
	return again
}

// isTerminal reports whether w is a terminal, or another character device that is not /dev/null.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(fi, null)
}

package main

import (
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipeOf returns an interruptible writing end of a pipe, and how much the
// kernel holds of it.
func pipeOf(t *testing.T) (w *pipeEnd, r *os.File, size func() int) {
	t.Helper()
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	named := os.NewFile(uintptr(fd), "/proc/self/fd/"+strconv.Itoa(fd))
	t.Cleanup(func() { r.Close(); f.Close(); named.Close() })

	w, ok := interruptible(named, os.O_WRONLY).(*pipeEnd)
	if !ok {
		t.Fatal("a pipe is not interruptible")
	}
	return w, r, func() int {
		n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func TestAPipeGrowsOnlyOnceDataFlows(t *testing.T) {
	for name, test := range map[string]struct {
		read, keep, grows bool
	}{
		"a consumer that reads":              {read: true, grows: true},
		"a consumer that never does":         {},
		"with -resume, whatever it may lose": {read: true, keep: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, r, size := pipeOf(t)
			before := size()
			if test.keep {
				w.KeepSize()
			}
			written := make(chan struct{})
			go func() {
				defer close(written)
				b := make([]byte, 3*growAfter)
				w.Write(b)
			}()
			if test.read { // but for the end, so that the writer waits
				if _, err := io.CopyN(io.Discard, r, 2*growAfter); err != nil {
					t.Error(err)
				}
			}
			w.SetWriteDeadline(time.Now())
			<-written
			if after := size(); (after > before) != test.grows {
				t.Errorf("it held %d bytes, now %d", before, after)
			}
		})
	}
}

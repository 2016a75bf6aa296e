package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roomy is the room that a pipe is given once data flows, in bytes. More
	// than the usual 64 KiB saves switches between the processes on either
	// side.
	roomy = 256 << 10

	// growAfter is how many bytes must have gone through before: a consumer
	// that never reads does not get more.
	growAfter = 1 << 20

	// budgetPart is the part of a user's pipe budget that a pipe may take. Once
	// it is used up the kernel makes all new pipes of that user small; see
	// pipe(7).
	budgetPart = 256
)

// A pipeEnd is an end of a pipe, at which a blocked read or write can be ended.
// It waits in poll(2), and so each in a thread of its own: between busy
// processes that wakes sooner than the runtime's poller.
type pipeEnd struct {
	fd  int
	end [2]int // a pipe that is closed on its writing side to end what is going on

	moved int  // bytes so far, up to growAfter
	grown bool // or not to grow

	once sync.Once
}

// interruptible returns f, named as /dev/stdin, opened once more such that a
// blocked read or write can be ended with a deadline that has passed, if it is
// a pipe. f itself is left as it is: its mode is shared with other processes.
func interruptible(f *os.File, flag int) io.ReadWriter {
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		return f
	}
	p := &pipeEnd{}
	if unix.Pipe2(p.end[:], unix.O_CLOEXEC) != nil {
		return f
	}
	if p.fd, err = unix.Open(f.Name(), flag|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(p.end[0])
		unix.Close(p.end[1])
		return f
	}
	return p
}

// KeepSize has the kernel hold no more of what is written than it would anyway:
// what a consumer that dies has not read is lost.
func (p *pipeEnd) KeepSize() { p.grown = true }

// grow makes the pipe larger once it is in use, where the budget allows that.
func (p *pipeEnd) grow() {
	if p.grown || p.moved < growAfter {
		return
	}
	p.grown = true

	size := roomy
	if b, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft"); err == nil {
		if pages, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pages > 0 {
			size = min(size, pages*os.Getpagesize()/budgetPart)
		}
	}
	now, err := unix.FcntlInt(uintptr(p.fd), unix.F_GETPIPE_SZ, 0)
	if err == nil && now < size {
		// It is all right if that can't be had.
		unix.FcntlInt(uintptr(p.fd), unix.F_SETPIPE_SZ, size)
	}
}

func (p *pipeEnd) Read(b []byte) (n int, err error) {
	err = p.try(unix.POLLIN, func() error {
		n, err = unix.Read(p.fd, b)
		return err
	})
	p.moved = min(p.moved+max(n, 0), growAfter)
	if n = max(n, 0); n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func (p *pipeEnd) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		err = p.try(unix.POLLOUT, func() error {
			m, err := unix.Write(p.fd, b[n:])
			n += max(m, 0)
			p.moved = min(p.moved+max(m, 0), growAfter)
			return err
		})
	}
	return n, err
}

// try repeats a system call until it does not have to wait.
func (p *pipeEnd) try(event int16, call func() error) error {
	for {
		err := call()
		if err == unix.EAGAIN {
			p.grow()
			err = p.wait(event)
			if err == nil {
				continue
			}
		}
		if err != unix.EINTR {
			return err
		}
	}
}

// wait blocks until the pipe is ready, or to be waited for no longer.
func (p *pipeEnd) wait(event int16) error {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: event}, {Fd: int32(p.end[0])}}
	_, err := unix.Poll(fds, -1)
	if err == nil && fds[1].Revents != 0 {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// SetReadDeadline ends reads that wait. The only deadline is one that has
// passed.
func (p *pipeEnd) SetReadDeadline(time.Time) error {
	p.once.Do(func() { unix.Close(p.end[1]) })
	return nil
}

// SetWriteDeadline ends writes that wait. The only deadline is one that has
// passed.
func (p *pipeEnd) SetWriteDeadline(t time.Time) error { return p.SetReadDeadline(t) }

package main

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSize is the room that a pipe is given, in bytes: what
// /proc/sys/fs/pipe-max-size allows everybody by default. More than the usual
// 64 KiB halves the time spent on switching between the processes on either
// side.
const pipeSize = 1 << 20

// A pipeEnd is an end of a pipe, at which a blocked read or write can be ended.
// It waits in poll(2), and so each in a thread of its own: between busy
// processes that wakes sooner than the runtime's poller.
type pipeEnd struct {
	fd  int
	end [2]int // a pipe that is closed on its writing side to end what is going on

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
	unix.FcntlInt(uintptr(p.fd), unix.F_SETPIPE_SZ, pipeSize) // it is all right if that can't be had
	return p
}

func (p *pipeEnd) Read(b []byte) (n int, err error) {
	err = p.try(unix.POLLIN, func() error {
		n, err = unix.Read(p.fd, b)
		return err
	})
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

// SetReadDeadline ends reads that wait. The only deadline is one that has passed.
func (p *pipeEnd) SetReadDeadline(time.Time) error {
	p.once.Do(func() { unix.Close(p.end[1]) })
	return nil
}

// SetWriteDeadline ends writes that wait. The only deadline is one that has passed.
func (p *pipeEnd) SetWriteDeadline(t time.Time) error { return p.SetReadDeadline(t) }

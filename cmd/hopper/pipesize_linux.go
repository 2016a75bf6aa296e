package main

import (
	"os"
	"syscall"
)

const (
	setPipeSize = 1031    // F_SETPIPE_SZ, fcntl(2)
	pipeSize    = 1 << 20 // what /proc/sys/fs/pipe-max-size allows everybody by default
)

// growPipe gives the pipe room for more than 64 KiB, which halves the time spent on switching between the
// processes on either side. It is all right if it can't be had.
func growPipe(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(fd uintptr) { syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize) })
	}
}

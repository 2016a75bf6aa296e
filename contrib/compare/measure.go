package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// status returns a size from /proc/self/status, in bytes; 0 where there is
// none.
func status(key string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) >= 2 && string(f[0]) == key+":" {
			n, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}

func peakRSS() int64 { return status("VmHWM") }

func rss() int64 { return status("VmRSS") }

func cpuSeconds() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

// dirBytes returns the size of the files in a directory; 0 if there is none.
func dirBytes(dir string) (size int64) {
	if dir == "" {
		return 0
	}
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if fi, err := d.Info(); err == nil {
				size += fi.Size()
			}
		}
		return nil
	})
	return size
}

// A watch looks at the size of a directory now and then.
type watch struct {
	dir  string
	most int64
	quit chan struct{}
	ask  chan chan struct{}
	done chan struct{}
}

func startWatch(dir string) *watch {
	w := &watch{
		dir: dir, quit: make(chan struct{}), ask: make(chan chan struct{}),
		done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		for tick := time.Tick(100 * time.Millisecond); ; {
			select {
			case <-tick:
				w.most = max(w.most, dirBytes(dir))
			case looked := <-w.ask:
				w.most = max(w.most, dirBytes(dir))
				close(looked)
			case <-w.quit:
				return
			}
		}
	}()
	return w
}

// look looks now.
func (w *watch) look() {
	looked := make(chan struct{})
	w.ask <- looked
	<-looked
}

// stop returns the largest size seen.
func (w *watch) stop() int64 {
	close(w.quit)
	<-w.done
	return w.most
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The tests run this program as a child, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("FILETAIL_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A sink takes lines, or stalls.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	stalled bool
	refused int // requests, while stalled
	next    int // the first line that it has not got
	problem error
	again   int // lines that came more than once
}

func startSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled {
		s.refused++
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}

	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		var i int
		_, err := fmt.Sscanf(lines.Text(), "line %d", &i)
		switch {
		case err != nil || i > s.next:
			err = fmt.Errorf("%q where line %d should be", lines.Text(), s.next)
			s.problem = errors.Join(s.problem, err)
		case i < s.next:
			s.again++
		default:
			s.next++
		}
	}
}

func (s *sink) stall(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = stalled
}

func (s *sink) got() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *sink) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused > 0
}

// want waits until the sink has n lines, each in its place.
func (s *sink) want(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("line %d is at the sink", n-1), func() bool { return s.got() >= n })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem != nil {
		t.Fatal(s.problem)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// A logger writes numbered lines to a file.
type logger struct {
	path string
	next int
}

func (l *logger) write(t *testing.T, n int) {
	t.Helper()
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for range n {
		fmt.Fprintf(w, "line %d of the log that is to be shipped\n", l.next)
		l.next++
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func (l *logger) rotate(t *testing.T) {
	t.Helper()
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
}

// start starts the program as a child.
func start(t *testing.T, l *logger, s *sink, dir string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-log", l.path, "-to", s.URL, "-dir", dir)
	c.Env = append(os.Environ(), "FILETAIL_CHILD=1")
	c.Stderr = t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(c) })
	return c
}

func kill(c *exec.Cmd) {
	c.Process.Kill()
	c.Wait()
}

func TestKillsAndRotationsLoseNothing(t *testing.T) {
	s, dir := startSink(t), t.TempDir()
	l := &logger{path: filepath.Join(t.TempDir(), "app.log")}

	for round := range 3 {
		l.write(t, 2000)
		c := start(t, l, s, dir)
		s.want(t, l.next-1000)

		// The sink stalls, the log grows and is rotated, and the program dies.
		s.stall(true)
		l.write(t, 12_000)
		if round > 0 {
			l.rotate(t)
			l.write(t, 100)
		}
		eventually(t, "lines wait on disk", func() bool { return size(t, dir) > 0 })
		kill(c)

		// Nobody is there while it goes on.
		l.write(t, 2000)
		s.stall(false)
		c = start(t, l, s, dir)
		s.want(t, l.next)
		kill(c)
	}
	t.Logf("%d lines, %d of them more than once", s.next, s.again)
}

// size returns the size of the segments in dir.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}

func TestAStopKeepsTheLinesAndTheNextStartRepeatsNone(t *testing.T) {
	s, dir := startSink(t), t.TempDir()
	l := &logger{path: filepath.Join(t.TempDir(), "app.log")}
	l.write(t, 5000)

	// It reads everything, delivers nothing, and is stopped.
	s.stall(true)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- run(ctx, l.path, s.URL, dir, time.Millisecond) }()
	eventually(t, "the sink refuses", s.refuses)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if read, err := lastRead(dir, position{}); err != nil || read.Seq == 0 {
		t.Fatalf("the backlog ends at %+v (%v), and should hold lines", read, err)
	}

	s.stall(false)
	ctx, stop = context.WithCancel(t.Context())
	go func() { ended <- run(ctx, l.path, s.URL, dir, time.Minute) }()
	s.want(t, l.next)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s.again != 0 {
		t.Errorf("%d lines came more than once", s.again)
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A sink writes to stdout what it receives. The channel has no buffer, so that one item
// is in its hand, and all others are the pump's.
type sink struct {
	w    io.Writer
	from <-chan []byte
	free buffers
	n    atomic.Int64 // bytes that were written

	mu       sync.Mutex
	rest     []byte // of the item in hand: what has not been written yet, as far as is known
	stopping bool

	restored func() // called when what an earlier run had in hand is written
	done     chan struct{}
	err      error // set before done is closed
}

func (s *sink) run() {
	defer close(s.done)
	if len(s.rest) > 0 && !s.write(s.rest) {
		return
	}
	s.restored()
	for b := range s.from {
		if !s.write(b) {
			return
		}
		s.free.put(b)
	}
}

// write reports whether all of b is written and it is to go on.
func (s *sink) write(b []byte) bool {
	s.mu.Lock()
	s.rest = b
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return false
	}
	n, err := s.w.Write(b)
	s.n.Add(int64(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = b[n:]
	if err != nil && !(s.stopping && errors.Is(err, os.ErrDeadlineExceeded)) {
		s.err = fmt.Errorf("write stdout: %w", err)
	}
	return err == nil
}

// stop ends writing, and returns what was in hand and not written. Where a write can't be interrupted and nobody reads, that
// is the whole item, of which a part will have been written: it comes twice.
func (s *sink) stop() (rest []byte) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	if d, ok := s.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(time.Unix(1, 0))
	}
	finished(s.done, stopGrace)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rest
}

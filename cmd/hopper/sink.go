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

// A sink writes to stdout what it receives. The channel has no buffer, so that
// one item is in its hand, and all others are the pump's.
type sink struct {
	w    io.Writer
	from <-chan []byte
	free buffers
	n    atomic.Int64 // bytes that were written

	mu   sync.Mutex
	rest []byte // of the item in hand: what has not been written yet, as far as is known

	stopping chan struct{} // closed when nothing is to be written any more
	restored func()        // called when what an earlier run had in hand is written
	done     chan struct{}
	err      error // set before done is closed
}

func (s *sink) run() {
	defer close(s.done)
	if len(s.rest) > 0 && !s.write(s.rest) {
		return
	}
	s.restored()
	for !finished(s.stopping, 0) { // first: after stop has returned, what is received would be lost
		select {
		case <-s.stopping:
			return
		case b, ok := <-s.from:
			if !ok || !s.write(b) {
				return
			}
			s.free.put(b)
		}
	}
}

// write reports whether all of b is written.
func (s *sink) write(b []byte) bool {
	s.setRest(b)
	if finished(s.stopping, 0) {
		return false
	}
	n, err := s.w.Write(b)
	s.n.Add(int64(n))
	s.setRest(b[n:])
	if err != nil && !(finished(s.stopping, 0) && errors.Is(err, os.ErrDeadlineExceeded)) {
		s.err = fmt.Errorf("write stdout: %w", err)
	}
	return err == nil
}

func (s *sink) setRest(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = b
}

// stop ends writing, and returns what was in hand and not written. Where a
// write can't be interrupted and nobody reads, that is the whole item, of which
// a part will have been written: it comes twice.
func (s *sink) stop() (rest []byte) {
	close(s.stopping)
	d, ok := s.w.(interface{ SetWriteDeadline(time.Time) error })
	if ok && d.SetWriteDeadline(longAgo) == nil {
		<-s.done
	} else {
		finished(s.done, stopGrace)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rest
}

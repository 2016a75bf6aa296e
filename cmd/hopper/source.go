package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// pieceSize is the most that is read as one item that goes to the log, in
	// bytes. It is a multiple of the page size, in which the kernel's pipes
	// count, and a chunk of a segment just holds it.
	pieceSize = 60 << 10

	// largeSize is the same while items go through memory: there, each one
	// costs the same.
	largeSize = 256 << 10
)

// stopGrace is how long a stop waits for what can't be interrupted.
const stopGrace = 200 * time.Millisecond

// buffers are for reuse. An item that went through memory is the very slice
// that was read, so whoever has written it can give it back.
type buffers struct{ small, large chan []byte }

func newBuffers() buffers {
	return buffers{make(chan []byte, 16), make(chan []byte, 16)}
}

// get returns a buffer of pieceSize or largeSize.
func (f buffers) get(size int) []byte {
	c := f.small
	if size > pieceSize {
		c = f.large
	}
	select {
	case b := <-c:
		return b
	default:
		return make([]byte, size)
	}
}

// put takes b, of any size, back.
func (f buffers) put(b []byte) {
	c, size := f.small, pieceSize
	if cap(b) >= largeSize {
		c, size = f.large, largeSize
	}
	if cap(b) < size {
		return
	}
	select {
	case c <- b[:size]:
	default:
	}
}

// A source reads stdin and sends what it read. The channel has no buffer, so
// that what was sent is the pump's.
type source struct {
	r    io.Reader
	to   chan<- []byte // closed at the end
	free buffers
	n    atomic.Int64 // bytes that were read

	spilling func() bool // whether what is sent goes to the log now

	stopping    atomic.Bool
	interrupted bool          // whether a read that blocks has been ended; of who calls stop
	giveUp      chan struct{} // closed when what is in hand is not to be sent any more

	done chan struct{}
	left []byte // was read and not sent; set before done is closed
	err  error
}

func (s *source) run() {
	defer close(s.done)
	defer close(s.to)
	for size := pieceSize; !s.stopping.Load(); {
		b := s.free.get(size)
		n, err := s.r.Read(b)
		s.n.Add(int64(n))
		size = pieceSize
		if n >= pieceSize && !s.spilling() { // there is more to come
			size = largeSize
		}
		if n > 0 && !s.send(s.piece(b, n)) {
			return
		}
		if err != nil {
			s.err = s.failure(err)
			return
		}
	}
}

// piece returns the n bytes read into b. It does not let a few bytes keep much
// memory.
func (s *source) piece(b []byte, n int) []byte {
	if n > len(b)/2 {
		return b[:n]
	}
	few := bytes.Clone(b[:n])
	s.free.put(b)
	return few
}

func (s *source) send(b []byte) bool {
	select {
	case s.to <- b:
		return true
	case <-s.giveUp:
		s.left = b
		return false
	}
}

func (s *source) failure(err error) error {
	if err == io.EOF || s.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("read stdin: %w", err)
}

// failed returns why reading ended, where that was not the end of stdin.
func (s *source) failed() error {
	if !finished(s.done, stopGrace) {
		return nil
	}
	return s.err
}

// stop ends reading, and waits a moment for what is in hand to be sent.
func (s *source) stop() {
	s.stopping.Store(true)
	if d, ok := s.r.(interface{ SetReadDeadline(time.Time) error }); ok {
		s.interrupted = d.SetReadDeadline(longAgo) == nil
	}
	finished(s.done, stopGrace)
}

// abandon ends sending too, and returns what could not be sent. Where reading
// can't be interrupted, what it yields from now on is not ours.
func (s *source) abandon() []byte {
	close(s.giveUp)
	if s.interrupted {
		<-s.done
	}
	if !finished(s.done, stopGrace) {
		return nil
	}
	return s.left
}

// longAgo is a deadline that ends what is going on.
var longAgo = time.Unix(1, 0)

// finished reports whether done is closed within the time.
func finished(done <-chan struct{}, within time.Duration) bool {
	if within == 0 {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	select {
	case <-done:
		return true
	case <-time.After(within):
		return false
	}
}

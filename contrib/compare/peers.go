package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/persistentqueue"
	"github.com/eapache/channels"
	"github.com/eapache/queue"
	"github.com/joncrlsn/dque"
	"github.com/nsqio/go-diskqueue"
	"github.com/smallnest/chanx"
	"github.com/tidwall/wal"

	"example.com/hopper"
)

// A setting is what a peer is opened with.
type setting struct {
	dir      string // empty, for a peer with a disk
	capacity int    // of its channels
	memory   int    // bytes that it may hold, where it can be told
	payload  int    // bytes of an item
	items    int    // in this run
}

// A between is what stands between a producer and a consumer: two channels, or
// two calls.
type between[T any] struct {
	in  chan<- T
	out <-chan T
	put func(T) error
	get func() (T, error) // blocks while there is nothing

	end   func() error // the producer is done; nil: close(in)
	close func() error // the consumer is done
}

// A peer is one library, or the bare means of the language.
type peer struct {
	name    string
	disk    bool // it spills
	stalls  bool // it takes everything before the consumer starts
	slow    bool // one run has to do
	numbers func(setting) (*between[uint64], error)
	bytes   func(setting) (*between[[]byte], error)
}

var peers = []peer{
	{name: "hopper", disk: true, stalls: true,
		numbers: openHopper[uint64], bytes: openHopper[[]byte]},
	{name: "channel", numbers: openChannel[uint64], bytes: openChannel[[]byte]},
	{name: "forward", numbers: openForward[uint64], bytes: openForward[[]byte]},
	{name: "largechannel", stalls: true,
		numbers: openLargeChannel[uint64], bytes: openLargeChannel[[]byte]},
	{name: "chanx", stalls: true, numbers: openChanx[uint64], bytes: openChanx[[]byte]},
	{name: "infinite", stalls: true, numbers: openInfinite[uint64], bytes: openInfinite[[]byte]},
	{name: "pumpedqueue", stalls: true, numbers: openPumped[uint64], bytes: openPumped[[]byte]},
	{name: "fastqueue", disk: true, stalls: true,
		numbers: asBytes(openFastQueue), bytes: openFastQueue},
	{name: "diskqueue", disk: true, stalls: true,
		numbers: asBytes(openDiskQueue), bytes: openDiskQueue},
	{name: "dque", disk: true, stalls: true, slow: true,
		numbers: openDque[uint64], bytes: openDque[[]byte]},
	{name: "wal", disk: true, stalls: true, numbers: asBytes(openWAL), bytes: openWAL},
}

func peerNamed(name string) (peer, error) {
	for _, p := range peers {
		if p.name == name {
			return p, nil
		}
	}
	return peer{}, fmt.Errorf("there is no peer %q: see `list`", name)
}

func openHopper[T any](s setting) (*between[T], error) {
	in, out := make(chan T, s.capacity), make(chan T, s.capacity)
	p, err := hopper.Pipe(out, in, hopper.Dir(s.dir), hopper.MaxMemory(int64(s.memory)))
	if err != nil {
		return nil, err
	}
	return &between[T]{in: in, out: out, close: p.Wait}, nil
}

func openChannel[T any](s setting) (*between[T], error) {
	c := make(chan T, s.capacity)
	return &between[T]{in: c, out: c}, nil
}

// openForward is a goroutine between two channels that does nothing else.
func openForward[T any](s setting) (*between[T], error) {
	in, out := make(chan T, s.capacity), make(chan T, s.capacity)
	go func() {
		defer close(out)
		for v := range in {
			out <- v
		}
	}()
	return &between[T]{in: in, out: out}, nil
}

// openLargeChannel has room for the whole run: what a stall costs at least.
func openLargeChannel[T any](s setting) (*between[T], error) {
	c := make(chan T, s.items)
	return &between[T]{in: c, out: c}, nil
}

func openChanx[T any](s setting) (*between[T], error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := chanx.NewUnboundedChanSize[T](ctx, s.capacity, s.capacity, 1000)
	return &between[T]{in: c.In, out: c.Out, close: func() error { cancel(); return nil }}, nil
}

// openInfinite boxes each item, since that channel carries any.
func openInfinite[T any](setting) (*between[T], error) {
	c := channels.NewInfiniteChannel()
	in, out := c.In(), c.Out()
	return &between[T]{
		put: func(v T) error { in <- v; return nil },
		get: func() (T, error) { return (<-out).(T), nil },
		end: func() error { c.Close(); return nil },
	}, nil
}

// openPumped is the usual pump around a queue in memory.
func openPumped[T any](s setting) (*between[T], error) {
	in, out := make(chan T, s.capacity), make(chan T, s.capacity)
	go func() {
		defer close(out)
		q := queue.New()
		for from := in; from != nil || q.Length() > 0; {
			var to chan T
			var head T
			if q.Length() > 0 {
				to, head = out, q.Peek().(T)
			}
			select {
			case v, ok := <-from:
				if !ok {
					from = nil
				} else {
					q.Add(v)
				}
			case to <- head:
				q.Remove()
			}
		}
	}()
	return &between[T]{in: in, out: out}, nil
}

// openFastQueue is used as vmagent does: the reader uses one block again and
// again.
func openFastQueue(s setting) (*between[[]byte], error) {
	blocks := min(s.memory/s.payload, 16384)
	q := persistentqueue.MustOpenFastQueue(filepath.Join(s.dir, "fq"), "compare", blocks, 0, false)
	var block []byte
	return &between[[]byte]{
		put: func(b []byte) error {
			if !q.TryWriteBlock(b) {
				return fmt.Errorf("the queue takes no block")
			}
			return nil
		},
		get: func() ([]byte, error) {
			var ok bool
			if block, ok = q.MustReadBlock(block[:0]); !ok {
				return nil, fmt.Errorf("the queue gives no block")
			}
			return block, nil
		},
		close: func() error { q.MustClose(); return nil },
	}, nil
}

// openDiskQueue opens go-diskqueue with nsqd's size of a file. It keeps nothing
// in memory, and syncs only where one file ends and the next begins.
func openDiskQueue(s setting) (*between[[]byte], error) {
	const never = math.MaxInt64
	q := diskqueue.New("compare", s.dir, 100<<20, 0, int32(s.payload), never, never,
		func(level diskqueue.LogLevel, format string, args ...any) {
			if level >= diskqueue.WARN {
				fmt.Fprintf(os.Stderr, format+"\n", args...)
			}
		})
	read := q.ReadChan()
	return &between[[]byte]{
		put:   q.Put,
		get:   func() ([]byte, error) { return <-read, nil },
		close: q.Close,
	}, nil
}

// A boxed item is what dque encodes, with gob.
type boxed[T any] struct{ Value T }

// openDque holds its first and last segment in memory, which together are as
// large as the memory allowed. Turbo: it does not sync.
func openDque[T any](s setting) (*between[T], error) {
	perSegment := min(s.memory/2/s.payload, 16384)
	q, err := dque.New("q", s.dir, perSegment, func() any { return new(boxed[T]) })
	if err != nil {
		return nil, err
	}
	if err := q.TurboOn(); err != nil {
		return nil, err
	}
	return &between[T]{
		put: func(v T) error { return q.Enqueue(&boxed[T]{v}) },
		get: func() (v T, err error) {
			item, err := q.DequeueBlock()
			if err != nil {
				return v, err
			}
			return item.(*boxed[T]).Value, nil
		},
		close: q.Close,
	}, nil
}

// openWAL makes a queue of a log: it keeps an index to read at, and cuts off
// the front now and then.
func openWAL(s setting) (*between[[]byte], error) {
	segment := s.memory / 2
	log, err := wal.Open(filepath.Join(s.dir, "wal"),
		&wal.Options{NoSync: true, SegmentSize: segment, SegmentCacheSize: 1, AllowEmpty: true})
	if err != nil {
		return nil, err
	}

	var mu sync.Mutex
	more := sync.NewCond(&mu)
	written, next, front := uint64(0), uint64(1), uint64(1)
	every := uint64(8 * segment / (s.payload + 2))
	put := func(b []byte) error {
		if err := log.Write(written+1, b); err != nil {
			return err
		}
		mu.Lock()
		written++
		mu.Unlock()
		more.Signal()
		return nil
	}
	get := func() ([]byte, error) {
		mu.Lock()
		for next > written {
			more.Wait()
		}
		mu.Unlock()
		b, err := log.Read(next)
		if err != nil {
			return nil, err
		}
		if next++; next-front >= every {
			front = next
			err = log.TruncateFront(next)
		}
		return b, err
	}
	return &between[[]byte]{put: put, get: get, close: log.Close}, nil
}

// asBytes makes numbers travel through a queue of bytes that copies them.
func asBytes(
	open func(setting) (*between[[]byte], error),
) func(setting) (*between[uint64], error) {
	return func(s setting) (*between[uint64], error) {
		q, err := open(s)
		if err != nil {
			return nil, err
		}
		var buf [8]byte
		return &between[uint64]{
			put: func(v uint64) error {
				binary.LittleEndian.PutUint64(buf[:], v)
				return q.put(buf[:])
			},
			get: func() (uint64, error) {
				b, err := q.get()
				if err == nil && len(b) != len(buf) {
					err = fmt.Errorf("%d bytes come, want %d", len(b), len(buf))
				}
				if err != nil {
					return 0, err
				}
				return binary.LittleEndian.Uint64(b), nil
			},
			end: q.end, close: q.close,
		}, nil
	}
}

package spill

import (
	"encoding/binary"
	"sync"
	"time"
)

// Offsets in the buffer of a run. The room in front of the frames is for the
// headers of a chunk, so that a chunk can be made where the frames stand.
const (
	payloadAt = chunkHeaderLen + checksumLen
	framesAt  = payloadAt + payloadHeaderLen
	maxBuf    = payloadAt + maxPayload // of a run that fits into a chunk
)

// bufSize is the size of all shared buffers: enough for the longest chunk, or
// for a full run and the item that no longer fits into it. It is a whole number
// of the runtime's pages.
const bufSize = 80 << 10

// buffers are shared by all logs of the process, and given back to the runtime
// when nobody has used them for two collections.
var buffers = sync.Pool{New: func() any { return new([bufSize]byte) }}

// atHand are some buffers that logs in use keep from the collector, which would
// take them from the pool between one run and the next. A log that comes to
// rest gives them all to the pool.
var atHand struct {
	mu   sync.Mutex
	free []*[bufSize]byte
}

const maxAtHand = 16

func getBuffer() []byte {
	atHand.mu.Lock()
	defer atHand.mu.Unlock()
	n := len(atHand.free)
	if n == 0 {
		return buffers.Get().(*[bufSize]byte)[:]
	}

	b := atHand.free[n-1]
	atHand.free[n-1] = nil
	atHand.free = atHand.free[:n-1]
	return b[:]
}

// putBuffer gives a buffer back. One of another size, which an item larger than
// a chunk has needed or a codec has put in its place, is left to the collector.
func putBuffer(b []byte) {
	if cap(b) != bufSize {
		return
	}

	atHand.mu.Lock()
	defer atHand.mu.Unlock()
	if len(atHand.free) < maxAtHand {
		atHand.free = append(atHand.free, (*[bufSize]byte)(b[:bufSize]))
	} else {
		buffers.Put((*[bufSize]byte)(b[:bufSize]))
	}
}

// restBuffers gives the buffers at hand to the pool.
func restBuffers() {
	atHand.mu.Lock()
	defer atHand.mu.Unlock()
	for _, b := range atHand.free {
		buffers.Put(b)
	}
	atHand.free = nil
}

// A run is some whole items with consecutive numbers, in memory. It becomes a
// batch when it is written, which it may never be.
type run struct {
	first uint64
	items int
	buf   []byte // room for the headers of a chunk, then the frames
}

func (r *run) end() uint64 { return r.first + uint64(r.items) }

func (r *run) frames() []byte { return r.buf[framesAt:] }

// single reports whether the run makes a single chunk.
func (r *run) single() bool { return len(r.buf) <= maxBuf }

// from returns the frames of the items from seq on.
func (r *run) from(seq uint64) []byte {
	rest := r.frames()
	for n := r.first; n < seq; n++ {
		size, prefix := binary.Uvarint(rest)
		rest = rest[prefix+int(size):]
	}
	return rest
}

// A pending run is on its way to the store. It stays in memory until it is
// stored or all of its items are done:
//
//	filling ──seal──▶ sealed ──claim──▶ packing ──▶ packed ──▶ writing ──▶ stored
//	                    │                  │           │          ▲
//	                    └──settle, sync: packed as it is written ─┘
//
// From sealed on it is only read, by up to two at a time beside the queue: the
// user of the log, by a cursor, and whoever packs or writes it. It can leave
// the queue in any state, when its items are done; the last user gives the
// memory back.
type pending struct {
	run

	state  state
	users  int
	plain  bool   // to be stored uncompressed
	packed []byte // the chunk, from packed on; nil where it would be too much to hold
}

type state uint8

const (
	filling state = iota
	sealed
	packing
	packed
	writing
	stored
)

// pack makes the run's chunk: where it stands if it is to be plain, else in
// dst.
func (p *pending) pack(tag uint32, dst []byte) {
	if !p.single() {
		return // chunk by chunk, as it is written
	}

	for raw := range payloads(p.buf, p.first, p.items, tag) {
		if p.plain {
			p.packed = p.buf
			putChunkHeader(p.packed, typeUncompressed, Checksum(raw))
		} else {
			p.packed = appendChunk(dst[:0], raw, false)
		}
	}
}

// unparked returns how many of the items from seq on are not parked.
func (p *pending) unparked(seq uint64) (items uint64) {
	for c := p.cursor(min(seq, p.end())); c.Left > 0; c.Advance() {
		if _, parked := c.Item(); !parked {
			items++
		}
	}
	return items
}

// batch returns the run as the store gets it.
func (p *pending) batch(tag uint32) *Batch {
	return &Batch{First: p.first, Items: p.items, tag: tag, buf: p.buf, packed: p.packed}
}

// loaded is a run that was read from the store, or the report that its items
// are lost.
type loaded struct {
	run
	next   uint64   // the first item that was asked for
	at     Position // of the run's first chunk
	stored time.Time
	lost   *CorruptError
}

// A Cursor walks the items of a run. It is for one goroutine.
type Cursor struct {
	Seq    uint64    // number of the current item
	Left   int       // how many remain, the current one included
	Path   string    // what it was read from; empty if it never left memory
	Offset int64     // and where
	Stored time.Time // when it was stored, as far as the store knows; zero if it never left memory

	// Where an item stands is a number: to set a pointer for each would call on
	// the write barrier while the garbage collector runs.
	frames   []byte // of the current item and those behind it, or more
	at, next int    // of the current item, and of the frame behind it
	parked   bool

	mem  *pending
	load *loaded
}

func (p *pending) cursor(seq uint64) *Cursor {
	seq = max(seq, p.first)
	c := &Cursor{Seq: seq, Left: int(p.end() - seq), frames: p.from(seq), mem: p}
	c.cut()
	return c
}

func (r *loaded) cursor() *Cursor {
	c := &Cursor{
		Seq: r.next, Left: int(r.end() - r.next), frames: r.from(r.next), load: r,
		Path: r.at.Path, Offset: r.at.Offset, Stored: r.stored,
	}
	c.cut()
	return c
}

// Item returns the current item, of which there must be one. Its bytes are
// valid until the cursor is given back. A parked item has none.
func (c *Cursor) Item() (item []byte, parked bool) {
	return c.frames[c.at:c.next:c.next], c.parked
}

// Advance goes on to the next item.
func (c *Cursor) Advance() {
	c.Seq++
	c.Left--
	c.cut()
}

func (c *Cursor) cut() {
	if c.Left > 0 {
		size, prefix := binary.Uvarint(c.frames[c.next:])
		c.at = c.next + prefix
		c.next = c.at + int(size)
		c.parked = size == 0 && prefix == len(placeholder)
	}
}

// Corrupt returns the error that says that the current item can't be
// understood.
func (c *Cursor) Corrupt(err error) *CorruptError {
	return &CorruptError{Path: c.Path, Offset: c.Offset, First: c.Seq, Items: 1, Err: err}
}

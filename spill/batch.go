package spill

import (
	"encoding/binary"
	"iter"
)

// A Batch is a run of items with consecutive sequence numbers, or, where Err is not nil,
// the report that such a run was lost.
type Batch struct {
	First uint64        // sequence number of the first item
	Items int           // number of items
	Err   *CorruptError // not nil: the items are lost, and why

	path   string // the segment it was read from, if any
	offset int64
	buf    []byte // room for the headers of a chunk and a payload, then frames
	pos    int    // in buf, of the next frame

	plain  bool   // to be stored uncompressed; set before it is packed
	chunks []byte // what it makes, once it is packed; nil where that would be too much to hold
	packed bool   // the writer may have it. Guarded by Log.mu
	refs   int    // users of buf: the caller, and those who compress or write it. Guarded by Log.mu
}

func (b *Batch) end() uint64 { return b.First + uint64(b.Items) }

func (b *Batch) frames() []byte { return b.buf[framesAt:] }

func (b *Batch) reset(first uint64) {
	*b = Batch{First: first, buf: b.buf[:framesAt], pos: framesAt, refs: b.refs}
}

// Next returns the bytes of the next item. They are valid until the batch is released. It must be
// called at most Items times.
func (b *Batch) Next() []byte {
	// Most items are shorter than 128 bytes, or than 16 KiB: Uvarint is not inlined.
	size, n := uint64(b.buf[b.pos]), 1
	if size >= 0x80 {
		size, n = binary.Uvarint(b.buf[b.pos:])
	}
	at := b.pos + n
	b.pos = at + int(size)
	return b.buf[at:b.pos:b.pos]
}

// MaxPrefix bounds the bytes of a frame beside its item's.
const MaxPrefix = 3

// Unsaved returns the number of bytes that Next has not returned yet, of a batch that comes from memory.
func (b *Batch) Unsaved() int64 {
	if b.path != "" || b.Err != nil {
		return 0
	}
	return int64(len(b.buf) - b.pos)
}

// Corrupt returns the error that says that the item with sequence number seq, which the
// batch holds, can't be understood.
func (b *Batch) Corrupt(seq uint64, err error) *CorruptError {
	return &CorruptError{Path: b.path, Offset: b.offset, First: seq, Items: 1, Err: err}
}

// rest returns a batch of the items that Next has not returned yet, the first of which has
// the sequence number seq.
func (b *Batch) rest(seq uint64) *Batch {
	r := newBatch()
	r.reset(seq)
	r.buf = append(r.buf, b.buf[b.pos:]...)
	r.Items = int(b.end() - seq)
	return r
}

// pack makes the batch's chunks: where it stands if it is one that is stored plain, else in dst's memory.
func (b *Batch) pack(tag uint32, dst []byte) {
	for raw := range b.payloads(tag) {
		if b.plain && b.fits() {
			b.chunks = b.buf
			putChunkHeader(b.chunks, typeUncompressed, checksum(raw))
			return
		}
		dst = appendChunk(dst, raw, b.plain)
	}
	b.chunks = dst
}

// fits reports whether the batch makes a single chunk.
func (b *Batch) fits() bool { return len(b.buf) <= maxBuf }

// payloads returns those of the chunks that the batch makes, each valid until the next.
func (b *Batch) payloads(tag uint32) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if b.fits() {
			raw := b.buf[payloadAt:]
			putPayloadHeader(raw, payload{first: b.First, count: uint32(b.Items), tag: tag})
			yield(raw)
			return
		}
		frame, raw := b.frames(), make([]byte, maxPayload)
		for at := 0; at < len(frame); at += maxFrames {
			n := copy(raw[payloadHeaderLen:], frame[at:])
			p := payload{first: b.First, offset: uint64(at), tag: tag}
			if at+n == len(frame) {
				p.count = 1
			}
			putPayloadHeader(raw, p)
			if !yield(raw[:payloadHeaderLen+n]) {
				return
			}
		}
	}
}

// Offsets in the buffer of a batch.
const (
	payloadAt = chunkHeaderLen + checksumLen
	framesAt  = payloadAt + payloadHeaderLen
	maxBuf    = payloadAt + maxPayload // of a batch that fits into a chunk
)

// chunkSlack is the room behind a full chunk for the item that no longer fits into it. With it, a buffer is 9 of the runtime's pages.
const chunkSlack = 8<<10 - payloadAt

func newBatch() *Batch {
	return &Batch{buf: make([]byte, framesAt, maxBuf+chunkSlack), pos: framesAt}
}

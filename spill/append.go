package spill

import "encoding/binary"

// An Appender frames items into batches of a chunk each. It is for one goroutine.
type Appender struct {
	full func(*Batch)  // takes over each batch that is done
	next func() *Batch // returns an empty batch

	tail   *Batch
	at     int // offset in the tail's buffer of the frame that is being made
	prefix int // bytes reserved for its length
	last   int // size of the last frame
}

// Begin returns the buffer to which the caller appends the encoding of the item with sequence number
// seq; then it calls [Appender.Commit], or nothing to leave the item out.
func (a *Appender) Begin(seq uint64) []byte {
	if t := a.tail; t.Items > 0 && (len(t.buf)+a.last > maxBuf || t.end() != seq) {
		a.flush()
	}
	t := a.tail
	if t.Items == 0 {
		t.reset(seq)
	}
	a.at = len(t.buf)
	if a.prefix == 0 {
		a.prefix = 1
	}
	return append(t.buf, make([]byte, a.prefix)...)
}

// Commit adds the item whose encoding was appended to the buffer of Begin.
func (a *Appender) Commit(b []byte) {
	b = a.setLength(b)
	a.last = len(b) - a.at
	if len(b) > maxBuf && a.tail.Items > 0 {
		done := a.begin()
		b = append(a.tail.buf, b[a.at:]...) // before done's buffer, which it stands in, has another owner
		a.full(done)
	}
	a.tail.buf = b
	a.tail.Items++
	if len(b) > maxBuf {
		a.flush()
	}
}

// setLength writes the length in front of the item, whose size Begin has guessed from the one before.
func (a *Appender) setLength(b []byte) []byte {
	size := len(b) - a.at - a.prefix
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(size))
	if n != a.prefix {
		b = append(b, length[:n]...) // room, if the length is longer
		copy(b[a.at+n:], b[a.at+a.prefix:a.at+a.prefix+size])
		b = b[:a.at+n+size]
		a.prefix = n
	}
	copy(b[a.at:], length[:n])
	return b
}

// flush hands the tail over.
func (a *Appender) flush() { a.full(a.begin()) }

// begin begins a new tail and returns the one before.
func (a *Appender) begin() (done *Batch) {
	done = a.tail
	a.tail = a.next()
	a.tail.reset(done.end())
	return done
}

// A Keep gathers items that are held in memory, for [Log.Close] to write.
type Keep struct {
	Appender
	batches []*Batch
	skipped uint64
}

// NewKeep returns an empty Keep.
func NewKeep() *Keep {
	k := &Keep{}
	k.Appender = Appender{full: func(b *Batch) { k.batches = append(k.batches, b) }, next: newBatch, tail: newBatch()}
	return k
}

// Skip leaves out an item that can't be encoded, instead of Commit.
func (k *Keep) Skip() { k.skipped++ }

// AddRest adds the items of b from the sequence number seq on, which Next has not returned yet.
func (k *Keep) AddRest(b *Batch, seq uint64) {
	if k.tail.Items > 0 {
		k.flush()
	}
	if rest := b.rest(seq); rest.Items > 0 {
		k.batches = append(k.batches, rest)
	}
}

func (k *Keep) done() []*Batch {
	if k.tail.Items > 0 {
		k.flush()
	}
	return k.batches
}

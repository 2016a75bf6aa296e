package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"example.com/hopper/spill"
)

// A walker reads a store extent by extent, as a log does, and checks each.
type walker struct {
	s    *session
	seq  uint64         // the next item to be found
	from spill.Position // for the next Read
	part uint64         // bytes of the item seq that have been read
	want []span         // the items that are there

	places map[uint64]spill.Position // of the chunks in which the items stand
}

// walk reads from seq, at from, up to end, where the store has all items or
// those of want.
func (s *session) walk(
	seq uint64, from spill.Position, end uint64, want ...span,
) map[uint64]spill.Position {
	s.tr.t.Helper()
	if want == nil {
		want = []span{{0, end}}
	}

	w := &walker{s: s, seq: seq, from: from, want: want, places: make(map[uint64]spill.Position)}
	buf := make([]byte, spill.MaxChunk)
	for range maxReads {
		if w.seq >= end {
			return w.places
		}

		ext := s.read(w.seq, w.from, buf)
		if err := w.take(ext); err != nil {
			s.tr.t.Fatalf("Read(%d, %+v): %v: First %d, %d bytes of chunks at %+v, End %d",
				w.seq, w.from, err, ext.First, len(ext.Chunks), ext.At, ext.End)
		}
	}
	s.tr.t.Fatalf("%v from item %d on", errNoProgress, seq)
	return nil
}

// read reads one extent.
func (s *session) read(seq uint64, from spill.Position, buf []byte) spill.Extent {
	s.tr.t.Helper()
	ext, err := patient{s.store}.Read(s.tr.ctx, seq, from, buf)
	if err != nil {
		s.tr.t.Fatalf("Read(%d, %+v): %v", seq, from, err)
	}
	return ext
}

// take checks an extent and goes on behind it.
func (w *walker) take(ext spill.Extent) error {
	if ext.Err != nil {
		return fmt.Errorf("damage is reported where there is none: %w", ext.Err)
	}
	asked := w.seq
	if err := w.skip(ext.First); err != nil {
		return err
	}
	if w.from != (spill.Position{}) && ext.At != w.from {
		w.part = 0 // it has not gone on where the last extent ended
	}
	if err := w.chunks(ext); err != nil {
		return err
	}

	if ext.End == 0 {
		if len(ext.Chunks) == 0 {
			return fmt.Errorf("neither chunks nor an End")
		}
		w.from = ext.At
		w.from.Offset += int64(len(ext.Chunks))
		return nil
	}

	if err := w.skip(ext.End); err != nil {
		return err
	}
	if w.from == (spill.Position{}) && w.seq == asked {
		return errNoProgress
	}
	w.from, w.part = spill.Position{}, 0
	return nil
}

// skip goes on to a number if no item is there below it.
func (w *walker) skip(to uint64) error {
	for _, there := range w.want {
		if first := max(there.first, w.seq); first < min(there.end, to) {
			return fmt.Errorf("item %d has not been returned", first)
		}
	}
	w.seq = max(w.seq, to)
	return nil
}

// chunks decodes the chunks of an extent.
func (w *walker) chunks(ext spill.Extent) error {
	buf := make([]byte, 64<<10)
	at, rest := ext.At, ext.Chunks
	for len(rest) > 0 {
		n, err := spill.ChunkLen(rest)
		if err == nil && n > len(rest) {
			err = spill.ErrTorn
		}
		if err != nil {
			return fmt.Errorf("%d bytes before the end of the chunks: %w", len(rest), err)
		}

		p, err := spill.DecodeChunk(buf, rest[:n])
		if err != nil {
			return err
		}
		if err := w.chunk(p, at); err != nil {
			return err
		}
		rest, at.Offset = rest[n:], at.Offset+int64(n)
	}
	return nil
}

// chunk goes on behind a chunk.
func (w *walker) chunk(p spill.Payload, at spill.Position) error {
	switch {
	case p.First > w.seq:
		return fmt.Errorf("a chunk begins at item %d where %d is expected", p.First, w.seq)
	case p.Offset != 0 && p.First == w.seq && p.Offset != w.part:
		return fmt.Errorf("item %d goes on at byte %d, want %d", p.First, p.Offset, w.part)
	}

	if p.Offset == 0 {
		w.part = 0
	}
	if p.First == w.seq {
		w.part += uint64(len(p.Frames))
	}
	if p.Offset == 0 {
		for seq := p.First; seq < max(p.End(), p.First+1); seq++ {
			w.places[seq] = at
		}
	}

	if p.End() > w.seq {
		w.seq, w.part = p.End(), 0
	}
	return nil
}

func testReadAnywhere(tr *trial) {
	s := tr.openEmpty()
	tr.sizes[60] = 200 << 10
	s.appendAll(0, 60, 7)
	s.append(tr.batch(60, 61))
	s.append(tr.batches(61, 120, 7)...)

	for seq := range uint64(120) {
		s.walk(seq, spill.Position{}, min(seq+15, 120))
	}
	for seq := uint64(0); seq < 120; seq += 13 {
		s.holds(seq, 120, span{seq, 120})
	}
	s.delete()
}

// testHints asks for items with positions of all kinds, as a log does that has
// gone ahead or back in the meantime.
func testHints(tr *trial) {
	s := tr.openEmpty()
	tr.sizes[40] = 200 << 10
	s.appendAll(0, 40, 5)
	s.append(tr.batch(40, 41))
	s.appendAll(41, 101, 5)

	places := s.walk(0, spill.Position{}, 101)
	for seq := uint64(0); seq < 101; seq += 11 {
		for hint := seq % 7; hint <= seq; hint += 7 {
			s.walk(seq, places[hint], min(seq+10, 101))
		}
		s.walk(seq, places[seq], min(seq+10, 101))
	}

	// What the hint points at may be gone.
	s.trim(70)
	for hint := uint64(0); hint < 90; hint += 3 {
		s.walk(90, places[hint], 101)
	}

	// More may have been appended.
	s.appendAll(101, 111, 5)
	for hint := uint64(90); hint < 101; hint++ {
		s.walk(101, places[hint], 111)
	}
	s.delete()
}

func testReadMemory(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)

	buf := make([]byte, spill.MaxChunk)
	ext := s.read(17, spill.Position{}, buf)
	before := bytes.Clone(ext.Chunks)
	if len(before) == 0 {
		tr.t.Fatalf("Read(17): no chunks")
	}

	s.appendAll(50, 100, 5)
	s.trim(100)
	s.appendAll(100, 150, 5)
	if !bytes.Equal(ext.Chunks, before) {
		tr.t.Fatalf("the chunks that Read has returned have changed before the next Read")
	}
	s.delete()
}

// testReadWhileAppending has one goroutine that appends and trims, one that
// reads, and one that asks for the usage, all at the same time.
func testReadWhileAppending(tr *trial) {
	tr.sizes[500], tr.sizes[1200] = 300<<10, 70<<10
	batches := tr.batches(0, 500, 10)
	batches = append(batches, tr.batch(500, 501))
	batches = append(batches, tr.batches(501, 1200, 10)...)
	batches = append(batches, tr.batch(1200, 1201))
	batches = append(batches, tr.batches(1201, 2500, 10)...)

	w := &writer{
		s:      tr.openEmpty(),
		stored: make(chan uint64, len(batches)),
		asked:  make(chan struct{}, len(batches)),
	}
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { w.write(batches) })
	others.Go(func() {
		for range w.asked {
			w.s.store.Usage()
		}
	})

	var found []span
	for end := range w.stored {
		got, lost := w.s.readBack(w.done.Load(), end)
		if len(lost) > 0 {
			tr.t.Fatalf("items are reported as lost: %v", lost)
		}
		for _, g := range got {
			found = add(found, g.first, g.end)
		}
		w.done.Store(end)
	}

	if w.err != nil {
		tr.t.Fatalf("%v", w.err)
	}
	w.s.compare("found", found, []span{{0, 2500}})
	w.s.trim(2500)
	w.s.isTrimmed()
	w.s.delete()
}

// A writer appends and trims in a goroutine of its own.
type writer struct {
	s      *session
	stored chan uint64   // gets what the store has, and is closed at the end
	asked  chan struct{} // gets a value with each call of Append
	done   atomic.Uint64 // the items below have been read
	err    error         // valid once stored is closed
}

func (w *writer) write(batches []*spill.Batch) {
	defer close(w.stored)
	defer close(w.asked)

	for some := range slices.Chunk(batches, 3) {
		w.asked <- struct{}{}
		if w.err = w.s.put(some); w.err != nil {
			return
		}
		w.stored <- some[len(some)-1].End()

		done := w.done.Load()
		if done < w.s.store.Usage().TrimAt {
			continue
		}
		if err := w.s.store.Trim(w.s.tr.ctx, done); err != nil {
			w.err = fmt.Errorf("Trim(%d): %w", done, err)
			return
		}
	}
}

// testReadTrimmed asks for items that have been trimmed, as a log does whose
// items get done while it is about to read them.
func testReadTrimmed(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(0, 60, 5)
	places := s.walk(0, spill.Position{}, 60)
	s.trim(45)

	// Whether what was trimmed counts as lost is all the same.
	for seq := range uint64(60) {
		found, _ := s.readBack(seq, 60)
		want := span{max(seq, 45), 60}
		if n := len(found); n == 0 || found[n-1].first > want.first || found[n-1].end != want.end {
			tr.t.Fatalf("reading from %d on: found items %v, want all of %v", seq, found, want)
		}
	}

	s.trim(60)
	buf := make([]byte, spill.MaxChunk)
	for seq := range uint64(60) {
		for _, from := range []spill.Position{{}, places[seq]} {
			ext, err := s.store.Read(tr.ctx, seq, from, buf)
			if err == nil && len(ext.Chunks) == 0 && ext.End <= seq && from == (spill.Position{}) {
				tr.t.Fatalf("Read(%d) of what was trimmed: neither chunks nor an End nor an error",
					seq)
			}
		}
	}
	s.delete()
}

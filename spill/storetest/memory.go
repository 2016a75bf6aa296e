package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/hopper/spill"
)

// A Memory is a medium in memory. What its stores have stored outlives them, as
// files outlive a process. The methods are safe for concurrent use, and none of
// them blocks.
//
// It keeps batches in pieces of a few, which are read chunk by chunk and
// deleted as a whole, as a directory of files does.
type Memory struct {
	knobs knobs

	mu     sync.Mutex
	user   *memoryStore // that has been opened, or nil
	newer  bool         // written by a newer program
	label  string       // of the items
	keep   bool         // what the items' log was opened with
	dirty  bool         // that log has not ended with Close
	left   *receipt     // of the last Close, until the next Open
	done   uint64       // items below have been done at a Close or Sync
	last   uint64       // behind the last item ever stored
	made   int          // pieces so far, for their names
	pieces []*piece     // in the order of their first items
	active *piece       // that batches are added to, or nil
}

// A receipt is what a Close has said to be left.
type receipt struct{ next, end uint64 }

// pieceBatches is how many batches a piece takes.
const pieceBatches = 3

// A piece holds some batches whose numbers have no gap.
type piece struct {
	name       string
	first, end uint64
	batches    []place
	data       []byte // the chunks
	chunks     []int  // where they begin in data
	synced     int    // of the batches
	stored     time.Time
	missing    error // not nil: there is no data, and why
}

// A place is where a batch begins in its piece.
type place struct {
	first  uint64
	offset int
}

// NewMemory returns an empty medium without a limit.
func NewMemory() *Memory {
	m := &Memory{}
	m.knobs.init()
	return m
}

// Store returns a store on the medium, to be opened. Any number may be made, of
// which one at a time can be open. A store that is dropped without Close keeps
// the medium locked until [Memory.Crash].
func (m *Memory) Store() spill.Store { return &memoryStore{m: m, cut: make(chan struct{})} }

// Crash ends the store that is open, if there is one, as the end of its process
// would: its calls, those under way included, fail and change nothing any more.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.user != nil {
		close(m.user.cut)
		m.user = nil
	}
}

// A memoryStore is a store on a Memory.
type memoryStore struct {
	m      *Memory
	cut    chan struct{} // closed by a crash
	lifted bool          // guarded by m.mu

	life    atomic.Int32 // 0: to be opened, 1: in use, 2: ended
	writing atomic.Bool  // a call of Append, Trim, Sync or Lift is under way
	reading atomic.Bool  // a call of Read is under way
}

var (
	errCut     = errors.New("storetest: the store has crashed")
	errMissing = errors.New("piece is missing")
)

// only panics if flag is set, which says that a call is under way that should
// be the only one of its kind.
func only(c Call, flag *atomic.Bool) (leave func()) {
	if flag.Swap(true) {
		panic(fmt.Sprintf("storetest: %v while an earlier call is under way", c))
	}
	return func() { flag.Store(false) }
}

// inUse panics if the store is not between Open and Close.
func (s *memoryStore) inUse(c Call) {
	switch s.life.Load() {
	case 0:
		panic(fmt.Sprintf("storetest: %v before Open", c))
	case 2:
		panic(fmt.Sprintf("storetest: %v after Close", c))
	}
}

// lock takes the lock for a change of the medium, unless the store has crashed.
func (s *memoryStore) lock() (unlock func(), err error) {
	s.m.mu.Lock()
	if s.m.user != s {
		s.m.mu.Unlock()
		return nil, errCut
	}
	return s.m.mu.Unlock, nil
}

// Open implements [spill.Store].
func (s *memoryStore) Open(ctx context.Context, label string, keep bool) (spill.Range, error) {
	if !s.life.CompareAndSwap(0, 2) {
		panic("storetest: Open of a store that has been opened before")
	}
	if err := s.m.knobs.enter(ctx, Open, s.cut); err != nil {
		return spill.Range{}, err
	}

	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusalLocked(label, keep); err != nil {
		return spill.Range{}, err
	}

	if !keep {
		m.wipeLocked()
	}
	r := m.adoptLocked()
	m.user, m.label, m.keep, m.dirty = s, label, keep, true
	s.life.Store(1)
	return r, nil
}

// refusalLocked returns why the medium can't be opened.
func (m *Memory) refusalLocked(label string, keep bool) error {
	holds := len(m.pieces) > 0 || m.left != nil && m.left.next < m.left.end
	switch {
	case m.user != nil:
		return spill.ErrLocked
	case m.newer:
		return spill.ErrVersion
	case holds && m.label != label:
		return &spill.LabelError{Path: "memory", Found: m.label, Want: label}
	case holds && m.keep && !keep:
		return spill.ErrNotResumed
	}
	return nil
}

// adoptLocked makes what an earlier log has left the content of the next.
func (m *Memory) adoptLocked() spill.Range {
	if m.left != nil {
		m.vouchLocked(*m.left)
	}
	m.trimLocked(m.done)

	r := spill.Range{Next: m.last, End: m.last, Crashed: m.dirty}
	if len(m.pieces) > 0 {
		r.Next = max(m.done, m.pieces[0].first)
		r.Oldest = m.pieces[0].stored
	}
	r.Items = m.countLocked(r.Next, r.End)
	if r.Crashed {
		// More would have been deleted.
		r.Repeated = m.countLocked(r.Next, min(m.trimAtLocked(), r.End))
	}

	m.left, m.active = nil, nil
	return r
}

// vouchLocked puts a stand-in for what a receipt says to be left and that is
// not there, in front of the first piece and behind the last. Between pieces
// numbers were skipped.
func (m *Memory) vouchLocked(left receipt) {
	at := left.next
	for i, p := range slices.Clone(m.pieces) {
		if until := min(p.first, left.end); i == 0 && until > at {
			m.insertLocked(&piece{name: "memory", first: at, end: until, missing: errMissing})
		}
		at = max(at, p.end)
	}

	if left.end > at {
		m.insertLocked(&piece{name: "memory", first: at, end: left.end, missing: errMissing})
	}
}

// countLocked returns how many items from next up to end are there or were.
func (m *Memory) countLocked(next, end uint64) (items uint64) {
	for _, p := range m.pieces {
		next = max(next, p.first)
		if until := min(p.end, end); until > next {
			items += until - next
			next = until
		}
	}
	return items
}

// Append implements [spill.Store].
func (s *memoryStore) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	s.inUse(Append)
	defer only(Append, &s.writing)()

	if err := s.m.knobs.enter(ctx, Append, s.cut); err != nil {
		return 0, err
	}
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()

	for i, b := range batches {
		if err := s.putLocked(b); err != nil {
			return i, err
		}
	}
	if s.m.knobs.takeUnknown() {
		return 0, errUnknown
	}
	return len(batches), nil
}

// putLocked stores a batch, unless there is no room for it.
func (s *memoryStore) putLocked(b *spill.Batch) error {
	m := s.m
	if m.storedLocked(b) {
		return nil
	}

	var chunks [][]byte
	size := 0
	for chunk := range b.Chunks {
		chunks = append(chunks, bytes.Clone(chunk))
		size += len(chunk)
	}

	used, _ := m.usedLocked()
	if limit := m.knobs.limit.Load(); limit >= 0 && !s.lifted && used+int64(size) > limit {
		return fmt.Errorf("storetest: %d bytes more in %d: %w", size, limit, spill.ErrFull)
	}
	m.addLocked(b, chunks)
	return nil
}

// storedLocked reports whether a piece holds all of the batch, which has come
// twice then.
func (m *Memory) storedLocked(b *spill.Batch) bool {
	return slices.ContainsFunc(m.pieces, func(p *piece) bool {
		return p.missing == nil && p.first <= b.First && b.End() <= p.end
	})
}

// addLocked adds a batch to the active piece, or to a new one if that is full
// or the numbers don't follow.
func (m *Memory) addLocked(b *spill.Batch, chunks [][]byte) {
	p := m.active
	if p == nil || p.end != b.First || len(p.batches) == pieceBatches {
		m.made++
		p = &piece{name: fmt.Sprint("piece ", m.made), first: b.First, stored: time.Now()}
		m.active = p
		m.insertLocked(p)
	}

	p.batches = append(p.batches, place{b.First, len(p.data)})
	for _, chunk := range chunks {
		p.chunks = append(p.chunks, len(p.data))
		p.data = append(p.data, chunk...)
	}
	p.end = b.End()
	m.last = max(m.last, p.end)
}

// insertLocked puts a piece in its place.
func (m *Memory) insertLocked(p *piece) {
	at := len(m.pieces)
	for at > 0 && m.pieces[at-1].first > p.first {
		at--
	}
	m.pieces = slices.Insert(m.pieces, at, p)
	m.last = max(m.last, p.end)
}

// Read implements [spill.Store].
func (s *memoryStore) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	s.inUse(Read)
	defer only(Read, &s.reading)()
	if len(buf) < spill.MaxChunk {
		panic(fmt.Sprintf("storetest: Read into %d bytes, of which a chunk may take %d",
			len(buf), spill.MaxChunk))
	}

	if err := s.m.knobs.enter(ctx, Read, s.cut); err != nil {
		return spill.Extent{}, err
	}
	unlock, err := s.lock()
	if err != nil {
		return spill.Extent{}, err
	}
	defer unlock()

	return s.m.extentLocked(seq, from, buf)
}

// extentLocked returns the extent in which seq is to be found, or the next.
func (m *Memory) extentLocked(
	seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	p := m.findLocked(seq)
	if p == nil {
		if seq >= m.last {
			return spill.Extent{}, fmt.Errorf("storetest: no item %d has been stored yet", seq)
		}
		return spill.Extent{First: m.last, End: m.last}, nil // trimmed
	}

	var ext spill.Extent
	if p.first > seq { // numbers were skipped, or have been trimmed
		ext.First, seq = p.first, p.first
	}
	if p.missing != nil {
		ext.At, ext.Err = spill.Position{Path: p.name}, p.missing
		ext.End = min(p.end, m.presentLocked(seq))
		return ext, nil
	}

	p.read(&ext, p.chunk(seq, from), buf)
	return ext, nil
}

// findLocked returns the piece that holds an item, one with data if there is
// one, or else the first piece behind the item, or nil.
func (m *Memory) findLocked(seq uint64) (found *piece) {
	for _, p := range m.pieces {
		switch {
		case p.end <= seq:
		case p.first > seq:
			if found == nil {
				return p
			}
			return found
		case p.missing == nil:
			return p
		case found == nil:
			found = p
		}
	}
	return found
}

// presentLocked returns the first number behind seq of which a piece has data.
func (m *Memory) presentLocked(seq uint64) uint64 {
	for _, p := range m.pieces {
		if p.missing == nil && p.first > seq {
			return p.first
		}
	}
	return math.MaxUint64
}

// chunk returns which chunk to read first for seq: the first of its batch, or a
// later one if from says so. What a log has read, it does not need again.
func (p *piece) chunk(seq uint64, from spill.Position) int {
	offset := 0
	for _, b := range p.batches {
		if b.first <= seq {
			offset = b.offset
		}
	}
	if from.Path == p.name {
		offset = max(offset, int(min(from.Offset, int64(len(p.data)))))
	}

	i, _ := slices.BinarySearch(p.chunks, offset)
	return i
}

// read puts as many chunks into buf as fit, from a chunk on.
func (p *piece) read(ext *spill.Extent, chunk int, buf []byte) {
	ends := append(p.chunks[1:len(p.chunks):len(p.chunks)], len(p.data))
	start := len(p.data)
	if chunk < len(p.chunks) {
		start = p.chunks[chunk]
	}

	end := start
	for ; chunk < len(ends) && ends[chunk]-start <= len(buf); chunk++ {
		end = ends[chunk]
	}

	ext.Chunks = buf[:copy(buf, p.data[start:end])]
	ext.At = spill.Position{Path: p.name, Offset: int64(start)}
	ext.Stored = p.stored
	if end == len(p.data) {
		ext.End = p.end
	}
}

// Trim implements [spill.Store].
func (s *memoryStore) Trim(ctx context.Context, acked uint64) error {
	s.inUse(Trim)
	defer only(Trim, &s.writing)()

	if err := s.m.knobs.enter(ctx, Trim, s.cut); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()

	s.m.trimLocked(acked)
	return nil
}

// trimLocked deletes the pieces that hold no items from acked on.
func (m *Memory) trimLocked(acked uint64) {
	m.pieces = slices.DeleteFunc(m.pieces, func(p *piece) bool { return p.end <= acked })
	if m.active != nil && m.active.end <= acked {
		m.active = nil
	}
}

// Sync implements [spill.Store].
func (s *memoryStore) Sync(ctx context.Context, acked uint64) error {
	s.inUse(Sync)
	defer only(Sync, &s.writing)()

	if err := s.m.knobs.enter(ctx, Sync, s.cut); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()

	if s.m.keep {
		s.m.done = max(s.m.done, acked)
		s.m.last = max(s.m.last, acked)
		s.m.syncLocked()
	}
	return nil
}

// syncLocked makes all batches survive a power cut.
func (m *Memory) syncLocked() {
	for _, p := range m.pieces {
		p.synced = len(p.batches)
	}
}

// loseUnsynced drops the batches that would not survive a power cut.
func (p *piece) loseUnsynced() {
	if p.missing != nil || p.synced == len(p.batches) {
		return
	}

	end := p.batches[p.synced]
	at, _ := slices.BinarySearch(p.chunks, end.offset)
	p.batches, p.chunks, p.data = p.batches[:p.synced], p.chunks[:at], p.data[:end.offset]
	p.end = end.first
}

// Lift implements [spill.Store].
func (s *memoryStore) Lift() {
	s.inUse(Lift)
	defer only(Lift, &s.writing)()
	s.m.knobs.count(Lift)

	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.lifted = true
}

// Usage implements [spill.Store].
func (s *memoryStore) Usage() spill.Usage {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()

	bytes, pieces := m.usedLocked()
	return spill.Usage{
		Bytes: bytes, Limit: m.knobs.limit.Load(), Segments: pieces, TrimAt: m.trimAtLocked(),
	}
}

func (m *Memory) usedLocked() (bytes int64, pieces int) {
	for _, p := range m.pieces {
		bytes += int64(len(p.data))
		if p.missing == nil {
			pieces++
		}
	}
	return bytes, pieces
}

// trimAtLocked returns the number from which on Trim frees something.
func (m *Memory) trimAtLocked() uint64 {
	at := uint64(math.MaxUint64)
	for _, p := range m.pieces {
		if p.missing == nil {
			at = min(at, p.end)
		}
	}
	return at
}

// Close implements [spill.Store]. Where it fails the medium is as after a
// crash.
func (s *memoryStore) Close(ctx context.Context, keep bool, next, end uint64) error {
	s.inUse(Close)
	defer only(Close, &s.reading)()
	defer only(Close, &s.writing)()
	s.life.Store(2)

	failed := s.m.knobs.enter(ctx, Close, s.cut)
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()

	m := s.m
	m.user = nil
	if failed != nil {
		return failed
	}

	m.dirty = false
	if !keep {
		m.wipeLocked()
		return nil
	}
	// The numbers behind are those of items lost by a crash.
	end = max(next, min(end, m.reachLocked()))
	m.left, m.done = &receipt{next, end}, next
	m.last = max(m.last, next)
	m.syncLocked()
	m.trimLocked(next)
	if next < end {
		m.cutLocked(end)
	}
	return nil
}

// reachLocked returns the number behind the last item that is there, or was.
func (m *Memory) reachLocked() (end uint64) {
	for _, p := range m.pieces {
		end = max(end, p.end)
	}
	return end
}

// cutLocked deletes what lies behind end.
func (m *Memory) cutLocked(end uint64) {
	m.pieces = slices.DeleteFunc(m.pieces, func(p *piece) bool { return p.first >= end })
	for _, p := range m.pieces {
		p.end = min(p.end, end)
	}
	m.last = end
}

// wipeLocked deletes everything.
func (m *Memory) wipeLocked() {
	m.pieces, m.active, m.left, m.done, m.last, m.dirty = nil, nil, nil, 0, 0, false
}

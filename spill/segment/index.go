package segment

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/hopper/spill"
)

// A segment is one file of a store: the items [first, end), without a gap.
type segment struct {
	path   string
	first  uint64
	start  int64     // offset of the first chunk
	stored time.Time // about when its items were

	// Guarded by the index's lock once the segment is in one.
	end    uint64
	size   int64 // watermark: readers may read up to here
	retain bool  // the file couldn't be read: it is not deleted, for salvage
	f      file  // open while users > 0
	users  int

	// Of the goroutine that changes the store.
	disk   int64  // bytes the file takes, footer and torn tail included
	frames uint64 // bytes of its frames, uncompressed
	loose  bool   // it is yet to be synced, if it is to be left
	unsafe error  // not nil: it could not be synced

	version byte   // of its header
	synced  int64  // bytes that survive a power cut
	noted   uint64 // the highest cursor in the file, the header's included
	acked   uint64 // the same of what survives a power cut

	// Of the goroutine that reads.
	notices []notice // not told yet
}

// A notice is damage to a segment that costs no item.
type notice struct {
	offset int64
	err    error
}

// A gap is a range of items that are lost, as recovery has found.
type gap struct {
	first, end uint64
	at         spill.Position
	why        error
}

// An index says which items are where. The writer and the reader share it.
type index struct {
	mu       sync.Mutex // never held over I/O
	segments []*segment // in the order of their items
	gaps     []gap      // likewise; where a gap is, no segment is

	oldest atomic.Uint64 // end of the first segment; never if there is none
}

// never is a number that no item reaches.
const never = ^uint64(0)

// compareSegments puts segments into the order in which they are read.
func compareSegments(a, b *segment) int {
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.end, b.end))
}

// set makes these the content of the index.
func (x *index) set(segments []*segment, gaps []gap) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments, x.gaps = segments, gaps
	x.noteOldestLocked()
}

func (x *index) noteOldestLocked() {
	oldest := never
	if len(x.segments) > 0 {
		oldest = x.segments[0].end
	}
	x.oldest.Store(oldest)
}

// add puts in a new segment. At the end of a log it may not be the last.
func (x *index) add(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, _ := slices.BinarySearchFunc(x.segments, s, compareSegments)
	x.segments = slices.Insert(x.segments, i, s)
	x.noteOldestLocked()
}

func (x *index) remove(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.segments = slices.DeleteFunc(x.segments, func(t *segment) bool { return s == t })
	x.noteOldestLocked()
}

// replace puts a segment in the place of another that has the same items.
func (x *index) replace(old, fresh *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.Index(x.segments, old); i >= 0 {
		x.segments[i] = fresh
	}
}

// grow takes note of what has been appended to a segment.
func (x *index) grow(s *segment, end uint64, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s.end = end
	s.size += bytes
	x.noteOldestLocked()
}

// cut takes out the segments that hold nothing from acked on, as far as no
// other comes before them.
func (x *index) cut(acked uint64) (gone []*segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for n < len(x.segments) && x.segments[n].end <= acked {
		n++
	}
	gone = x.segments[:n:n]
	x.segments = x.segments[n:]
	x.gaps = slices.DeleteFunc(x.gaps, func(g gap) bool { return g.end <= acked })
	x.noteOldestLocked()
	return gone
}

// all returns the segments in their order.
func (x *index) all() []*segment {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.segments)
}

// reach returns how far items are known of from seq on without a gap in the
// numbers: stored, or lost and perhaps not told so yet.
func (x *index) reach(seq uint64) uint64 {
	for {
		p, ok := x.find(seq)
		if !ok || p.first > seq {
			return seq
		}
		seq = p.end
	}
}

// covers reports whether segments hold all of the items [first, end).
func (x *index) covers(first, end uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.segments { // in the order of their first items
		if s.first <= first {
			first = max(first, s.end)
		}
	}
	return first >= end
}

// count returns how many items there are from seq on, those included that are
// lost and perhaps not told so yet.
func (x *index) count(seq uint64) (n uint64) {
	for p, ok := x.find(seq); ok; p, ok = x.find(seq) {
		n += p.end - max(p.first, seq)
		seq = p.end
	}
	return n
}

// before returns how far the items below seq go.
func (x *index) before(seq uint64) (end uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.segments {
		if s.first < seq {
			end = max(end, min(s.end, seq))
		}
	}
	return end
}

// A place is where an item is, or the first one behind it: in seg or, if that
// is nil, in a gap. The items below end and the bytes below size belong
// together.
type place struct {
	seg        *segment
	gap        gap
	first, end uint64 // of either
	size       int64
}

// find returns the place of the item seq. There is none if nothing is stored
// from seq on.
func (x *index) find(seq uint64) (p place, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.IndexFunc(x.segments, func(s *segment) bool { return s.end > seq }); i >= 0 {
		s := x.segments[i]
		p, ok = place{seg: s, first: s.first, end: s.end, size: s.size}, true
	}

	for _, g := range x.gaps {
		if g.end > seq && (!ok || g.first < p.first) {
			return place{gap: g, first: g.first, end: g.end}, true
		}
	}
	return p, ok
}

// openFile returns the segment's file for one more user, and opens it if need
// be, which only the goroutine that reads does. closeFile ends the use.
func (x *index) openFile(s *segment, fs fsys) (file, error) {
	x.mu.Lock()
	if s.users > 0 {
		defer x.mu.Unlock()
		s.users++
		return s.f, nil
	}
	x.mu.Unlock()

	f, err := fs.Open(s.path)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	s.f, s.users = f, 1
	return f, nil
}

func (x *index) closeFile(s *segment) {
	x.mu.Lock()
	s.users--
	last, f := s.users == 0, s.f
	x.mu.Unlock()
	if last {
		f.Close()
	}
}

// retain keeps the segment's file from being deleted.
func (x *index) retain(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s.retain = true
}

func (x *index) retained(s *segment) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return s.retain
}

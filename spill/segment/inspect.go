package segment

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"

	"example.com/hopper/spill"
)

// States of a segment, as Inspect sees them.
const (
	StateSealed   = "sealed"   // ends with a footer
	StateOpen     = "open"     // is being written, or was when its process ended
	StateTorn     = "torn"     // the same, in the middle of a chunk that never was part of it
	StateDamaged  = "damaged"  // can't be read, or not in full; Err says why
	StateMissing  = "missing"  // is not there, or not in full, though it should be
	StateRetained = "retained" // could not be read earlier: no longer part of the store
)

// A SegmentInfo says what one segment holds, by its header and footer. Only
// Verify looks at every chunk.
type SegmentInfo struct {
	Path       string
	First, End uint64 // it holds the items [First, End)
	Bytes      int64  // size of the file
	FrameBytes int64  // of its items with their lengths, uncompressed
	Acked      uint64 // the items below were done, as its header or a cursor says
	Label      string // names the kind of the items
	State      string
	Err        error // not nil: what is wrong with it
}

// A Listing says what a directory holds.
type Listing struct {
	Segments []SegmentInfo // in the order of their items
	Next     uint64        // number of the first item that is not known to be done
	Items    uint64        // how many there are, those included that turn out to be lost

	receipt bool
}

// Empty reports whether nothing in the directory is a store's, so that it may
// be no store's directory at all.
func (l Listing) Empty() bool { return len(l.Segments) == 0 && !l.receipt }

// Inspect lists the segments in dir. Like Items and Verify it changes nothing,
// takes no lock, and may be used while a Store is using dir: it sees the state
// of one moment. It reads headers and footers, and those segments in full that
// have no footer. The error is one of the file system.
func Inspect(dir string) (Listing, error) {
	v, err := look(dir)
	if err != nil {
		return Listing{}, err
	}
	return v.listing, nil
}

// Items returns the items in dir that are not done, in order. In place of items
// that are lost comes a [*spill.CorruptError], behind which the iteration goes
// on; any other error ends it. Segments that a Store deletes meanwhile are
// passed over.
func Items(dir string) iter.Seq2[spill.Item, error] {
	return func(yield func(spill.Item, error) bool) {
		v, err := look(dir)
		if err == nil {
			err = v.err
		}
		if err != nil {
			yield(spill.Item{}, err)
			return
		}

		for item, err := range v.items(v.plan.next) {
			if !yield(item, err) {
				return
			}
		}
	}
}

// Verify checks every chunk of every segment that holds items which are not
// done, and calls damage for each stretch that is damaged or missing, and for
// what stands behind a footer. Of the items named there, those count as lost
// that were not done before. What stands behind the last whole chunk of a torn
// segment is no damage. The error is one of the file system, [spill.ErrVersion]
// or [*spill.LabelError]: then not everything was checked.
func Verify(dir string, damage func(*spill.CorruptError)) (Listing, error) {
	v, err := look(dir)
	if err != nil {
		return Listing{}, err
	}
	if v.err != nil {
		return v.listing, v.err
	}

	for _, err := range v.items(v.oldest()) {
		var corrupt *spill.CorruptError
		if errors.As(err, &corrupt) {
			damage(since(corrupt, v.plan.next))
		} else if err != nil {
			return v.listing, err
		}
	}
	return v.listing, nil
}

// Free returns the free and the whole space of dir's file system, in bytes.
func Free(dir string) (avail, total int64, err error) { return freeSpace(dir) }

// since returns the error without the loss of items below next.
func since(e *spill.CorruptError, next uint64) *spill.CorruptError {
	if e.First >= next {
		return e
	}
	clipped := *e
	clipped.First, clipped.Items = next, e.Items-min(e.Items, next-e.First)
	return &clipped
}

// A view is the content of a directory at one moment: a store that can only be
// read.
type view struct {
	label   string
	plan    *plan
	listing Listing
	err     error // why the items can't be read

	unsealed map[string]int64 // sizes of the segments without a footer
	index    index
	reader   reader
}

// maxLooks is how often a directory is looked at that changes meanwhile.
const maxLooks = 20

// look returns the view of a moment in which no file came or went. Where there
// is none, because segments come and go too fast, a gap is no sign of loss.
func look(dir string) (*view, error) {
	names, err := osFS{}.List(dir)
	if err != nil {
		return nil, err
	}

	for i := 1; ; i++ {
		got, label, err := walkDir(osFS{}, dir, nil)
		if err != nil {
			return nil, err
		}

		before := names
		if names, err = (osFS{}).List(dir); err != nil {
			return nil, err
		}
		settled := slices.Equal(before, names)
		if settled || i >= maxLooks {
			return newView(dir, label, got, settled), nil
		}
	}
}

func newView(dir, label string, got found, settled bool) *view {
	v := &view{label: label, plan: got.plan(dir), unsealed: map[string]int64{}}
	if !settled {
		v.plan.gaps = nil
	}
	if len(got.unreadable) > 0 {
		v.err = got.unreadable[0].why
	}

	for _, c := range got.segments {
		if !c.sealed {
			v.unsealed[c.seg.path] = min(c.seg.size, c.seg.disk)
		}
	}
	v.listing = v.plan.list(got)
	v.index.set(v.plan.segments, v.plan.gaps)
	v.reader = reader{fs: osFS{}, index: &v.index}
	return v
}

// list returns what there is, in the order of the items.
func (p *plan) list(got found) Listing {
	l := Listing{Next: p.next, Items: p.items, receipt: len(got.receipts) > 0}
	for _, c := range got.segments {
		l.Segments = append(l.Segments, c.info())
	}
	for _, s := range got.retained {
		l.Segments = append(l.Segments, s.info(StateRetained))
	}
	for _, s := range got.unreadable {
		l.Segments = append(l.Segments, s.info(StateDamaged))
	}
	for _, s := range got.nobodys {
		if s.seg != nil { // it has the name, and is a file
			l.Segments = append(l.Segments, s.info(StateDamaged))
		}
	}
	for _, g := range p.gaps {
		l.Segments = append(l.Segments, SegmentInfo{
			Path: g.at.Path, First: g.first, End: g.end, State: StateMissing, Err: g.why,
		})
	}

	slices.SortStableFunc(l.Segments, func(a, b SegmentInfo) int {
		return cmp.Compare(a.First, b.First)
	})
	return l
}

func (c *candidate) info() SegmentInfo {
	s := c.seg
	info := SegmentInfo{
		Path: s.path, First: s.first, End: s.end, Bytes: s.disk, FrameBytes: int64(s.frames),
		Acked: c.acked, Label: c.header.label, State: StateOpen, Err: c.damage,
	}

	switch {
	case s.end == s.first && errors.Is(c.damage, spill.ErrTorn): // made, and nothing more
		info.State, info.Err = StateTorn, nil
	case len(s.notices) > 0 || c.damage != nil:
		info.State = StateDamaged
		if len(s.notices) > 0 {
			info.Err = s.notices[0].err
		}
	case c.sealed:
		info.State = StateSealed
	case s.size < s.disk:
		info.State = StateTorn
	}
	return info
}

func (s stray) info(state string) SegmentInfo {
	if errors.As(s.why, new(*spill.LabelError)) { // it is sound, but does not belong to the others
		info := s.seg.info()
		info.Err = s.why
		return info
	}

	info := SegmentInfo{Path: s.path, First: s.first, End: s.first, State: state, Err: s.why}
	if fi, err := os.Lstat(s.path); err == nil {
		info.Bytes = fi.Size()
	}
	return info
}

// oldest returns the number of the first item that is there.
func (v *view) oldest() uint64 {
	first := v.plan.next
	for _, s := range v.plan.segments {
		first = min(first, s.first)
	}
	return first
}

// items yields the items from next on, and a [*spill.CorruptError] for each
// stretch that is lost.
func (v *view) items(next uint64) iter.Seq2[spill.Item, error] {
	return func(yield func(spill.Item, error) bool) {
		defer v.reader.close()
		r := spill.Range{Next: next, End: v.plan.end}
		for item, err := range spill.Items(context.Background(), v, v.label, r) {
			var corrupt *spill.CorruptError
			if errors.As(err, &corrupt) && v.passed(corrupt) {
				continue
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// passed reports whether what looks like damage is the doing of a running
// Store: it has deleted the segment, or cut back a chunk that it could not
// write in full.
func (v *view) passed(e *spill.CorruptError) bool {
	if errors.Is(e, fs.ErrNotExist) {
		return true
	}
	size, ok := v.unsealed[e.Path]
	if !ok {
		return false
	}
	fi, err := os.Lstat(e.Path)
	return err == nil && fi.Size() < size
}

// errReadOnly is what a view says to whoever wants to change it.
var errReadOnly = errors.New("spill: the directory is only being looked at")

// Open and the methods that follow make a view a [spill.Store].
func (v *view) Open(context.Context, string, bool) (spill.Range, error) {
	return v.plan.found(), nil
}

func (v *view) Read(
	_ context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	return v.reader.read(seq, from, buf)
}

func (v *view) Append(context.Context, []*spill.Batch) (int, error) { return 0, errReadOnly }
func (v *view) Trim(context.Context, uint64) error                  { return errReadOnly }
func (v *view) Sync(context.Context, uint64) error                  { return errReadOnly }
func (v *view) Lift()                                               {}
func (v *view) Usage() spill.Usage                                  { return spill.Usage{} }

func (v *view) Close(context.Context, bool, uint64, uint64) error {
	v.reader.close()
	return nil
}

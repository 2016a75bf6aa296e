package spill

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// States of a segment, as Inspect sees them.
const (
	StateSealed   = "sealed"   // ends with a footer
	StateOpen     = "open"     // is being written, or was when its process ended
	StateTorn     = "torn"     // the same, in the middle of a chunk: that chunk was never part of the log
	StateDamaged  = "damaged"  // can't be read, or not in full; Err says why
	StateMissing  = "missing"  // there is no such file, though another one vouches for its items
	StateRetained = "retained" // could not be read earlier: no part of the backlog any more, kept for salvage
)

// A SegmentInfo says what one segment holds, by its header and footer. Only Verify looks at every chunk.
type SegmentInfo struct {
	Path       string
	First, End uint64 // it holds the items [First, End)
	Bytes      int64  // size of the file
	FrameBytes int64  // of its items with their lengths, uncompressed
	Label      string // names the kind of the items
	State      string
	Err        error // not nil: what is wrong with it
}

// A Listing says what a directory holds.
type Listing struct {
	Segments []SegmentInfo // in the order of their items
	Next     uint64        // first item that has not been delivered, as far as the directory tells
	Items    uint64        // undelivered items, those included that turn out to be lost
}

// An Item is one item of a backlog.
type Item struct {
	Seq   uint64
	Bytes []byte // valid until the next item
}

// Inspect lists the segments in dir. Like Items and Verify it changes nothing, takes no lock, and may be
// used while a Log is using dir: it sees the state of one moment. It reads headers and footers, and
// those segments in full that have no footer. The error is one of the file system.
func Inspect(dir string) (Listing, error) {
	v, err := look(dir)
	if err != nil {
		return Listing{}, err
	}
	return v.listing(), nil
}

// Items returns the undelivered items in dir, in order. In place of items that are lost comes a [*CorruptError], behind which the
// iteration goes on; any other error ends it. Segments that a Log delivers and removes meanwhile are passed over.
func Items(dir string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		v, err := look(dir)
		if err == nil {
			err = v.err
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		v.batches(v.next, func(b *Batch, err error) bool {
			if err != nil {
				return yield(Item{}, err)
			}
			for seq := b.First; seq < b.end(); seq++ {
				if !yield(Item{seq, b.Next()}, nil) {
					return false
				}
			}
			return true
		})
	}
}

// Verify checks every chunk of every segment that holds undelivered items, and calls damage for each
// stretch that is damaged or missing. Of the items named there, those count as lost that were not
// delivered before. What stands behind the last whole chunk of a torn segment is no damage. The error is one of the
// file system, [ErrVersion] or [*LabelError]: then not everything was checked.
func Verify(dir string, damage func(*CorruptError)) (Listing, error) {
	v, err := look(dir)
	if err != nil {
		return Listing{}, err
	}
	if v.err != nil {
		return v.listing(), v.err
	}
	v.batches(0, func(_ *Batch, e error) bool {
		var corrupt *CorruptError
		if !errors.As(e, &corrupt) {
			err = e
			return err == nil
		}
		damage(corrupt.since(v.next))
		return true
	})
	return v.listing(), err
}

// Free returns the free and the whole space of dir's file system, in bytes.
func Free(dir string) (avail, total int64, err error) { return freeSpace(dir) }

// since returns the error without the loss of items below next.
func (e *CorruptError) since(next uint64) *CorruptError {
	if e.First >= next {
		return e
	}
	clipped := *e
	clipped.First, clipped.Items = next, e.Items-min(e.Items, next-e.First)
	return &clipped
}

// readOnly keeps a store from changing anything.
type readOnly struct{ fsys }

func (readOnly) Create(path string) (file, error) {
	return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrPermission}
}
func (readOnly) Remove(string) error  { return nil }
func (readOnly) SyncDir(string) error { return nil }

// A view is the content of a directory at one moment: a store that has recovered without changing anything.
type view struct {
	*dirStore
	all         []*segment // the delivered ones included
	unreadable  []SegmentInfo
	next, items uint64
	err         error // why the items can't be read
}

// maxLooks is how often a directory is looked at that changes meanwhile.
const maxLooks = 20

// look returns the view of a moment in which no file came or went. Where there is none, because segments
// come and go too fast, a gap is no sign of loss.
func look(dir string) (*view, error) {
	names, err := listSorted(dir)
	if err != nil {
		return nil, err
	}
	for i := 1; ; i++ {
		v := newView(dir, names)
		got := v.load(names)
		before := names
		if names, err = listSorted(dir); err != nil {
			return nil, err
		}
		settled := slices.Equal(before, names)
		if !settled && i < maxLooks {
			continue
		}
		if v.next, v.items, err = v.adopt(got); err != nil {
			return nil, err
		}
		if !settled {
			v.segments = slices.DeleteFunc(v.segments, func(s *segment) bool { return s.missing != nil })
		}
		return v, nil
	}
}

func listSorted(dir string) ([]string, error) {
	names, err := osFS{}.List(dir)
	slices.Sort(names)
	return names, err
}

func newView(dir string, names []string) *view {
	cfg := Config{Dir: dir, MaxDisk: -1, Keep: true, Label: anyLabel(dir, names), Logger: slog.New(slog.DiscardHandler)}
	s := &dirStore{cfg: cfg, fs: readOnly{osFS{}}, tag: checksum([]byte(cfg.Label))}
	s.reader.tag = s.tag
	return &view{dirStore: s}
}

// anyLabel returns the label of a segment whose header can be read, or "".
func anyLabel(dir string, names []string) string {
	for _, name := range names {
		if _, ok := parseSegmentName(name); !ok {
			continue
		}
		if h, err := headerOf(dir, name); err == nil {
			return h.label
		}
	}
	return ""
}

func headerOf(dir, name string) (header, error) {
	s := &segment{path: filepath.Join(dir, name), disk: int64(maxHeaderLen)}
	f, err := osFS{}.Open(s.path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	h, err := s.loadHeader(f, name, "")
	return h, cmp.Or(err, s.damage)
}

var errRetained = errors.New("it could not be read earlier, and its items were reported as lost: move it to a directory of its own to salvage it")

// load loads the segments, as far as it can.
func (v *view) load(names []string) (got found) {
	for _, name := range names {
		if r, ok := parseReceiptName(name); ok {
			got.receipts = append(got.receipts, r)
			continue
		}
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		if slices.Contains(names, retainedName(name)) {
			info := unreadable(nil, filepath.Join(v.cfg.Dir, name), first, errRetained)
			info.State = StateRetained
			v.unreadable = append(v.unreadable, info)
			continue
		}
		seg, h, err := loadSegment(v.fs, v.cfg.Dir, name, v.cfg.Label)
		if errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) || isLink(err) {
			continue // no segment, or delivered by now
		}
		if err == nil && seg.label != v.cfg.Label {
			err = &LabelError{seg.path, seg.label, v.cfg.Label}
		}
		if err != nil {
			v.err = cmp.Or(v.err, err)
			v.unreadable = append(v.unreadable, unreadable(seg, filepath.Join(v.cfg.Dir, name), first, err))
			continue
		}
		got.segments, got.headers = append(got.segments, seg), append(got.headers, h)
	}
	v.all = slices.Clone(got.segments)
	return got
}

func unreadable(s *segment, path string, first uint64, err error) SegmentInfo {
	var label *LabelError
	if errors.As(err, &label) { // it is sound, but does not belong to the others
		info := s.info()
		info.Err = err
		return info
	}
	info := SegmentInfo{Path: path, First: first, End: first, State: StateDamaged, Err: err}
	if fi, err := os.Lstat(path); err == nil {
		info.Bytes = fi.Size()
	}
	return info
}

func (s *segment) info() SegmentInfo {
	info := SegmentInfo{Path: s.path, First: s.first, End: s.end, Bytes: s.disk, FrameBytes: int64(s.frames), Label: s.label, State: StateOpen, Err: s.damage}
	switch {
	case s.missing != nil:
		info.State, info.Err = StateMissing, s.missing
	case s.end == s.first && errors.Is(s.damage, errTorn): // created, and nothing more
		info.State, info.Err = StateTorn, nil
	case s.damage != nil:
		info.State = StateDamaged
	case s.sealed:
		info.State = StateSealed
	case s.size < s.disk:
		info.State = StateTorn
	}
	return info
}

func (v *view) listing() Listing {
	l := Listing{Segments: v.unreadable, Next: v.next, Items: v.items}
	for _, s := range v.all {
		l.Segments = append(l.Segments, s.info())
	}
	for _, s := range v.segments {
		if s.missing != nil {
			l.Segments = append(l.Segments, s.info())
		}
	}
	slices.SortStableFunc(l.Segments, func(a, b SegmentInfo) int { return cmp.Compare(a.First, b.First) })
	return l
}

// batches yields the items from next on, and a *CorruptError for each stretch that is lost.
func (v *view) batches(next uint64, yield func(*Batch, error) bool) {
	defer func() {
		if v.cur != nil {
			v.release(v.cur)
		}
	}()
	b := newBatch()
	for {
		ok, err := v.get(b, next)
		if err != nil {
			yield(nil, err)
			return
		}
		if !ok {
			return
		}
		next = b.end()
		if b.Err == nil && !yield(b, nil) || b.Err != nil && !v.passed(b.Err) && !yield(nil, b.Err) {
			return
		}
	}
}

// passed reports whether what looks like damage is the doing of a running Log: it has delivered and removed the
// segment, or cut back a chunk that it could not write in full.
func (v *view) passed(e *CorruptError) bool {
	if errors.Is(e, fs.ErrNotExist) {
		return true
	}
	i := slices.IndexFunc(v.all, func(s *segment) bool { return s.path == e.Path })
	if i < 0 || v.all[i].sealed {
		return false
	}
	fi, err := os.Lstat(e.Path)
	return err == nil && fi.Size() < v.all[i].size
}

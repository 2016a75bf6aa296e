package spill

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// openStore makes and locks the directory, and finds what an earlier log left in it. Recovery
// changes nothing but to delete what is not part of the backlog, so it can be repeated
// if it is interrupted. next is the first item of the backlog, items their number.
func openStore(cfg Config, fsys fsys) (s *dirStore, next, items uint64, err error) {
	if cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "hopper-"); err != nil {
			return nil, 0, 0, err
		}
		cfg.Temporary = true
	} else if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, 0, 0, err
	}
	s = &dirStore{cfg: cfg, fs: fsys, tag: checksum([]byte(cfg.Label))}
	s.reader.tag = s.tag
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, 0, 0, err
	}
	if err = s.probe(); err == nil {
		next, items, err = s.recover()
	}
	if err != nil {
		unlockDir(s.lock)
		return nil, 0, 0, err
	}
	return s, next, items, nil
}

const probeName = "hopper.probe"

// probe finds out whether files can be made in the directory. A full disk is no
// obstacle: the backlog that fills it has to get out.
func (s *dirStore) probe() error {
	path := filepath.Join(s.cfg.Dir, probeName)
	if err := s.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := s.fs.Create(path)
	if noSpace(err) || scarce(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.fs.Remove(path))
}

// found is what a directory holds.
type found struct {
	segments []*segment
	headers  []header // of the segments, in their order
	receipts []receipt
}

func (s *dirStore) recover() (next, items uint64, err error) {
	got, err := s.list()
	if err != nil {
		return 0, 0, err
	}
	if !s.cfg.Keep {
		return 0, 0, s.discard(got)
	}
	return s.adopt(got)
}

// adopt makes the undelivered part of what was found the content of the store.
func (s *dirStore) adopt(got found) (next, items uint64, err error) {
	vouched := s.newestReceipt(got.receipts)
	next = vouched.next
	for _, h := range got.headers {
		next = max(next, h.acked)
	}
	keep, follows := got.undelivered(next)
	s.doomed = got.segments // what is not kept below
	s.doomed = slices.DeleteFunc(s.doomed, func(seg *segment) bool { return slices.Contains(keep, seg) })
	for _, seg := range append(keep, s.doomed...) {
		s.bytes.Add(seg.disk)
		s.files.Add(1)
	}
	if len(keep) > 0 && next >= vouched.end {
		next = max(next, keep[0].first)
	}
	items = s.index(keep, follows, next, vouched)
	s.acked = next
	s.noteOldest()
	return next, items, s.trim(next)
}

// list loads every segment. Files that are not ours are left alone.
func (s *dirStore) list() (found, error) {
	var got found
	names, err := s.fs.List(s.cfg.Dir)
	if err != nil {
		return got, err
	}
	slices.Sort(names)
	for _, name := range names {
		if r, ok := parseReceiptName(name); ok {
			got.receipts = append(got.receipts, r)
			continue
		}
		if _, ok := parseSegmentName(name); !ok {
			continue
		}
		seg, h, err := loadSegment(s.fs, s.cfg.Dir, name, s.cfg.Label)
		if errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) || isLink(err) {
			s.cfg.Logger.Warn("hopper: not a segment file: left alone", "path", filepath.Join(s.cfg.Dir, name), "error", err)
			continue
		}
		if err != nil {
			return got, err
		}
		if seg.label != s.cfg.Label {
			return got, &LabelError{seg.path, seg.label, s.cfg.Label}
		}
		got.segments, got.headers = append(got.segments, seg), append(got.headers, h)
	}
	return got, nil
}

// discard deletes what a log left behind that was not to be kept, and refuses to delete anything else.
func (s *dirStore) discard(got found) error {
	for i, seg := range got.segments {
		if got.headers[i].kept && seg.end > seg.first {
			return fmt.Errorf("%w: %s: start with Resume to deliver it, or give another Dir", ErrNotResumed, seg.path)
		}
	}
	for _, r := range got.receipts {
		if r.next < r.end {
			return fmt.Errorf("%w: %s: start with Resume to deliver it, or give another Dir", ErrNotResumed, s.cfg.Dir)
		}
	}
	var errs error
	for _, seg := range got.segments {
		s.cfg.Logger.Warn("hopper: deleting the segment of a run that ended without Close and was not to be kept", "path", seg.path, "items", seg.end-seg.first)
		errs = errors.Join(errs, s.fs.Remove(seg.path))
	}
	s.noteOldest()
	return errs
}

// newestReceipt picks the receipt that counts; the others were left by a crash while it replaced them.
func (s *dirStore) newestReceipt(all []receipt) receipt {
	if len(all) == 0 {
		return receipt{}
	}
	newest := slices.MaxFunc(all, func(a, b receipt) int { return cmp.Compare(a.next, b.next) })
	for _, r := range all {
		if r != newest {
			s.fs.Remove(filepath.Join(s.cfg.Dir, r.name()))
		}
	}
	s.receipt = filepath.Join(s.cfg.Dir, newest.name())
	return newest
}

// undelivered returns the segments with items from next on, in the order of their items,
// and what their headers say they follow. The others are empty, or came back after their removal.
func (f found) undelivered(next uint64) (keep []*segment, follows map[*segment]uint64) {
	follows = make(map[*segment]uint64)
	for i, seg := range f.segments {
		if seg.end > max(next, seg.first) {
			keep = append(keep, seg)
			follows[seg] = f.headers[i].follows
		}
	}
	slices.SortStableFunc(keep, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.end, b.end))
	})
	return keep, follows
}

// index puts the segments in their order, with a stand-in for each that is missing. An item is missing if
// a later segment says that the log went on from behind it, or if the receipt vouches for it.
func (s *dirStore) index(keep []*segment, follows map[*segment]uint64, next uint64, vouched receipt) (items uint64) {
	at := next
	miss := func(until uint64) {
		if until > at {
			s.segments = append(s.segments, &segment{path: s.cfg.Dir, first: at, end: until, missing: errors.New("segment is missing")})
			items += until - at
			at = until
		}
	}
	for _, seg := range keep {
		miss(max(follows[seg], min(seg.first, vouched.end)))
		if seg.damage == nil && !seg.sealed && seg.end <= vouched.end {
			seg.damage = errors.New("segment footer is damaged")
		}
		s.segments = append(s.segments, seg)
		if seg.end > at {
			items += seg.end - max(at, seg.first)
			at = seg.end
		}
	}
	miss(vouched.end)
	s.last = at
	return items
}

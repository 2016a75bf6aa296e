package spill

import (
	"cmp"
	"errors"
	"fmt"
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
	} else if err := makeDir(cfg.Dir); err != nil {
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
		if cfg.Temporary {
			os.Remove(cfg.Dir)
		}
		return nil, 0, 0, err
	}
	return s, next, items, nil
}

// makeDir makes the directory for its owner alone, whatever the umask, if it is not there.
func makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o700)
	}
	return err
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
	for i, seg := range keep {
		seg.loose = !seg.sealed || i == len(keep)-1
	}
	items = s.index(keep, follows, next, vouched)
	s.acked = next
	s.noteOldest()
	if err := s.trim(next); err != nil {
		s.cfg.Logger.Warn("hopper: delivered segments could not be removed: trying again", "dir", s.cfg.Dir, "error", err)
	}
	return next, items, nil
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
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		if slices.Contains(names, retainedName(name)) {
			s.leaveAlone(name, first, errors.New("it could not be read earlier"))
			continue
		}
		seg, h, err := loadSegment(s.fs, s.cfg.Dir, name, s.cfg.Label)
		if notRegular(err) || errors.Is(err, os.ErrNotExist) {
			s.leaveAlone(name, first, err)
			continue
		}
		if err == nil && seg.obscure() {
			s.leaveAlone(name, first, seg.damage)
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

// leaveAlone keeps clear of a file that is not part of the log.
func (s *dirStore) leaveAlone(name string, first uint64, why error) {
	s.cfg.Logger.Warn("hopper: not a segment of this log: left alone", "path", filepath.Join(s.cfg.Dir, name), "error", why)
	s.above = max(s.above, first+1)
}

// obscure reports whether nothing in the file can be understood, so that it may be anybody's. One
// that was never written is not: it was created, and then the process ended.
func (s *segment) obscure() bool {
	return s.damage != nil && s.end == s.first && !errors.Is(s.damage, errTorn)
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
	for _, r := range got.receipts { // they vouch for nothing
		errs = errors.Join(errs, s.fs.Remove(filepath.Join(s.cfg.Dir, r.name())))
	}
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
	s.receipt = &newest
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
	for i, seg := range keep {
		if seg.guessed && (i+1 < len(keep) && keep[i+1].first < seg.end || seg.first < vouched.end && vouched.end < seg.end) {
			seg.end-- // the log went on elsewhere: nothing was there
		}
		miss(max(follows[seg], min(seg.first, vouched.end)))
		if seg.damage == nil && !seg.sealed && seg.size < seg.disk && seg.end <= vouched.end {
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

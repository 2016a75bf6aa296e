package segment

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// sync makes durable what is in the segments, and that the items below acked
// are done.
func (s *Store) sync(acked uint64) error {
	w := &s.writer
	w.acked = max(w.acked, acked)
	if err := s.dir.check(); err != nil && s.usage.segments.Load() > 0 {
		return explain(err) // somebody has removed it with all the segments
	}
	w.checkActive()

	var errs error
	if acked > w.recorded && s.holdsBelow(acked) {
		errs = w.record() // where there is no room for that, the items can be made durable yet
	}
	errs = errors.Join(errs, s.secureAll(acked))
	if s.dir.dirty {
		errs = errors.Join(errs, s.dir.sync())
	}
	if errs == nil {
		w.recorded = max(w.recorded, acked)
		s.dropSuperseded()
	}
	return errs
}

// dropSuperseded removes segments without items once the active one has a later
// cursor. What can't be removed now is removed later.
func (s *Store) dropSuperseded() {
	a := s.writer.active
	if a == nil || a.acked < s.writer.recorded {
		return
	}

	var old []*segment
	for _, seg := range s.index.all() {
		if seg != a && seg.first == seg.end && seg.acked < a.acked {
			s.index.remove(seg)
			old = append(old, seg)
		}
	}
	if len(old) == 0 {
		return
	}
	s.trash.doom(old...)
	if err := s.trash.empty(); err != nil {
		s.dir.log.Warn("spill: segments that are done could not be removed: trying again",
			"dir", s.dir.path, "error", err)
	}
}

// holdsBelow reports whether files tell of items below acked.
func (s *Store) holdsBelow(acked uint64) bool {
	below := func(seg *segment) bool { return seg.first < acked && seg.first < seg.end }
	r := s.trash.receipt
	return slices.ContainsFunc(s.index.all(), below) ||
		slices.ContainsFunc(s.trash.doomed, below) ||
		r != nil && r.next < acked && r.next < r.end
}

// record writes that the items below acked are done: into the active segment,
// or, if there is none that may have cursors or it is full, into the header of
// the next one.
func (w *writer) record() error {
	w.version = version2
	a := w.active
	switch {
	case a != nil && a.noted >= w.acked && a.version == version2:
		return nil
	case a == nil || a.version == version1 || a.full(w.limits.segment):
		w.seal()
		return w.create(max(w.last, w.acked))
	}
	return w.note(a)
}

// maxCursors bounds the bytes of cursors in a segment without items.
const maxCursors = 4 << 10

// full reports whether the segment is to get no more cursors.
func (s *segment) full(limit int64) bool {
	return s.size >= limit || s.first == s.end && s.size-s.start >= maxCursors
}

// note appends a cursor to the active segment.
func (w *writer) note(a *segment) error {
	b := appendCursor(nil, cursor{a.first, w.acked})
	if err := w.room(int64(len(b)) + endLen(a.version)); err != nil {
		return err
	}

	n, err := a.f.Write(b)
	w.addBytes(a, int64(n))
	w.usage.account.settle(endLen(a.version))
	if err != nil {
		w.cut(int64(n))
		return err
	}
	w.index.grow(a, a.end, int64(n))
	a.noted = w.acked
	return nil
}

// secureAll syncs the segments that hold items from acked on and are yet to be.
// Those whose sync has failed are written anew.
func (s *Store) secureAll(acked uint64) error {
	var errs error
	for _, seg := range s.index.all() {
		if s.index.retained(seg) {
			continue // it can't be read, and what it held is reported as lost
		}

		err := s.secureNow(seg)
		if err != nil && seg.end > acked {
			err = s.rescue(seg, err)
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

// secureNow syncs a segment if it is yet to be.
func (s *Store) secureNow(seg *segment) error {
	w := &s.writer
	switch {
	case seg.unsafe != nil:
	case seg == w.active:
		if seg.synced == seg.disk {
			return nil
		}
		w.syncFile(seg)
		if seg.unsafe != nil {
			w.detach()
		}
	case seg.loose:
		if err := s.secure(seg); err != nil {
			seg.unsafe = err
		}
		seg.loose = false
	}
	return seg.unsafe
}

// rescue stores the items of a segment whose sync has failed once more, in
// another file, while they can still be read. The error says why that failed.
func (s *Store) rescue(old *segment, why error) error {
	w := &s.writer
	if err := w.room(old.disk + endLen(old.version)); err != nil {
		return errors.Join(why, err)
	}
	defer w.usage.account.settle(0)
	path, f, err := w.createFile(old.first)
	if err != nil {
		return errors.Join(why, explain(err))
	}

	fresh := &segment{
		path: path, first: old.first, end: old.end, start: old.start, stored: old.stored,
		version: old.version, frames: old.frames,
	}
	s.usage.add(fresh)
	if err := s.copySegment(f, old, fresh); err != nil {
		return errors.Join(why, explain(err), s.trash.discard(fresh))
	}

	s.index.replace(old, fresh)
	s.reader.letGo([]*segment{old})
	s.trash.doom(old)
	s.dir.log.Warn("spill: a segment was written anew, since it might not survive a power cut",
		"path", old.path, "copy", path, "error", why)
	return s.trash.empty()
}

// copySegment copies a segment into the file of another, makes that durable,
// and closes it. It fails if not all is there.
func (s *Store) copySegment(f file, old, fresh *segment) error {
	err := s.copyFile(f, old, fresh)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.dir.sync()
	}
	if err != nil {
		return err
	}

	c, err := loadSegment(s.dir.fs, fresh.path, old.first, s.writer.label, true)
	if err != nil {
		return err
	}
	if c.damage != nil || c.guessed || c.seg.first != old.first || c.seg.end != old.end {
		return fmt.Errorf("copy %s: not all items can be read", old.path)
	}
	fresh.synced, fresh.acked, fresh.noted = fresh.disk, c.acked, c.acked
	return nil
}

// copyFile appends to a file what readers may read of a segment.
func (s *Store) copyFile(to file, old, fresh *segment) error {
	from, err := s.dir.fs.Open(old.path)
	if err != nil {
		return err
	}
	defer from.Close()

	buf := make([]byte, 64<<10)
	for fresh.size < old.size {
		n, err := from.ReadAt(buf[:min(int64(len(buf)), old.size-fresh.size)], fresh.size)
		if n == 0 {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}

		n, err = to.Write(buf[:n])
		s.writer.addBytes(fresh, int64(n))
		fresh.size += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

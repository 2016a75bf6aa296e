package spill

import (
	"errors"
	"io"
	"io/fs"
	"slices"
)

// get fills b with the oldest items from next on, or with the report that they are lost. !ok
// means that there are none yet. An error is one that will pass: the caller tries again.
func (s *dirStore) get(b *Batch, next uint64) (ok bool, err error) {
	for {
		seg, end := s.segmentFor(next)
		if seg == nil {
			return false, nil
		}
		next = max(next, seg.first)
		if seg.missing != nil {
			s.lost(b, seg, next, end, 0, seg.missing)
			return true, nil
		}
		if seg != s.cur {
			if err := s.enter(seg); scarce(err) {
				return false, err
			} else if err != nil {
				s.retain(seg, err)
				s.lost(b, seg, next, end, 0, err)
				return true, nil
			}
			if why := seg.damage; why != nil {
				seg.damage = nil // told once
				s.lost(b, seg, next, next, 0, why)
				return true, nil
			}
			continue // end may be past by now: it must go with the reader's limit
		}
		if s.fill(b, seg, next, end) {
			return true, nil
		}
	}
}

// segmentFor returns the segment that has the oldest items from next on, and where it ends by
// now; the reader may read up to there. It lets go of the file where there is none.
func (s *dirStore) segmentFor(next uint64) (seg *segment, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg.end <= next {
			continue
		}
		if seg == s.cur {
			s.reader.limit = seg.size
		}
		return seg, seg.end
	}
	return nil, 0
}

// leave lets go of the file that was read last if it has been read to its end, or is gone.
func (s *dirStore) leave() {
	s.mu.Lock()
	done := s.cur != nil && s.cur != s.active &&
		(s.reader.off >= s.cur.size || !slices.Contains(s.segments, s.cur))
	s.mu.Unlock()
	if done {
		s.release(s.cur)
		s.cur = nil
	}
}

// retain keeps a file that couldn't be read from being deleted.
func (s *dirStore) retain(seg *segment, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.retain = true
}

// enter makes seg the segment that is read.
func (s *dirStore) enter(seg *segment) error {
	if err := s.acquire(seg); err != nil {
		return err
	}
	if s.cur != nil {
		s.release(s.cur)
	}
	s.mu.Lock()
	limit := seg.size
	s.mu.Unlock()
	s.cur, s.reason = seg, nil
	s.reader.part = nil
	s.reader.reset(seg.f, seg.start, limit)
	return nil
}

// fill reads on in the current segment until it has a run with items from next on, or
// knows that items are lost. false: what it read was not needed.
func (s *dirStore) fill(b *Batch, seg *segment, next, end uint64) bool {
	off := s.reader.off
	r, err := s.reader.next(b.buf[payloadAt:maxBuf])
	switch {
	case err == io.EOF:
		s.lost(b, seg, next, end, s.at, s.reason)
		return true
	case err != nil:
		if s.reason == nil {
			s.reason, s.at = err, r.at
		}
		return false
	case r.end() <= next:
		return false
	case r.first > next:
		s.reader.off = off // to be read again once the loss has been told
		s.lost(b, seg, next, r.first, s.at, s.reason)
		return true
	}
	s.reason = nil
	if r.buf != nil {
		b.buf, s.reader.part = r.buf, b.buf[:framesAt]
	}
	b.take(r, int(next-r.first), seg.path)
	return true
}

func (s *dirStore) lost(b *Batch, seg *segment, from, to uint64, at int64, why error) {
	if why == nil {
		why = errors.New("items are missing")
	}
	if failed := (ioError{}); errors.As(why, &failed) {
		s.retain(seg, why)
	}
	s.reason = nil
	b.reset(from)
	b.Items = int(to - from)
	b.Err = &CorruptError{Path: seg.path, Offset: at, First: from, Items: to - from, Err: why}
	s.cfg.Logger.Error("hopper: damaged segment", "error", b.Err)
}

// take makes the run the batch's content, but for its first skip items. The run stands in the batch's buffer.
func (b *Batch) take(r run, skip int, path string) {
	b.reset(r.first + uint64(skip))
	b.Items, b.path, b.offset = r.count-skip, path, r.at
	b.buf = b.buf[:framesAt+len(r.frames)]
	b.pos = len(b.buf) - len(skipFrames(r.frames, skip))
}

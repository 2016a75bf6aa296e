package spill

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// A store keeps batches of items, each as its chunks, in order. The embedded default is dirStore; another engine can
// stand in its place. put, trim, uncap, seal and close belong to one goroutine, get and leave to another
// (until close), the rest is safe for concurrent use.
type store interface {
	put(b *Batch) error                             // appends the batch, whole or not at all
	trim(acked uint64) error                        // deletes what holds only items below acked
	uncap()                                         // from here on MaxDisk and KeepFree are no reason to refuse
	seal()                                          // makes durable all that was put
	close(left receipt, kept bool) error            // keeps what is left, or deletes everything
	get(b *Batch, next uint64) (ok bool, err error) // fills b with the oldest items from next on; !ok: there are none yet
	leave()                                         // nothing is to be read for some time

	end() uint64         // sequence number behind the last item
	free() uint64        // from here on, sequence numbers may be put
	has(seq uint64) bool // whether the item is stored
	trimAt() uint64      // trim frees something once acked has got here
	usage() (bytes int64, segments int)
}

var (
	errMaxDisk  = errors.New("spill: MaxDisk is reached")
	errKeepFree = errors.New("spill: free disk space is down to KeepFree")
)

// dirStore is a store in a directory of segment files.
type dirStore struct {
	cfg  Config
	fs   fsys
	tag  uint32 // checksum of cfg.Label
	lock *os.File

	// Of the goroutine that writes.
	out     []byte     // a chunk on its way to the file, where the batch does not bring it
	doomed  []*segment // could not be removed yet
	receipt *receipt   // the one on disk, which vouches for the oldest segments, or nil
	acked   uint64
	above   uint64 // the names of files that are left alone stand below

	mu       sync.Mutex // never held over I/O
	segments []*segment // oldest first
	active   *segment   // the last one, while it is appended to
	last     uint64     // behind the last item ever put

	oldest atomic.Uint64 // end of the oldest segment
	bytes  atomic.Int64
	files  atomic.Int64

	// Of the goroutine that reads.
	cur    *segment
	reader runReader
	reason error // the first damage since the last run that was read
	at     int64 // and its offset
}

func (s *dirStore) end() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *dirStore) free() uint64 { return max(s.end(), s.above) }

func (s *dirStore) has(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg.first <= seq && seq < seg.end && seg.missing == nil {
			return true
		}
	}
	return false
}

func (s *dirStore) uncap() { s.cfg.MaxDisk, s.cfg.KeepFree = -1, 0 }

func (s *dirStore) trimAt() uint64 { return s.oldest.Load() }

func (s *dirStore) usage() (int64, int) { return s.bytes.Load(), int(s.files.Load()) }

// put appends the batch's chunks to the active segment, and cuts it back to what it
// was if that fails. A segment has no gaps: a batch that does not continue it begins another.
func (s *dirStore) put(b *Batch) error {
	if a := s.active; a != nil && (a.end != b.First || a.size >= s.cfg.SegmentSize) {
		s.sealActive()
	}
	if s.active == nil {
		if err := s.create(b.First); err != nil {
			return err
		}
	}
	written, err := s.write(b)
	if err != nil {
		s.cut(written)
		return err
	}
	a := s.active
	s.mu.Lock()
	defer s.mu.Unlock()
	a.size += written
	a.end = b.end()
	s.last = max(s.last, a.end)
	a.frames += uint64(len(b.frames()))
	s.noteOldest()
	return nil
}

// noteOldest publishes when trim is worth calling. It wants mu.
func (s *dirStore) noteOldest() {
	at := ^uint64(0)
	if len(s.segments) > 0 {
		at = s.segments[0].end
	}
	s.oldest.Store(at)
}

// write appends the batch's chunks to the active segment, one by one where they are not at hand: its only item may be of any size.
func (s *dirStore) write(b *Batch) (written int64, err error) {
	if b.chunks != nil {
		return s.flush(b.chunks, 0)
	}
	for raw := range b.payloads(s.tag) {
		s.out = appendChunk(s.out[:0], raw, b.plain)
		if written, err = s.flush(s.out, written); err != nil {
			break
		}
	}
	return written, err
}

// flush writes out, if there is room for it and a footer.
func (s *dirStore) flush(out []byte, written int64) (int64, error) {
	if err := s.room(int64(len(out)) + footerLen); err != nil {
		return written, err
	}
	n, err := s.active.f.Write(out)
	s.addBytes(s.active, int64(n))
	return written + int64(n), err
}

func (s *dirStore) addBytes(seg *segment, n int64) {
	seg.disk += n
	s.bytes.Add(n)
}

// room reports why n more bytes may not be written, if they may not.
func (s *dirStore) room(n int64) error {
	if s.cfg.MaxDisk >= 0 && s.bytes.Load()+n > s.cfg.MaxDisk {
		return errMaxDisk
	}
	if s.cfg.KeepFree == 0 {
		return nil // the file system itself will say so
	}
	avail, total, err := s.fs.Free(s.cfg.Dir)
	if err != nil {
		return err
	}
	if avail-n < s.keepFree(total) {
		return errKeepFree
	}
	return nil
}

func (s *dirStore) keepFree(total int64) int64 {
	if s.cfg.KeepFree >= 0 {
		return s.cfg.KeepFree
	}
	return min(DefaultKeepFree, total/20)
}

// cut takes back what a failed put wrote. If that fails too, the segment ends here: the watermark
// keeps readers from the torn tail.
func (s *dirStore) cut(written int64) {
	a := s.active
	if a.size == a.start { // nothing in it yet
		s.abandon(a)
		return
	}
	if written == 0 {
		return
	}
	if err := a.f.Truncate(a.size); err != nil {
		s.cfg.Logger.Error("hopper: can't cut back a segment after a failed write: it is closed as it is", "path", a.path, "error", err)
		s.detach()
		return
	}
	s.addBytes(a, a.size-a.disk)
}

// detach ends the active segment without a footer.
func (s *dirStore) detach() {
	s.mu.Lock()
	a := s.active
	s.active = nil
	s.mu.Unlock()
	s.release(a)
}

// abandon removes a segment that holds nothing.
func (s *dirStore) abandon(a *segment) {
	s.mu.Lock()
	s.segments = s.segments[:len(s.segments)-1]
	s.noteOldest()
	s.mu.Unlock()
	s.detach()
	s.remove(a)
}

// create begins a segment.
func (s *dirStore) create(first uint64) error {
	s.mu.Lock()
	h := header{first: first, follows: s.before(first), acked: s.acked, kept: s.cfg.Keep, label: s.cfg.Label}
	s.mu.Unlock()
	b := appendHeader(nil, h)
	if err := s.room(int64(len(b)) + footerLen); err != nil {
		return err
	}
	seg := &segment{path: filepath.Join(s.cfg.Dir, segmentName(first)), first: first, end: first, start: int64(len(b)), label: h.label, refs: 1}
	var err error
	if seg.f, err = s.createFile(seg.path); err != nil {
		return err
	}
	s.files.Add(1)
	n, err := seg.f.Write(b)
	s.addBytes(seg, int64(n))
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		s.release(seg)
		s.remove(seg)
		return err
	}
	seg.size = seg.start
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments, s.active = append(s.segments, seg), seg
	s.noteOldest()
	return nil
}

// before returns where the log goes on to first from. Close puts last what comes first. It wants mu.
func (s *dirStore) before(first uint64) uint64 {
	if s.last <= first {
		return s.last
	}
	at := uint64(0)
	for _, seg := range s.segments {
		if seg.first < first {
			at = max(at, min(seg.end, first))
		}
	}
	return at
}

// createFile makes a new file. Its name may be taken by one that could not be removed so far, or
// by something that somebody has planted there; what is neither stays.
func (s *dirStore) createFile(path string) (file, error) {
	f, err := s.fs.Create(path)
	if !errors.Is(err, os.ErrExist) {
		return f, err
	}
	if i := slices.IndexFunc(s.doomed, func(d *segment) bool { return d.path == path }); i >= 0 {
		seg := s.doomed[i]
		s.doomed = slices.Delete(s.doomed, i, i+1)
		if err := s.remove(seg); err != nil {
			return nil, err
		}
	} else if !s.planted(path) || s.fs.Remove(path) != nil {
		return nil, err
	}
	return s.fs.Create(path)
}

// planted reports whether path is something else than a regular file.
func (s *dirStore) planted(path string) bool {
	f, err := s.fs.Open(path)
	if err == nil {
		f.Close()
	}
	return notRegular(err)
}

func notRegular(err error) bool { return errors.Is(err, os.ErrInvalid) || isLink(err) }

// syncDir makes the creation and removal of files durable, where a backlog is to survive.
func (s *dirStore) syncDir() error {
	if !s.cfg.Keep {
		return nil
	}
	return s.fs.SyncDir(s.cfg.Dir)
}

// sealActive ends the active segment with a footer and makes it durable. Its items are in
// the log either way, and without the footer too; only a crash of the machine may cost what could not be synced.
func (s *dirStore) sealActive() {
	a := s.active
	defer s.detach()
	n, err := a.f.Write(appendFooter(nil, footer{a.first, a.end, a.frames}))
	s.addBytes(a, int64(n))
	if a.sealed = err == nil; !a.sealed {
		s.cfg.Logger.Warn("hopper: a segment stays without its footer", "path", a.path, "error", err)
		if a.f.Truncate(a.size) == nil {
			s.addBytes(a, a.size-a.disk)
		}
	}
	if !s.cfg.Keep {
		return
	}
	// Never retried: after a failed fsync the kernel marks the pages clean.
	if err := a.f.Sync(); err != nil {
		a.unsafe = unsafe(a, err)
		s.cfg.Logger.Error("hopper: segment not made durable", "path", a.path, "error", err)
	}
}

func (s *dirStore) seal() {
	if s.active != nil {
		s.sealActive()
	}
}

// acquire opens the segment's file for one more user, release ends that.
func (s *dirStore) acquire(seg *segment) error {
	s.mu.Lock()
	if seg.refs > 0 {
		seg.refs++
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	f, err := s.fs.Open(seg.path) // only the reading goroutine comes here: nobody else opens
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.f, seg.refs = f, 1
	return nil
}

func (s *dirStore) release(seg *segment) {
	s.mu.Lock()
	seg.refs--
	last := seg.refs == 0
	f := seg.f
	s.mu.Unlock()
	if last {
		f.Close()
	}
}

// trim removes the segments whose items have all been delivered, the active one included.
func (s *dirStore) trim(acked uint64) error {
	s.acked = acked
	s.mu.Lock()
	n := 0
	for n < len(s.segments) && s.segments[n].end <= acked {
		n++
	}
	gone := s.segments[:n:n]
	s.segments = s.segments[n:]
	active := s.active != nil && s.active.end <= acked
	s.noteOldest()
	s.mu.Unlock()
	if active {
		s.detach()
	}
	dead := append(s.doomed, gone...)
	s.doomed = nil
	if err := s.dropReceipt(dead); err != nil {
		s.doomed = dead
		return err
	}
	var errs error
	for _, seg := range dead {
		errs = errors.Join(errs, s.remove(seg))
	}
	if len(dead) > 0 {
		errs = errors.Join(errs, s.syncDir())
	}
	return errs
}

// dropReceipt removes the receipt if it vouches for one of the segments that are to go. That is
// made durable first, so that it never vouches for what is no longer there.
func (s *dirStore) dropReceipt(dead []*segment) error {
	r := s.receipt
	if r == nil || !slices.ContainsFunc(dead, func(seg *segment) bool { return seg.end > r.next && seg.first < r.end }) {
		return nil
	}
	return s.removeReceipt()
}

func (s *dirStore) removeReceipt() error {
	err := s.fs.Remove(filepath.Join(s.cfg.Dir, s.receipt.name()))
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = s.syncDir()
	}
	if err == nil {
		s.receipt = nil
	}
	return err
}

// remove deletes a segment's file, or leaves it for the next trim.
func (s *dirStore) remove(seg *segment) error {
	s.mu.Lock()
	missing, retain := seg.missing != nil, seg.retain
	s.mu.Unlock()
	if missing {
		return nil
	}
	var err error
	if retain {
		err = s.writeMark(filepath.Join(s.cfg.Dir, retainedName(seg.path)))
	} else if err = s.fs.Remove(seg.path); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		s.doomed = append(s.doomed, seg)
		return err
	}
	s.addBytes(seg, -seg.disk)
	s.files.Add(-1)
	return nil
}

// close ends the store. With kept, what is left has been put and sealed; the receipt makes the
// next start begin at the very item, and notice if anything is gone by then.
func (s *dirStore) close(left receipt, kept bool) error {
	if s.cur != nil {
		s.release(s.cur)
		s.cur = nil
	}
	if !kept {
		left.next = ^uint64(0)
	}
	errs := s.trim(left.next)
	for _, seg := range s.segments {
		errs = errors.Join(errs, s.secure(seg))
	}
	left.end = max(left.next, min(left.end, s.reach(left.next)))
	if kept && (left.next < s.last || len(s.doomed) > 0) {
		errs = errors.Join(errs, s.writeReceipt(left))
	} else if s.receipt != nil {
		errs = errors.Join(errs, s.removeReceipt())
	}
	errs = errors.Join(errs, unlockDir(s.lock))
	if s.cfg.Temporary {
		errs = errors.Join(errs, s.fs.Remove(s.cfg.Dir))
	}
	return errs
}

// reach returns how far the segments go from next on without a gap. There is one where an earlier log
// has ended without saving everything, and said so.
func (s *dirStore) reach(next uint64) uint64 {
	for {
		at := next
		for _, seg := range s.segments {
			if seg.first <= next && next < seg.end {
				next = seg.end
			}
		}
		if next == at {
			return next
		}
	}
}

// secure makes a segment durable that an earlier process has left, and reports whether one can't be relied on.
func (s *dirStore) secure(seg *segment) error {
	if !seg.loose || seg.missing != nil || seg.retain {
		return seg.unsafe
	}
	if err := s.fs.Sync(seg.path); err != nil {
		return unsafe(seg, err)
	}
	return nil
}

// unsafe is the error of a segment that could not be made durable.
func unsafe(seg *segment, err error) error {
	return fmt.Errorf("sync %s: items %d to %d may not survive a crash of the machine: %w", seg.path, seg.first, seg.end-1, err)
}

func (s *dirStore) writeReceipt(r receipt) error {
	if s.receipt != nil && *s.receipt == r {
		return nil
	}
	if err := s.writeMark(filepath.Join(s.cfg.Dir, r.name())); err != nil {
		return fmt.Errorf("write receipt: some items will be delivered twice at the next start: %w", err)
	}
	var err error
	if s.receipt != nil {
		err = s.removeReceipt()
	}
	s.receipt = &r
	return err
}

// writeMark makes an empty file, whose name is all that it says.
func (s *dirStore) writeMark(path string) error {
	f, err := s.fs.Create(path)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.syncDir())
}

package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"example.com/hopper/spill"
)

// A writer appends batches to the active segment, which it owns. It belongs to
// the goroutine that changes the store.
type writer struct {
	log   *slog.Logger
	dir   *directory
	index *index
	trash *trash
	usage *usage

	label  string
	kept   bool   // the items are to be left when the store closes
	limits limits // none once the log ends
	acked  uint64 // items below are done
	last   uint64 // number behind the last item ever stored
	spare  int64  // so many bytes may be written without another look at the free space

	version  byte   // of the segments to be made
	recorded uint64 // no items below come back, not even after a power cut

	active *segment // nil: the next batch begins one
}

// limits are in bytes.
type limits struct {
	segment  int64 // a segment that is as large is sealed
	max      int64 // of all segments; negative: none
	keepFree int64 // of the file system; 0: none, negative: DefaultKeepFree or less
}

// append adds the batches, each whole or not at all.
func (w *writer) append(ctx context.Context, batches []*spill.Batch) (stored int, err error) {
	w.spare = 0
	for _, b := range batches {
		if err := ctx.Err(); err != nil {
			return stored, err
		}
		if err := w.put(b); err != nil {
			return stored, err
		}
		stored++
	}
	return stored, nil
}

// put appends a batch. A segment has no gaps: a batch that does not continue
// the active one begins another.
func (w *writer) put(b *spill.Batch) error {
	switch {
	case b.Items <= 0 || b.First >= spill.MaxSeq || b.End() > spill.MaxSeq:
		return fmt.Errorf("spill: %d items from %d on: the numbers are used up", b.Items, b.First)
	case b.First < w.last && w.index.covers(b.First, b.End()):
		return nil // it comes again
	}

	w.checkActive()
	if a := w.active; a != nil && (a.end != b.First || a.size >= w.limits.segment) {
		w.seal()
	}
	old := w.active
	err := w.tryPut(b)
	if tooLarge(err) && old != nil {
		// That file may grow no more (ulimit -f), but the next one may as far.
		w.limits.segment = min(w.limits.segment, old.size)
		w.seal()
		err = w.tryPut(b)
	}
	return err
}

// checkActive ends the active segment if its file is not as long as it was
// left: what somebody has cut off is lost, what is appended behind would be
// too.
func (w *writer) checkActive() {
	a := w.active
	if a == nil {
		return
	}
	size, err := a.f.Size()
	if err != nil || size == a.disk {
		return // if it can't be told, the write fails or is sound
	}

	w.log.Error("spill: somebody has changed the size of a segment: going on in another",
		"path", a.path, "size", size, "expected", a.disk)
	w.addBytes(a, size-a.disk)
	w.detach()
}

// tryPut appends the batch to the active segment or a new one, and cuts it back
// to what it was if that fails.
func (w *writer) tryPut(b *spill.Batch) error {
	if w.active == nil {
		if err := w.create(b.First); err != nil {
			return err
		}
	}

	bytes, err := w.write(b)
	if err != nil {
		w.cut(bytes)
		return err
	}

	w.active.frames += uint64(b.FrameBytes())
	w.index.grow(w.active, b.End(), bytes)
	w.last = max(w.last, b.End())
	return nil
}

// write writes the chunks of a batch, and returns how many bytes of them have
// got into the file.
func (w *writer) write(b *spill.Batch) (bytes int64, err error) {
	for chunk := range b.Chunks {
		if err := w.room(int64(len(chunk)) + endLen(w.active.version)); err != nil {
			return bytes, err
		}

		n, err := w.active.f.Write(chunk)
		w.addBytes(w.active, int64(n))
		w.spare -= int64(n)
		w.usage.account.settle(endLen(w.active.version))
		bytes += int64(n)
		if err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

func (w *writer) addBytes(s *segment, n int64) {
	s.disk += n
	w.usage.grow(n)
}

// room reports why n more bytes may not be written, if they may not.
func (w *writer) room(n int64) error {
	if w.limits.max >= 0 && w.usage.bytes.Load()+n > w.limits.max {
		return ErrMaxBytes
	}
	if err := w.leavesFree(n); err != nil {
		return err
	}
	if !w.usage.account.claim(n) {
		return ErrBudget
	}
	return nil
}

// unasked is how many bytes of one append may be written between two looks at
// the free space. Others take of it too.
const unasked = 256 << 10

// leavesFree reports whether the file system still has its reserve when n more
// bytes are written.
func (w *writer) leavesFree(n int64) error {
	if w.limits.keepFree == 0 || n <= w.spare { // without a limit the write itself will tell
		return nil
	}
	avail, total, err := w.dir.room()
	if err != nil || total == 0 {
		return err
	}

	left := avail - w.limits.reserve(total)
	if left < n {
		return ErrKeepFree
	}
	w.spare = min(left/2, unasked)
	return nil
}

// reserve returns how much of a file system is left to others.
func (l limits) reserve(total int64) int64 {
	if l.keepFree >= 0 {
		return l.keepFree
	}
	return min(DefaultKeepFree, total/20)
}

// cut takes back what a failed put has written. If that fails too the segment
// ends here: the watermark keeps readers from the torn tail.
func (w *writer) cut(written int64) {
	a := w.active
	switch {
	case a.end == a.first && a.acked == 0: // nothing in it yet
		w.abandon()
		return
	case written == 0:
		return
	}

	if err := a.f.Truncate(a.size); err != nil {
		w.log.Error("spill: can't cut back a segment after a failed write: it ends there",
			"path", a.path, "error", err)
		w.detach()
		return
	}
	w.addBytes(a, a.size-a.disk)
}

// detach ends the active segment.
func (w *writer) detach() {
	a := w.active
	w.active = nil
	w.usage.account.settle(0)
	w.index.closeFile(a)
}

// abandon removes the active segment, which holds nothing.
func (w *writer) abandon() {
	a := w.active
	w.index.remove(a)
	w.detach()
	w.trash.discard(a)
}

// create begins a segment.
func (w *writer) create(first uint64) error {
	if err := w.dir.ensure(); err != nil {
		return err
	}
	w.sizeSegments()

	head := appendHeader(nil, header{
		version: w.version,
		first:   first, follows: w.follows(first), acked: w.acked, kept: w.kept, label: w.label,
	})
	if err := w.room(int64(len(head)) + endLen(w.version)); err != nil {
		return err
	}

	path, f, err := w.createFile(first)
	if err != nil {
		w.usage.account.settle(0)
		return explain(err)
	}
	s := &segment{
		path: path, first: first, end: first, start: int64(len(head)), size: int64(len(head)),
		stored: time.Now(), f: f, users: 1, loose: true, version: w.version, noted: w.acked,
	}
	w.usage.add(s)
	w.active = s
	w.index.add(s)

	n, err := f.Write(head)
	w.addBytes(s, int64(n))
	w.usage.account.settle(endLen(w.version))
	if err == nil {
		err = w.dir.sync()
	}
	if err != nil {
		w.abandon()
	}
	return err
}

// sizeSegments sets the size of segments where it was left open: such that one
// is a small part of the space there is, since space comes back by segments.
func (w *writer) sizeSegments() {
	if w.limits.segment > 0 {
		return
	}

	size := int64(DefaultSegmentSize)
	if w.limits.max >= 0 {
		size = min(size, w.limits.max/4)
	}
	if w.usage.account != nil {
		size = min(size, w.usage.account.part(8))
	}
	if _, total, _ := w.dir.room(); total > 0 {
		size = min(size, max(total/16, minSegmentSize))
	}
	w.limits.segment = max(size, 1)
}

// follows returns from where the store goes on to first. At the end of a log
// comes last what belongs in front of what is there.
func (w *writer) follows(first uint64) uint64 {
	if w.last <= first {
		return w.last
	}
	return w.index.before(first)
}

// createFile makes the file of a segment. If its name is taken, by a file that
// could not be removed or one that somebody has put there, or has a mark that
// would hide it, the names of later items will do: what the first item is
// stands in the header.
func (w *writer) createFile(first uint64) (path string, f file, err error) {
	const tries = 1000
	for seq := first; seq < min(first+tries, spill.MaxSeq); seq++ {
		path = w.dir.join(segmentName(seq))
		marked, err := w.dir.has(retainedName(path))
		if err == nil && !marked {
			f, err = w.dir.create(path)
		}
		if !marked && !errors.Is(err, fs.ErrExist) {
			return path, f, err
		}
	}
	return "", nil, fmt.Errorf("make %s: it and the names behind it are taken: %w",
		path, fs.ErrExist)
}

// seal ends the active segment, if there is one, with a footer and makes it
// durable. Its items are stored either way, and without the footer too; only a
// power cut may cost what could not be synced.
func (w *writer) seal() {
	a := w.active
	if a == nil {
		return
	}
	defer w.detach()

	b, noted := w.ending(a)
	n, err := a.f.Write(b)
	w.addBytes(a, int64(n))
	if err == nil {
		a.noted = max(a.noted, noted)
	}
	if err != nil {
		w.log.Warn("spill: a segment stays without its footer", "path", a.path, "error", err)
		if a.f.Truncate(a.size) == nil {
			w.addBytes(a, a.size-a.disk)
		}
	}

	if w.kept {
		a.loose = false
		w.syncFile(a)
	}
}

// ending returns what ends a segment, and the cursor in it.
func (w *writer) ending(s *segment) (b []byte, noted uint64) {
	ft := footer{first: s.first, end: s.end, frames: s.frames}
	if s.version != version1 && w.acked > 0 {
		noted, ft.cursor = w.acked, true
		b = appendCursor(b, cursor{s.first, noted})
	}
	return appendFooter(b, ft), noted
}

// syncFile makes an open segment durable. That is never retried: after a failed
// fsync the kernel takes the data for clean.
func (w *writer) syncFile(s *segment) {
	if err := s.f.Sync(); err != nil {
		s.loose = false
		s.unsafe = unsafeError(s, err)
		w.log.Error("spill: a segment may not survive a power cut", "path", s.path, "error", err)
		return
	}
	s.synced, s.acked = s.disk, s.noted
}

// unsafeError is the error of a segment that could not be synced.
func unsafeError(s *segment, err error) error {
	return fmt.Errorf("sync %s: items %d to %d may not survive a crash of the machine: %w",
		s.path, s.first, s.end-1, err)
}

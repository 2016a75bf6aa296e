package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"example.com/hopper/spill"
)

// idleClose is how long after the last read its file is closed.
const idleClose = time.Second

// A reader reads chunks. It belongs to one goroutine, but for the closing of a
// file that has not been read for some time.
type reader struct {
	fs    fsys
	index *index

	mu    sync.Mutex // held while reading
	cur   *segment   // whose file is held open, or nil
	mark  bookmark
	told  spill.Position // of a notice: not where to read on
	timer *time.Timer    // closes the file; nil: it is not held open at rest
	fired sync.WaitGroup // runs of the timer to come
}

// A bookmark says that the items behind seq stand from offset on. It spares a
// reader that follows the writer from beginning the active segment anew.
type bookmark struct {
	seg    *segment
	seq    uint64
	offset int64
}

// read implements [spill.Store.Read].
func (r *reader) read(seq uint64, from spill.Position, buf []byte) (spill.Extent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disarm()
	defer r.arm()

	p, ok := r.index.find(seq)
	switch {
	case !ok:
		return spill.Extent{}, fmt.Errorf("spill: no items are stored from %d on", seq)
	case p.seg == nil:
		return spill.Extent{First: p.first, At: p.gap.at, Err: p.gap.why, End: p.end}, nil
	}

	ext, err := r.readSegment(p, seq, from, buf)
	if errors.Is(ext.Err, fs.ErrNotExist) {
		// A copy may have taken its place meanwhile.
		if now, ok := r.index.find(seq); ok && now.seg != nil && now.seg != p.seg {
			p = now
			ext, err = r.readSegment(p, seq, spill.Position{}, buf)
		}
	}
	ext.First = p.first
	ext.Stored = p.seg.stored
	if ext.End != 0 {
		r.mark = bookmark{p.seg, ext.End - 1, p.size}
	}
	return ext, err
}

func (r *reader) readSegment(
	p place, seq uint64, from spill.Position, buf []byte,
) (ext spill.Extent, err error) {
	s := p.seg
	if len(s.notices) > 0 {
		n := s.notices[0]
		s.notices = s.notices[1:]
		r.told = spill.Position{Path: s.path, Offset: n.offset}
		return spill.Extent{At: r.told, Err: n.err}, nil
	}

	if from == r.told {
		from = spill.Position{}
	}
	r.told = spill.Position{}
	at := spill.Position{Path: s.path, Offset: r.offset(s, seq, from)}
	f, err := r.open(s)
	switch {
	case scarce(err):
		return ext, explain(err)
	case err != nil:
		r.retain(s, err)
		return spill.Extent{At: at, Err: err, End: p.end}, nil
	}

	chunks, err := readChunks(f, buf, &at.Offset, p.size, nil)
	switch {
	case err == io.EOF:
		return spill.Extent{At: at, End: p.end}, nil
	case scarce(err):
		return ext, err
	case err != nil:
		r.retain(s, err)
		return spill.Extent{At: at, Err: err, End: p.end}, nil
	}

	ext = spill.Extent{Chunks: chunks, At: at}
	if at.Offset+int64(len(chunks)) == p.size {
		ext.End = p.end
	}
	return ext, nil
}

// offset returns where in the segment to look for the item.
func (r *reader) offset(s *segment, seq uint64, from spill.Position) int64 {
	switch {
	case from.Path == s.path:
		r.mark = bookmark{s, seq, max(from.Offset, s.start)}
		return r.mark.offset
	case r.mark.seg == s && seq > r.mark.seq:
		return r.mark.offset
	}
	return s.start
}

// open returns the segment's file, which stays open for the reads to come.
func (r *reader) open(s *segment) (file, error) {
	if s == r.cur {
		return s.f, nil
	}
	r.drop()

	f, err := r.index.openFile(s, r.fs)
	if err == nil {
		r.cur = s
	}
	return f, err
}

// retain keeps a file that can't be read from being deleted. Data that is there
// and damaged is not worth that.
func (r *reader) retain(s *segment, err error) {
	ofFile := errors.As(err, new(ioError)) || errors.As(err, new(*fs.PathError))
	if ofFile && !errors.Is(err, fs.ErrNotExist) {
		r.index.retain(s)
	}
}

// drop closes the file that was read last.
func (r *reader) drop() {
	if r.cur != nil {
		r.index.closeFile(r.cur)
		r.cur = nil
	}
}

// arm has the file closed after some time, unless it is read before.
func (r *reader) arm() {
	if r.cur == nil {
		return
	}
	r.fired.Add(1)
	if r.timer == nil {
		r.timer = time.AfterFunc(idleClose, r.expire)
	} else {
		r.timer.Reset(idleClose)
	}
}

func (r *reader) disarm() {
	if r.timer != nil && r.timer.Stop() {
		r.fired.Done()
	}
}

// expire closes the file. If it is being read right now, the next read opens it
// again.
func (r *reader) expire() {
	defer r.fired.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
}

// letGo closes the file if it is that of a segment that is gone. It does not
// wait for a read that is under way: the timer closes what that leaves open.
func (r *reader) letGo(gone []*segment) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	for _, s := range gone {
		if s == r.cur {
			r.disarm()
			r.drop()
		}
	}
}

// close ends the reader.
func (r *reader) close() {
	r.mu.Lock()
	r.disarm()
	r.drop()
	r.mu.Unlock()
	r.fired.Wait()
}

// ioError marks an error of the file system, as opposed to one in the data.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

// readChunks reads whole data chunks from off on into buf, as many as fit and
// have no cursor in between. Cursors in front of them are passed to visit, if
// it is not nil, and off is moved behind them. Readable data ends at limit. The
// error says why there is not even one chunk: io.EOF at the limit, an ioError,
// or what is wrong with the data.
func readChunks(
	f file, buf []byte, off *int64, limit int64, visit func(off int64, cursor []byte),
) (chunks []byte, err error) {
	for *off < limit {
		got, err := f.ReadAt(buf[:min(int64(len(buf)), limit-*off)], *off)

		b := buf[:got]
		for _, is, _ := parseCursor(b); is; _, is, _ = parseCursor(b) {
			if visit != nil {
				visit(*off, b[:cursorLen])
			}
			b = b[cursorLen:]
			*off += cursorLen
		}

		n, why := wholeChunks(b)
		switch {
		case n > 0:
			return b[:n], nil
		case err != nil && !errors.Is(err, io.EOF):
			return nil, ioError{err}
		case len(b) == got: // there was no cursor
			return nil, why
		}
	}
	return nil, io.EOF
}

// wholeChunks returns the length of the chunks that b begins with, and why
// there are no more.
func wholeChunks(b []byte) (n int, err error) {
	for {
		size, err := spill.ChunkLen(b[n:])
		if err != nil && tornCursor(b[n:]) {
			err = spill.ErrTorn
		}
		if err != nil {
			return n, err
		}
		if size > len(b)-n {
			return n, spill.ErrTorn
		}
		n += size
	}
}

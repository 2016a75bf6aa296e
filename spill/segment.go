package spill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	segmentExt = ".sz"
	receiptExt = ".ack"
	seqDigits  = 20

	// A segment that could not be read stays, and an empty file with its name but for this suffix tells
	// later logs to leave it alone.
	retainedExt = ".retained"
)

// A segment is one file of the log: the items [first, end), without a gap.
type segment struct {
	path    string
	first   uint64
	end     uint64
	start   int64 // offset of the first data chunk
	size    int64 // watermark: readers may read up to here
	disk    int64 // bytes the file takes, footer and torn tail included
	frames  uint64
	sealed  bool
	guessed bool // the last item is taken to be there because of data that can't be understood
	label   string

	damage  error // of the header; it costs no item
	missing error // not nil: there is no such file to read, and why
	retain  bool  // the file couldn't be read: it is not deleted, for salvage
	loose   bool  // an earlier process may have ended before it could fsync it
	unsafe  error // not nil: fsync failed

	f    file // open while refs > 0
	refs int
}

func segmentName(first uint64) string { return fmt.Sprintf("%0*d%s", seqDigits, first, segmentExt) }

func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentExt)
	if !ok {
		return 0, false
	}
	return parseSeq(digits)
}

func retainedName(path string) string {
	return strings.TrimSuffix(filepath.Base(path), segmentExt) + retainedExt
}

func parseSeq(digits string) (uint64, bool) {
	if len(digits) != seqDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// A receipt is an empty file whose name is its content, so that writing it is atomic: at
// a clean stop, exactly the items [next, end) were left, all of them in segments.
type receipt struct{ next, end uint64 }

func (r receipt) name() string {
	return fmt.Sprintf("%0*d-%0*d%s", seqDigits, r.next, seqDigits, r.end, receiptExt)
}

func parseReceiptName(name string) (receipt, bool) {
	digits, ok := strings.CutSuffix(name, receiptExt)
	from, to, ok2 := strings.Cut(digits, "-")
	next, ok3 := parseSeq(from)
	end, ok4 := parseSeq(to)
	return receipt{next, end}, ok && ok2 && ok3 && ok4 && next <= end
}

// ioError marks an error of the file system, as opposed to one in the data.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

// A chunkReader walks the data chunks of one segment.
type chunkReader struct {
	f     file
	off   int64 // of the next chunk
	limit int64 // whole chunks end here

	ahead   []byte // the bytes from aheadAt on
	aheadAt int64
}

const readAhead = 128 << 10

func (r *chunkReader) reset(f file, start, limit int64) {
	r.f, r.off, r.limit, r.ahead = f, start, limit, r.ahead[:0]
}

// next decodes the next chunk into buf; at is its offset. After an error the reader stands
// behind the damaged chunk, or at the limit where its end is not known. io.EOF: at the limit.
func (r *chunkReader) next(buf []byte) (p payload, at int64, err error) {
	at = r.off
	if at >= r.limit {
		return p, at, io.EOF
	}
	head, err := r.bytes(at, chunkHeaderLen)
	if err != nil {
		r.off = r.limit
		return p, at, err
	}
	n, err := chunkLen(head)
	if err == nil && at+int64(n) > r.limit {
		err = errTorn
	}
	if err != nil {
		r.off = r.limit
		return p, at, err
	}
	r.off += int64(n)
	chunk, err := r.bytes(at, n)
	if err != nil {
		return p, at, err
	}
	p, err = decodeChunk(buf, chunk)
	return p, at, err
}

// zeros reports whether nothing but zeros stands from off on.
func (r *chunkReader) zeros(off int64) bool {
	for off < r.limit {
		b, err := r.bytes(off, int(min(r.limit-off, maxPayload)))
		if err != nil || len(bytes.Trim(b, "\x00")) > 0 {
			return false
		}
		off += int64(len(b))
	}
	return true
}

// bytes returns n bytes from off on, valid until the next call.
func (r *chunkReader) bytes(off int64, n int) ([]byte, error) {
	if i := off - r.aheadAt; i >= 0 && i+int64(n) <= int64(len(r.ahead)) {
		return r.ahead[i : i+int64(n)], nil
	}
	if r.ahead == nil {
		r.ahead = make([]byte, 0, readAhead)
	}
	want := int(min(readAhead, r.limit-off))
	if want < n {
		return nil, errTorn
	}
	got, err := r.f.ReadAt(r.ahead[:want], off)
	r.ahead, r.aheadAt = r.ahead[:got], off
	if got >= n {
		return r.ahead[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, errTorn
	}
	return nil, ioError{err}
}

// A run is a stretch of whole items.
type run struct {
	first  uint64
	count  int
	frames []byte
	buf    []byte // not nil: the frames stand there, behind room for the headers of a batch
	at     int64  // offset of its first chunk
}

func (r run) end() uint64 { return r.first + uint64(r.count) }

// A runReader reads the items of one segment, those put together again that run over
// several chunks.
type runReader struct {
	chunkReader
	tag uint32

	part    []byte // memory to begin with; then, behind room for the headers of a batch, the first chunks of the item partSeq
	partSeq uint64
	partAt  int64
	whole   uint64 // how long part will be, as the frame claims
}

// next returns the next run; its frames share buf, or have one of their own where they are
// larger. After an error that is not io.EOF the reader goes on behind the damage.
func (r *runReader) next(buf []byte) (run, error) {
	for {
		p, at, err := r.chunkReader.next(buf)
		switch {
		case err != nil:
			return run{at: at}, err
		case p.tag != r.tag:
			return run{at: at}, errors.New("chunk of another type or codec")
		case p.count > 0 && p.offset == 0:
			return run{first: p.first, count: int(p.count), frames: p.frames, at: at}, nil
		}
		if err := r.addPart(p, at); err != nil {
			return run{at: at}, err
		}
		if p.count == 1 {
			whole := run{first: r.partSeq, count: 1, frames: r.part[framesAt:], buf: r.part, at: r.partAt}
			r.part = nil
			return whole, checkWhole(whole.frames)
		}
	}
}

// checkWhole checks the frame of an item that ran over several chunks, as only one that is too large for a chunk does.
func checkWhole(frame []byte) error {
	if len(frame) <= maxFrames {
		return errors.New("small item in parts")
	}
	return checkFrames(frame, 1)
}

// addPart adds to the item. It makes room for twice what has really been read at most, whatever length the frame claims.
func (r *runReader) addPart(p payload, at int64) error {
	if p.offset == 0 {
		size, n := binary.Uvarint(p.frames)
		r.part, r.whole = append(r.part[:0], make([]byte, framesAt)...), framesAt+uint64(n)+size
		r.partSeq, r.partAt = p.first, at
	}
	if r.part == nil || p.first != r.partSeq || p.offset != uint64(len(r.part)-framesAt) {
		r.part = nil
		return errors.New("part of an item whose other parts are missing")
	}
	if read := uint64(len(r.part) + len(p.frames)); read > uint64(cap(r.part)) && read < r.whole {
		r.part = slices.Grow(r.part, len(p.frames)+int(min(r.whole-read, read)))
	}
	r.part = append(r.part, p.frames...)
	return nil
}

// skipFrames returns b without its first n frames, which have been checked.
func skipFrames(b []byte, n int) []byte {
	for range n {
		size, k := binary.Uvarint(b)
		b = b[k+int(size):]
	}
	return b
}

// loadSegment reads what a segment file says about itself: header, and footer or, where
// it has none, its whole chunks. A segment that can't be understood at all comes back with an
// error; a damaged one comes back as far as it goes, the damage left for the reader. label, where
// it is known, tells how long a header is that can't be read.
func loadSegment(fs fsys, dir, name, label string) (*segment, header, error) {
	s := &segment{path: filepath.Join(dir, name)}
	f, err := fs.Open(s.path)
	if err != nil {
		return nil, header{}, err
	}
	defer f.Close()
	if s.disk, err = f.Size(); err != nil {
		return nil, header{}, err
	}
	h, err := s.loadHeader(f, name, label)
	if err != nil {
		return nil, h, err
	}
	if ft, ok, failed := readFooter(f, s.disk); failed != nil {
		err = failed
	} else if ok && ft.first == s.first {
		s.sealed, s.end, s.frames, s.size = true, ft.end, ft.frames, s.disk-footerLen
	} else {
		err = s.scan(f)
	}
	return s, h, err
}

// loadHeader fills in first, start and label. A damaged header costs no item: the name has the
// sequence number too, and every chunk says which label it belongs to.
func (s *segment) loadHeader(f file, name, label string) (header, error) {
	b := make([]byte, min(int64(maxHeaderLen), s.disk))
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return header{}, ioError{err}
	}
	h, n, err := parseHeader(b)
	if len(b) > 0 && b[0] == 0 {
		err = errTorn // never written, before a crash of the machine
	}
	if errors.Is(err, ErrVersion) {
		return h, fmt.Errorf("%s: %w: drain it with the version that wrote it, or choose another directory", s.path, err)
	}
	if err != nil {
		first, _ := parseSegmentName(name)
		h = header{first: first, kept: true, label: label}
		s.damage = fmt.Errorf("segment header: %w", err)
		if label != "" {
			n = len(appendHeader(nil, h))
		}
	}
	s.first, s.end, s.start, s.label = h.first, h.first, int64(n), h.label
	return h, nil
}

func readFooter(f file, size int64) (ft footer, ok bool, err error) {
	if size < footerLen {
		return ft, false, nil
	}
	b := make([]byte, footerLen)
	if n, err := f.ReadAt(b, size-footerLen); n < footerLen && err != nil && !errors.Is(err, io.EOF) {
		return ft, false, ioError{err}
	}
	ft, ok = parseFooter(b)
	return ft, ok, nil
}

// lostIn reports whether there were items in the data at offset at, for which next has returned err: not if
// it is the end of what was being written, or the zeros that a crash of the machine leaves, or no more than
// a footer, nor in a file of which nothing can be understood.
func (s *segment) lostIn(r *chunkReader, at int64, err error) bool {
	behind := at // of the data that can't be the end
	if !errors.Is(err, errStray) {
		behind = r.off
	} else if s.disk-at <= footerLen {
		return false
	}
	return !r.zeros(behind) && (s.damage == nil || s.end > s.first)
}

// scan finds the end of a segment that was not sealed: of its last chunk that is whole.
// What stands behind was being written when the process ended, and is not part of the log.
func (s *segment) scan(f file) error {
	s.size = s.start
	r, buf := chunkReader{}, make([]byte, maxPayload)
	r.reset(f, s.start, s.disk)
	for {
		p, at, err := r.next(buf)
		var failed ioError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &failed):
			return failed
		case err == nil && p.end() >= s.end:
			s.size, s.end, s.guessed = r.off, p.end(), false
			s.frames += uint64(len(p.frames))
		case err != nil && !errors.Is(err, errTorn) && !s.guessed && s.lostIn(&r, at, err):
			s.size, s.end, s.guessed = s.disk, s.end+1, true // that is the least
		}
	}
}

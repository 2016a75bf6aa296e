package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"example.com/hopper/spill"
)

var errRetained = errors.New("it could not be read earlier, and its items were reported as lost: " +
	"move it to a directory of its own to salvage them")

// A candidate is a file that may be a segment, and what it says about itself.
type candidate struct {
	seg     *segment
	header  header
	damage  error  // of the header
	acked   uint64 // the items below were done, as the header or a cursor says
	sealed  bool   // it has a footer
	guessed bool   // the last item is taken to be there because of data that can't be understood
	junk    bool   // something stands behind the footer
}

// obscure reports whether nothing in the file can be understood, so that it may
// be anybody's. One that was never written is not: it was made, and then the
// process ended.
func (c *candidate) obscure() bool {
	return c.damage != nil && c.seg.end == c.seg.first && !errors.Is(c.damage, spill.ErrTorn)
}

// A stray is a file that has the name of a segment, or another name that only a
// store gives, and takes no part in recovery.
type stray struct {
	path  string
	first uint64     // by its name
	why   error      // it takes no part
	seg   *candidate // if it could be loaded
}

// found is what stands in a directory.
type found struct {
	segments   []*candidate // in the order of their names
	receipts   []receipt
	marks      []string // names of receipts, of their marks, and of marks without a segment
	retained   []stray  // could not be read earlier
	nobodys    []stray  // left alone
	unreadable []stray  // can't be read, or hold other items
}

// A walk looks at all files in a directory. It changes nothing.
type walk struct {
	fs    fsys
	dir   string
	label string
	names []string // in order
	found found
}

// walkDir returns what stands in a directory whose segments have the label, or,
// if label is nil, the label of the first one that has a sound header.
func walkDir(fs fsys, dir string, label *string) (found, string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return found{}, "", err
	}

	w := walk{fs: fs, dir: dir, names: names}
	if label != nil {
		w.label = *label
	} else {
		w.label = w.anyLabel()
	}
	for _, name := range names {
		w.visit(name)
	}
	return w.found, w.label, nil
}

// anyLabel returns the label of the first segment whose header can be read.
func (w *walk) anyLabel() string {
	for _, name := range w.names {
		if ext, _, err := parseName(name); ext != segmentExt || err != nil {
			continue
		}
		c, err := loadSegment(w.fs, filepath.Join(w.dir, name), 0, "", false)
		if err == nil && c.damage == nil {
			return c.header.label
		}
	}
	return ""
}

func (w *walk) has(name string) bool {
	_, ok := slices.BinarySearch(w.names, name)
	return ok
}

// visit sorts one file in.
func (w *walk) visit(name string) {
	f, path := &w.found, filepath.Join(w.dir, name)
	ext, numbers, err := parseName(name)
	switch {
	case err != nil:
		f.nobodys = append(f.nobodys, stray{path: path, why: err})
	case ext == receiptExt:
		f.receipts = append(f.receipts, numbers)
		f.marks = append(f.marks, name)
	case ext == openedExt, ext == retainedExt && !w.has(segmentName(numbers.next)):
		f.marks = append(f.marks, name)
	case ext == segmentExt && w.has(retainedName(name)):
		f.retained = append(f.retained, stray{path: path, first: numbers.next, why: errRetained})
	case ext == segmentExt:
		w.load(path, numbers.next)
	}
}

// load sorts in a file that has the name of a segment.
func (w *walk) load(path string, first uint64) {
	f, s := &w.found, stray{path: path, first: first}
	c, err := loadSegment(w.fs, path, first, w.label, true)
	switch {
	case notRegular(err) || errors.Is(err, fs.ErrNotExist):
		s.why = err
		f.nobodys = append(f.nobodys, s)
	case err != nil:
		s.why = err
		f.unreadable = append(f.unreadable, s)
	case c.obscure():
		s.why, s.seg = c.damage, c
		f.nobodys = append(f.nobodys, s)
	case c.header.label != w.label:
		s.why = &spill.LabelError{Path: path, Found: c.header.label, Want: w.label}
		s.seg = c
		f.unreadable = append(f.unreadable, s)
	default:
		f.segments = append(f.segments, c)
	}
}

func notRegular(err error) bool { return errors.Is(err, fs.ErrInvalid) || isLink(err) }

// loadSegment reads what a segment file says about itself: header, and footer
// or, where it has none, its whole chunks; the header only if full is false. A
// file that can't be understood at all comes back with an error; a damaged one
// comes back as far as it goes. The number in its name and the label, if it is
// not empty, stand in for those of a header that can't be read.
func loadSegment(fs fsys, path string, number uint64, label string, full bool) (*candidate, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	c := &candidate{seg: &segment{path: path}}
	if c.seg.disk, c.seg.stored, err = f.Stat(); err != nil {
		return nil, err
	}
	err = c.loadHeader(f, number, label)
	if err == nil && full {
		err = c.loadEnd(f)
	}
	if err != nil {
		return nil, err
	}
	c.seg.version, c.seg.noted, c.seg.acked = c.header.version, c.acked, c.acked
	return c, nil
}

// loadHeader fills in the start. A damaged header costs no item: the name has
// the number too, and every chunk says which label it belongs to.
func (c *candidate) loadHeader(f file, number uint64, label string) error {
	b := make([]byte, min(int64(maxHeaderLen), c.seg.disk))
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return ioError{err}
	}

	h, n, err := parseHeader(b)
	switch {
	case errors.Is(err, spill.ErrVersion):
		return fmt.Errorf("%w: %s: only the program that wrote it can read it", err, c.seg.path)
	case err != nil:
		switch {
		case len(b) > 0 && b[0] == 0:
			err = spill.ErrTorn // never written, before a crash of the machine
		case errors.Is(err, spill.ErrTorn) && !beginsHeader(b):
			err = errNoHeader
		}
		c.damage = fmt.Errorf("segment header: %w", err)
		h = header{version: version1, first: number, kept: true, label: label}
		if n == 0 || label != "" {
			n = len(appendHeader(nil, h))
		}
	}

	s := c.seg
	c.header, c.acked = h, h.acked
	s.first, s.end, s.start = h.first, h.first, int64(n)
	s.size = s.start
	return nil
}

// loadEnd fills in the end.
func (c *candidate) loadEnd(f file) error {
	s := c.seg
	ft, ok, err := readFooter(f, s.disk-footerLen)
	if err != nil {
		return err
	}
	if ok && (ft.first == s.first || c.damage != nil) {
		c.sealed = true
		s.first, s.end, s.frames, s.size = ft.first, ft.end, ft.frames, s.disk-footerLen
		if ft.cursor {
			return c.loadCursor(f, s.size-cursorLen)
		}
		return nil
	}

	sc := scan{candidate: c, f: f, off: s.start}
	return sc.run()
}

// loadCursor takes in the cursor in front of a footer.
func (c *candidate) loadCursor(f file, at int64) error {
	b := make([]byte, cursorLen)
	if n, err := f.ReadAt(b, max(at, 0)); n < cursorLen && err != nil && !errors.Is(err, io.EOF) {
		return ioError{err}
	}
	if !c.takeCursor(b) {
		c.seg.notices = append(c.seg.notices, notice{at, errCursor})
	}
	return nil
}

// takeCursor takes in a cursor, and reports whether it is sound.
func (c *candidate) takeCursor(b []byte) bool {
	cur, _, ok := parseCursor(b)
	if ok = ok && cur.first == c.seg.first; ok {
		c.acked = max(c.acked, cur.acked)
	}
	return ok
}

var errCursor = errors.New("cursor is damaged: items may come twice")

func readFooter(f file, at int64) (ft footer, ok bool, err error) {
	if at < 0 {
		return ft, false, nil
	}
	b := make([]byte, footerLen)
	if n, err := f.ReadAt(b, at); n < footerLen && err != nil && !errors.Is(err, io.EOF) {
		return ft, false, ioError{err}
	}
	ft, ok = parseFooter(b)
	return ft, ok, nil
}

// A scan finds the end of a segment that has no footer: that of its last whole
// chunk. What stands behind was being written when the process ended, and is
// not part of the segment.
type scan struct {
	candidate *candidate
	f         file
	off       int64 // of the next chunk
	buf       []byte
	raw       []byte  // for a decompressed chunk
	bad       []int64 // offsets of damaged cursors with nothing sound behind yet
}

func (s *scan) run() error {
	s.buf, s.raw = make([]byte, 2*spill.MaxChunk), make([]byte, spill.MaxChunk)
	for {
		chunks, err := readChunks(s.f, s.buf, &s.off, s.candidate.seg.disk, s.cursor)
		switch {
		case errors.As(err, new(ioError)):
			return err
		case err == io.EOF || errors.Is(err, spill.ErrTorn):
			return nil
		case err != nil:
			return s.stray()
		}

		for len(chunks) > 0 {
			n, _ := spill.ChunkLen(chunks)
			if err := s.chunk(chunks[:n]); err != nil {
				return err
			}
			chunks = chunks[n:]
		}
	}
}

// cursor takes in a cursor. A damaged one is told only if something sound
// stands behind it: the last one may have been being written.
func (s *scan) cursor(off int64, b []byte) {
	if !s.candidate.takeCursor(b) {
		s.bad = append(s.bad, off)
		return
	}
	if c := s.candidate; !c.guessed {
		c.seg.size = off + cursorLen
	}
	s.sound()
}

// sound takes note of sound data behind damaged cursors.
func (s *scan) sound() {
	seg := s.candidate.seg
	for _, bad := range s.bad {
		seg.notices = append(seg.notices, notice{bad, errCursor})
	}
	s.bad = nil
}

// chunk takes in a whole chunk. One that fails its checksum is passed over.
func (s *scan) chunk(b []byte) error {
	c := s.candidate
	s.off += int64(len(b))
	p, err := spill.DecodeChunk(s.raw, b)
	if err != nil {
		return s.guess(s.off)
	}

	if c.damage != nil && c.seg.frames == 0 && p.Offset == 0 {
		c.seg.first, c.seg.end = p.First, p.First // the name may be another item's
	}
	if p.End() >= c.seg.end {
		s.sound()
		c.seg.size, c.seg.end, c.guessed = s.off, p.End(), false
		c.seg.frames += uint64(len(p.Frames))
	}
	return nil
}

// stray ends the scan where no chunk begins.
func (s *scan) stray() error {
	c := s.candidate
	ft, ok, err := readFooter(s.f, s.off)
	switch {
	case err != nil:
		return err
	case ok && ft.first == c.seg.first && ft.end == c.seg.end:
		c.sealed, c.junk = true, true
		return nil
	case c.seg.disk-s.off <= endLen(c.header.version):
		return nil // no more than that
	}
	return s.guess(s.off)
}

// guess takes an item to be there, the least that it can be, because of data
// that can't be understood, if something stands behind it. Not if that is the
// zeros that a crash of the machine leaves, nor in a file of which nothing can
// be understood.
func (s *scan) guess(behind int64) error {
	c := s.candidate
	if c.guessed || c.seg.end >= spill.MaxSeq || c.damage != nil && c.seg.end == c.seg.first {
		return nil
	}
	zeros, err := s.zeros(behind)
	if err != nil || zeros {
		return err
	}

	c.seg.size, c.seg.end, c.guessed = c.seg.disk, c.seg.end+1, true
	return nil
}

// zeros reports whether nothing but zeros stands from off on.
func (s *scan) zeros(off int64) (bool, error) {
	b := make([]byte, 4<<10)
	for size := s.candidate.seg.disk; off < size; off += int64(len(b)) {
		n, err := s.f.ReadAt(b[:min(int64(len(b)), size-off)], off)
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			return false, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return false, ioError{err}
		}
	}
	return true, nil
}

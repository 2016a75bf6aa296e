package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"example.com/hopper/spill"
)

// Chunk types of the snappy framing format that a segment uses beside those of
// its data, which package spill makes. All are of the skippable range 0x80 to
// 0xfd: other tools pass over them.
const (
	typeHeader = 0x80
	typeFooter = 0x81
	typeCursor = 0x82
)

// Versions of the format. A segment of version 2 may have cursors.
const (
	version1 = 1
	version2 = 2
)

const (
	streamID = "\xff\x06\x00\x00sNaPpY"
	magic    = "hopper"

	flagKept   = 1 // header flag: the items are to be left when the log closes
	flagCursor = 1 // footer flag: a cursor stands in front

	chunkHeaderLen = 4 // type, 24-bit length
	checksumLen    = 4 // at the end of a skippable chunk, at the start of the data of others
	maxLabel       = 16 << 10
)

// Lengths: of the body of a header, without the label; of a whole header, with
// the stream identifier; of a whole footer; and of a whole cursor.
const (
	headerFixedLen = 38
	maxHeaderLen   = 10 + chunkHeaderLen + headerFixedLen + maxLabel
	footerLen      = 40
	cursorLen      = 32
)

// endLen is the length of what ends a sealed segment, at most.
func endLen(version byte) int64 {
	if version == version1 {
		return footerLen
	}
	return cursorLen + footerLen
}

var (
	errNoHeader  = errors.New("no segment header")
	errBadHeader = errors.New("damaged segment header")
	errChecksum  = errors.New("checksum mismatch")
)

var le = binary.LittleEndian

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// A header says what a segment holds.
type header struct {
	version byte
	first   uint64 // number of the segment's first item
	follows uint64 // where the store ended before: items from there to first never were in it
	acked   uint64 // items below were done by then
	kept    bool
	label   string
}

// appendHeader appends a segment's header, with the stream identifier in front:
//
//	+-----------+------+----------+--------+---------+-------+
//	| stream id | 0x80 | len (24) | hopper | version | flags |
//	+-----------+------+----------+--------+---------+-------+
//	     10        1        3         6         1        1
//
//	+-------+---------+-------+-----------+-------+-----+
//	| first | follows | acked | label len | label | crc |
//	+-------+---------+-------+-----------+-------+-----+
//	    8        8        8         2         n      4
//
// The checksum covers everything from the magic to the label.
func appendHeader(dst []byte, h header) []byte {
	dst = append(dst, streamID...)
	start := len(dst)
	dst = append(dst, typeHeader, 0, 0, 0)

	flags := byte(0)
	if h.kept {
		flags = flagKept
	}
	dst = append(append(dst, magic...), h.version, flags)
	for _, n := range [...]uint64{h.first, h.follows, h.acked} {
		dst = le.AppendUint64(dst, n)
	}
	dst = append(le.AppendUint16(dst, uint16(len(h.label))), h.label...)

	return finishSkippable(dst, start)
}

// finishSkippable adds the checksum of the skippable chunk that begins at
// start, and fills in its length.
func finishSkippable(dst []byte, start int) []byte {
	body := start + chunkHeaderLen
	dst = le.AppendUint32(dst, spill.Checksum(dst[body:]))
	putUint24(dst[start+1:], len(dst)-body)
	return dst
}

// parseHeader reads a segment's header from the start of its file. n is its
// length, also where the header is damaged but its length is plausible; else 0.
func parseHeader(b []byte) (h header, n int, err error) {
	if len(b) < len(streamID)+chunkHeaderLen {
		return h, 0, spill.ErrTorn
	}
	if b[len(streamID)] != typeHeader {
		return h, 0, errNoHeader
	}

	body, n, err := skippable(b[len(streamID):], maxHeaderLen)
	n += len(streamID)
	if err != nil {
		return h, n, err
	}

	// A header of another version is sound, but may have any length.
	if !bytes.HasPrefix(body, []byte(magic)) || len(body) == len(magic) {
		return h, n, fmt.Errorf("%w: no %s segment", spill.ErrVersion, magic)
	}
	if h.version = body[len(magic)]; h.version != version1 && h.version != version2 {
		return h, n, fmt.Errorf("%w %d", spill.ErrVersion, h.version)
	}
	if !bytes.HasPrefix(b, []byte(streamID)) {
		return h, n, errBadHeader
	}
	err = h.parse(body)
	return h, n, err
}

// beginsHeader reports whether b, which is too short for a header, may be the
// beginning of one.
func beginsHeader(b []byte) bool {
	const begin = streamID + "\x80"
	n := min(len(b), len(begin))
	return string(b[:n]) == begin[:n]
}

func (h *header) parse(body []byte) error {
	if len(body) < headerFixedLen-checksumLen {
		return errBadHeader
	}

	flags, rest := body[len(magic)+1], body[len(magic)+2:]
	h.kept = flags&flagKept != 0
	h.first, h.follows, h.acked = le.Uint64(rest), le.Uint64(rest[8:]), le.Uint64(rest[16:])
	if max(h.first, h.follows, h.acked) >= spill.MaxSeq {
		return fmt.Errorf("%w: implausible item numbers", errBadHeader)
	}

	rest = rest[24:]
	if int(le.Uint16(rest)) != len(rest)-2 {
		return errBadHeader
	}
	h.label = string(rest[2:])
	return nil
}

// skippable returns the body, without its checksum, and the whole length of the
// skippable chunk that b begins with.
func skippable(b []byte, limit int) (body []byte, n int, err error) {
	size := uint24(b[1:])
	if size < checksumLen || size > limit {
		return nil, 0, errors.New("implausible chunk length")
	}

	n = chunkHeaderLen + size
	if n > len(b) {
		return nil, 0, spill.ErrTorn
	}
	body = b[chunkHeaderLen : n-checksumLen]
	if spill.Checksum(body) != le.Uint32(b[n-checksumLen:]) {
		return nil, n, errChecksum
	}
	return body, n, nil
}

// A footer ends a sealed segment; nothing stands behind it.
type footer struct {
	first, end uint64 // the segment holds the items [first, end)
	frames     uint64 // bytes of their frames, uncompressed
	cursor     bool   // a cursor stands in front
}

// appendFooter appends the footer:
//
//	+------+----------+--------+---------+-------+-------+-----+--------+-----+
//	| 0x81 | len (24) | hopper | version | flags | first | end | frames | crc |
//	+------+----------+--------+---------+-------+-------+-----+--------+-----+
//	   1        3         6         1        1       8      8      8       4
//
// The checksum covers everything from the magic to the number of frame bytes.
func appendFooter(dst []byte, f footer) []byte {
	start := len(dst)
	dst = append(dst, typeFooter, 0, 0, 0)

	flags := byte(0)
	if f.cursor {
		flags = flagCursor
	}
	dst = append(append(dst, magic...), version1, flags)
	for _, n := range [...]uint64{f.first, f.end, f.frames} {
		dst = le.AppendUint64(dst, n)
	}
	return finishSkippable(dst, start)
}

// parseFooter reads the footer that b consists of.
func parseFooter(b []byte) (f footer, ok bool) {
	if len(b) != footerLen || b[0] != typeFooter {
		return f, false
	}
	body, n, err := skippable(b, footerLen)
	if err != nil || n != footerLen {
		return f, false
	}
	if string(body[:len(magic)]) != magic || body[len(magic)] != version1 {
		return f, false
	}

	flags, rest := body[len(magic)+1], body[len(magic)+2:]
	f = footer{
		first: le.Uint64(rest), end: le.Uint64(rest[8:]), frames: le.Uint64(rest[16:]),
		cursor: flags&flagCursor != 0,
	}
	ok = f.first <= f.end && f.end <= spill.MaxSeq && f.frames <= math.MaxInt64
	return f, ok
}

// A cursor says that all items below acked are done. A segment has any number
// of them, between its data chunks and behind; the last one in front of the
// footer stands there once more, if there is one.
type cursor struct {
	first uint64 // as in the segment's header
	acked uint64
}

const cursorHeader = "\x82\x1c\x00\x00" // of the chunk: type and length

// appendCursor appends the cursor:
//
//	+------+----------+--------+---------+-------+-------+-------+-----+
//	| 0x82 | len (24) | hopper | version | flags | first | acked | crc |
//	+------+----------+--------+---------+-------+-------+-------+-----+
//	   1        3         6         1        1       8       8      4
//
// The checksum covers everything from the magic to the acknowledged number.
func appendCursor(dst []byte, c cursor) []byte {
	start := len(dst)
	dst = append(dst, typeCursor, 0, 0, 0)
	dst = append(append(dst, magic...), version2, 0)
	dst = le.AppendUint64(le.AppendUint64(dst, c.first), c.acked)
	return finishSkippable(dst, start)
}

// parseCursor reads the cursor that b begins with. is says that there is one,
// ok that it is sound. Where the header of the chunk is damaged its body tells,
// so that a cursor never costs the items behind it.
func parseCursor(b []byte) (c cursor, is, ok bool) {
	if len(b) < cursorLen {
		return c, false, false
	}

	is = string(b[:chunkHeaderLen]) == cursorHeader
	body := b[chunkHeaderLen : cursorLen-checksumLen]
	ok = string(body[:len(magic)]) == magic && body[len(magic)] == version2 &&
		spill.Checksum(body) == le.Uint32(b[cursorLen-checksumLen:cursorLen])
	if !ok {
		return c, is, false
	}

	c = cursor{first: le.Uint64(body[8:]), acked: le.Uint64(body[16:])}
	return c, true, c.acked < spill.MaxSeq
}

// tornCursor reports whether b, which is too short for a cursor, may be the
// beginning of one.
func tornCursor(b []byte) bool {
	return len(b) >= chunkHeaderLen && len(b) < cursorLen &&
		string(b[:chunkHeaderLen]) == cursorHeader
}

// The names of files. Numbers have seqDigits digits, so that names sort as
// numbers do.
const (
	seqDigits = 20

	segmentExt  = ".sz"
	receiptExt  = ".ack"
	openedExt   = ".opened"
	retainedExt = ".retained"

	probeName = "hopper.probe"
	lockName  = "hopper.lock"
)

var errNumber = errors.New("item numbers from 1<<63 on are not used")

func segmentName(first uint64) string { return fmt.Sprintf("%0*d%s", seqDigits, first, segmentExt) }

// retainedName returns the name of the mark beside the segment of that name or
// path.
func retainedName(path string) string {
	return strings.TrimSuffix(filepath.Base(path), segmentExt) + retainedExt
}

// A receipt says that at a clean stop exactly the items [next, end) were left,
// all of them in segments. It is an empty file whose name is its content, so
// that there is no half-written one. An equal name with another extension says
// that a store has been opened since, so that it still vouches for its items,
// but not for a clean stop.
type receipt struct{ next, end uint64 }

func (r receipt) name() string { return r.base() + receiptExt }

func (r receipt) openedName() string { return r.base() + openedExt }

func (r receipt) base() string {
	return fmt.Sprintf("%0*d-%0*d", seqDigits, r.next, seqDigits, r.end)
}

// covers reports whether the receipt vouches for any of the items [first, end).
func (r receipt) covers(first, end uint64) bool { return end > r.next && first < r.end }

// parseName returns what a name says: by its extension, which is empty if a
// store gives no such names, and in its numbers, which are equal if there is
// only one. The error says that nobody gives such numbers.
func parseName(name string) (ext string, numbers receipt, err error) {
	ext = filepath.Ext(name)
	from := strings.TrimSuffix(name, ext)
	to, limit := from, uint64(spill.MaxSeq-1)

	switch ext {
	case segmentExt, retainedExt:
	case receiptExt, openedExt:
		from, to, _ = strings.Cut(from, "-")
		limit = spill.MaxSeq
	default:
		return "", receipt{}, nil
	}
	if !isSeq(from) || !isSeq(to) {
		return "", receipt{}, nil
	}

	next, err1 := strconv.ParseUint(from, 10, 64)
	end, err2 := strconv.ParseUint(to, 10, 64)
	switch {
	case err1 != nil || err2 != nil || max(next, end) > limit:
		return ext, receipt{}, errNumber
	case next > end:
		return "", receipt{}, nil
	}
	return ext, receipt{next, end}, nil
}

func isSeq(digits string) bool {
	return len(digits) == seqDigits && strings.Trim(digits, "0123456789") == ""
}

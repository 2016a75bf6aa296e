package spill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/golang/snappy"
)

// Chunk types of the snappy framing format that a segment uses.
const (
	typeCompressed   = 0x00
	typeUncompressed = 0x01
	typeHeader       = 0x80 // of the skippable range 0x80–0xfd: other tools pass over it
	typeFooter       = 0x81
)

const (
	streamID = "\xff\x06\x00\x00sNaPpY"
	magic    = "hopper"
	version  = 1

	chunkHeaderLen   = 4        // type, 24-bit length
	checksumLen      = 4        // in front of the data of types 0 and 1
	maxPayload       = 64 << 10 // of one data chunk, uncompressed; the framing format's limit
	payloadHeaderLen = 24       // see appendChunk
	maxFrames        = maxPayload - payloadHeaderLen
	maxLabel         = 16 << 10
	headerFixedLen   = len(magic) + 2 + 3*8 + 2 + 4
	maxHeaderLen     = len(streamID) + chunkHeaderLen + headerFixedLen + maxLabel
	footerLen        = 40 // see appendFooter
	flagKept         = 1  // header flag: the backlog is to be kept when the log closes
)

var maxChunk = chunkHeaderLen + checksumLen + snappy.MaxEncodedLen(maxPayload)

var (
	errTorn     = errors.New("data ends in the middle of a chunk")
	errStray    = errors.New("no chunk where one should stand")
	errChecksum = errors.New("checksum mismatch")
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the framing format's masked CRC-32C (framing_format.txt, section 3).
func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// A header says what a segment holds. It stands behind the stream identifier:
//
//	+------+----------+--------+---------+-------+-------+---------+-------+-----------+-------+-----+
//	| 0x80 | len (24) | hopper | version | flags | first | follows | acked | label len | label | crc |
//	+------+----------+--------+---------+-------+-------+---------+-------+-----------+-------+-----+
//	   1        3         6         1        1       8        8        8         2        n       4
//
// The checksum covers everything from the magic to the label.
type header struct {
	first   uint64 // sequence number of the segment's first item; the file's name repeats it
	follows uint64 // where the log ended when the segment was begun: items from there to first never were in the log
	acked   uint64 // items below were delivered by then
	kept    bool
	label   string
}

func appendHeader(dst []byte, h header) []byte {
	dst = append(dst, streamID...)
	start := len(dst)
	dst = append(dst, typeHeader, 0, 0, 0)
	var flags byte
	if h.kept {
		flags = flagKept
	}
	dst = append(append(dst, magic...), version, flags)
	for _, n := range [...]uint64{h.first, h.follows, h.acked} {
		dst = le.AppendUint64(dst, n)
	}
	dst = append(le.AppendUint16(dst, uint16(len(h.label))), h.label...)
	return finishSkippable(dst, start)
}

// finishSkippable adds the checksum of the skippable chunk that begins at start and fills in its length.
func finishSkippable(dst []byte, start int) []byte {
	body := start + chunkHeaderLen
	dst = le.AppendUint32(dst, checksum(dst[body:]))
	putUint24(dst[start+1:], len(dst)-body)
	return dst
}

// parseHeader reads a segment's header from the start of its file. n is its length, also
// where the header is damaged but its length is plausible; else 0.
func parseHeader(b []byte) (h header, n int, err error) {
	if len(b) < len(streamID)+chunkHeaderLen {
		return h, 0, errTorn
	}
	if b[len(streamID)] != typeHeader {
		return h, 0, errors.New("no segment header")
	}
	body, n, err := skippable(b[len(streamID):], maxHeaderLen)
	if n += len(streamID); err != nil {
		return h, n, err
	}
	if !bytes.HasPrefix(body, []byte(magic)) || len(body) == len(magic) {
		return h, n, fmt.Errorf("%w: no %s segment", ErrVersion, magic)
	}
	if v := body[len(magic)]; v != version {
		return h, n, fmt.Errorf("%w %d", ErrVersion, v)
	}
	if len(body) < headerFixedLen-checksumLen || !bytes.HasPrefix(b, []byte(streamID)) {
		return h, n, errors.New("damaged segment header")
	}
	flags, rest := body[len(magic)+1], body[len(magic)+2:]
	h.kept = flags&flagKept != 0
	h.first, h.follows, h.acked = le.Uint64(rest), le.Uint64(rest[8:]), le.Uint64(rest[16:])
	if rest = rest[24:]; int(le.Uint16(rest)) != len(rest)-2 {
		return h, n, errors.New("damaged segment header")
	}
	h.label = string(rest[2:])
	return h, n, nil
}

// skippable returns the body, without its checksum, and the whole length of the skippable chunk that b begins with.
func skippable(b []byte, limit int) (body []byte, n int, err error) {
	size := uint24(b[1:])
	if size < checksumLen || size > limit {
		return nil, 0, errors.New("implausible chunk length")
	}
	if n = chunkHeaderLen + size; n > len(b) {
		return nil, 0, errTorn
	}
	body = b[chunkHeaderLen : n-checksumLen]
	if checksum(body) != le.Uint32(b[n-checksumLen:]) {
		return nil, n, errChecksum
	}
	return body, n, nil
}

// A footer ends a sealed segment; nothing stands behind it.
//
//	+------+----------+--------+---------+-------+-------+-----+-------------+-----+
//	| 0x81 | len (24) | hopper | version | flags | first | end | frame bytes | crc |
//	+------+----------+--------+---------+-------+-------+-----+-------------+-----+
//	   1        3         6         1        1       8      8         8         4
type footer struct {
	first, end uint64 // the segment holds the items [first, end)
	frames     uint64 // bytes of their frames, uncompressed
}

func appendFooter(dst []byte, f footer) []byte {
	start := len(dst)
	dst = append(dst, typeFooter, 0, 0, 0)
	dst = append(append(dst, magic...), version, 0)
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
	if err != nil || n != footerLen || string(body[:len(magic)]) != magic || body[len(magic)] != version {
		return f, false
	}
	rest := body[len(magic)+2:]
	f = footer{le.Uint64(rest), le.Uint64(rest[8:]), le.Uint64(rest[16:])}
	return f, f.first <= f.end
}

// A payload is what a data chunk holds once it is decompressed:
//
//	+-------+--------+-------+-----+--------------+
//	| first | offset | count | tag | frames       |
//	+-------+--------+-------+-----+--------------+
//	    8       8        4      4     at most 65512
//
// A frame is a uvarint length and as many bytes. An item whose frame exceeds a chunk has
// its frame run over several chunks, which it shares with no other item: all carry its
// sequence number as first, offset counts the bytes of the frame in the chunks before, and
// the last one has count 1, the others 0.
type payload struct {
	first  uint64 // sequence number of the item that the first frame belongs to
	offset uint64 // bytes of that frame in earlier chunks
	count  uint32 // items that end in this chunk
	tag    uint32 // checksum of the label, so that each chunk tells what it holds
	frames []byte
}

func (p payload) end() uint64 { return p.first + uint64(p.count) }

func putPayloadHeader(b []byte, p payload) {
	le.PutUint64(b, p.first)
	le.PutUint64(b[8:], p.offset)
	le.PutUint32(b[16:], p.count)
	le.PutUint32(b[20:], p.tag)
}

// appendChunk appends the data chunk for raw, a payload with its header. Data that
// snappy can't shrink by an eighth is stored as it is, which is faster to read; so is all that is to be plain.
func appendChunk(dst, raw []byte, plain bool) []byte {
	start := len(dst)
	data := start + chunkHeaderLen + checksumLen
	dst = grow(dst, data-start+snappy.MaxEncodedLen(len(raw)))[:data]
	if !plain {
		if n := len(snappy.Encode(dst[data:cap(dst)], raw)); n <= len(raw)-len(raw)/8 {
			dst = dst[:data+n]
			putChunkHeader(dst[start:], typeCompressed, checksum(raw))
			return dst
		}
	}
	dst = append(dst, raw...)
	putChunkHeader(dst[start:], typeUncompressed, checksum(raw))
	return dst
}

// putChunkHeader fills in the header of the data chunk b.
func putChunkHeader(b []byte, kind byte, sum uint32) {
	b[0] = kind
	putUint24(b[1:], len(b)-chunkHeaderLen)
	le.PutUint32(b[chunkHeaderLen:], sum)
}

// grow returns dst with room for n more bytes.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, 2*cap(dst)+n), dst...)
}

// chunkLen returns the whole length of the data chunk whose first bytes are b, or an error
// if that can't be the beginning of one: then nothing behind it can be found either.
func chunkLen(b []byte) (int, error) {
	if len(b) < chunkHeaderLen {
		return 0, errTorn
	}
	n := chunkHeaderLen + uint24(b[1:])
	switch {
	case b[0] != typeCompressed && b[0] != typeUncompressed:
		return 0, fmt.Errorf("%w: type 0x%02x", errStray, b[0])
	case n <= chunkHeaderLen+checksumLen, n > maxChunk:
		return 0, fmt.Errorf("%w: implausible length %d", errStray, n)
	}
	return n, nil
}

// decodeChunk decompresses the data chunk b into buf, which has room for maxPayload bytes,
// and checks everything about it. The payload's frames share buf.
func decodeChunk(buf, b []byte) (payload, error) {
	want, data := le.Uint32(b[chunkHeaderLen:]), b[chunkHeaderLen+checksumLen:]
	size := len(data)
	if b[0] == typeCompressed {
		var err error
		if size, err = snappy.DecodedLen(data); err != nil {
			return payload{}, err
		}
	}
	if size > maxPayload || size < payloadHeaderLen {
		return payload{}, fmt.Errorf("implausible payload of %d bytes", size)
	}
	raw := buf[:size]
	if b[0] == typeUncompressed {
		copy(raw, data)
	} else if _, err := snappy.Decode(raw, data); err != nil {
		return payload{}, err
	}
	if checksum(raw) != want {
		return payload{}, errChecksum
	}
	return parsePayload(raw)
}

func parsePayload(raw []byte) (payload, error) {
	p := payload{
		first: le.Uint64(raw), offset: le.Uint64(raw[8:]),
		count: le.Uint32(raw[16:]), tag: le.Uint32(raw[20:]),
		frames: raw[payloadHeaderLen:],
	}
	if p.end() < p.first {
		return p, errors.New("sequence numbers overflow")
	}
	if p.offset == 0 && p.count > 0 {
		return p, checkFrames(p.frames, int(p.count))
	}
	if len(p.frames) == 0 || p.count > 1 {
		return p, errors.New("malformed part of an item")
	}
	return p, nil
}

// checkFrames reports whether b consists of exactly count frames.
func checkFrames(b []byte, count int) error {
	for range count {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errors.New("malformed frame")
		}
		b = b[n+int(size):]
	}
	if len(b) != 0 {
		return errors.New("more frames than counted")
	}
	return nil
}

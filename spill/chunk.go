package spill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"github.com/golang/snappy"
)

// Chunk types of the snappy framing format (framing_format.txt, section 4).
const (
	typeCompressed   = 0x00
	typeUncompressed = 0x01
)

const (
	chunkHeaderLen   = 4        // type, 24-bit length
	checksumLen      = 4        // in front of the data of types 0 and 1
	maxPayload       = 64 << 10 // of one chunk, uncompressed; the framing format's limit
	payloadHeaderLen = 24       // see Payload
	maxFrames        = maxPayload - payloadHeaderLen
)

// MaxChunk is the length of the longest chunk, in bytes: its headers, and what
// snappy.MaxEncodedLen says of the largest payload.
const MaxChunk = chunkHeaderLen + checksumLen + 32 + maxPayload + maxPayload/6

var (
	// ErrTorn says that data ends in the middle of a chunk.
	ErrTorn = errors.New("data ends in the middle of a chunk")

	// ErrStray says that there is no chunk where one should begin, so that
	// nothing behind can be found either.
	ErrStray = errors.New("no chunk where one should begin")

	errChecksum = errors.New("checksum mismatch")
	errTag      = errors.New("chunk of another type or codec")
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the masked CRC-32C of the snappy framing format
// (framing_format.txt, section 3).
func Checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// A Payload is what a chunk holds once it is decompressed:
//
//	+-------+--------+-------+-----+--------------+
//	| first | offset | count | tag | frames       |
//	+-------+--------+-------+-----+--------------+
//	    8       8        4      4     at most 65512
//
// A frame is a uvarint length and as many bytes. The overlong length 80 00 is
// the placeholder of an item that was parked in memory. An item whose frame
// exceeds a chunk has it run over several chunks, which it shares with no other
// item: all carry its number as First, Offset counts the bytes of the frame in
// the chunks before, and the last one has Count 1, the others 0.
type Payload struct {
	First  uint64 // number of the item that the first frame belongs to
	Offset uint64 // bytes of that frame in earlier chunks
	Count  uint32 // items that end in this chunk
	Tag    uint32 // checksum of the label, so that each chunk tells what it holds
	Frames []byte
}

// End returns the number behind the last item that ends in the chunk.
func (p Payload) End() uint64 { return p.First + uint64(p.Count) }

// whole reports whether the payload consists of whole items.
func (p Payload) whole() bool { return p.Count > 0 && p.Offset == 0 }

func putPayloadHeader(b []byte, p Payload) {
	le.PutUint64(b, p.First)
	le.PutUint64(b[8:], p.Offset)
	le.PutUint32(b[16:], p.Count)
	le.PutUint32(b[20:], p.Tag)
}

// payloads yields the payloads that a batch's buffer makes, each valid until
// the next. The frames stand in buf behind room for the headers of a chunk.
func payloads(buf []byte, first uint64, items int, tag uint32) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(buf) <= maxBuf {
			raw := buf[payloadAt:]
			putPayloadHeader(raw, Payload{First: first, Count: uint32(items), Tag: tag})
			yield(raw)
			return
		}

		frame, raw := buf[framesAt:], make([]byte, maxPayload)
		for at := 0; at < len(frame); at += maxFrames {
			n := copy(raw[payloadHeaderLen:], frame[at:])
			p := Payload{First: first, Offset: uint64(at), Tag: tag}
			if at+n == len(frame) {
				p.Count = 1
			}

			putPayloadHeader(raw, p)
			if !yield(raw[:payloadHeaderLen+n]) {
				return
			}
		}
	}
}

// appendChunk appends the chunk for raw, a payload with its header. Data that
// snappy can't shrink by an eighth is stored as it is, which is faster to read;
// so is all that is to be plain.
func appendChunk(dst, raw []byte, plain bool) []byte {
	start := len(dst)
	data := start + chunkHeaderLen + checksumLen
	dst = grow(dst, data-start+snappy.MaxEncodedLen(len(raw)))[:data]

	if !plain {
		if n := len(snappy.Encode(dst[data:cap(dst)], raw)); n <= len(raw)-len(raw)/8 {
			dst = dst[:data+n]
			putChunkHeader(dst[start:], typeCompressed, Checksum(raw))
			return dst
		}
	}

	dst = append(dst, raw...)
	putChunkHeader(dst[start:], typeUncompressed, Checksum(raw))
	return dst
}

// putChunkHeader fills in the header of the chunk b.
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

// ChunkLen returns the length of the chunk whose first bytes are b, of which
// four are enough. The error is [ErrTorn] or matches [ErrStray].
func ChunkLen(b []byte) (int, error) {
	if len(b) < chunkHeaderLen {
		return 0, ErrTorn
	}

	n := chunkHeaderLen + uint24(b[1:])
	switch {
	case b[0] != typeCompressed && b[0] != typeUncompressed:
		return 0, fmt.Errorf("%w: type 0x%02x", ErrStray, b[0])
	case n <= chunkHeaderLen+checksumLen, n > MaxChunk:
		return 0, fmt.Errorf("%w: implausible length %d", ErrStray, n)
	}
	return n, nil
}

// DecodeChunk decompresses a chunk, of the length that [ChunkLen] says, into
// buf, which has room for 64 KiB, and checks everything about it. The payload's
// frames share buf.
func DecodeChunk(buf, chunk []byte) (Payload, error) {
	want, data := le.Uint32(chunk[chunkHeaderLen:]), chunk[chunkHeaderLen+checksumLen:]

	size := len(data)
	if chunk[0] == typeCompressed {
		var err error
		if size, err = snappy.DecodedLen(data); err != nil {
			return Payload{}, err
		}
	}
	if size > maxPayload || size < payloadHeaderLen {
		return Payload{}, fmt.Errorf("implausible payload of %d bytes", size)
	}

	raw := buf[:size]
	if chunk[0] == typeUncompressed {
		copy(raw, data)
	} else if _, err := snappy.Decode(raw, data); err != nil {
		return Payload{}, err
	}
	if Checksum(raw) != want {
		return Payload{}, errChecksum
	}
	return parsePayload(raw)
}

func parsePayload(raw []byte) (Payload, error) {
	p := Payload{
		First: le.Uint64(raw), Offset: le.Uint64(raw[8:]),
		Count: le.Uint32(raw[16:]), Tag: le.Uint32(raw[20:]),
		Frames: raw[payloadHeaderLen:],
	}

	if p.First >= MaxSeq || p.End() > MaxSeq {
		return p, fmt.Errorf("implausible item number %d", p.First)
	}
	if p.whole() {
		return p, checkFrames(p.Frames, int(p.Count))
	}
	if len(p.Frames) == 0 || p.Count > 1 {
		return p, errors.New("malformed part of an item")
	}
	return p, nil
}

// MaxSeq bounds the numbers of items: they lie below it.
const MaxSeq = 1 << 63

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

// placeholder is the frame of an item that is parked in memory: the length 0
// in two bytes, where an empty item has it in one.
var placeholder = []byte{0x80, 0x00}

func appendFrame(dst, item []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(item))), item...)
}

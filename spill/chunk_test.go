package spill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
)

const testLabel = "bytes"

var testTag = Checksum([]byte(testLabel))

const goldenCompressed = "" +
	"\x00\x1e\x00\x00" + // compressed data chunk of 30 bytes
	"\x02\x74\x08\x88" + // masked CRC-32C of the payload
	"\x22" + // 34 bytes uncompressed
	"\x04" + "\x2a\x00" + // literal of 2 bytes: the first item is 42, …
	"\x36\x01\x00" + // copy of 14 bytes from 1 byte before: … and begins here
	"\x44" + // literal of 18 bytes
	"\x03\x00\x00\x00" + // 3 items
	"\xb5\x8b\xa8\xdb" + // tag: checksum of the label
	"\x05" + "hello" + // frames
	"\x00" +
	"\x02" + "hi"

const goldenUncompressed = "" +
	"\x01\x26\x00\x00" + // uncompressed data chunk of 38 bytes
	"\x02\x74\x08\x88" + // masked CRC-32C of the payload
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // payload: its first item is 42
	"\x00\x00\x00\x00\x00\x00\x00\x00" + // which begins here
	"\x03\x00\x00\x00" + // 3 items
	"\xb5\x8b\xa8\xdb" + // tag: checksum of the label
	"\x05" + "hello" + // frames
	"\x00" +
	"\x02" + "hi"

const goldenParked = "" +
	"\x01\x1f\x00\x00" + // uncompressed data chunk of 31 bytes
	"\xf4\xf0\xf8\x34" + // masked CRC-32C of the payload
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // payload: its first item is 42
	"\x00\x00\x00\x00\x00\x00\x00\x00" + // which begins here
	"\x02\x00\x00\x00" + // 2 items
	"\xb5\x8b\xa8\xdb" + // tag: checksum of the label
	"\x80\x00" + // the placeholder of an item that was parked
	"\x00" // an empty item

// goldenParts are the chunks of an item of 65,512 times the letter x, whose
// frame is 3 bytes too long for one.
var goldenParts = []string{
	"\x00\x16\x0c\x00" + // compressed data chunk of 3,094 bytes
		"\x64\xf0\xa6\x3b" + // masked CRC-32C of the payload
		"\x80\x80\x04" + // 65,536 bytes uncompressed
		"\x04" + "\x2a\x00" + // literal of 2 bytes: the first item is 42, …
		"\x46\x01\x00" + // copy of 18 bytes from 1 byte before: … it begins here, none ends
		"\x1c" + // literal of 8 bytes
		"\xb5\x8b\xa8\xdb" + // tag: checksum of the label
		"\xe8\xff\x03" + "x" + // the frame: its length, 65,512, …
		strings.Repeat("\xfe\x01\x00", 1023) + // copies of 64 bytes from 1 byte before, …
		"\x8e\x01\x00", // and one of 36

	"\x00\x1b\x00\x00" + // compressed data chunk of 27 bytes
		"\x6f\x85\xa3\xdb" + // masked CRC-32C of the payload
		"\x1b" + // 27 bytes uncompressed
		"\x04" + "\x2a\x00" + // literal of 2 bytes: the first item is 42, …
		"\x09\x01" + // copy of 6 bytes from 1 byte before
		"\x04" + "\xe8\xff" + // literal of 2 bytes: 65,512 bytes of its frame came before
		"\x09\x08" + // copy of 6 bytes from 8 bytes before
		"\x28" + // literal of 11 bytes
		"\x01\x00\x00\x00" + // 1 item ends here
		"\xb5\x8b\xa8\xdb" + // tag: checksum of the label
		"xxx", // the rest of the frame
}

// chunksOf returns a batch's chunks.
func chunksOf(b *Batch) (chunks [][]byte) {
	for chunk := range b.Chunks {
		chunks = append(chunks, bytes.Clone(chunk))
	}
	return chunks
}

// rawPayload returns a payload with its header.
func rawPayload(p Payload) []byte {
	raw := make([]byte, payloadHeaderLen)
	putPayloadHeader(raw, p)
	return append(raw, p.Frames...)
}

// chunkOf returns the chunk of a payload, with a right checksum whatever the
// payload holds.
func chunkOf(p Payload, plain bool) []byte { return appendChunk(nil, rawPayload(p), plain) }

func framesOf(items ...[]byte) (frames []byte) {
	for _, item := range items {
		frames = appendFrame(frames, item)
	}
	return frames
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func goldenPayload() Payload {
	return Payload{
		First: 42, Count: 3, Tag: testTag,
		Frames: framesOf([]byte("hello"), nil, []byte("hi")),
	}
}

func TestChunksHaveTheDocumentedBytes(t *testing.T) {
	hello := NewBatch(testLabel, 42, []byte("hello"), nil, []byte("hi"))
	large := NewBatch(testLabel, 42, bytes.Repeat([]byte("x"), 65512))
	parked := Payload{First: 42, Count: 2, Tag: testTag, Frames: []byte{0x80, 0, 0}}

	for _, tt := range []struct {
		name string
		got  [][]byte
		want []string
	}{
		{"compressed", chunksOf(hello), []string{goldenCompressed}},
		{"uncompressed", [][]byte{chunkOf(goldenPayload(), true)}, []string{goldenUncompressed}},
		{"a parked and an empty item", [][]byte{chunkOf(parked, true)}, []string{goldenParked}},
		{"the parts of a large item", chunksOf(large), goldenParts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, chunk := range tt.got {
				got = append(got, string(chunk))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("chunks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheDocumentedBytesAreUnderstood(t *testing.T) {
	x := strings.Repeat("x", maxFrames)
	for _, tt := range []struct {
		name, chunk string
		want        Payload
	}{
		{"compressed", goldenCompressed, goldenPayload()},
		{"uncompressed", goldenUncompressed, goldenPayload()},
		{"a parked and an empty item", goldenParked,
			Payload{42, 0, 2, testTag, []byte{0x80, 0, 0}}},
		{"the first part", goldenParts[0],
			Payload{42, 0, 0, testTag, []byte("\xe8\xff\x03" + x[3:])}},
		{"the last part", goldenParts[1], Payload{42, maxFrames, 1, testTag, []byte("xxx")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n, err := ChunkLen([]byte(tt.chunk)); n != len(tt.chunk) || err != nil {
				t.Errorf("ChunkLen: %d, %v, want %d", n, err, len(tt.chunk))
			}

			p, err := DecodeChunk(make([]byte, maxPayload), []byte(tt.chunk))
			if diff := cmp.Diff(tt.want, p); err != nil || diff != "" {
				t.Errorf("payload %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestChunksAreAStreamThatSnappyReads(t *testing.T) {
	var stream, want []byte
	stream = append(stream, "\xff\x06\x00\x00sNaPpY"...)

	for i, item := range [][]byte{
		[]byte("hello"), nil, randomBytes(1, 100), randomBytes(2,
			65500), bytes.Repeat([]byte("ab"), 99_999),
		randomBytes(3, 200_000),
	} {
		b := NewBatch(testLabel, uint64(i), item)
		for _, chunk := range chunksOf(b) {
			p, err := DecodeChunk(make([]byte, maxPayload), chunk)
			if err != nil {
				t.Fatal(err)
			}
			stream, want = append(stream, chunk...), append(want, rawPayload(p)...)
		}
	}

	got, err := io.ReadAll(snappy.NewReader(bytes.NewReader(stream)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("snappy.Reader: %v, %d bytes, want %d", err, len(got), len(want))
	}
}

// boundarySizes are the sizes of items at which something changes, and those
// around them.
func boundarySizes() (sizes []int) {
	for _, n := range []int{
		0, 1, 127, 128, 16383, 16384, // where the length takes another byte
		maxFrames - 3, maxFrames, maxPayload, maxBuf, bufSize, // of a chunk, and of a buffer
		2*maxFrames - 3, 2 * maxFrames, 3*maxFrames - 3,
		1 << 20,
	} {
		for size := max(n-1, 0); size <= n+1; size++ {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

func TestItemsOfEverySizeAroundTheBoundariesComeBack(t *testing.T) {
	for _, size := range boundarySizes() {
		for name, item := range map[string][]byte{
			"random": randomBytes(byte(size), size), "compressible": bytes.Repeat([]byte("x"),
				size),
		} {
			b := NewBatch(testLabel, 7, item)
			if got, want := b.FrameBytes(), int64(len(framesOf(item))); got != want {
				t.Errorf("%d %s bytes: FrameBytes is %d, want %d", size, name, got, want)
			}

			chunks := chunksOf(b)
			if want := max(1, (len(framesOf(item))+maxFrames-1)/maxFrames); len(chunks) != want {
				t.Errorf("%d %s bytes: %d chunks, want %d", size, name, len(chunks), want)
			}
			checkParts(t, fmt.Sprint(size, " ", name, " bytes"), chunks, item)
		}
	}
}

// checkParts checks the chunks of item 7.
func checkParts(t *testing.T, name string, chunks [][]byte, item []byte) {
	t.Helper()
	var frame []byte
	for i, chunk := range chunks {
		if n, err := ChunkLen(chunk); n != len(chunk) || err != nil || n > MaxChunk {
			t.Fatalf("%s: chunk %d of %d bytes: ChunkLen %d, %v", name, i, len(chunk), n, err)
		}
		p, err := DecodeChunk(make([]byte, maxPayload), chunk)
		if err != nil {
			t.Fatalf("%s: chunk %d: %v", name, i, err)
		}

		want := Payload{First: 7, Offset: uint64(len(frame)), Tag: testTag}
		if i == len(chunks)-1 {
			want.Count = 1
		}
		frame = append(frame, p.Frames...)
		p.Frames = nil
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("%s: chunk %d (-want +got):\n%s", name, i, diff)
		}
	}

	if !bytes.Equal(frame, framesOf(item)) {
		t.Errorf("%s: %d bytes of frame come back, want %d", name, len(frame), len(framesOf(item)))
	}
}

func TestWhatCanNotBeShrunkByAnEighthIsStoredAsItIs(t *testing.T) {
	// The payload's header shrinks by a few bytes of its 24, so that items of
	// random bytes are stored as they are from some length on.
	const size = 4000
	for _, tt := range []struct {
		zeros int
		plain bool
		want  byte
	}{
		{0, false, typeUncompressed},
		{size / 10, false, typeUncompressed},
		{size / 7, false, typeCompressed},
		{size, false, typeCompressed},
		{size, true, typeUncompressed},
	} {
		item := append(randomBytes(1, size-tt.zeros), make([]byte, tt.zeros)...)
		chunk := chunkOf(Payload{Count: 1, Frames: framesOf(item)}, tt.plain)
		if chunk[0] != tt.want {
			t.Errorf("%d zeros of %d bytes, plain %v: chunk type %d, want %d",
				tt.zeros, size, tt.plain, chunk[0], tt.want)
		}
	}

	// To the byte: what has shrunk by just an eighth is compressed.
	raw := rawPayload(Payload{Count: 1, Frames: framesOf(randomBytes(1, size))})
	for n := range 2 * size {
		raw := append(slices.Clone(raw), make([]byte, n)...)
		packed := len(snappy.Encode(nil, raw))
		want := byte(typeUncompressed)
		if packed <= len(raw)-len(raw)/8 {
			want = typeCompressed
		}
		if got := appendChunk(nil, raw, false); got[0] != want {
			t.Fatalf("%d bytes that shrink to %d: chunk type %d, want %d", len(raw), packed,
				got[0], want)
		}
		if want == typeCompressed {
			return
		}
	}
	t.Error("nothing was compressed")
}

func TestAChunkIsAppendedToWhatIsThere(t *testing.T) {
	before := strings.Repeat("before", 40)
	for _, room := range []int{0, 10, 50, 500} {
		dst := append(make([]byte, 0, len(before)+room), before...)
		got := appendChunk(dst, rawPayload(goldenPayload()), false)
		if diff := cmp.Diff(before+goldenCompressed, string(got)); diff != "" {
			t.Errorf("with room for %d bytes (-want +got):\n%s", room, diff)
		}
	}

	raw := rawPayload(goldenPayload())
	dst := make([]byte, 0, chunkHeaderLen+checksumLen+snappy.MaxEncodedLen(len(raw)))
	if got := appendChunk(dst, raw, false); &got[0] != &dst[:1][0] {
		t.Error("a buffer with room enough was replaced")
	}
}

func TestTheLongestChunkFitsIntoMaxChunkAndABuffer(t *testing.T) {
	if got := chunkHeaderLen + checksumLen + snappy.MaxEncodedLen(maxPayload); got != MaxChunk {
		t.Errorf("the longest chunk has %d bytes, MaxChunk is %d", got, MaxChunk)
	}
	if MaxChunk > bufSize {
		t.Errorf("MaxChunk is %d, a buffer has %d bytes", MaxChunk, bufSize)
	}
}

func TestAPlaceholderIsNotAnEmptyItem(t *testing.T) {
	type item struct {
		Item   string
		Parked bool
	}
	large := randomBytes(1, 300)
	frames := slices.Concat(placeholder, framesOf(nil, []byte("x")), placeholder, framesOf(large))

	want := []item{{"", true}, {"", false}, {"x", false}, {"", true}, {string(large), false}}
	r := loaded{run: run{items: len(want), buf: append(make([]byte, framesAt), frames...)}}

	var got []item
	for c := r.cursor(); c.Left > 0; c.Advance() {
		b, parked := c.Item()
		got = append(got, item{string(b), parked})
		if cap(b) != len(b) {
			t.Errorf("who appends to the item %.10q overwrites the next", b)
		}
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

func TestEverySingleBitFlipOfAChunkIsDetectedOrHarmless(t *testing.T) {
	for name, chunk := range map[string]string{
		"compressed": goldenCompressed, "uncompressed": goldenUncompressed, "parked": goldenParked,
		"last part": goldenParts[1],
	} {
		t.Run(name, func(t *testing.T) {
			buf := make([]byte, maxPayload)
			want, err := DecodeChunk(make([]byte, maxPayload), []byte(chunk))
			if err != nil {
				t.Fatal(err)
			}

			for bit := range len(chunk) * 8 {
				damaged := []byte(chunk)
				damaged[bit/8] ^= 1 << (bit % 8)
				n, err := ChunkLen(damaged)
				if err != nil || n > len(damaged) {
					continue
				}
				got, err := DecodeChunk(buf, damaged[:n])
				if err == nil && !cmp.Equal(want, got) {
					t.Errorf("bit %d: %+v, want %+v or an error", bit, got, want)
				}
			}
		})
	}
}

func TestEveryTruncationOfAChunkIsDetected(t *testing.T) {
	for n := range len(goldenCompressed) {
		size, err := ChunkLen([]byte(goldenCompressed[:n]))
		switch {
		case n < chunkHeaderLen && err != ErrTorn:
			t.Errorf("ChunkLen of %d bytes: %v, want ErrTorn", n, err)
		case n >= chunkHeaderLen && (err != nil || size <= n):
			t.Errorf("ChunkLen of %d bytes of %d: %d, %v", n, len(goldenCompressed), size, err)
		}
	}
}

func header(kind byte, n int) []byte {
	b := []byte{kind, 0, 0, 0}
	putUint24(b[1:], n)
	return b
}

func TestOnlyPlausibleLengthsAreTakenForThoseOfChunks(t *testing.T) {
	const longest = MaxChunk - chunkHeaderLen
	for _, tt := range []struct {
		name  string
		chunk []byte
		want  int
		err   error
	}{
		{"a byte of data", header(typeCompressed, checksumLen+1), 9, nil},
		{"no data", header(typeCompressed, checksumLen), 0, ErrStray},
		{"no checksum", header(typeUncompressed, 0), 0, ErrStray},
		{"the longest chunk", header(typeUncompressed, longest), MaxChunk, nil},
		{"a byte more", header(typeUncompressed, longest+1), 0, ErrStray},
		{"the longest length", header(typeCompressed, 1<<24-1), 0, ErrStray},
		{"another type", header(0x02, 32), 0, ErrStray},
		{"a header", header(0x80, 32), 0, ErrStray},
		{"padding", header(0xfe, 32), 0, ErrStray},
		{"three bytes", []byte{0, 9, 0}, 0, ErrTorn},
		{"nothing", nil, 0, ErrTorn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ChunkLen(tt.chunk)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("ChunkLen: %d, %v, want %d, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// claiming returns a compressed chunk that claims to hold so many bytes.
func claiming(size uint64) []byte {
	chunk := append(header(typeCompressed, 0), 1, 2, 3, 4)
	chunk = append(binary.AppendUvarint(chunk, size), 0)
	putUint24(chunk[1:], len(chunk)-chunkHeaderLen)
	return chunk
}

func TestImplausibleSizesAreRefusedBeforeAnythingIsAllocated(t *testing.T) {
	buf := make([]byte, maxPayload)
	for _, size := range []uint64{0, payloadHeaderLen - 1, maxPayload + 1, math.MaxUint32,
		1 << 40} {
		chunk := claiming(size)
		var err error
		allocs := testing.AllocsPerRun(10, func() { _, err = DecodeChunk(buf, chunk) })
		if err == nil || errors.Is(err, snappy.ErrCorrupt) && size <= math.MaxUint32 || allocs > 5 {
			t.Errorf("%d bytes: %v, %v allocations", size, err, allocs)
		}
	}

	for _, size := range []uint64{payloadHeaderLen, maxPayload} {
		if _, err := DecodeChunk(buf, claiming(size)); !errors.Is(err, snappy.ErrCorrupt) {
			t.Errorf("%d bytes: %v, want what snappy says", size, err)
		}
	}

	for _, size := range []int{0, payloadHeaderLen - 1, maxPayload + 1} {
		if _, err := DecodeChunk(buf, appendChunk(nil, make([]byte, size), true)); err == nil {
			t.Errorf("an uncompressed payload of %d bytes is accepted", size)
		}
	}
}

func TestMalformedPayloadsAreRefused(t *testing.T) {
	frames := framesOf([]byte("hello"), nil, []byte("hi"))
	for _, tt := range []struct {
		name string
		p    Payload
		ok   bool
	}{
		{"whole items", Payload{First: 42, Count: 3, Frames: frames}, true},
		{"fewer frames than counted", Payload{Count: 4, Frames: frames}, false},
		{"more frames than counted", Payload{Count: 2, Frames: frames}, false},
		{"a frame cut off", Payload{Count: 3, Frames: frames[:len(frames)-1]}, false},
		{"a frame of one byte too many", Payload{Count: 1, Frames: []byte("\x03hi")}, false},
		{"a frame of the longest length", Payload{Count: 1,
			Frames: binary.AppendUvarint(nil, math.MaxUint64)}, false},
		{"a length without end", Payload{Count: 1, Frames: []byte("\x80\x80")}, false},
		{"a length over 64 bits", Payload{Count: 1,
			Frames: append(bytes.Repeat([]byte{0xff}, 10), 1)}, false},
		{"more items than can be", Payload{Count: math.MaxUint32, Frames: frames}, false},

		{"the largest number", Payload{First: MaxSeq - 1, Count: 1, Frames: []byte{0}}, true},
		{"a number too large", Payload{First: MaxSeq, Count: 1, Frames: []byte{0}}, false},
		{"a number too large at the end",
			Payload{First: MaxSeq - 1, Count: 2, Frames: []byte{0, 0}},
			false},
		{"a number that overflows", Payload{First: math.MaxUint64, Count: 2, Frames: []byte{0, 0}},
			false},

		{"a part of an item whose number is too large",
			Payload{First: MaxSeq, Offset: 100, Frames: []byte("x")}, false},

		{"a first part", Payload{Frames: []byte("x")}, true},
		{"a part", Payload{Offset: 100, Frames: []byte("x")}, true},
		{"a last part", Payload{Offset: 100, Count: 1, Frames: []byte("x")}, true},
		{"a part with the ends of two items",
			Payload{Offset: 100, Count: 2, Frames: []byte("x")}, false},
		{"an empty part", Payload{Offset: 100}, false},
		{"an empty first part", Payload{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, plain := range []bool{true, false} {
				_, err := DecodeChunk(make([]byte, maxPayload), chunkOf(tt.p, plain))
				if (err == nil) != tt.ok {
					t.Errorf("DecodeChunk: %v", err)
				}
			}
		})
	}
}

func TestThePartsOfAnItemMayBeLeftEarly(t *testing.T) {
	n := 0
	for range NewBatch(testLabel, 0, make([]byte, 1<<20)).Chunks {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d chunks, want 3", n)
	}
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add([]byte(goldenCompressed))
	f.Add([]byte(goldenUncompressed))
	f.Add([]byte(goldenParked))
	f.Add([]byte(goldenParts[0]))
	f.Add([]byte(goldenParts[1]))
	f.Add(claiming(math.MaxUint32))

	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ChunkLen(b)
		if err != nil || n > len(b) {
			return
		}
		p, err := DecodeChunk(make([]byte, maxPayload), b[:n])
		if err != nil {
			return
		}

		if p.First >= MaxSeq || p.End() > MaxSeq || len(p.Frames) > maxFrames {
			t.Fatalf("accepted: first %d, %d items, %d bytes", p.First, p.Count, len(p.Frames))
		}
		if p.Offset == 0 && p.Count > 0 {
			r := run{p.First, int(p.Count), append(make([]byte, framesAt), p.Frames...)}
			if rest := r.from(p.End()); len(rest) > 0 {
				t.Errorf("%d bytes behind %d frames", len(rest), p.Count)
			}
		}

		again, err := DecodeChunk(make([]byte, maxPayload), chunkOf(p, true))
		if diff := cmp.Diff(p, again); err != nil || diff != "" {
			t.Errorf("encoded again: %v (-want +got):\n%s", err, diff)
		}
	})
}

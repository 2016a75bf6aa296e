package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

var goldenHeader = "" +
	"\xff\x06\x00\x00sNaPpY" + // stream identifier chunk of the framing format
	"\x80\x2b\x00\x00" + // skippable chunk of 43 bytes
	"hopper" + // magic
	"\x01" + // version
	"\x01" + // flags: kept
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // first item: 42
	"\x28\x00\x00\x00\x00\x00\x00\x00" + // the store ended at 40 before
	"\x07\x00\x00\x00\x00\x00\x00\x00" + // items below 7 were done
	"\x05\x00" + // the label has 5 bytes
	"bytes" +
	"\x6f\x40\x07\x5f" // masked CRC-32C

// goldenChunk is a chunk as package spill makes them: here for the segment as a
// whole.
var goldenChunk = "" +
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

var goldenFooter = "" +
	"\x81\x24\x00\x00" + // skippable chunk of 36 bytes
	"hopper" + // magic
	"\x01" + // version
	"\x00" + // flags
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // first item: 42
	"\x2d\x00\x00\x00\x00\x00\x00\x00" + // end: 45
	"\x0a\x00\x00\x00\x00\x00\x00\x00" + // 10 bytes of frames
	"\x17\x55\xc8\xe9" // masked CRC-32C

var goldenParts = struct {
	header header
	footer footer
}{
	header{version: version1, first: 42, follows: 40, acked: 7, kept: true, label: "bytes"},
	footer{first: 42, end: 45, frames: 10},
}

func TestSegmentsHaveTheDocumentedBytes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want string
	}{
		{"header", string(appendHeader(nil, goldenParts.header)), goldenHeader},
		{"footer", string(appendFooter(nil, goldenParts.footer)), goldenFooter},
		{"segment name", segmentName(42), "00000000000000000042.sz"},
		{"receipt name", receipt{42, 45}.name(), "00000000000000000042-00000000000000000045.ack"},
		{"name of a receipt's mark", receipt{42, 45}.openedName(),
			"00000000000000000042-00000000000000000045.opened"},
		{"retained name", retainedName("/x/00000000000000000042.sz"),
			"00000000000000000042.retained"},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if footerLen != len(goldenFooter) || maxHeaderLen != len(goldenHeader)-len("bytes")+maxLabel {
		t.Errorf("a footer has %d bytes, a header at most %d", footerLen, maxHeaderLen)
	}
}

// TestAStoreWritesTheDocumentedBytes compares a file that a store has written.
func TestAStoreWritesTheDocumentedBytes(t *testing.T) {
	b := newBench(t, unlimited)
	b.label = "bytes"
	b.reopen(0)
	batch := spill.NewBatch(b.label, 42, []byte("hello"), nil, []byte("hi"))
	b.store.writer.last, b.store.writer.acked = 40, 7
	if n, err := b.store.Append(t.Context(), []*spill.Batch{batch}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.seq = 45
	b.close(42)

	_, f := b.disk.only(t)
	if diff := cmp.Diff(goldenHeader+goldenChunk+goldenFooter, string(f.data)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"00000000000000000042-00000000000000000045.ack",
		"00000000000000000042.sz"}, b.disk.names()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheDocumentedBytesAreUnderstood(t *testing.T) {
	h, n, err := parseHeader([]byte(goldenHeader))
	if err != nil || n != len(goldenHeader) {
		t.Fatalf("parseHeader: %d bytes of %d, %v", n, len(goldenHeader), err)
	}
	if diff := cmp.Diff(goldenParts.header, h, cmp.AllowUnexported(header{})); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	f, ok := parseFooter([]byte(goldenFooter))
	if diff := cmp.Diff(goldenParts.footer, f, cmp.AllowUnexported(footer{})); !ok || diff != "" {
		t.Errorf("footer %v (-want +got):\n%s", ok, diff)
	}
}

func TestAHeaderOfAnotherVersionIsToldFromADamagedOne(t *testing.T) {
	future := func(body string) []byte {
		b := append([]byte(streamID), typeHeader, 0, 0, 0)
		return finishSkippable(append(b, body...), len(streamID))
	}
	at := len(streamID) + chunkHeaderLen + len(magic)
	flipped := []byte(goldenHeader)
	flipped[at] ^= 2
	for _, tt := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"version 3, as long", future("hopper\x03" + string(goldenHeader[at+1:len(goldenHeader)-4])), true},
		{"version 3, shorter", future("hopper\x03x"), true},
		{"version 3, longer", future("hopper\x03" + strings.Repeat("x", 1000)), true},
		{"version 0", future("hopper\x00"), true},
		{"no version at all", future("hopper"), true},
		{"of another program", future("hoppla\x01" + string(goldenHeader[at+1:len(goldenHeader)-4])), true},
		{"version 1, too short", future("hopper\x01\x00xxxx"), false},
		{"a bit of the version flipped", flipped, false},
		{"cut off", []byte(goldenHeader)[:at+5], false},
		{"nothing", nil, false},
		{"a stream of another tool", []byte(streamID + goldenChunk), false},
	} {
		_, _, err := parseHeader(tt.b)
		if err == nil || errors.Is(err, spill.ErrVersion) != tt.want {
			t.Errorf("%s: %v, want ErrVersion: %v", tt.name, err, tt.want)
		}
	}
}

func TestHeadersAndFootersWithImplausibleNumbersAreRefused(t *testing.T) {
	const limit = spill.MaxSeq
	for _, h := range []header{{first: limit}, {follows: limit}, {acked: limit},
		{first: 1<<64 - 1}} {
		h.version = version1
		if _, n, err := parseHeader(appendHeader(nil, h)); !errors.Is(err, errBadHeader) || n == 0 {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if _, _, err := parseHeader(appendHeader(nil, header{version: version1, first: limit - 1, follows: limit - 1,
		acked: limit - 1})); err != nil {
		t.Error(err)
	}
	for _, f := range []footer{{first: 5, end: 4}, {end: limit + 1}, {frames: 1 << 63}} {
		if _, ok := parseFooter(appendFooter(nil, f)); ok {
			t.Errorf("%+v", f)
		}
	}
	if _, ok := parseFooter(appendFooter(nil, footer{first: limit, end: limit})); !ok {
		t.Error("the last number is refused")
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name string
		ext  string
		want receipt
		err  error
	}{
		{"00000000000000000042.sz", ".sz", receipt{42, 42}, nil},
		{"00000000000000000000.sz", ".sz", receipt{0, 0}, nil},
		{"09223372036854775807.sz", ".sz", receipt{1<<63 - 1, 1<<63 - 1}, nil},
		{"00000000000000000042.retained", ".retained", receipt{42, 42}, nil},
		{"42.sz", "", receipt{}, nil},
		{"000000000000000000042.sz", "", receipt{}, nil},
		{"0000000000000000004x.sz", "", receipt{}, nil},
		{"+0000000000000000042.sz", "", receipt{}, nil},
		{"00000000000000000042.szx", "", receipt{}, nil},
		{"00000000000000000042", "", receipt{}, nil},
		{"00000000000000000042-00000000000000000045.sz", "", receipt{}, nil},
		{"09223372036854775808.sz", ".sz", receipt{}, errNumber},
		{"18446744073709551615.sz", ".sz", receipt{}, errNumber},
		{"99999999999999999999.sz", ".sz", receipt{}, errNumber},
		{"09223372036854775808.retained", ".retained", receipt{}, errNumber},

		{"00000000000000000042-00000000000000000045.ack", ".ack", receipt{42, 45}, nil},
		{"00000000000000000042-00000000000000000042.ack", ".ack", receipt{42, 42}, nil},
		{"00000000000000000042-00000000000000000045.opened", ".opened", receipt{42, 45}, nil},
		{"00000000000000000042-09223372036854775808.ack", ".ack", receipt{42, 1 << 63}, nil},
		{"00000000000000000042-00000000000000000041.ack", "", receipt{}, nil},
		{"00000000000000000042.ack", "", receipt{}, nil},
		{"00000000000000000042-9.ack", "", receipt{}, nil},
		{"00000000000000000042-09223372036854775809.ack", ".ack", receipt{}, errNumber},
		{"18446744073709551610-18446744073709551615.ack", ".ack", receipt{}, errNumber},
		{"00000000000000000042-99999999999999999999.opened", ".opened", receipt{}, errNumber},
	} {
		ext, got, err := parseName(tt.name)
		if ext != tt.ext || got != tt.want || err != tt.err {
			t.Errorf("%s: %q, %v, %v", tt.name, ext, got, err)
		}
	}
}

func TestEverySegmentIsAStreamThatSnappyReads(t *testing.T) {
	b := newBench(t, unlimited)
	large := bytes.Repeat([]byte("ab"), 100_000)
	batches := []*spill.Batch{b.batch(5, 30), b.batch(35, 10), spill.NewBatch(b.label, 45,
		large), b.batch(46, 20)}
	if n, err := b.store.Append(t.Context(), batches); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	b.seq = 66
	b.close(5)

	var frames, want []byte
	for seq := uint64(5); seq < 66; seq++ {
		v := testItem(seq)
		if seq == 45 {
			v = large
		}
		want = append(binary.AppendUvarint(want, uint64(len(v))), v...)
	}
	for _, path := range b.paths() {
		got, err := io.ReadAll(snappy.NewReader(bytes.NewReader(b.data(path))))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for len(got) > 0 { // payloads one behind the other, as long as their chunks say
			n := payloadLen(t, b.data(path), got)
			frames, got = append(frames, got[24:n]...), got[n:]
		}
	}
	if len(b.paths()) < 3 || !bytes.Equal(frames, want) {
		t.Fatalf("%d segments hold %d bytes of frames, want %d", len(b.paths()), len(frames),
			len(want))
	}
}

// payloadLen returns the length of the payload that raw begins with, by
// decoding the chunk that it comes from.
func payloadLen(t *testing.T, data, raw []byte) int {
	t.Helper()
	for _, at := range chunkOffsets(t, data) {
		n, _ := spill.ChunkLen(data[at:])
		p, err := spill.DecodeChunk(make([]byte, 1<<16), data[at:at+n])
		if err != nil {
			t.Fatal(err)
		}
		if p.First == le.Uint64(raw) && p.Offset == le.Uint64(raw[8:]) {
			return 24 + len(p.Frames)
		}
	}
	t.Fatal("no such payload")
	return 0
}

// chunkOffsets returns where the data chunks of a segment begin.
func chunkOffsets(t *testing.T, data []byte) (offsets []int) {
	t.Helper()
	_, at, err := parseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	for {
		n, err := spill.ChunkLen(data[at:])
		if err != nil || at+n > len(data) {
			return offsets
		}
		offsets = append(offsets, at)
		at += n
	}
}

func TestItemsOfEverySizeAroundTheBoundariesComeBack(t *testing.T) {
	var sizes []int
	for _, around := range []int{0, 1, 127, 128, 16383, 16384, 65512 - 3, 65536, 2*65512 - 3,
		300_000} {
		for n := max(0, around-3); n <= around+3; n++ {
			sizes = append(sizes, n)
		}
	}
	item := func(seq uint64) []byte { return pool[seq : int(seq)+sizes[seq]] }
	for _, size := range []int64{1, 64 << 10, 1 << 30} {
		t.Run(fmt.Sprint("segments of ", size), func(t *testing.T) {
			b := newBench(t, Config{MaxBytes: -1, SegmentSize: size})
			for seq := range uint64(len(sizes)) {
				batch := spill.NewBatch(b.label, seq, item(seq))
				if _, err := b.store.Append(t.Context(), []*spill.Batch{batch}); err != nil {
					t.Fatal(err)
				}
			}
			b.seq = uint64(len(sizes))
			b.reopen(0)

			d := b.drain(b.found, item)
			if b.found.Items != uint64(len(sizes)) || d.items() != b.found.Items ||
				len(d.lost) > 0 {
				t.Errorf("%+v: %v, lost %v", b.found, d.read, d.lost)
			}
		})
	}
}

// small is a store that was closed with one sealed segment of some KiB and
// several chunks, or, if large, with an item that runs over several.
func small(t *testing.T, large bool) (b *bench, item func(uint64) []byte) {
	t.Helper()
	b = newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	items := [][]byte{nil, pool[:1], pool[:5], pool[:40], pool[:127], pool[:128], nil, pool[:300]}
	if soak() {
		items = slices.Repeat(items, 6)
	}
	if large {
		items = [][]byte{pool[:40], bytes.Repeat([]byte("x"), 150_000), []byte("end")}
	}

	for i := 0; i < len(items); {
		n := min(3, len(items)-i)
		if large {
			n = 1
		}
		batch := spill.NewBatch(b.label, uint64(100+i), items[i:i+n]...)
		if _, err := b.store.Append(t.Context(), []*spill.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		i += n
	}
	b.seq = uint64(100 + len(items))
	b.close(100)
	return b, func(seq uint64) []byte { return items[seq-100] }
}

func TestEverySingleBitFlipIsDetectedOrHarmless(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		receipt, footer, large bool
		step                   int
	}{
		{"after Close", true, true, false, 1},
		{"after a kill", false, true, false, 3},
		{"after a kill, not sealed", false, false, false, 3},
		{"in parts of a large item", true, true, true, 61},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, item := small(t, tt.large)
			path, f := b.disk.only(t)
			if !tt.receipt {
				b.disk.files = map[string]*inode{path: f}
			}
			if !tt.footer {
				f.data = f.data[:len(f.data)-footerLen]
			}
			switch {
			case soak():
				tt.step = 1
			case raceEnabled: // nothing here is concurrent
				tt.step *= 7
			}
			flipBits(t, b, item, tt.step, tt.footer)
		})
	}
}

func flipBits(t *testing.T, b *bench, item func(uint64) []byte, step int, sealed bool) {
	path, f := b.disk.only(t)
	whole := b.disk
	offsets := chunkOffsets(t, f.data)
	last := offsets[len(offsets)-1]
	total := b.seq - 100

	harmless, reported := 0, 0
	for bit := 0; bit < len(f.data)*8; bit += step {
		b.disk = whole.clone()
		b.data(path)[bit/8] ^= 1 << (bit % 8)
		may := affected(f.data, bit/8)
		torn := !sealed && (bit/8 >= last || seemsTorn(b.data(path), bit/8))
		b.open()
		d := b.drain(b.found, item)

		// Where a segment that was not sealed ends is not known once it can't
		// be followed any more.
		if b.found.Items != total && (sealed || len(may) == 0 || b.found.Items > total) {
			t.Fatalf("bit %d: %d items found, want %d", bit, b.found.Items, total)
		}
		if d.items()+d.losses() != b.found.Items {
			t.Fatalf("bit %d: %v read, lost %v, of %+v", bit, d.read, d.lost, b.found)
		}
		for seq := uint64(100); seq < b.seq; seq++ {
			if !d.has(seq) && !may[seq] {
				t.Fatalf("bit %d: item %d is gone, which is in another chunk: %v", bit, seq, d.lost)
			}
		}
		switch {
		case len(d.lost) > 0:
			reported++
		case d.items() == total, torn:
			harmless++
		default:
			t.Fatalf("bit %d: nothing reported, %v of %d items", bit, d.read, total)
		}
		b.close(b.seq)
	}
	t.Logf("%d bytes: %d flips reported, %d without effect", len(f.data), reported, harmless)
	if reported == 0 {
		t.Error("no flip was reported")
	}
}

func (d drain) has(seq uint64) bool {
	return slices.ContainsFunc(d.read, func(r [2]uint64) bool { return r[0] <= seq && seq < r[1] })
}

// affected returns the items that damage to a byte of a segment may cost.
func affected(data []byte, at int) map[uint64]bool {
	seqs := map[uint64]bool{}
	_, off, _ := parseHeader(data)
	toEnd := false
	for {
		if _, is, _ := parseCursor(data[off:]); is { // damaging it costs nothing
			off += cursorLen
			continue
		}
		n, err := spill.ChunkLen(data[off:])
		if err != nil || off+n > len(data) {
			return seqs
		}
		p, _ := spill.DecodeChunk(make([]byte, 1<<16), data[off:off+n])
		hit := off <= at && at < off+n
		toEnd = toEnd || hit && at < off+chunkHeaderLen
		if hit || toEnd {
			for seq := p.First; seq < max(p.End(), p.First+1); seq++ {
				seqs[seq] = true
			}
		}
		off += n
	}
}

// seemsTorn reports whether the chunk that the damaged byte is in claims to go
// on behind the end of the file.
func seemsTorn(data []byte, at int) bool {
	_, off, err := parseHeader(data)
	if err != nil {
		return false
	}
	for {
		if _, is, _ := parseCursor(data[off:]); is {
			off += cursorLen
			continue
		}
		n, err := spill.ChunkLen(data[off:])
		if err != nil {
			return false
		}
		if off+n > len(data) {
			return off <= at
		}
		off += n
	}
}

func TestEveryTruncationGivesAPrefix(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(6, 3)
	b.store.writer.seal()
	b.put(6, 3)
	b.close(0)

	whole := b.disk
	for _, vouched := range []bool{true, false} {
		for _, path := range b.paths() {
			first := firstOf(path)
			for size := range whole.files[path].data {
				b.disk = whole.clone()
				b.disk.files[path].data = b.data(path)[:size]
				if !vouched {
					delete(b.disk.files, filepath.Join(b.cfg.Dir, receipt{0, 12}.name()))
				}
				b.open()
				d := b.drain(b.found, testItem)

				name := fmt.Sprintf("%s cut to %d bytes, vouched %v", filepath.Base(path), size,
					vouched)
				if d.items()+d.losses() != b.found.Items || vouched && b.found.Items != 12 {
					t.Fatalf("%s: %+v, read %v, lost %v", name, b.found, d.read, d.lost)
				}
				checkPrefix(t, name, d, first)
				b.close(b.found.End)
			}
		}
	}
}

// checkPrefix verifies that of the six items of the segment that was cut a
// prefix came back, and of the other one everything; and that what is lost is
// told to be lost in that segment.
func checkPrefix(t *testing.T, name string, d drain, first uint64) {
	t.Helper()
	gap := false
	for seq := first; seq < first+6; seq++ {
		if d.has(seq) && gap {
			t.Fatalf("%s: item %d came back, but not the one before", name, seq)
		}
		gap = gap || !d.has(seq)
	}
	for seq := 6 - first; seq < 12-first; seq++ {
		if !d.has(seq) {
			t.Fatalf("%s: item %d of the sound segment is gone", name, seq)
		}
	}
	for _, e := range d.lost {
		if filepath.Base(e.Path) != segmentName(first) {
			t.Fatalf("%s: lost elsewhere: %v", name, e)
		}
	}
}

func TestAReceiptCoversWhatOverlapsIt(t *testing.T) {
	r := receipt{5, 10}
	for items, want := range map[[2]uint64]bool{
		{0, 5}: false, {0, 6}: true, {5, 10}: true, {9, 12}: true, {10, 12}: false, {7, 7}: true,
	} {
		if r.covers(items[0], items[1]) != want {
			t.Errorf("items %v: %v", items, !want)
		}
	}
}

func TestShortAndForeignChunksAreNoTrap(t *testing.T) {
	for size := range checksumLen + 1 {
		b := append([]byte(streamID), typeHeader, byte(size), 0, 0)
		b = append(b, make([]byte, 20)...)
		le.PutUint32(b[len(streamID)+chunkHeaderLen:], spill.Checksum(nil))
		_, n, err := parseHeader(b)
		if want := size == checksumLen; err == nil || errors.Is(err, spill.ErrVersion) != want ||
			want && n != len(streamID)+chunkHeaderLen+size {
			t.Errorf("a header of %d bytes: %d, %v", size, n, err)
		}
	}

	foot := appendFooter(nil, footer{first: 1, end: 2, frames: 3})
	for n := range foot {
		if _, ok := parseFooter(foot[:n]); ok {
			t.Errorf("%d bytes of a footer are one", n)
		}
	}
	foot[0] = typeHeader
	if _, ok := parseFooter(foot); ok {
		t.Error("a chunk of another type is a footer")
	}
}

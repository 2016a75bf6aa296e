package spill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
)

var goldenHeader = "" +
	"\xff\x06\x00\x00sNaPpY" + // stream identifier chunk of the framing format
	"\x80\x2b\x00\x00" + // skippable chunk of 43 bytes
	"hopper" + // magic
	"\x01" + // version
	"\x01" + // flags: kept
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // first item: 42
	"\x28\x00\x00\x00\x00\x00\x00\x00" + // the log ended at 40 before
	"\x07\x00\x00\x00\x00\x00\x00\x00" + // items below 7 were delivered
	"\x05\x00" + // the label has 5 bytes
	"bytes" +
	"\x6f\x40\x07\x5f" // masked CRC-32C

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

var goldenPlainChunk = "" +
	"\x01\x26\x00\x00" + // uncompressed data chunk of 38 bytes
	"\x02\x74\x08\x88" + // masked CRC-32C of the payload
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // payload: its first item is 42
	"\x00\x00\x00\x00\x00\x00\x00\x00" + // which begins here
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
	header{first: 42, follows: 40, acked: 7, kept: true, label: "bytes"},
	footer{first: 42, end: 45, frames: 10},
}

func goldenPayload() []byte {
	raw := make([]byte, payloadHeaderLen)
	putPayloadHeader(raw, payload{first: 42, count: 3, tag: checksum([]byte("bytes"))})
	return append(raw, "\x05hello\x00\x02hi"...)
}

func TestSegmentsHaveTheDocumentedBytes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want string
	}{
		{"header", string(appendHeader(nil, goldenParts.header)), goldenHeader},
		{"data chunk", string(appendChunk(nil, goldenPayload(), false)), goldenChunk},
		{"footer", string(appendFooter(nil, goldenParts.footer)), goldenFooter},
		{"segment name", segmentName(42), "00000000000000000042.sz"},
		{"receipt name", receipt{42, 45}.name(), "00000000000000000042-00000000000000000045.ack"},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
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
	for _, chunk := range []string{goldenChunk, goldenPlainChunk} {
		p, err := decodeChunk(make([]byte, maxPayload), []byte(chunk))
		want := payload{first: 42, count: 3, tag: checksum([]byte("bytes")), frames: []byte("\x05hello\x00\x02hi")}
		if diff := cmp.Diff(want, p, cmp.AllowUnexported(payload{})); err != nil || diff != "" {
			t.Errorf("payload %v (-want +got):\n%s", err, diff)
		}
	}
	b, err := io.ReadAll(snappy.NewReader(strings.NewReader(goldenHeader + goldenChunk + goldenPlainChunk + goldenFooter)))
	if diff := cmp.Diff(slices.Repeat(goldenPayload(), 2), b); err != nil || diff != "" {
		t.Errorf("snappy.Reader %v (-want +got):\n%s", err, diff)
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
		{"version 2, as long", future("hopper\x02" + string(goldenHeader[at+1:len(goldenHeader)-4])), true},
		{"version 2, shorter", future("hopper\x02x"), true},
		{"version 2, longer", future("hopper\x02" + strings.Repeat("x", 1000)), true},
		{"a bit of the version flipped", flipped, false},
		{"cut off", []byte(goldenHeader)[:at+5], false},
		{"nothing", nil, false},
		{"a stream of another tool", []byte(streamID + goldenChunk), false},
	} {
		_, _, err := parseHeader(tt.b)
		if err == nil || errors.Is(err, ErrVersion) != tt.want {
			t.Errorf("%s: %v, want ErrVersion: %v", tt.name, err, tt.want)
		}
	}
}

// fixture writes items through a Log to a fake disk, closes it with Keep, and returns the disk.
func fixture(t *testing.T, cfg Config, first uint64, items [][]byte) (*disk, Config) {
	t.Helper()
	d := newDisk()
	cfg.Dir, cfg.fs, cfg.Keep, cfg.MaxDisk = t.TempDir(), d.mount(), true, -1
	l, _, _, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range items {
		l.Commit(append(l.Begin(first+uint64(i)), v...))
	}
	if unsaved, err := l.Close(context.Background(), first, nil); unsaved != 0 || err != nil {
		t.Fatal(unsaved, err)
	}
	return d, cfg
}

// drained is what a log gives back until it is empty.
type drained struct {
	items  map[uint64][]byte
	losses []*CorruptError
	lost   uint64
	order  []uint64
}

// drain opens the directory on the disk and takes everything out, without a Log's goroutines.
func drain(t *testing.T, d *disk, cfg Config) (got drained, next, items uint64) {
	t.Helper()
	cfg.fs = d.mount()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, next, items, err := openStore(cfg, cfg.fs)
	if err != nil {
		t.Fatal(err)
	}
	got.items = map[uint64][]byte{}
	b, at := newBatch(), next
	for at < s.end() {
		if ok, err := s.get(b, at); !ok || err != nil {
			t.Fatalf("get from %d of %d: %v, %v", at, s.end(), ok, err)
		}
		if at = b.end(); b.Err != nil {
			got.losses, got.lost = append(got.losses, b.Err), got.lost+uint64(b.Items)
			continue
		}
		for n := range uint64(b.Items) {
			got.items[b.First+n] = bytes.Clone(b.Next())
			got.order = append(got.order, b.First+n)
		}
	}
	if err := s.close(receipt{at, at}, true); err != nil {
		t.Fatal(err)
	}
	return got, next, items
}

// check verifies that everything is either there, in order and right, or reported as lost, in exact ranges.
func (got drained) check(t *testing.T, first uint64, want [][]byte, total uint64) {
	t.Helper()
	if uint64(len(got.items))+got.lost != total {
		t.Fatalf("%d read + %d lost, want %d", len(got.items), got.lost, total)
	}
	if !slices.IsSorted(got.order) {
		t.Fatalf("out of order: %v", got.order)
	}
	for seq, v := range got.items {
		if seq < first || seq >= first+uint64(len(want)) || !bytes.Equal(v, want[seq-first]) {
			t.Fatalf("item %d is wrong: %.60q", seq, v)
		}
	}
	for _, e := range got.losses {
		for n := range e.Items {
			if _, ok := got.items[e.First+n]; ok {
				t.Fatalf("item %d was read and reported lost: %v", e.First+n, e)
			}
		}
	}
}

func randomItems(sizes ...int) (items [][]byte) {
	r := rand.NewChaCha8([32]byte{7})
	for _, n := range sizes {
		b := make([]byte, n)
		r.Read(b)
		items = append(items, b)
	}
	return items
}

func TestEverySegmentIsAStreamThatSnappyReads(t *testing.T) {
	items := randomItems(0, 1, 100, 65535, 70_000, 3, 200_000)
	items = append(items, bytes.Repeat([]byte("ab"), 100_000), nil)
	d, cfg := fixture(t, Config{SegmentSize: 100 << 10, Label: "l"}, 5, items)
	var frames, want []byte
	for _, v := range items {
		want = append(binary.AppendUvarint(want, uint64(len(v))), v...)
	}
	segments := 0
	for _, name := range d.names() {
		if _, ok := parseSegmentName(name); !ok {
			continue
		}
		segments++
		data := d.files[filepath.Join(cfg.Dir, name)].data
		got, err := io.ReadAll(snappy.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var r chunkReader
		f, _ := d.mount().Open(filepath.Join(cfg.Dir, name))
		_, start, err := parseHeader(data)
		if err != nil {
			t.Fatal(err)
		}
		r.reset(f, int64(start), int64(len(data)-footerLen))
		for buf := make([]byte, maxPayload); ; {
			p, _, err := r.next(buf)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			n := payloadHeaderLen + len(p.frames)
			if !bytes.Equal(got[payloadHeaderLen:n], p.frames) {
				t.Fatalf("%s: snappy.Reader and chunkReader differ", name)
			}
			frames, got = append(frames, p.frames...), got[n:]
		}
		if len(got) > 0 {
			t.Fatalf("%s: snappy.Reader has %d bytes more", name, len(got))
		}
	}
	if segments < 3 || !bytes.Equal(frames, want) {
		t.Fatalf("%d segments hold %d bytes of frames, want %d", segments, len(frames), len(want))
	}
}

func TestItemsOfEverySizeAroundTheBoundariesComeBack(t *testing.T) {
	var sizes []int
	add := func(around int) {
		for n := max(0, around-3); n <= around+3; n++ {
			sizes = append(sizes, n)
		}
	}
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, maxFrames - 3, maxPayload, 2*maxFrames - 3, 3*maxFrames - 3, maxPayload + chunkSlack, 300_000} {
		add(n)
	}
	items := randomItems(sizes...)
	for _, size := range sizes { // and small ones between them, so that they meet each boundary at other offsets
		items = append(items, randomItems(size, size%7, 2)...)
	}
	for _, segmentSize := range []int64{0, 64 << 10, 1 << 30} {
		t.Run(fmt.Sprint("segments of ", segmentSize), func(t *testing.T) {
			d, cfg := fixture(t, Config{SegmentSize: segmentSize, Label: "l"}, 0, items)
			got, next, n := drain(t, d, cfg)
			if next != 0 || n != uint64(len(items)) || len(got.losses) != 0 {
				t.Fatalf("next %d, %d items, losses %v", next, n, got.losses)
			}
			got.check(t, 0, items, n)
		})
	}
}

// small is a log of one sealed segment of some KiB and several chunks, if large of one with an item that
// runs over several.
func small(t *testing.T, large bool) (*disk, Config, [][]byte) {
	t.Helper()
	d := newDisk()
	cfg := Config{Dir: t.TempDir(), fs: d.mount(), Keep: true, MaxDisk: -1, SegmentSize: 1 << 20, Label: "label"}
	l, _, _, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	items := randomItems(0, 1, 5, 40, 127, 128, 0, 300)
	if soak() {
		items = slices.Repeat(items, 6)
	}
	if large {
		items = append(randomItems(40), bytes.Repeat([]byte("x"), 150_000), []byte("end"))
	}
	for i, v := range items {
		l.Commit(append(l.Begin(100+uint64(i)), v...))
		if i%3 == 2 {
			l.flush()
		}
	}
	if unsaved, err := l.Close(context.Background(), 100, nil); unsaved != 0 || err != nil {
		t.Fatal(unsaved, err)
	}
	return d, cfg, items
}

func segmentFile(t *testing.T, d *disk) (path string, f *inode) {
	t.Helper()
	for path, f := range d.files {
		if strings.HasSuffix(path, segmentExt) {
			return path, f
		}
	}
	t.Fatal("no segment")
	return "", nil
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
			d, cfg, items := small(t, tt.large)
			path, f := segmentFile(t, d)
			if !tt.receipt {
				d.files = map[string]*inode{path: f}
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
			testFlips(t, d, cfg, items, tt.step, tt.footer)
		})
	}
}

func testFlips(t *testing.T, d *disk, cfg Config, items [][]byte, step int, sealed bool) {
	path, f := segmentFile(t, d)
	last := lastChunk(t, d, path)
	harmless, reported := 0, 0
	for bit := 0; bit < len(f.data)*8; bit += step {
		damaged := d.clone()
		damaged.files[path].data[bit/8] ^= 1 << (bit % 8)
		may := affected(path, f.data, cfg.Label, bit/8)
		torn := !sealed && (bit/8 >= last || seemsTorn(damaged, path, may))
		got, _, n := drain(t, damaged, cfg)
		// Where a segment that was not sealed ends is not known once it can't be followed any more.
		total := n == uint64(len(items)) || !sealed && len(may) > 0 && n < uint64(len(items))
		if !total {
			t.Fatalf("bit %d: %d items found, want %d", bit, n, len(items))
		}
		got.check(t, 100, items, n)
		for i := range items {
			if _, ok := got.items[100+uint64(i)]; !ok && !may[100+uint64(i)] {
				t.Fatalf("bit %d: item %d is gone, which is in another chunk: %v", bit, 100+i, got.losses)
			}
		}
		switch {
		case len(got.losses) > 0:
			reported++
		case len(got.items) == len(items), torn:
			harmless++
		default:
			t.Fatalf("bit %d: nothing reported, last chunk at %d, %d items of %d", bit, last, len(got.items), len(items))
		}
	}
	t.Logf("%d bytes: %d flips reported, %d without effect", len(f.data), reported, harmless)
	if reported == 0 {
		t.Error("no flip was reported")
	}
}

// seemsTorn reports whether a chunk that was hit claims to go on behind the end of the file.
func seemsTorn(d *disk, path string, may map[uint64]bool) bool {
	s, _, err := loadSegment(d.mount(), filepath.Dir(path), filepath.Base(path), "")
	if err != nil || !may[s.end] {
		return false
	}
	b := d.files[path].data[s.size:]
	n, err := chunkLen(b)
	return err == nil && n >= len(b)
}

func lastChunk(t *testing.T, d *disk, path string) (at int) {
	t.Helper()
	s, _, err := loadSegment(d.mount(), filepath.Dir(path), filepath.Base(path), "")
	if err != nil {
		t.Fatal(err)
	}
	f, _ := d.mount().Open(path)
	var r chunkReader
	r.reset(f, s.start, s.size)
	for buf := make([]byte, maxPayload); ; {
		_, off, err := r.next(buf)
		if err != nil {
			return at
		}
		at = int(off)
	}
}

func TestEveryTruncationGivesAPrefix(t *testing.T) {
	items := randomItems(0, 10, 300, 5, 700, 128, 40, 1, 200, 7, 150, 30)
	d := newDisk()
	cfg := Config{Dir: t.TempDir(), fs: d.mount(), Keep: true, MaxDisk: -1, SegmentSize: 0, Label: "l"}
	s, _, _, err := openStore(cfg, cfg.fs)
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to int) {
		t.Helper()
		a := Appender{next: newBatch, tail: newBatch()}
		a.full = func(b *Batch) {
			if err := s.put(b); err != nil {
				t.Fatal(err)
			}
		}
		for i := from; i < to; i++ {
			a.Commit(append(a.Begin(uint64(i)), items[i]...))
		}
		a.flush()
	}
	s.cfg.SegmentSize = 1 << 20
	put(0, 3)
	put(3, 6)
	s.seal()
	put(6, 9)
	put(9, 12)
	s.seal()
	if err := s.close(receipt{0, 12}, true); err != nil {
		t.Fatal(err)
	}
	for _, vouched := range []bool{true, false} {
		for _, name := range []string{segmentName(0), segmentName(6)} {
			path := filepath.Join(cfg.Dir, name)
			for size := range d.files[path].data {
				cut := d.clone()
				cut.files[path].data = cut.files[path].data[:size]
				if !vouched {
					delete(cut.files, filepath.Join(cfg.Dir, receipt{0, 12}.name()))
				}
				got, _, n := drain(t, cut, cfg)
				if vouched && n != 12 {
					t.Fatalf("%s cut to %d bytes: %d items told of, want 12", name, size, n)
				}
				got.check(t, 0, items, n)
				checkPrefix(t, got, name == segmentName(0))
				if t.Failed() {
					t.Fatalf("%s cut to %d bytes, vouched %v: %v, lost %v", name, size, vouched, got.order, got.losses)
				}
			}
		}
	}
}

// checkPrefix verifies that of the segment that was cut a prefix came back, and of the other one everything.
func checkPrefix(t *testing.T, got drained, firstCut bool) {
	t.Helper()
	from, other := uint64(0), uint64(6)
	if !firstCut {
		from, other = 6, 0
	}
	gap := false
	for seq := from; seq < from+6; seq++ {
		_, ok := got.items[seq]
		if ok && gap {
			t.Errorf("item %d came back, but not the one before", seq)
		}
		gap = gap || !ok
	}
	for seq := other; seq < other+6; seq++ {
		if _, ok := got.items[seq]; !ok {
			t.Errorf("item %d of the sound segment is gone", seq)
		}
	}
}

func TestImplausibleLengthsAreRefusedBeforeAnythingIsAllocated(t *testing.T) {
	bomb := append([]byte{typeCompressed, 0, 0, 0, 1, 2, 3, 4}, binary.AppendUvarint(nil, math.MaxUint32)...)
	bomb = append(bomb, 0)
	putUint24(bomb[1:], len(bomb)-chunkHeaderLen)
	buf := make([]byte, maxPayload)
	var err error
	if n := testing.AllocsPerRun(10, func() { _, err = decodeChunk(buf, bomb) }); err == nil || n > 5 {
		t.Errorf("decompression bomb: %v, %v allocations", err, n)
	}
	for _, tt := range []struct {
		name  string
		chunk string
	}{
		{"no data", "\x00\x04\x00\x00\x01\x02\x03\x04"},
		{"longer than a chunk can be", "\x00\xff\xff\xff"},
		{"a header", "\x80\x20\x00\x00"},
		{"a reserved type", "\x02\x20\x00\x00"},
		{"zeros", "\x00\x00\x00\x00"},
	} {
		if n, err := chunkLen([]byte(tt.chunk)); err == nil {
			t.Errorf("%s: taken for a chunk of %d bytes", tt.name, n)
		}
	}
}

// inParts returns a reader of a segment that holds one item in parts.
func inParts(t *testing.T, parts ...payload) *runReader {
	t.Helper()
	var chunks []byte
	for _, p := range parts {
		raw := make([]byte, payloadHeaderLen)
		putPayloadHeader(raw, p)
		chunks = appendChunk(chunks, append(raw, p.frames...), false)
	}
	d := newDisk()
	d.files["x"] = &inode{data: chunks}
	f, err := d.mount().Open("x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r := &runReader{}
	r.reset(f, 0, int64(len(chunks)))
	return r
}

func TestASmallItemInPartsIsRefused(t *testing.T) {
	frame := append([]byte{100}, make([]byte, 100)...)
	r := inParts(t, payload{offset: 0, frames: frame[:50]}, payload{offset: 50, count: 1, frames: frame[50:]})
	if got, err := r.next(make([]byte, maxPayload)); err == nil {
		t.Errorf("got %d items of %d bytes, want an error", got.count, len(got.frames))
	}
}

func TestAnItemInPartsGetsMemoryForWhatIsThereNotForWhatItClaims(t *testing.T) {
	for _, claim := range []uint64{10 * maxFrames, 1 << 40, math.MaxUint64} {
		frame := append(binary.AppendUvarint(nil, claim), make([]byte, maxFrames)...)[:maxFrames]
		r := inParts(t, payload{frames: frame}, payload{offset: maxFrames, frames: frame}, payload{offset: 2 * maxFrames, frames: frame})
		if _, err := r.next(make([]byte, maxPayload)); err == nil {
			t.Fatal("no error")
		}
		if len(r.part) != framesAt+3*maxFrames || cap(r.part) > 3*len(r.part) {
			t.Errorf("an item that claims %d bytes, of which %d are there, has %d bytes of memory", claim, len(r.part), cap(r.part))
		}
	}
}

func TestALargeItemThatIsSkippedLeavesNoMemoryBehind(t *testing.T) {
	frame := append(binary.AppendUvarint(nil, 4*maxFrames), make([]byte, 4*maxFrames)...)
	parts := make([]payload, 5)
	for i := range parts {
		parts[i] = payload{offset: uint64(i * maxFrames), frames: frame[i*maxFrames : min(len(frame), (i+1)*maxFrames)]}
	}
	parts[4].count = 1
	r := inParts(t, parts...)
	if got, err := r.next(make([]byte, maxPayload)); err != nil || len(got.frames) != len(frame) {
		t.Fatalf("got %d bytes, %v", len(got.frames), err)
	}
	if cap(r.part) > 0 {
		t.Errorf("the reader keeps %d bytes", cap(r.part))
	}
}

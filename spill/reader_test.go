package spill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A tape is a store that has its extents ready, one for each Read. An Extent
// without anything stands for an error that will pass, and so does its end.
type tape struct {
	Store
	extents []Extent
	asked   []string // what each Read was asked for
}

var errNotNow = errors.New("not now")

func (s *tape) Read(_ context.Context, seq uint64, from Position, buf []byte) (Extent, error) {
	if len(buf) < MaxChunk {
		panic("no room for a chunk")
	}
	s.asked = append(s.asked, fmt.Sprintf("%d %s:%d", seq, from.Path, from.Offset))
	if len(s.extents) == 0 {
		return Extent{}, errNotNow
	}

	ext := s.extents[0]
	s.extents = s.extents[1:]
	if cmp.Equal(ext, Extent{}) {
		return Extent{}, errNotNow
	}
	if len(ext.Chunks) <= len(buf) { // else they stay in memory of the store's own
		ext.Chunks = buf[:copy(buf, ext.Chunks)]
	}
	return ext, nil
}

// largeSize is the size of items from 100 on: they take three chunks.
const largeSize = 150_000

// testItem returns the item of a number. No two are alike.
func testItem(seq uint64) []byte {
	item := fmt.Appendf(nil, "item %d", seq)
	if seq >= 100 {
		item = append(item, randomBytes(byte(seq), largeSize-len(item))...)
	}
	return item
}

// chunk returns the chunk of some small items.
func chunk(first uint64, items int) []byte {
	p := Payload{First: first, Count: uint32(items), Tag: testTag}
	for seq := first; seq < p.End(); seq++ {
		p.Frames = appendFrame(p.Frames, testItem(seq))
	}
	return chunkOf(p, false)
}

// parts returns the three chunks of a large item.
func parts(seq uint64) [][]byte { return chunksOf(NewBatch(testLabel, seq, testItem(seq))) }

func flipped(chunk []byte) []byte {
	chunk = bytes.Clone(chunk)
	chunk[len(chunk)-1] ^= 1
	return chunk
}

// extent returns an extent in the piece p.
func extent(end uint64, offset int64, chunks ...[]byte) Extent {
	return Extent{
		Chunks: slices.Concat(chunks...), At: Position{Path: "p", Offset: offset}, End: end,
	}
}

// readAll returns what a reader finds from item next on until the store has no
// more: runs of items, losses, and errors but for the last.
func readAll(t *testing.T, s *tape, next uint64) (found []string) {
	t.Helper()
	r := reader{store: s, tag: testTag}
	r.seek(next, Position{})
	into := getBuffer()

	for calls := 0; ; calls++ {
		if calls > 1000 {
			t.Fatalf("the reader does not come to an end: %q", found)
		}
		had := len(s.extents)
		got, err := r.next(t.Context(), into)
		switch {
		case err != nil && had == 0:
			r.drop()
			return found
		case err != nil:
			found = append(found, err.Error())
		case got != nil:
			found = append(found, describe(t, got))
			next = checkOrder(t, got, next)
		}
	}
}

func describe(t *testing.T, got *loaded) string {
	t.Helper()
	if e := got.lost; e != nil {
		return fmt.Sprintf("lost %d-%d %s:%d %v", e.First, e.First+e.Items, e.Path, e.Offset, e.Err)
	}

	c := got.cursor()
	s := fmt.Sprintf("%d-%d %s:%d", c.Seq, got.end(), c.Path, c.Offset)
	for ; c.Left > 0; c.Advance() {
		item, parked := c.Item()
		if parked || !bytes.Equal(item, testItem(c.Seq)) {
			t.Fatalf("item %d is %.40q", c.Seq, item)
		}
	}
	return s
}

// checkOrder checks that nothing comes twice, and returns what is to come next.
func checkOrder(t *testing.T, got *loaded, next uint64) uint64 {
	t.Helper()
	if got.next < next {
		t.Fatalf("item %d comes again", got.next)
	}
	if got.lost != nil {
		return got.next + got.lost.Items
	}
	return got.end()
}

func TestAReaderFindsEveryItemOrReportsItsLoss(t *testing.T) {
	c5, c8, c10 := chunk(5, 3), chunk(8, 2), chunk(10, 2)
	n5, n8 := int64(len(c5)), int64(len(c8))
	big := parts(100)
	b0, b1 := int64(len(big[0])), int64(len(big[1]))
	other := parts(101)

	foreign := chunkOf(Payload{First: 8, Count: 2, Tag: testTag + 1, Frames: []byte("\x00\x00")},
		true)
	inParts := func(at uint64, count uint32, frames string) []byte {
		return chunkOf(Payload{8, at, count, testTag, []byte(frames)}, true)
	}
	damage := errors.New("damage")

	for _, tt := range []struct {
		name    string
		next    uint64
		extents []Extent
		want    []string
	}{
		{"one extent", 5, []Extent{extent(12, 0, c5, c8, c10)},
			[]string{"5-8 p:0", fmt.Sprint("8-10 p:", n5), fmt.Sprint("10-12 p:", n5+n8)}},
		{"from the middle of a run", 6, []Extent{extent(10, 0, c5, c8)},
			[]string{"6-8 p:0", fmt.Sprint("8-10 p:", n5)}},
		{"a run that isn't needed any more", 8, []Extent{extent(10, 0, c5, c8)},
			[]string{fmt.Sprint("8-10 p:", n5)}},
		{"damage to what isn't needed any more", 8, []Extent{extent(10, 0, flipped(c5), c8)},
			[]string{fmt.Sprint("8-10 p:", n5)}},

		{"a damaged run", 5, []Extent{extent(12, 7, c5, flipped(c8), c10)},
			[]string{"5-8 p:7", fmt.Sprintf("lost 8-10 p:%d checksum mismatch", 7+n5),
				fmt.Sprint("10-12 p:", 7+n5+n8)}},
		{"a damaged run at the beginning", 5, []Extent{extent(10, 0, flipped(c5), c8)},
			[]string{"lost 5-8 p:0 checksum mismatch", fmt.Sprint("8-10 p:", n5)}},
		{"a damaged run, of which one item was needed", 7, []Extent{extent(10, 0, flipped(c5), c8)},
			[]string{"lost 7-8 p:0 checksum mismatch", fmt.Sprint("8-10 p:", n5)}},
		{"a damaged run at the end", 5, []Extent{extent(10, 0, c5, flipped(c8))},
			[]string{"5-8 p:0", fmt.Sprintf("lost 8-10 p:%d checksum mismatch", n5)}},
		{"two damaged runs in a row", 5, []Extent{extent(12, 0, flipped(c5), flipped(c8), c10)},
			[]string{"lost 5-10 p:0 checksum mismatch", fmt.Sprint("10-12 p:", n5+n8)}},
		{"damage on both sides of a run", 5, []Extent{extent(12, 0, flipped(c5), c8, flipped(c10))},
			[]string{"lost 5-8 p:0 checksum mismatch", fmt.Sprint("8-10 p:", n5),
				fmt.Sprintf("lost 10-12 p:%d checksum mismatch", n5+n8)}},
		{"a run of another kind", 5, []Extent{extent(12, 0, c5, foreign, c10)},
			[]string{"5-8 p:0", fmt.Sprintf("lost 8-10 p:%d %v", n5, errTag),
				fmt.Sprint("10-12 p:", n5+int64(len(foreign)))}},

		{"a run is missing", 5, []Extent{extent(12, 0, c5, c10)},
			[]string{"5-8 p:0", fmt.Sprintf("lost 8-10 p:%d items are missing", n5),
				fmt.Sprint("10-12 p:", n5)}},
		{"runs are missing at the end", 5, []Extent{extent(12, 0, c5)},
			[]string{"5-8 p:0", "lost 8-12 :0 items are missing"}},
		{"the second of two losses has its own reason", 5,
			[]Extent{extent(12, 0, flipped(c5), c8), extent(14, 0)},
			[]string{"lost 5-8 p:0 checksum mismatch", fmt.Sprint("8-10 p:", n5),
				"lost 10-12 :0 items are missing", "lost 12-14 :0 items are missing"}},

		{"no chunk where one should begin", 5,
			[]Extent{extent(0, 0, c5, []byte("\xff\xff\xff\xffjunk"), c8), extent(12, 99, c10)},
			[]string{"5-8 p:0",
				fmt.Sprintf("lost 8-10 p:%d no chunk where one should begin: type 0xff", n5),
				"10-12 p:99"}},
		{"a torn chunk", 5, []Extent{extent(10, 0, c5, c8[:n8-1])},
			[]string{"5-8 p:0", fmt.Sprintf("lost 8-10 p:%d %v", n5, ErrTorn)}},
		{"a torn header", 5, []Extent{extent(10, 0, c5, c8[:3])},
			[]string{"5-8 p:0", fmt.Sprintf("lost 8-10 p:%d %v", n5, ErrTorn)}},

		{"a store that can't read on", 5,
			[]Extent{extent(0, 0, c5), {At: Position{"p", 50}, End: 10, Err: damage},
				extent(12, 60, c10)},
			[]string{"5-8 p:0", "lost 8-10 p:50 damage", "10-12 p:60"}},
		{"the reason of the store is the first", 5,
			[]Extent{extent(0, 0, flipped(c5)), {At: Position{"p", 50}, End: 10, Err: damage}},
			[]string{"lost 5-10 p:0 checksum mismatch"}},
		{"a notice that costs nothing", 5,
			[]Extent{{At: Position{"p", 3}, Err: damage}, extent(8, 4, c5)},
			[]string{"lost 5-5 p:3 damage", "5-8 p:4"}},
		{"a loss of what is done", 5,
			[]Extent{{At: Position{"p", 3}, End: 5, Err: damage}, extent(8, 4, c5)},
			[]string{"internal error: the store has nothing where it should have items", "5-8 p:4"}},

		{"numbers were skipped", 2,
			[]Extent{{First: 5, Chunks: c5, At: Position{"p", 0}, End: 8}}, []string{"5-8 p:0"}},
		{"numbers were skipped and the rest can't be read", 2,
			[]Extent{{First: 5, At: Position{"p", 0}, End: 8, Err: damage}},
			[]string{"lost 5-8 p:0 damage"}},
		{"items were trimmed meanwhile", 2, []Extent{{First: 8, End: 8}, extent(10, 0, c8)},
			[]string{"8-10 p:0"}},
		{"all items were trimmed meanwhile", 2, []Extent{{First: 8, End: 8}}, nil},
		{"a first number that is known already", 5,
			[]Extent{{First: 3, Chunks: c5, At: Position{"p", 0}, End: 8}}, []string{"5-8 p:0"}},

		{"an item comes twice", 5, []Extent{extent(0, 0, c5, c5), extent(10, 50, c5, c8)},
			[]string{"5-8 p:0", fmt.Sprint("8-10 p:", 50+n5)}},
		{"items come again with other bounds", 5, []Extent{extent(12, 0, c5, chunk(6, 6))},
			[]string{"5-8 p:0", fmt.Sprint("8-12 p:", n5)}},
		{"a damaged run comes again", 5, []Extent{extent(10, 0, flipped(c5), chunk(5, 5))},
			[]string{fmt.Sprint("5-10 p:", n5)}},

		{"not now", 5, []Extent{{}, extent(0, 0, c5), {}, {}, extent(10, n5, c8)},
			[]string{"not now", "5-8 p:0", "not now", "not now", fmt.Sprint("8-10 p:", n5)}},
		{"a store that has nothing", 5, []Extent{{At: Position{"p", 3}}, extent(8, 4, c5)},
			[]string{"internal error: the store has nothing where it should have items",
				"5-8 p:4"}},
		{"a store that has nothing up to where the reader is", 5,
			[]Extent{{At: Position{"p", 3}, End: 5}, extent(8, 4, c5)},
			[]string{"internal error: the store has nothing where it should have items",
				"5-8 p:4"}},

		{"a large item", 100, []Extent{extent(101, 0, big...)}, []string{"100-101 p:0"}},
		{"a large item part by part", 100,
			[]Extent{extent(0, 0, big[0]), extent(0, b0, big[1]), extent(101, b0+b1, big[2])},
			[]string{"100-101 p:0"}},
		{"two large items", 100, []Extent{extent(0, 0, big...), extent(102, 900, other...)},
			[]string{"100-101 p:0", "101-102 p:900"}},
		{"a large item that isn't needed any more", 101,
			[]Extent{extent(0, 0, big...), extent(102, 900, other...)}, []string{"101-102 p:900"}},
		{"a large item without its first part", 100,
			[]Extent{extent(0, 0, big[1:]...), extent(102, 900, other...)},
			[]string{"lost 100-101 p:0 part of an item whose other parts are missing",
				"101-102 p:900"}},
		{"a large item without its second part", 100,
			[]Extent{extent(0, 0, big[0], big[2]), extent(102, 900, other...)},
			[]string{fmt.Sprintf("lost 100-101 p:%d part of an item whose other parts are missing", b0),
				"101-102 p:900"}},
		{"a large item without its last part", 100,
			[]Extent{extent(0, 0, big[0], big[1]), extent(102, 900, other...)},
			[]string{"lost 100-101 p:900 items are missing", "101-102 p:900"}},
		{"a large item whose end is missing", 100, []Extent{extent(101, 0, big[0], big[1])},
			[]string{"lost 100-101 :0 items are missing"}},
		{"the rest of a large item comes too late", 100,
			[]Extent{extent(101, 0, big[0], big[1]),
				extent(102, 9, slices.Concat([][]byte{big[2]}, other)...)},
			[]string{"lost 100-101 :0 items are missing", fmt.Sprint("101-102 p:", 9+len(big[2]))}},
		{"a damaged part", 100, []Extent{extent(101, 0, big[0], flipped(big[1]), big[2])},
			[]string{fmt.Sprintf("lost 100-101 p:%d checksum mismatch", b0)}},
		{"shuffled parts", 100, []Extent{extent(101, 0, big[1], big[0], big[2])},
			[]string{"lost 100-101 p:0 part of an item whose other parts are missing"}},
		{"a part that comes twice", 100, []Extent{extent(101, 0, big[0], big[1], big[1], big[2])},
			[]string{fmt.Sprintf("lost 100-101 p:%d part of an item whose other parts are missing", b0+b1)}},
		{"a first part that comes twice", 100,
			[]Extent{extent(101, 0, big[0], big[0], big[1], big[2])},
			[]string{fmt.Sprint("100-101 p:", b0)}},
		{"parts of two items mixed", 100,
			[]Extent{extent(102, 0, big[0], other[1], big[2], other[0], other[1], other[2])},
			[]string{fmt.Sprintf("lost 100-101 p:%d part of an item whose other parts are missing", b0),
				fmt.Sprint("101-102 p:", b0+int64(len(other[1])+len(big[2])))}},
		{"small items between the parts", 8, []Extent{extent(101, 0, inParts(0, 0, "x"), c8,
			chunkOf(Payload{10, 0, 90, testTag, framesOf(items(10, 100)...)}, false),
			big[0], big[1], big[2])},
			[]string{fmt.Sprint("8-10 p:", len(inParts(0, 0, "x"))),
				fmt.Sprint("10-100 p:", len(inParts(0, 0, "x"))+int(n8)),
				fmt.Sprint("100-101 p:", len(inParts(0, 0, "x"))+int(n8)+
					len(chunkOf(Payload{10, 0, 90, testTag, framesOf(items(10, 100)...)},
						false)))}},
		{"a small item in parts", 8,
			[]Extent{extent(12, 0, inParts(0, 0, "\x06it"), inParts(3, 1, "em 8"), c10)},
			[]string{"lost 8-10 p:0 small item in parts",
				fmt.Sprint("10-12 p:", len(inParts(0, 0, "\x06it"))+len(inParts(3, 1, "em 8")))}},
		{"an item in parts that just fits into a chunk", 8, []Extent{extent(9, 0,
			inParts(0, 0, "\xe5\xff\x03"+string(make([]byte, 60_000))),
			inParts(60_003, 1, string(make([]byte, maxFrames-60_003))))},
			[]string{"lost 8-9 p:0 small item in parts"}},
		{"a large item that claims to be larger", 8, []Extent{extent(9, 0,
			inParts(0, 0, "\xff\xff\x7f"+string(make([]byte, 60_000))),
			inParts(60_003, 1, string(make([]byte, 60_000))))},
			[]string{"lost 8-9 p:0 malformed frame"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readAll(t, &tape{extents: tt.extents}, tt.next)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func items(first, end uint64) (all [][]byte) {
	for seq := first; seq < end; seq++ {
		all = append(all, testItem(seq))
	}
	return all
}

func TestItDoesNotMatterWhereAStoreEndsItsExtents(t *testing.T) {
	chunks := [][]byte{chunk(97, 2), flipped(chunk(99, 1))}
	chunks = append(chunks, parts(100)...)
	chunks = append(chunks, parts(101)[0], parts(101)[2], flipped(parts(102)[0]), parts(103)[2])
	last := uint64(104)

	var want []string
	for cuts := range 1 << (len(chunks) - 1) {
		var extents []Extent
		offset, from := int64(0), 0
		for i := range chunks {
			if cuts>>i&1 == 0 && i < len(chunks)-1 {
				continue
			}
			extents = append(extents, extent(0, offset, chunks[from:i+1]...))
			offset += int64(len(extents[len(extents)-1].Chunks))
			from = i + 1
		}
		extents[len(extents)-1].End = last

		got := readAll(t, &tape{extents: extents}, 97)
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("with %d extents (-one extent +got):\n%s", len(extents), diff)
		}
	}
	if len(want) != 4 { // items 97 and 98, the loss of 99, item 100, the loss of the rest
		t.Errorf("found %q", want)
	}
}

func TestAReadGoesOnWhereTheLastOneEnded(t *testing.T) {
	c5, c8 := chunk(5, 3), chunk(8, 2)
	n := int64(len(c5))
	s := &tape{extents: []Extent{
		extent(0, 7, c5), // more follows
		{},               // which can't be read now
		extent(10, 7+n, c8),
		extent(12, 0, chunk(10, 2)), // a new piece: no position
		{At: Position{"p", 40}, Err: errors.New("a notice")},
		extent(0, 41, c5, []byte("junk and more")),
		{First: 20, End: 20},
		extent(0, 0, []byte("junk")),
	}}

	r := reader{store: s, tag: testTag}
	r.seek(5, Position{"q", 3})
	into := getBuffer()
	for len(s.extents) > 0 {
		_, _ = r.next(t.Context(), into)
	}

	behind := 41 + n + int64(len("junk and more"))
	want := []string{
		"5 q:3", fmt.Sprint("8 p:", 7+n), fmt.Sprint("8 p:", 7+n), "10 :0",
		"12 :0", "12 :0", fmt.Sprint("12 p:", behind), "20 :0", "20 p:4",
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("Reads (-want +got):\n%s", diff)
	}
}

func TestAnItemInPartsGetsMemoryForWhatIsThereNotForWhatItClaims(t *testing.T) {
	for _, claim := range []uint64{10 * maxFrames, 1 << 40, math.MaxUint64} {
		frame := append(binary.AppendUvarint(nil, claim), make([]byte, maxFrames)...)[:maxFrames]
		var chunks [][]byte
		for i := range uint64(3) {
			chunks = append(chunks, chunkOf(Payload{5, i * maxFrames, 0, testTag, frame}, false))
		}
		s := &tape{extents: []Extent{extent(0, 0, chunks[0]), extent(0, 0, chunks[1]),
			extent(0, 0, chunks[2])}}

		r := reader{store: s, tag: testTag}
		r.seek(5, Position{})
		if _, err := r.next(t.Context(), getBuffer()); err != errNotNow {
			t.Fatal(err)
		}
		if n := len(r.part.buf); n != framesAt+3*maxFrames || cap(r.part.buf) > 3*n {
			t.Errorf("an item that claims %d bytes, of which %d are there, has %d bytes of memory",
				claim, n, cap(r.part.buf))
		}
	}
}

func TestALargeItemGetsTheMemoryThatItNeeds(t *testing.T) {
	s := &tape{extents: []Extent{extent(101, 0, parts(100)...)}}
	r := reader{store: s, tag: testTag}
	r.seek(100, Position{})

	got, err := r.next(t.Context(), getBuffer())
	if err != nil || len(got.frames()) != len(framesOf(testItem(100))) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if have, need := cap(got.buf), len(got.buf); have > need+need/4 {
		t.Errorf("an item of %d bytes takes %d bytes", need, have)
	}
	if r.part.buf != nil {
		t.Error("the reader keeps the memory of an item that was found")
	}
}

func TestDroppedReadersHoldNothing(t *testing.T) {
	s := &tape{extents: []Extent{extent(0, 0, parts(100)[:2]...)}}
	r := reader{store: s, tag: testTag}
	r.seek(100, Position{})
	_, _ = r.next(t.Context(), getBuffer())
	if r.buf == nil || r.part.buf == nil {
		t.Fatal("nothing was read: the test is of no use")
	}

	r.drop()
	if r.buf != nil || r.rest != nil || r.part.buf != nil {
		t.Error("the reader holds memory")
	}
	if r.seq != 100 {
		t.Errorf("the reader stands at item %d, want 100", r.seq)
	}
}

func TestItemsYieldsItemsAndLosses(t *testing.T) {
	parked := chunkOf(Payload{10, 0, 2, testTag,
		slices.Concat(placeholder, framesOf(testItem(11)))}, true)
	s := &tape{extents: []Extent{
		extent(0, 0, chunk(5, 3), flipped(chunk(8, 2))), extent(12, 99, parked), {First: 14,
			End: 14},
	}}

	var got []string
	for item, err := range Items(t.Context(), s, testLabel, Range{Next: 6, End: 14}) {
		got = append(got, fmt.Sprintf("%d %q %v %v", item.Seq, item.Bytes, item.Parked, err))
	}
	want := []string{
		`6 "item 6" false <nil>`, `7 "item 7" false <nil>`,
		fmt.Sprintf(`0 "" false spill: p at offset %d: checksum mismatch: items 8 to 9 lost (2)`,
			len(chunk(5, 3))),
		`10 "" true <nil>`, `11 "item 11" false <nil>`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Items (-want +got):\n%s", diff)
	}
}

func TestItemsEndsWithAnErrorOfTheStore(t *testing.T) {
	s := &tape{extents: []Extent{extent(0, 0, chunk(5, 3)), {}, extent(10, 9, chunk(8, 2))}}
	n, last := 0, error(nil)
	for _, err := range Items(t.Context(), s, testLabel, Range{Next: 5, End: 10}) {
		n, last = n+1, err
	}
	if n != 4 || !errors.Is(last, errNotNow) || last.Error() != "spill: read item 8: not now" {
		t.Errorf("%d items and errors, the last %v", n, last)
	}
}

func TestItemsCanBeLeftEarly(t *testing.T) {
	s := &tape{extents: []Extent{extent(0, 0, chunk(5, 3)),
		extent(0, 9, flipped(chunk(8, 2)), chunk(10, 2))}}
	n := 0
	for _, err := range Items(t.Context(), s, testLabel, Range{Next: 5, End: 12}) {
		if n++; n == 2 || err != nil {
			break
		}
	}
	if n != 2 || len(s.extents) != 1 {
		t.Errorf("%d items, %d extents left", n, len(s.extents))
	}

	s.extents = []Extent{extent(0, 9, flipped(chunk(8, 2)), chunk(10, 2))}
	for _, err := range Items(t.Context(), s, testLabel, Range{Next: 8, End: 12}) {
		if err == nil {
			t.Error("items go on after the loop was left")
		}
		break
	}
}

func TestAStoreThatIsEmptyIsNotRead(t *testing.T) {
	s := &tape{}
	for item, err := range Items(t.Context(), s, testLabel, Range{Next: 5, End: 5}) {
		t.Errorf("%+v, %v", item, err)
	}
	if len(s.asked) > 0 {
		t.Errorf("asked for %q", s.asked)
	}
}

func TestCorruptErrorsSayWhatWasLostWhereAndWhy(t *testing.T) {
	why := errors.New("checksum mismatch")
	for _, tt := range []struct {
		e    CorruptError
		want string
	}{
		{CorruptError{"p", 7, 3, 0, why}, "spill: p at offset 7: checksum mismatch: no item lost"},
		{CorruptError{"p", 7, 3, 1, why}, "spill: p at offset 7: checksum mismatch: item 3 lost"},
		{CorruptError{"p", 0, 3, 2, why},
			"spill: p at offset 0: checksum mismatch: items 3 to 4 lost (2)"},
		{CorruptError{"", 7, 3, 1, why}, "spill: checksum mismatch: item 3 lost"},
	} {
		if got := tt.e.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if !errors.Is(&tt.e, ErrCorrupt) || !errors.Is(&tt.e, why) || errors.Is(&tt.e, ErrFull) {
			t.Errorf("%v matches what it should not, or not what it should", &tt.e)
		}
	}

	label := LabelError{"p", "a", "b"}
	want := `spill: p holds items of another kind: it was written as "a", this is "b"`
	if got := label.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALossOfItemsThatAreDoneIsNotTold(t *testing.T) {
	for _, tt := range []struct {
		first, items, done uint64
		told               bool
		want               [2]uint64
	}{
		{5, 3, 0, true, [2]uint64{5, 3}},
		{5, 3, 5, true, [2]uint64{5, 3}},
		{5, 3, 6, true, [2]uint64{6, 2}},
		{5, 3, 7, true, [2]uint64{7, 1}},
		{5, 3, 8, false, [2]uint64{8, 0}},
		{5, 3, 100, false, [2]uint64{8, 0}},
		{5, 0, 5, true, [2]uint64{5, 0}}, // a notice
		{5, 0, 9, true, [2]uint64{5, 0}},
	} {
		e := CorruptError{First: tt.first, Items: tt.items}
		told := e.clip(tt.done)
		if got := [2]uint64{e.First, e.Items}; told != tt.told || told && got != tt.want {
			t.Errorf("%d items from %d, those below %d are done: %v, %v, want %v, %v",
				tt.items, tt.first, tt.done, told, got, tt.told, tt.want)
		}
	}
}

// hostile makes extents of what a script says, out of chunks that hold the
// items of testItem and others that are damaged.
func hostile(script []byte) (extents []Extent) {
	chunks := [][]byte{
		chunk(5, 3), chunk(8, 2), chunk(10, 2), chunk(6, 7), chunk(0, 20), chunk(7, 1), chunk(98,
			2),
		chunkOf(Payload{8, 0, 2, testTag + 1, []byte("\x00\x00")}, true),
		chunkOf(Payload{8, 0, 0, testTag, []byte("\x06it")}, true),
		chunkOf(Payload{8, 3, 1, testTag, []byte("em 8")}, true),
		chunkOf(Payload{8, 0, 0, testTag, binary.AppendUvarint(nil, math.MaxUint64)}, true),
		flipped(chunk(12, 4)), []byte("\x00\xff\xff\xff"), []byte("\x01"), claiming(1 << 30),
	}
	chunks = append(chunks, fuzzParts...)
	ends := []uint64{0, 0, 0, 5, 8, 10, 20, 100, 101, 102, MaxSeq, math.MaxUint64}

	for len(script) >= 4 && len(extents) < 64 {
		op, n, first, end := script[0], int(script[1]%4), script[2], script[3]
		script = script[4:]
		ext := Extent{At: Position{"p", int64(end) << (first % 50)}, End: ends[int(end)%len(ends)]}
		if op&1 != 0 {
			ext.First = ends[int(first)%(len(ends)-1)]
		}
		if op&6 == 6 {
			ext.Err = errors.New("damage")
		}

		for range min(n, len(script)) {
			ext.Chunks = append(ext.Chunks, chunks[int(script[0])%len(chunks)]...)
			script = script[1:]
		}
		if op&8 != 0 && len(ext.Chunks) > 0 {
			at := int(first) * len(ext.Chunks) / 256
			ext.Chunks[at] ^= 1 << (op >> 5)
		}
		if op&16 != 0 { // the script itself
			ext.Chunks = append(ext.Chunks, script[:min(len(script), 40)]...)
		}
		extents = append(extents, ext)
	}
	return extents
}

var fuzzParts = slices.Concat(parts(100), parts(101))

func FuzzReader(f *testing.F) {
	f.Add(byte(5), []byte("\x00\x03\x00\x05\x00\x01\x02\x00\x03\x00\x09\x0f\x10\x11"))
	f.Add(byte(5), []byte("\x06\x00\x00\x00\x00\x02\x00\x00\x08\x09\x00\x01\x00\x05\x02"))
	f.Add(byte(0),
		[]byte("\x01\x03\x05\x00\x0f\x13\x11\x08\x03\x40\x00\x0f\x10\x11\x1a\x02\x09\x0b\x06\x0c"))
	f.Add(byte(100),
		[]byte("\x00\x03\x00\x00\x0f\x12\x10\x00\x03\x00\x08\x0f\x10\x11\x00\x03\x00\x09\x12\x13\x14"))

	f.Fuzz(func(t *testing.T, next byte, script []byte) {
		extents := hostile(script)
		s := &tape{extents: extents}
		readAll(t, s, uint64(next)) // checks each item and the order
	})
}

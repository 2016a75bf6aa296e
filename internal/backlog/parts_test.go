package backlog

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAQueueIsFirstInFirstOut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q queue[int]
	in, out := 0, 0
	for range 20_000 {
		switch n := r.IntN(400); {
		case r.IntN(2) == 0:
			for range n {
				if p := q.push(in); *p != in {
					t.Fatalf("item %d stands where %d does", in, *p)
				}
				in++
			}
		default:
			for end := min(out+n, in); out < end; {
				front := q.front()
				k := min(len(front), end-out, 1+r.IntN(8))
				for _, got := range front[:k] {
					if got != out {
						t.Fatalf("item %d comes, want %d", got, out)
					}
					out++
				}
				q.pop(k)
			}
		}
		if q.n != in-out {
			t.Fatalf("%d items, want %d", q.n, in-out)
		}
		if r.IntN(50) == 0 {
			q.rest()
		}
	}
}

func TestAnItemThatWasPushedCanBeTakenBack(t *testing.T) {
	var q queue[int]
	for i := range 100 { // over the end of several blocks
		q.push(-1)
		q.unpush()
		q.push(i)
		q.push(-1)
		q.unpush()
	}

	for i := range 100 {
		if got := *q.head(); got != i {
			t.Fatalf("head is %d, want %d", got, i)
		}
		q.pop(1)
	}
	if q.n != 0 {
		t.Errorf("%d items are left", q.n)
	}
}

func TestAQueueListsItsItemsFromAnyOn(t *testing.T) {
	var q queue[int]
	for i := range 100 {
		q.push(i)
	}
	for range 30 {
		q.pop(1)
	}

	for _, from := range []int{0, 1, 10, 69, 70, 71} {
		var got, want []int
		q.from(from, func(e *int) { got = append(got, *e) })
		for i := 30 + from; i < 100; i++ {
			want = append(want, i)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("from %d (-want +got):\n%s", from, d)
		}
	}
}

func TestAnEmptyQueueKeepsNoMoreThanASmallBlock(t *testing.T) {
	var q queue[[64]byte]
	for range 1000 {
		q.push([64]byte{})
	}
	for q.n > 0 {
		q.pop(1)
	}
	if q.spare != nil && cap(q.spare.items) > 48 || q.first != nil && cap(q.first.items) > 48 {
		t.Error("it keeps a large block")
	}

	q.push([64]byte{})
	q.pop(1)
	if q.first == nil {
		t.Error("it does not keep a small block")
	}
	q.rest()
	if q.first != nil || q.last != nil {
		t.Error("it keeps a block at rest")
	}
}

func TestAnEmptyQueueKeepsBlocksUpToThreeKilobytes(t *testing.T) {
	const most = keptBytes / 8
	for n, kept := range map[int]bool{most: true, most + 1: false} {
		b := &block[uint64]{items: make([]uint64, 1, n)}
		q := queue[uint64]{first: b, last: b, n: 1, spare: &block[uint64]{items: make([]uint64, 0, n)}}
		if q.pop(1); (q.last != nil) != kept || (q.spare != nil) != kept {
			t.Errorf("of blocks of %d items it keeps the last %v, the spare one %v", n,
				q.last != nil, q.spare != nil)
		}
	}
}

func TestBlocksGrowUpToSixteenKilobytes(t *testing.T) {
	var q queue[[8]byte]
	most := 0
	for range 20_000 {
		q.push([8]byte{})
		most = max(most, cap(q.last.items))
	}
	if first := cap(q.first.items); first != smallItems {
		t.Errorf("the first block has %d items, want %d", first, smallItems)
	}
	if want := blockBytes / 8; most != want {
		t.Errorf("the largest block has %d items, want %d", most, want)
	}

	var large queue[[20_000]byte]
	large.push([20_000]byte{})
	if got := cap(large.first.items); got != 1 {
		t.Errorf("a block of large items has %d, want 1", got)
	}
}

func TestAWindowCountsWhatItHolds(t *testing.T) {
	t.Run("fixed size", func(t *testing.T) { checkWindow(t, []uint64{1, 2, 3}, []int64{8, 8, 8}) })
	t.Run("no size", func(t *testing.T) { checkWindow(t, make([]struct{}, 3), []int64{1, 1, 1}) })
	t.Run("strings", func(t *testing.T) { checkWindow(t, []string{"", "a", "abc"}, []int64{16, 17, 19}) })
	t.Run("bytes", func(t *testing.T) {
		checkWindow(t, [][]byte{nil, make([]byte, 1, 100), {1, 2}}, []int64{24, 124, 26})
	})
	t.Run("structs", func(t *testing.T) {
		type s struct{ A, B string }
		checkWindow(t, []s{{}, {"ab", "c"}}, []int64{32 + 8, 35 + 8})
	})
}

func checkWindow[T any](t *testing.T, items []T, sizes []int64) {
	w := newWindow[T](1 << 20)
	told := w.size == nil || w.repeats // an item's size needs no place of its own
	total := int64(0)
	for i, v := range items {
		if got := w.sizeOf(&v); got != sizes[i] {
			t.Errorf("item %d takes %d bytes, want %d", i, got, sizes[i])
		}
		if w.pushWithin(total+sizes[i]-1, v) {
			t.Errorf("item %d fits into a byte less than it takes", i)
		}
		if !w.pushWithin(total+sizes[i], v) {
			t.Errorf("item %d does not fit into what it takes", i)
		}
		if (w.sizes.n == 0) != told {
			t.Errorf("%d sizes are kept", w.sizes.n)
		}
		if total += sizes[i]; w.bytes != total || w.len() != i+1 {
			t.Errorf("%d items take %d bytes, want %d and %d", w.len(), w.bytes, i+1, total)
		}
	}

	for _, size := range sizes[:len(sizes)-2] {
		w.pop(1)
		if total -= size; w.bytes != total {
			t.Errorf("%d bytes, want %d", w.bytes, total)
		}
	}
	if w.pop(2); w.bytes != 0 {
		t.Errorf("%d bytes, want none", w.bytes)
	}
}

func TestAnItemThatChangesWhileItWaitsIsCountedAsItCame(t *testing.T) {
	w := newWindow[*[]byte](1 << 20)
	b := make([]byte, 1000)
	w.push(&b)
	b = make([]byte, 10)
	w.pop(1)
	if w.bytes != 0 {
		t.Errorf("an empty window takes %d bytes", w.bytes)
	}
}

func TestALotGivesItemsBackByNumber(t *testing.T) {
	var l lot[string]
	size := func(v *string) int64 { return int64(len(*v)) }
	why := errors.New("no")
	l.park(5, "five", size, why)
	l.park(9, "nine!", size, why)
	if l.len() != 2 || l.bytes != 4+5+2*placeBytes || l.why != why {
		t.Errorf("%+v", l)
	}

	if _, ok := l.take(4); ok {
		t.Error("item 4 was never parked")
	}
	if seq, ok := l.oldest(); !ok || seq != 5 {
		t.Errorf("the oldest is %d, %v, want 5", seq, ok)
	}
	if v, ok := l.take(5); !ok || v != "five" {
		t.Errorf("item 5 is %q, %v", v, ok)
	}
	if l.len() != 2 || l.bytes != 5+placeBytes {
		t.Errorf("with one taken: %+v", l)
	}
	l.done(5)
	if l.len() != 2 {
		t.Error("item 5 is done before it is")
	}
	l.done(6)
	if l.len() != 1 {
		t.Error("item 5 is not done")
	}
	if v, ok := l.take(9); !ok || v != "nine!" {
		t.Errorf("item 9 is %q, %v", v, ok)
	}
	l.done(10)
	if _, ok := l.oldest(); ok || l.len() != 0 || l.bytes != 0 || l.why != nil {
		t.Errorf("an empty lot: %+v", l)
	}
}

func TestAgesAreExactToFiveMillisecondsInTheWindow(t *testing.T) {
	var a ages
	times := make([]time.Duration, 5000)
	for i := range times {
		a.now += time.Duration(i%13) * time.Millisecond
		times[i] = a.now
		if a.due() {
			a.mark(uint64(i), uint64(len(times)))
		}
	}
	for i, at := range times {
		if early := at - a.of(uint64(i)); early < 0 || early >= minMark {
			t.Fatalf("item %d is said to be received %v early", i, early)
		}
	}
}

func TestThereIsAMarkOnlySoOften(t *testing.T) {
	var a ages
	for i := range 1000 {
		a.now = time.Duration(i) * time.Millisecond
		if a.due() {
			a.mark(uint64(i), 0)
		}
	}
	if n := len(a.marks); n != 200 {
		t.Errorf("%d marks in a second, want 200", n)
	}
}

func TestMarksAreThinnedOutWhenTheyAreMany(t *testing.T) {
	var a ages
	for i := range manyMark - 1 {
		a.now += minMark
		a.mark(uint64(i), 0)
		if n := len(a.marks); n != i+1 {
			t.Fatalf("%d marks of %d items", n, i+1)
		}
	}
	a.now += minMark
	a.mark(manyMark, 0)
	if n := len(a.marks); n >= manyMark || a.many != 2*n {
		t.Errorf("%d marks are left, thinned out again at %d", n, a.many)
	}
}

func TestAMarkGoesWhereItsNeighboursAreAHundredthOfTheirAgeApart(t *testing.T) {
	for _, test := range []struct {
		now    time.Duration
		logged uint64
		kept   int
	}{
		{101 * time.Second, 0, 2}, // the next one is 100 s old, and 1 s behind the one before
		{101*time.Second - 100, 0, 3},
		{101 * time.Second, 1, 2},
		{101 * time.Second, 2, 3}, // it is in the window
	} {
		a := ages{now: test.now, marks: []mark{{0, 0}, {1, time.Second / 2}, {2, time.Second}}}
		if a.thin(test.logged); len(a.marks) != test.kept {
			t.Errorf("%v, from %d on in the log: %d marks are left, want %d",
				test.now, test.logged, len(a.marks), test.kept)
		}
	}
}

func TestAgesThatAreClearedKeepALittleMemory(t *testing.T) {
	for room, kept := range map[int]int{manyMark: manyMark, manyMark + 1: 0} {
		a := ages{marks: make([]mark, 1, room)}
		if a.clear(); cap(a.marks) != kept {
			t.Errorf("of room for %d marks %d is kept, want %d", room, cap(a.marks), kept)
		}
	}
}

// To forget each mark at once would move the others each time.
func TestMarksAreForgottenOnceTheyAreHalfOfAll(t *testing.T) {
	var a ages
	for i := range uint64(100) {
		a.now += time.Second
		a.mark(i, 0)
	}
	for seq, left := range map[uint64]int{10: 100, 50: 100, 51: 49, 99: 1} {
		a := ages{marks: slices.Clone(a.marks)}
		at := a.of(seq)
		if want := time.Duration(seq+1) * time.Second; at != want || len(a.marks) != left {
			t.Errorf("item %d: received at %v, want %v; %d marks left, want %d",
				seq, at, want, len(a.marks), left)
		}
	}
}

func TestAgesAreExactToAHundredthInTheLog(t *testing.T) {
	const n = 200_000
	var a ages
	times := make([]time.Duration, n)
	most := 0
	for i := range times {
		a.now += 37 * time.Millisecond
		times[i] = a.now
		a.mark(uint64(i), 0)
		most = max(most, len(a.marks))
	}
	if most > 4000 {
		t.Errorf("%d marks for %d items", most, n)
	}
	for i, at := range times {
		early, age := at-a.of(uint64(i)), a.now-at
		if early < 0 || early > max(minMark, age/100+37*time.Millisecond) {
			t.Fatalf("item %d, %v old, is said to be received %v early", i, age, early)
		}
	}
}

func TestMarksOfItemsInTheWindowAreKept(t *testing.T) {
	var a ages
	for i := range uint64(5 * manyMark) {
		a.now += time.Second
		a.mark(i, 2*manyMark)
	}
	if len(a.marks) < 2*manyMark || len(a.marks) == 5*manyMark {
		t.Errorf("%d marks are left", len(a.marks))
	}
	if got, want := a.bytes(), int64(len(a.marks)*16-1<<10); got != want {
		t.Errorf("they count as %d bytes, want %d", got, want)
	}
	a.clear()
	if len(a.marks) != 0 || cap(a.marks) > manyMark || a.bytes() != 0 {
		t.Errorf("%d marks, room for %d, %d bytes after clear", len(a.marks), cap(a.marks), a.bytes())
	}
}

func TestLossesAreLoggedAndTheFirstAreKept(t *testing.T) {
	var log strings.Builder
	l := losses{logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range maxLosses + 5 {
		l.add(errors.New("gone"))
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != maxLosses+5 || len(l.errs) != maxLosses {
		t.Errorf("%d are logged and %d kept", n, len(l.errs))
	}
}

func TestEachKindOfFaultIsLoggedOnce(t *testing.T) {
	for _, test := range []struct {
		keep  bool
		level string
	}{{true, "level=ERROR"}, {false, "level=INFO"}} {
		var log strings.Builder
		f := faults{keep: test.keep, logger: slog.New(slog.NewTextHandler(&log, nil))}
		for i := range 3 * maxFaults {
			for range 3 {
				f.parked(errors.New(strings.Repeat("x", i+1)))
			}
		}
		if n := strings.Count(log.String(), test.level); n != maxFaults {
			t.Errorf("keep %v: %d lines, want %d", test.keep, n, maxFaults)
		}
	}
}

func TestALedgerKnowsTheItemsOfItsDeliveries(t *testing.T) {
	var l ledger
	l.delivered(0, 10)
	l.delivered(1, 11)
	l.delivered(2, 20) // those between are lost
	for i, want := range []uint64{11, 12, 21} {
		if got := l.acknowledge(uint64(i + 1)); got != want {
			t.Errorf("the item of delivery %d is done, and those below %d; want %d", i, got, want)
		}
	}
	if len(l.runs) != 1 {
		t.Errorf("%d runs are left, want 1", len(l.runs))
	}
}

func TestALotKnowsWhatIsDeliveredAndNotDone(t *testing.T) {
	var l lot[string]
	sizeOf := func(v *string) int64 { return int64(len(*v)) }
	for _, seq := range []uint64{3, 5} {
		l.park(seq, "x", sizeOf, errors.New("no"))
		l.take(seq)
	}
	for head, want := range []int{3: 0, 4: 1, 5: 1, 6: 2} {
		if got := l.delivered(uint64(head)); got != want {
			t.Errorf("below %d: %d, want %d", head, got, want)
		}
	}
}

func TestTheYoungestItemsAreTheLikelierToBeLost(t *testing.T) {
	all := Undelivered{Waiting: 10, Unacked: 5}
	for _, test := range []struct {
		of   Undelivered
		more uint64
		want Undelivered
	}{
		{Undelivered{0, 0}, 3, Undelivered{3, 0}},
		{Undelivered{4, 1}, 6, Undelivered{10, 1}},
		{Undelivered{4, 1}, 7, Undelivered{10, 2}},
		{Undelivered{4, 3}, 9, Undelivered{10, 5}},
		{Undelivered{4, 1}, 100, Undelivered{10, 5}},
	} {
		if got := test.of.plus(test.more, all); got != test.want {
			t.Errorf("%+v and %d more: %+v, want %+v", test.of, test.more, got, test.want)
		}
	}
}

package storetest

import (
	"math"

	"example.com/hopper/spill"
)

func testOrder(tr *trial) {
	s := tr.openEmpty()

	var end uint64
	for i := range uint64(40) {
		s.append(tr.batch(end, end+1+i%7))
		end += 1 + i%7
	}

	s.holds(0, end, span{0, end})
	s.delete()
}

func testManyBatches(tr *trial) {
	s := tr.openEmpty()

	var end uint64
	for _, n := range []uint64{1, 2, 3, 4, 16, 1} {
		s.append(tr.batches(end, end+5*n, 5)...)
		end += 5 * n
		s.holds(0, end, span{0, end})
	}
	s.delete()
}

func testLargeItems(tr *trial) {
	const chunk = 65512 // bytes of frames that a chunk takes at most
	s := tr.openEmpty()

	// Every item but the small ones between them is a batch of its own.
	var end uint64
	for _, size := range []int{
		chunk - 4, chunk - 3, chunk - 2, chunk, 65535, 65536, 65537,
		2*chunk - 3, 2*chunk - 2, 5*chunk + 100, 1 << 20, 3 << 20,
	} {
		tr.sizes[end] = size
		s.append(tr.batch(end, end+1), tr.batch(end+1, end+3))
		end += 3
	}

	s.holds(0, end, span{0, end})
	for seq := range end {
		s.walk(seq, spill.Position{}, seq+1)
	}
	s.delete()
}

func testTwice(tr *trial) {
	s := tr.openEmpty()

	// At once, in the next call, and several after several, as after a
	// time-out.
	first, second := tr.batch(0, 4), tr.batch(4, 8)
	s.append(first, first)
	s.append(first)
	s.append(second)
	s.append(second, tr.batch(8, 12))
	s.append(tr.batches(12, 28, 4)...)
	s.append(tr.batches(12, 28, 4)...)
	s.append(tr.batches(20, 32, 4)...)

	tr.sizes[32] = 300 << 10
	s.append(tr.batch(32, 33))
	s.append(tr.batch(32, 33), tr.batch(33, 36))
	s.holds(0, 36, span{0, 36})
	s.close(0, 36)

	s = tr.open()
	if s.found.Items != 36 {
		tr.t.Fatalf("Open: found %+v, want 36 items, of which some were appended twice", s.found)
	}
	s.holds(0, 36, span{0, 36})
	s.walk(0, spill.Position{}, 36)
	s.trim(36)
	s.isTrimmed()
	s.delete()
}

func testSkippedNumbers(tr *trial) {
	s := tr.openEmpty()

	s.appendAll(5, 15, 5)
	s.appendAll(40, 45, 5)
	s.append(tr.batch(100, 103), tr.batch(104, 105))
	want := []span{{5, 15}, {40, 45}, {100, 103}, {104, 105}}

	s.holds(0, 105, want...)
	for seq := range uint64(105) {
		s.walk(seq, spill.Position{}, 105, want...)
	}

	// When a log ends, all that it leaves lies behind what was skipped.
	s.trim(42)
	s.holds(42, 105, span{42, 45}, span{100, 103}, span{104, 105})
	s.close(104, 105)
	s = tr.open()
	s.finds(104, 105)
	s.delete()
}

func testSkippedNumbersAfterCrash(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.appendAll(5, 15, 5)
	s.append(tr.batch(100, 103), tr.batch(104, 105))
	s.crash()

	s = tr.open()
	s.findsAfterCrash(5, 105, span{5, 15}, span{100, 103}, span{104, 105})
	s.appendAll(200, 205, 5)
	s.holds(5, 205, span{5, 15}, span{100, 103}, span{104, 105}, span{200, 205})
	s.delete()
}

func testLargeNumbers(tr *trial) {
	s := tr.openEmpty()

	// Any number below 1<<63 is one, beyond those of a signed 32-bit type too.
	want := []span{
		{math.MaxUint32 - 5, math.MaxUint32 + 5},
		{math.MaxInt64/10 + 1, math.MaxInt64/10 + 7},
		{spill.MaxSeq - 5, spill.MaxSeq},
	}
	for _, w := range want {
		s.appendAll(w.first, w.end, 5)
	}
	s.holds(0, spill.MaxSeq, want...)

	next, end := want[2].first, want[2].end
	s.trim(next)
	s.close(next, end)
	s = tr.open()
	s.finds(next, end)
	s.holds(next, end, want[2])
	s.delete()
}

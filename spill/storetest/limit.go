package storetest

import (
	"errors"

	"example.com/hopper/spill"
)

const limit = 256 << 10 // for stores that are to reach it

// openLimited opens a store with a limit, where there is such a thing, and
// makes all items as large as a good part of it.
func (tr *trial) openLimited() *session {
	tr.t.Helper()
	tr.needs(tr.m.Limited != nil, "Limited")
	for seq := range uint64(100) {
		tr.sizes[seq] = 10 << 10
	}

	s := tr.use(tr.m.Limited(limit), true)
	if u := s.store.Usage(); u.Limit != limit {
		tr.t.Fatalf("Usage of a store with a limit of %d: %+v", limit, u)
	}
	return s
}

// fill appends batches of an item each until the store refuses one.
func (s *session) fill(first uint64) (end uint64) {
	s.tr.t.Helper()
	for end = first; end < first+limit>>10; end++ {
		n, err := s.store.Append(s.tr.ctx, s.tr.batches(end, end+1, 1))
		if n == 0 {
			s.isFull(err)
			return end
		}
		if err := checkAppend(n, 1, err); err != nil {
			s.tr.t.Fatalf("%v", err)
		}
		s.keepsLimit()
	}
	s.tr.t.Fatalf("no limit is reached by %d items of 10 KiB: Usage %+v",
		end-first, s.store.Usage())
	return 0
}

func (s *session) isFull(err error) {
	s.tr.t.Helper()
	if !errors.Is(err, spill.ErrFull) {
		s.tr.t.Fatalf("Append at the limit: error %v, want one that matches ErrFull", err)
	}
}

func (s *session) keepsLimit() {
	s.tr.t.Helper()
	if u := s.store.Usage(); u.Bytes > u.Limit {
		s.tr.t.Fatalf("the limit is exceeded: Usage %+v", u)
	}
}

func testLimit(tr *trial) {
	s := tr.openLimited()

	var first, end uint64
	for range 3 {
		end = s.fill(end)
		if end-first < 5 {
			tr.t.Fatalf("the limit of %d is reached after %d items of 10 KiB", limit, end-first)
		}
		if n, err := s.store.Append(tr.ctx, tr.batches(end, end+1, 1)); n != 0 {
			tr.t.Fatalf("Append at the limit stores what it has just refused: %v", err)
		}
		s.holds(first, end, span{first, end})

		first = end
		s.trim(first)
		s.isTrimmed()
	}

	// Half the space given back is room again.
	end = s.fill(end)
	at := s.store.Usage().TrimAt
	s.trim(at)
	if end2 := s.fill(end); end2 == end {
		tr.t.Fatalf("no room after Trim(%d): Usage %+v", at, s.store.Usage())
	}
	s.delete()
}

func testLimitMidway(tr *trial) {
	s := tr.openLimited()

	n, err := s.store.Append(tr.ctx, tr.batches(0, 50, 1))
	s.isFull(err)
	if n == 0 || n == 50 {
		tr.t.Fatalf("Append of 50 items of 10 KiB with a limit of %d: %d are stored", limit, n)
	}
	s.keepsLimit()
	end := uint64(n)
	s.holds(0, end, span{0, end})

	s.trim(end)
	s.append(tr.batches(end, end+5, 1)...)
	s.holds(end, end+5, span{end, end + 5})
	s.close(end, end+5)

	s = tr.open()
	s.finds(end, end+5)
	s.holds(end, end+5, span{end, end + 5})
	s.delete()
}

func testLimitLarge(tr *trial) {
	s := tr.openLimited()
	tr.sizes[3] = 2 * limit

	s.appendAll(0, 3, 1)
	before := s.store.Usage()
	n, err := s.store.Append(tr.ctx, []*spill.Batch{tr.batch(3, 4)})
	s.isFull(err)
	if u := s.store.Usage(); n != 0 || u.Bytes != before.Bytes {
		tr.t.Fatalf("after an item that does not fit: %d stored, Usage %+v, before %+v",
			n, u, before)
	}

	// Nobody waits for it any more.
	s.appendAll(4, 6, 1)
	s.holds(0, 6, span{0, 3}, span{4, 6})
	s.delete()
}

func testLift(tr *trial) {
	s := tr.openLimited()
	end := s.fill(0)

	s.store.Lift()
	s.appendAll(end, end+20, 1)
	s.close(0, end+20)

	s = tr.open()
	s.finds(0, end+20)
	s.holds(0, end+20, span{0, end + 20})
	s.delete()
}

// testOlderItems appends what a log's user held in memory when the log ended.
func testOlderItems(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(100, 150, 5)

	s.store.Lift()
	s.append(tr.batches(40, 70, 5)...)
	s.appendAll(70, 100, 5)
	s.appendAll(20, 40, 5)
	s.close(20, 150)

	s = tr.open()
	s.finds(20, 150)
	s.holds(20, 150, span{20, 150})
	s.walk(20, spill.Position{}, 150)

	// The user has taken items from the store, and gives them back.
	s.appendAll(150, 160, 5)
	s.store.Lift()
	s.append(tr.batches(22, 50, 4)...)
	s.close(22, 160)

	s = tr.open()
	s.finds(22, 160)
	s.holds(22, 160, span{22, 160})
	s.walk(22, spill.Position{}, 160)
	for acked := uint64(22); acked < 160; acked += 7 {
		s.trim(acked)
		s.holds(acked, 160, span{acked, 160})
	}
	s.trim(160)
	s.isTrimmed()
	s.delete()
}

func testRefusal(tr *trial) {
	tr.needs(tr.m.Refuse != nil, "Refuse")
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)

	tr.m.Refuse(true)
	for range 3 {
		n, err := s.store.Append(tr.ctx, tr.batches(20, 40, 5))
		if n != 0 || err == nil {
			tr.t.Fatalf("Append that is refused: %d batches stored, error %v", n, err)
		}
		s.holds(0, 20, span{0, 20})
	}

	tr.m.Refuse(false)
	s.append(tr.batches(20, 40, 5)...)
	s.holds(0, 40, span{0, 40})

	// What was refused need not come again.
	tr.m.Refuse(true)
	if n, err := s.store.Append(tr.ctx, tr.batches(40, 60, 5)); n != 0 || err == nil {
		tr.t.Fatalf("Append that is refused: %d batches stored, error %v", n, err)
	}
	tr.m.Refuse(false)
	s.appendAll(50, 70, 5)
	s.holds(0, 70, span{0, 40}, span{50, 70})
	s.delete()
}

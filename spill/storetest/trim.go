package storetest

import (
	"example.com/hopper/spill"
)

// isTrimmed checks that a store whose items are all done takes no space.
func (s *session) isTrimmed() {
	s.tr.t.Helper()
	u := s.store.Usage()
	if u.Bytes != 0 || u.Segments != 0 {
		s.tr.t.Fatalf("all items are done, Usage: %+v, want no bytes and no segments", u)
	}
	if u.TrimAt < spill.MaxSeq {
		s.tr.t.Fatalf("there is nothing to trim, Usage: %+v, want a TrimAt that is never reached",
			u)
	}
}

func testTrim(tr *trial) {
	s := tr.openEmpty()
	tr.sizes[50] = 150 << 10
	s.appendAll(0, 50, 5)
	s.append(tr.batch(50, 51))
	s.appendAll(51, 101, 5)

	for acked := range uint64(101) {
		before := s.store.Usage()
		s.trim(acked)
		if u := s.store.Usage(); u.Bytes > before.Bytes {
			tr.t.Fatalf("Trim(%d): Usage grows from %+v to %+v", acked, before, u)
		}

		s.holds(acked, 101, span{acked, 101})
	}

	s.trim(101)
	s.isTrimmed()
	s.delete()
}

func testTrimAt(tr *trial) {
	s := tr.openEmpty()
	if at := s.store.Usage().TrimAt; at < spill.MaxSeq {
		tr.t.Fatalf("the store is empty, TrimAt is %d, want one that is never reached", at)
	}
	s.appendAll(0, 100, 5)

	for range 100 {
		u := s.store.Usage()
		if u.Bytes == 0 {
			break
		}
		if u.TrimAt == 0 || u.TrimAt > 100 {
			tr.t.Fatalf("100 items from 0 on are stored, Usage: %+v", u)
		}

		s.trim(u.TrimAt - 1)
		if now := s.store.Usage(); now.Bytes != u.Bytes || now.TrimAt != u.TrimAt {
			tr.t.Fatalf("Trim(%d) frees something: before %+v, now %+v", u.TrimAt-1, u, now)
		}
		s.trim(u.TrimAt)
		s.frees(u, "Trim(TrimAt)")
	}

	s.isTrimmed()
	s.delete()
}

// testAllDone fills and empties a store several times.
func testAllDone(tr *trial) {
	s := tr.openEmpty()

	for first := uint64(0); first < 500; first += 100 {
		bytes := int64(0)
		for seq := first; seq < first+90; seq++ {
			bytes += int64(len(tr.item(seq)))
		}

		s.appendAll(first, first+90, 9)
		if u := s.store.Usage(); u.Bytes < bytes || u.Segments == 0 {
			tr.t.Fatalf("%d bytes of items are stored, Usage: %+v", bytes, u)
		}

		s.holds(first, first+90, span{first, first + 90})
		s.trim(first + 90)
		s.isTrimmed()
	}
	s.close(490, 490)

	tr.openEmpty().delete()
}

// testUsage asks for the usage at all times. Only the limit can be known before
// Open, or after Close.
func testUsage(tr *trial) {
	store := tr.m.Store()
	store.Usage()
	s := tr.use(store, true)

	u := store.Usage()
	if u.Limit >= 0 && u.Limit < 64<<20 {
		tr.t.Fatalf("Usage: %+v: the limit is negative if there is none, else at least 64 MiB", u)
	}

	s.appendAll(0, 20, 5)
	if now := store.Usage(); now.Bytes <= u.Bytes || now.Segments == 0 {
		tr.t.Fatalf("items are stored, Usage: %+v", now)
	}
	s.close(0, 20)
	store.Usage()

	s = tr.open()
	if u := s.store.Usage(); u.Bytes == 0 || u.Segments == 0 {
		tr.t.Fatalf("20 items were left, Usage: %+v", u)
	}
	s.delete()
	if u := s.store.Usage(); u.Bytes != 0 {
		tr.t.Fatalf("everything is deleted, Usage: %+v", u)
	}
}

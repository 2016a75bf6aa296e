package storetest

import (
	"context"

	"example.com/hopper/spill"
)

// sync syncs. It asks again, as a log does, if the store says "not now".
func (s *session) sync(acked uint64) {
	s.tr.t.Helper()
	tries := retries{}
	for {
		err := s.store.Sync(s.tr.ctx, acked)
		if err == nil {
			return
		}
		if !tries.again(s.tr.ctx) {
			s.tr.t.Fatalf("Sync(%d): %v", acked, err)
		}
	}
}

// cutPower ends the store as the end of its machine would.
func (s *session) cutPower() {
	s.tr.using = nil
	s.tr.m.CutPower(s.store)
}

// findsCursor checks that a store which was opened after a crash begins at the
// cursor.
func (s *session) findsCursor(acked, end uint64, want ...span) {
	s.tr.t.Helper()
	if s.found.Next != acked {
		s.tr.t.Fatalf("Open: found %+v, though the items below %d, and no others, were done "+
			"at the last Sync", s.found, acked)
	}
	s.findsAfterCrash(acked, end, want...)
}

// testCursor syncs in the middle of a batch, and with nothing new but the
// cursor.
func testCursor(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.appendAll(0, 40, 5)
	s.sync(13)
	s.holds(13, 40, span{13, 40})
	s.crash()

	s = tr.open()
	s.findsCursor(13, 40, span{13, 40})
	s.sync(22) // nothing was appended by this store
	s.sync(22)
	s.crash()

	s = tr.open()
	s.findsCursor(22, 40, span{22, 40})
	s.close(23, 40)
	s = tr.open()
	s.finds(23, 40)
	s.sync(31)
	s.crash()

	s = tr.open()
	s.findsCursor(31, 40, span{31, 40})
	s.delete()
}

// testCursors syncs many times, among appends, trims and reads.
func testCursors(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	acked := uint64(0)
	for end := uint64(10); end <= 300; end += 10 {
		s.appendAll(end-10, end, 4)
		acked = max(acked, end-min(end, 17+end%4))
		switch end / 10 % 4 {
		case 0:
			s.sync(acked)
		case 1:
			s.sync(acked)
			s.trim(acked)
		case 2:
			s.trim(acked)
			s.sync(acked)
			s.sync(acked)
		}
		s.holds(acked, end, span{acked, end})
	}
	s.sync(acked)
	s.walk(acked, spill.Position{}, 300)
	s.crash()

	s = tr.open()
	s.findsCursor(acked, 300, span{acked, 300})
	s.appendAll(300, 310, 5)
	s.sync(acked + 2)
	s.trim(acked + 5) // nobody has asked for that to be remembered
	s.crash()

	s = tr.open()
	if n := s.found.Next; n < acked+2 {
		tr.t.Fatalf("Open: found %+v, though the items below %d were done at the last Sync",
			s.found, acked+2)
	}
	s.findsAfterCrash(acked+5, 310, span{acked + 5, 310})
	s.delete()
}

// testSyncOfNothing syncs a store that has nothing stored.
func testSyncOfNothing(tr *trial) {
	s := tr.openEmpty()
	s.sync(0)
	s.sync(1000) // those items went past the log
	s.sync(1000)
	s.appendAll(1000, 1010, 5)
	s.sync(1000)
	s.holds(1000, 1010, span{1000, 1010})

	s.trim(1010)
	s.sync(1010)
	s.isTrimmed()
	s.close(1010, 1010)
	s = tr.openEmpty()
	s.delete()
}

// testNumbersAfterSync checks that a store which remembers what is done does
// not take new items for that.
func testNumbersAfterSync(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.sync(1000)
	s.crash()

	s = tr.openEmpty()
	first := s.found.End
	s.appendAll(first, first+10, 5)
	s.crash()
	s = tr.open()
	s.findsAfterCrash(first, first+10, span{first, first + 10})
	s.delete()
}

// testSyncWhenAllIsDone checks that nothing comes back where all was done.
func testSyncWhenAllIsDone(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	for _, trimFirst := range []bool{true, false} {
		s := tr.openEmpty()
		s.appendAll(0, 30, 5)
		s.sync(12)
		if trimFirst {
			s.trim(30)
			s.sync(30)
		} else {
			s.sync(30)
			s.trim(30)
		}
		s.isTrimmed()
		s.crash()
		s = tr.openEmpty()
		s.delete()
	}
}

// testSyncRefused checks that a Sync which has failed is made good later.
func testSyncRefused(tr *trial) {
	tr.needs(tr.m.Refuse != nil, "Refuse")
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)
	s.sync(3)

	tr.m.Refuse(true)
	for acked := uint64(4); acked < 8; acked++ {
		_ = s.store.Sync(tr.ctx, acked) // it may have no need to store anything
	}
	s.holds(7, 20, span{7, 20})
	tr.m.Refuse(false)

	s.sync(8)
	s.appendAll(20, 30, 5)
	s.sync(11)
	s.crash()
	s = tr.open()
	s.findsCursor(11, 30, span{11, 30})
	s.delete()
}

// testPowerCut checks that what was synced survives the machine.
func testPowerCut(tr *trial) {
	tr.needs(tr.m.CutPower != nil, "CutPower")
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)
	s.sync(0)
	s.appendAll(20, 40, 5) // may be lost, or any of it
	s.cutPower()

	s = tr.open()
	if r := s.found; r.Next != 0 || r.End < 20 {
		tr.t.Fatalf("Open: found %+v, though items 0 to 20 were synced", r)
	}
	s.holds(0, 20, span{0, 20})

	first := max(s.found.End, 40)
	s.appendAll(first, first+10, 5)
	s.sync(8)
	s.trim(9)
	s.cutPower()
	s = tr.open()
	if r := s.found; r.Next < 8 || r.Next > 9 || r.End < first+10 {
		tr.t.Fatalf("Open: found %+v, though items 8 to %d were synced", r, first+10)
	}
	s.holds(9, 20, span{9, 20})
	s.holds(first, first+10, span{first, first + 10})
	s.delete()
}

// testPowerCutAfterClose checks that Close makes everything durable.
func testPowerCutAfterClose(tr *trial) {
	tr.needs(tr.m.CutPower != nil, "CutPower")
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)
	s.close(4, 20)
	s = tr.open()
	s.cutPower()
	s = tr.open()
	s.findsAfterCrash(4, 20, span{4, 20})
	s.delete()
}

// testSyncNotKept checks that a log which is to leave nothing may sync.
func testSyncNotKept(tr *trial) {
	s := tr.use(tr.m.Store(), false)
	s.appendAll(0, 20, 5)
	s.sync(5)
	s.holds(5, 20, span{5, 20})
	s.delete()
	s = tr.openEmpty()
	s.delete()
}

// testSyncEndedContext calls Sync with a context that has ended before.
func testSyncEndedContext(tr *trial) {
	ended, cancel := context.WithCancel(tr.ctx)
	cancel()
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)
	tr.answers("Sync", func() { _ = s.store.Sync(ended, 5) })
	s.sync(5)
	s.holds(5, 20, span{5, 20})
	s.close(5, 20)
	s = tr.open()
	s.finds(5, 20)
	s.delete()
}

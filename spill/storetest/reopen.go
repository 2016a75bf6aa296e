package storetest

import (
	"errors"

	"example.com/hopper/spill"
)

// finds checks that Open has found exactly the items from next up to end, left
// by a clean Close.
func (s *session) finds(next, end uint64) {
	s.tr.t.Helper()
	r := s.found
	if r.Next != next || r.End != end || r.Items != end-next || r.Crashed {
		s.tr.t.Fatalf("Open: found %+v, want items %d to %d of a log that was closed", r, next, end)
	}
}

// findsAfterCrash checks that Open has found everything from acked on, of which
// the store has the items of want, and that it says what may come twice.
func (s *session) findsAfterCrash(acked, end uint64, want ...span) {
	s.tr.t.Helper()
	r := s.found
	if !r.Crashed || r.Next > acked || r.End < end {
		s.tr.t.Fatalf("Open: found %+v, want the items from %d or less to %d after a crash",
			r, acked, end)
	}
	if r.Repeated < acked-r.Next {
		s.tr.t.Fatalf("Open: found %+v: of the items below %d, which are done, too few are "+
			"counted as repeated", r, acked)
	}

	if want[0].first == acked { // what is done may come with the rest
		want[0].first = r.Next
	}
	items := uint64(0)
	for _, w := range want {
		items += w.end - w.first
	}
	if r.Items != items {
		s.tr.t.Fatalf("Open: found %+v, want %d items", r, items)
	}
	s.holds(r.Next, r.End, want...)
}

// testCleanClose closes with every kind of remainder.
func testCleanClose(tr *trial) {
	for _, next := range []uint64{0, 1, 4, 5, 6, 23, 60, 99} {
		s := tr.open()
		tr.sizes[50] = 150 << 10
		s.appendAll(0, 50, 5)
		s.append(tr.batch(50, 51))
		s.appendAll(51, 100, 7)
		if next == 23 {
			s.trim(19)
		}
		s.close(next, 100)

		s = tr.open()
		s.finds(next, 100)
		s.holds(next, 100, span{next, 100})
		s.walk(next, spill.Position{}, 100)
		s.delete()
	}
}

func testNothingLeft(tr *trial) {
	s := tr.openEmpty()
	s.close(0, 0)

	// It may not have been trimmed to the end.
	s = tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.trim(20)
	s.close(50, 50)
	if u := s.store.Usage(); u.Bytes != 0 {
		tr.t.Fatalf("nothing is left after Close, Usage: %+v", u)
	}

	// Nothing is of another kind, or not to be deleted.
	store := tr.m.Store()
	r, err := store.Open(tr.ctx, "another kind", false)
	if err != nil || r.Items != 0 {
		tr.t.Fatalf("Open where nothing was left: found %+v, error %v", r, err)
	}
	if err := store.Close(tr.ctx, false, 0, 0); err != nil {
		tr.t.Fatalf("Close: %v", err)
	}
}

// testEqualNumbers closes as a log does that could not store everything.
func testEqualNumbers(tr *trial) {
	for _, next := range []uint64{0, 10, 13} {
		s := tr.open()
		s.appendAll(0, 30, 5)
		s.close(next, next)

		s = tr.open()
		r := s.found
		if r.Next != next || r.End < 30 || r.Items != 30-next || r.Crashed {
			tr.t.Fatalf("Open: found %+v, want items %d to 30 of a log that was closed", r, next)
		}
		s.holds(next, r.End, span{next, 30})
		s.delete()
	}
}

func testNotKept(tr *trial) {
	s := tr.use(tr.m.Store(), false)
	s.appendAll(0, 50, 5)
	s.holds(0, 50, span{0, 50})
	s.delete()
	if u := s.store.Usage(); u.Bytes != 0 || u.Segments != 0 {
		tr.t.Fatalf("everything is deleted, Usage: %+v", u)
	}

	s = tr.openEmpty()
	if s.found.Crashed {
		tr.t.Fatalf("Open: found %+v, want nothing", s.found)
	}
	s.appendAll(0, 50, 5)
	s.delete()

	s = tr.use(tr.m.Store(), false)
	s.isEmpty()
	s.delete()
}

// testManyReopenings lets each log deliver some of what the last has left, and
// add to it.
func testManyReopenings(tr *trial) {
	s := tr.openEmpty()
	var next, end uint64
	for i := range uint64(12) {
		s.appendAll(end, end+13+i, 4)
		end += 13 + i
		next += 5 + 2*i
		if i%2 == 0 {
			s.trim(next)
		}
		s.close(next, end)

		s = tr.open()
		s.finds(next, end)
		s.holds(next, end, span{next, end})
	}
	s.delete()
}

func testCrash(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	tr.sizes[50] = 150 << 10
	s.appendAll(0, 50, 5)
	s.append(tr.batch(50, 51), tr.batch(51, 55))
	s.crash()

	s = tr.open()
	s.findsAfterCrash(0, 55, span{0, 55})
	s.append(tr.batches(55, 100, 5)...)
	s.trim(23)
	s.crash()

	s = tr.open()
	s.findsAfterCrash(23, 100, span{23, 100})
	s.walk(23, spill.Position{}, 100)
	s.trim(100)
	s.isTrimmed()
	s.crash()

	s = tr.openEmpty()
	s.delete()
}

// testCrashAfterClose makes sure that what a Close has said is not taken for
// what holds later.
func testCrashAfterClose(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.close(7, 50)

	s = tr.open()
	s.crash()
	s = tr.open()
	s.findsAfterCrash(7, 50, span{7, 50})

	s.appendAll(50, 80, 5)
	s.trim(12)
	s.crash()
	s = tr.open()
	s.findsAfterCrash(12, 80, span{12, 80})

	s.trim(60)
	s.appendAll(90, 100, 5)
	s.crash()
	s = tr.open()
	s.findsAfterCrash(60, 100, span{60, 80}, span{90, 100})
	s.delete()
}

func testCrashNotKept(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.use(tr.m.Store(), false)
	s.appendAll(0, 50, 5)
	s.crash()

	s = tr.use(tr.m.Store(), false)
	s.isEmpty()
	s.appendAll(0, 10, 5)
	s.holds(0, 10, span{0, 10})
	s.delete()
}

func testLabel(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.close(7, 50)

	for range 2 {
		_, err := tr.m.Store().Open(tr.ctx, "another kind", true)
		var other *spill.LabelError
		if !errors.As(err, &other) || other.Found != label || other.Want != "another kind" {
			tr.t.Fatalf("Open with another label: error %#v, want a LabelError that has both", err)
		}
	}
	if _, err := tr.m.Store().Open(tr.ctx, "another kind", false); err == nil {
		tr.t.Fatalf("Open with another label and without keep: no error")
	}

	s = tr.open()
	s.finds(7, 50)
	s.holds(7, 50, span{7, 50})
	s.delete()
}

func testNotResumed(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.close(7, 50)

	for range 2 {
		tr.refused(tr.m.Store(), label, false, spill.ErrNotResumed)
	}

	s = tr.open()
	s.finds(7, 50)
	s.holds(7, 50, span{7, 50})
	s.delete()
}

func testCrashNotResumed(tr *trial) {
	tr.needs(tr.m.Crash != nil, "Crash")
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.crash()

	for range 2 {
		tr.refused(tr.m.Store(), label, false, spill.ErrNotResumed)
	}

	s = tr.open()
	s.findsAfterCrash(0, 50, span{0, 50})
	s.delete()
}

func testLocked(tr *trial) {
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)

	for _, keep := range []bool{true, false} {
		tr.refused(tr.m.Store(), label, keep, spill.ErrLocked)
	}
	s.appendAll(20, 40, 5)
	s.holds(0, 40, span{0, 40})
	s.close(0, 40)

	s = tr.open()
	s.finds(0, 40)
	tr.refused(tr.m.Store(), label, true, spill.ErrLocked)
	s.delete()
	tr.openEmpty().delete()
}

func testNewer(tr *trial) {
	tr.needs(tr.m.MakeNewer != nil, "MakeNewer")
	s := tr.openEmpty()
	s.appendAll(0, 50, 5)
	s.close(7, 50)

	tr.m.MakeNewer()
	for range 2 {
		tr.refused(tr.m.Store(), label, true, spill.ErrVersion)
	}
}

package storetest

import (
	"context"
	"errors"
	"time"

	"example.com/hopper/spill"
)

// answers checks that a call returns, without any help.
func (tr *trial) answers(what string, call func()) {
	tr.t.Helper()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		call()
	}()

	select {
	case <-returned:
	case <-time.After(10 * time.Second):
		tr.t.Fatalf("%s does not return", what)
	}
}

// A hung is a call of a store whose medium does not answer.
type hung struct {
	name string
	call func(ctx context.Context) error
}

// hangs checks that a call returns once its context ends, whatever it returns,
// and that Usage does at once.
func (s *session) hangs(h hung) (err error) {
	s.tr.t.Helper()
	resume := s.tr.m.Hang()
	defer resume()

	ctx, cancel := context.WithCancel(s.tr.ctx)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- h.call(ctx) }()

	using := s.tr.using
	s.tr.using = nil // a store that goes on hanging can't be closed
	s.tr.answers("Usage while "+h.name+" hangs", func() { s.store.Usage() })
	time.AfterFunc(time.Millisecond, cancel)
	s.tr.answers(h.name+" whose context has ended", func() { err = <-returned })
	s.tr.using = using
	return err
}

func testHang(tr *trial) {
	tr.needs(tr.m.Hang != nil, "Hang")
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)

	var stored int
	more := tr.batches(20, 40, 5)
	err := s.hangs(hung{"Append", func(ctx context.Context) (err error) {
		stored, err = s.store.Append(ctx, more)
		return err
	}})
	if err := checkAppend(stored, len(more), err); err != nil {
		tr.t.Fatalf("%v", err)
	}
	if more = more[stored:]; len(more) > 0 {
		s.append(more...)
	}

	buf := make([]byte, spill.MaxChunk)
	s.hangs(hung{"Read", func(ctx context.Context) error {
		_, err := s.store.Read(ctx, 0, spill.Position{}, buf)
		return err
	}})
	s.hangs(hung{"Trim", func(ctx context.Context) error { return s.store.Trim(ctx, 10) }})
	s.hangs(hung{"Sync", func(ctx context.Context) error { return s.store.Sync(ctx, 10) }})
	s.holds(10, 40, span{10, 40})

	tr.using = nil
	closing := func(ctx context.Context) error { return s.store.Close(ctx, true, 10, 40) }
	s.hangs(hung{"Close", closing})
	s = tr.open()
	s.comesBack(10, 40)
	s.close(10, 40)

	s.store = tr.m.Store()
	err = s.hangs(hung{"Open", func(ctx context.Context) error {
		_, err := s.store.Open(ctx, label, true)
		return err
	}})
	if err == nil {
		tr.using = s // it was faster
		s.close(10, 40)
	}
	s = tr.open()
	s.finds(10, 40)
	s.delete()
}

// comesBack checks that all items from next up to end are there after a Close
// that may not have come to its end. Earlier ones may be there too.
func (s *session) comesBack(next, end uint64) {
	s.tr.t.Helper()
	if s.found.Next > next || s.found.End < end {
		s.tr.t.Fatalf("Open: found %+v, want at least items %d to %d", s.found, next, end)
	}
	s.holds(next, end, span{next, end})
}

// testEndedContext calls with a context that has ended before, as a log does
// with a store that did not answer in time.
func testEndedContext(tr *trial) {
	ended, cancel := context.WithCancel(tr.ctx)
	cancel()
	s := tr.openEmpty()
	s.appendAll(0, 20, 5)

	batches := tr.batches(20, 40, 5)
	var stored int
	var err error
	tr.answers("Append", func() { stored, err = s.store.Append(ended, batches) })
	if wrong := checkAppend(stored, len(batches), err); wrong != nil {
		tr.t.Fatalf("%v", wrong)
	}
	if stored < len(batches) {
		s.append(batches[stored:]...)
	}

	buf := make([]byte, spill.MaxChunk)
	tr.answers("Read", func() { _, _ = s.store.Read(ended, 0, spill.Position{}, buf) })
	tr.answers("Trim", func() { _ = s.store.Trim(ended, 10) })
	s.holds(10, 40, span{10, 40})

	tr.using = nil
	tr.answers("Close", func() { _ = s.store.Close(ended, true, 10, 40) })
	s = tr.open()
	s.comesBack(10, 40)
	s.close(10, 40)

	store := tr.m.Store()
	tr.answers("Open", func() { _, err = store.Open(ended, label, true) })
	switch {
	case err == nil:
		tr.using = &session{tr: tr, store: store}
		tr.using.close(10, 40)
	case errors.Is(err, spill.ErrLocked):
		tr.t.Fatalf("Open of a store that was closed: %v", err)
	}
	s = tr.open()
	s.finds(10, 40)
	s.delete()
}

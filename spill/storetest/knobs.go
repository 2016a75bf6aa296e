package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/hopper/spill"
)

// A Call is a method of a [spill.Store], as the knobs of a [Memory] name it.
type Call int

// The methods.
const (
	Open Call = iota
	Append
	Read
	Trim
	Sync
	Lift
	Close
	numCalls
)

// String returns the method's name.
func (c Call) String() string {
	return [...]string{"Open", "Append", "Read", "Trim", "Sync", "Lift", "Close"}[c]
}

var (
	errUnknown = errors.New("storetest: timed out, outcome unknown")
	errNoSpace = errors.New("storetest: no space left")
)

// knobs are what tests of those who use a store can turn.
type knobs struct {
	limit atomic.Int64

	mu      sync.Mutex
	latency time.Duration
	unknown int // Appends to come whose outcome gets lost
	calls   [numCalls]int
	fails   [numCalls]failure
	hung    [numCalls]chan struct{} // not nil: closed when calls go on
}

// A failure is what the next calls of a method meet with.
type failure struct {
	calls int
	err   error
}

func (k *knobs) init() { k.limit.Store(-1) }

// enter begins a call: it waits for as long as calls take, and fails if they
// are to fail. It returns early if the context ends or the store crashes.
func (k *knobs) enter(ctx context.Context, c Call, cut <-chan struct{}) error {
	k.count(c)
	k.mu.Lock()
	hung, latency := k.hung[c], k.latency
	k.mu.Unlock()

	if hung != nil {
		if err := waitFor(ctx, hung, cut); err != nil {
			return err
		}
	}
	if latency > 0 {
		if err := waitFor(ctx, time.After(latency), cut); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.takeFailure(c)
}

func (k *knobs) count(c Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls[c]++
}

// waitFor waits for a value from done or its end.
func waitFor[T any](ctx context.Context, done <-chan T, cut <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-cut:
		return errCut
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *knobs) takeFailure(c Call) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	f := &k.fails[c]
	if f.calls == 0 {
		return nil
	}
	f.calls--
	return f.err
}

func (k *knobs) takeUnknown() bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.unknown == 0 {
		return false
	}
	k.unknown--
	return true
}

// SetLimit sets the limit of the space that the chunks may take, in bytes, for
// stores that are open too. Negative: none, as at first.
func (m *Memory) SetLimit(bytes int64) { m.knobs.limit.Store(bytes) }

// SetLatency makes each call of the stores take that long, but for Usage and
// Lift. All the batches of an Append are under way at once.
func (m *Memory) SetLatency(d time.Duration) {
	m.knobs.mu.Lock()
	defer m.knobs.mu.Unlock()
	m.knobs.latency = d
}

// Fail makes the next calls of a method, in that number, do nothing and return
// err. Lift can't fail.
func (m *Memory) Fail(c Call, calls int, err error) {
	m.knobs.mu.Lock()
	defer m.knobs.mu.Unlock()
	m.knobs.fails[c] = failure{calls, err}
}

// Hang makes calls of some methods, or of all if there are none, hang until
// resume is called or their context ends. Calls that are under way, Usage and
// Lift are not affected.
func (m *Memory) Hang(calls ...Call) (resume func()) {
	if len(calls) == 0 {
		calls = []Call{Open, Append, Read, Trim, Sync, Close}
	}

	gate := make(chan struct{})
	m.setGate(calls, nil, gate)
	return sync.OnceFunc(func() {
		close(gate)
		m.setGate(calls, gate, nil)
	})
}

// setGate replaces a gate, or any if it is nil, by another.
func (m *Memory) setGate(calls []Call, old, gate chan struct{}) {
	m.knobs.mu.Lock()
	defer m.knobs.mu.Unlock()

	for _, c := range calls {
		if old == nil || m.knobs.hung[c] == old {
			m.knobs.hung[c] = gate
		}
	}
}

// LoseOutcome makes the next calls of Append, in that number, store their
// batches if there is room, and then say that none is stored: as if the answer
// had not come in time.
func (m *Memory) LoseOutcome(calls int) {
	m.knobs.mu.Lock()
	defer m.knobs.mu.Unlock()
	m.knobs.unknown = calls
}

// Calls returns how often a method has been called, on all stores so far.
func (m *Memory) Calls(c Call) int {
	m.knobs.mu.Lock()
	defer m.knobs.mu.Unlock()
	return m.knobs.calls[c]
}

// CutPower is like Crash, and loses what has been stored since the last Sync or
// Close.
func (m *Memory) CutPower() {
	m.Crash()
	m.mu.Lock()
	defer m.mu.Unlock()

	m.active = nil
	m.pieces = slices.DeleteFunc(m.pieces, func(p *piece) bool {
		p.loseUnsynced()
		return p.missing == nil && len(p.batches) == 0
	})
	m.last = m.done
	for _, p := range m.pieces {
		m.last = max(m.last, p.end)
	}
}

// Corrupt changes a bit in the chunk in which the item seq begins. It panics if
// there is none.
func (m *Memory) Corrupt(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()

	for _, p := range m.pieces {
		if FlipBit(p.data, seq) {
			return
		}
	}
	panic(fmt.Sprintf("storetest: no item %d to damage", seq))
}

// CorruptHeader changes the header of the first chunk of the batch that holds
// the item seq, so that it is no chunk any more. It panics if there is none.
func (m *Memory) CorruptHeader(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()

	p := m.findLocked(seq)
	if p == nil || p.missing != nil || p.first > seq {
		panic(fmt.Sprintf("storetest: no item %d to damage", seq))
	}
	p.data[p.chunks[p.chunk(seq, spill.Position{})]] ^= 0x7f
}

// Lose deletes the pieces that hold the item seq. It panics if there is none.
func (m *Memory) Lose(seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.active = nil
	lost := 0
	for _, p := range m.pieces {
		if p.missing == nil && p.first <= seq && seq < p.end {
			p.data, p.chunks, p.batches, p.missing = nil, nil, nil, errMissing
			lost++
		}
	}
	if lost == 0 {
		panic(fmt.Sprintf("storetest: no item %d to lose", seq))
	}
}

// MakeNewer makes the medium look as if a newer program had written it.
func (m *Memory) MakeNewer() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newer = true
}

// Medium returns the medium with all of its abilities, for [Test].
func (m *Memory) Medium() Medium {
	return Medium{
		Store: m.Store,
		Limited: func(limit int64) spill.Store {
			m.SetLimit(limit)
			return m.Store()
		},
		Crash:     func(spill.Store) { m.Crash() },
		CutPower:  func(spill.Store) { m.CutPower() },
		Refuse:    m.refuse,
		Hang:      func() (resume func()) { return m.Hang() },
		Corrupt:   m.Corrupt,
		Lose:      m.Lose,
		MakeNewer: m.MakeNewer,
	}
}

// refuse makes the stores refuse everything, or no longer.
func (m *Memory) refuse(on bool) {
	if on {
		m.Fail(Append, 1<<30, errNoSpace)
		m.Fail(Sync, 1<<30, errNoSpace)
	} else {
		m.Fail(Append, 0, nil)
		m.Fail(Sync, 0, nil)
	}
}

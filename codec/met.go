package codec

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// maxMet is how many objects of one sort keep their identity at a time.
const maxMet = 4096

// met remembers objects of one sort that must come back as the same pointer,
// weakly: it keeps none of them alive. Each has a number, which is hardly ever
// that of an object of another process, and never 0.
type met struct {
	mu     sync.RWMutex
	byAddr map[uintptr]uint32
	byID   map[uint32]metObject
	last   uint32

	// full: there are maxMet objects, and no garbage collection has ended since
	// they were last seen to be alive.
	full atomic.Bool
}

type metObject struct {
	weak.Pointer[byte]
	typ ptr // as typeWord has it, or nil
}

func newMet() *met {
	return &met{byAddr: map[uintptr]uint32{}, byID: map[uint32]metObject{}, last: rand.Uint32()}
}

// number returns the number of the object at p, whose type is known by typ. It
// returns 0 if there are too many.
func (m *met) number(p, typ ptr) uint32 {
	m.mu.RLock()
	id, ok := m.byAddr[number(p)]
	ok = ok && m.byID[id].is(p, typ)
	m.mu.RUnlock()

	if ok {
		return id
	}
	return m.remember(p, typ)
}

// is reports whether the object is the one at p, and not one that was there
// earlier.
func (o metObject) is(p, typ ptr) bool { return o.typ == typ && ptr(o.Value()) == p }

func (m *met) remember(p, typ ptr) uint32 {
	if m.full.Load() {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()

	if id, ok := m.byAddr[number(p)]; ok {
		if m.byID[id].is(p, typ) {
			return id
		}
		m.forget(number(p), id)
	}
	if len(m.byID) >= maxMet && !m.sweep() {
		return 0
	}
	m.last++
	if m.last == 0 {
		m.last++
	}
	m.byAddr[number(p)], m.byID[m.last] = m.last, metObject{weak.Make(at[byte](p)), typ}
	return m.last
}

// sweep forgets the objects that are gone. If there are none it is of no use
// before the next garbage collection.
func (m *met) sweep() bool {
	for p, id := range m.byAddr {
		if m.byID[id].Value() == nil {
			m.forget(p, id)
		}
	}
	if len(m.byID) < maxMet {
		return true
	}

	m.full.Store(true)
	runtime.AddCleanup(&struct{ _ *met }{}, func(m *met) { m.full.Store(false) }, m)
	return false
}

func (m *met) forget(p uintptr, id uint32) {
	delete(m.byAddr, p)
	delete(m.byID, id)
}

// object returns the object of a number and type, or nil if it is gone or was
// never there.
func (m *met) object(id uint32, typ ptr) ptr {
	m.mu.RLock()
	o := m.byID[id]
	m.mu.RUnlock()

	if o.typ != typ {
		return nil
	}
	return ptr(o.Value())
}

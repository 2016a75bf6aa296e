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

const tooMany = ": too many are in use to keep them apart"

// met remembers objects of one sort that must come back as the same pointer,
// weakly: it keeps none of them alive. Each has a number, which is hardly ever
// that of an object of another process, and never 0.
type met struct {
	mu      sync.RWMutex
	byPlace map[metPlace]uint32
	byID    map[uint32]metObject
	last    uint32

	// full: there are maxMet objects, and no garbage collection has ended since
	// they were last seen to be alive.
	full atomic.Bool
}

// metPlace is where an object is. One that begins with another, of another
// type, shares its address.
type metPlace struct {
	at  uintptr
	typ ptr // as typeWord has it, or nil
}

type metObject struct {
	weak.Pointer[byte]
	typ ptr
}

func newMet() *met {
	return &met{
		byPlace: map[metPlace]uint32{}, byID: map[uint32]metObject{}, last: rand.Uint32(),
	}
}

// number returns the number of the object at p, whose type is known by typ. It
// returns 0 if there are too many. The object is not nil, and not of size 0:
// these share an address.
func (m *met) number(p, typ ptr) uint32 {
	m.mu.RLock()
	id, ok := m.byPlace[metPlace{number(p), typ}]
	ok = ok && m.byID[id].is(p)
	m.mu.RUnlock()

	if ok {
		return id
	}
	return m.remember(p, typ)
}

// is reports whether the object is the one at p, and not one that was there
// earlier.
func (o metObject) is(p ptr) bool { return ptr(o.Value()) == p }

func (m *met) remember(p, typ ptr) uint32 {
	if m.full.Load() {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()

	place := metPlace{number(p), typ}
	if id, ok := m.byPlace[place]; ok {
		if m.byID[id].is(p) {
			return id
		}
		m.forget(place, id)
	}
	if len(m.byID) >= maxMet && !m.sweep() {
		return 0
	}
	m.last++
	if m.last == 0 {
		m.last++
	}
	m.byPlace[place], m.byID[m.last] = m.last, metObject{weak.Make(at[byte](p)), typ}
	return m.last
}

// sweep forgets the objects that are gone. If there are none it is of no use
// before the next garbage collection.
func (m *met) sweep() bool {
	for place, id := range m.byPlace {
		if m.byID[id].Value() == nil {
			m.forget(place, id)
		}
	}
	if len(m.byID) < maxMet {
		return true
	}

	m.full.Store(true)
	runtime.AddCleanup(&struct{ _ *met }{}, func(m *met) { m.full.Store(false) }, m)
	return false
}

func (m *met) forget(place metPlace, id uint32) {
	delete(m.byPlace, place)
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

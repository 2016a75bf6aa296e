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
	mu       sync.RWMutex
	byObject map[metObject]uint32
	byID     map[uint32]metObject
	last     uint32

	// full: there are maxMet objects, and no garbage collection has ended since
	// they were last seen to be alive.
	full atomic.Bool
}

// metObject is one object: weak pointers are equal only if they were made of
// pointers to the same one. One that begins with another, of another type,
// shares its address.
type metObject struct {
	weak.Pointer[byte]
	typ ptr // as typeWord has it, or nil
}

func newMet() *met {
	return &met{
		byObject: map[metObject]uint32{}, byID: map[uint32]metObject{}, last: rand.Uint32(),
	}
}

// number returns the number of the object at p, whose type is known by typ. It
// returns 0 if there are too many. The object is not nil, and not of size 0:
// these share an address.
func (m *met) number(p, typ ptr) uint32 {
	object := metObject{weak.Make(at[byte](p)), typ}
	m.mu.RLock()
	id := m.byObject[object]
	m.mu.RUnlock()

	if id == 0 && !m.full.Load() {
		id = m.remember(object)
	}
	return id
}

func (m *met) remember(object metObject) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id := m.byObject[object]; id != 0 {
		return id
	}
	if len(m.byID) >= maxMet && !m.sweep() {
		return 0
	}

	m.last = max(1, m.last+1)
	m.byObject[object], m.byID[m.last] = m.last, object
	return m.last
}

// sweep forgets the objects that are gone. If there are none it is of no use
// before the next garbage collection.
func (m *met) sweep() bool {
	for object, id := range m.byObject {
		if object.Value() == nil {
			delete(m.byObject, object)
			delete(m.byID, id)
		}
	}
	if len(m.byID) < maxMet {
		return true
	}

	m.full.Store(true)
	runtime.AddCleanup(&struct{ _ *met }{}, func(m *met) { m.full.Store(false) }, m)
	return false
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

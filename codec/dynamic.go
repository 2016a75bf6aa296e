package codec

import (
	"fmt"
	"go/token"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// dynamic is what is known of a type that interface values have had in this
// process.
type dynamic struct {
	typ    reflect.Type
	id     uint64 // its place among dynamics.all
	zero   any    // of the type
	direct bool   // an interface's data is the value, and not its address

	copyFirst bool // its methods get to see it: give them a variable of their own
	hasOwn    bool // it is an error that wraps no other: it keeps its identity
	foreign   string

	live    *ValueError // what is not nil is live; nil if it is not
	unknown *ValueError // For: nobody has registered it
	unfit   *ValueError // Local: it is another package's own
	crowded *ValueError // Local: there are too many errors

	sentinels atomic.Bool                // some values of the type are registered errors
	known     atomic.Pointer[registered] // nil: nobody has registered it
	fits      memo[bool]                 // whether typ implements an interface type
	plan      atomic.Pointer[node]
}

// registered is a type's place in the registry.
type registered struct {
	name string // stable across processes
	tag  byte   // a basic type's number, else tagNamed
}

// dynamics holds the types that interface values have had, in the order in
// which they were met. A type that two goroutines meet at once has two entries:
// what is encoded names the one that byType knows.
var dynamics struct {
	sync.RWMutex
	all    []*dynamic
	byType memo[*dynamic]
}

// recent holds those that were met of late, by a hash of their type word.
var recent [256]atomic.Pointer[dynamic]

// dynamicOf returns the type of x, which is not nil.
func dynamicOf(x any) *dynamic {
	word := typeWord(x)
	slot := &recent[spread(number(word))%uintptr(len(recent))]
	if d := slot.Load(); d != nil && typeWord(d.zero) == word {
		return d
	}

	d := dynamicFor(reflect.TypeOf(x))
	slot.Store(d)
	return d
}

func dynamicFor(t reflect.Type) *dynamic { return dynamics.byType.of(t, newDynamic) }

// dynamicAt returns the type with the given id, or nil.
func dynamicAt(id uint64) *dynamic {
	dynamics.RLock()
	defer dynamics.RUnlock()
	if id >= uint64(len(dynamics.all)) {
		return nil
	}
	return dynamics.all[id]
}

func newDynamic(t reflect.Type) *dynamic {
	d := &dynamic{
		typ:       t,
		zero:      reflect.Zero(t).Interface(),
		copyFirst: inline(t, marshalsItself),
		hasOwn:    keepsIdentity(t),
		foreign:   foreignPackage(t),
		unknown:   unknownError(t),
		unfit:     &ValueError{t, " in an interface, which only its own package knows how to copy"},
		crowded:   &ValueError{t, tooMany},
	}
	// The data of a zero value is nil, or else the address of a zero value.
	d.direct = dataWord(d.zero) == nil
	if t.Implements(contextType) || isLive(t) && formOf(t) != formLive {
		d.live = liveError(t)
	}

	dynamics.Lock()
	defer dynamics.Unlock()
	d.id = uint64(len(dynamics.all))
	dynamics.all = append(dynamics.all, d)
	return d
}

func marshalsItself(t reflect.Type) bool { return formOf(t) >= formCustom && t != addrType }

// keepsIdentity reports whether a t is an error like those of errors.New, which
// programs compare by their address.
func keepsIdentity(t reflect.Type) bool {
	_, wraps := t.MethodByName("Unwrap")
	return t.Kind() == reflect.Pointer && t.Elem().Size() > 0 && t.Implements(errorType) && !wraps
}

var errorType = reflect.TypeFor[error]()

func unknownError(t reflect.Type) *ValueError {
	remedy := fmt.Sprintf(" in an interface: call codec.Register[%v]() at start", t)
	if foreignPackage(t) != "" {
		remedy += ", or codec.RegisterValue with one"
	}
	return &ValueError{t, remedy}
}

// node returns the plan for the type.
func (d *dynamic) node() *node {
	if n := d.plan.Load(); n != nil {
		return n
	}
	n := planOf(d.typ)
	d.plan.Store(n)
	return n
}

// newValue returns the address of a new zero value.
func (d *dynamic) newValue() ptr {
	if d.direct {
		return ptr(new(ptr))
	}
	return reflect.New(d.typ).UnsafePointer()
}

// refusal returns why the codec can't carry the type in an interface, or nil.
func (d *dynamic) refusal(m *mode) *ValueError {
	switch {
	case d.known.Load() != nil:
		return nil
	case !m.local:
		return d.unknown
	case d.live != nil:
		return d.live
	case d.foreign != "" && d.foreign != m.home && d.foreign != "main" || isTrick(d.typ):
		return d.unfit
	}
	return nil
}

// isTrick reports whether t is a pointer type with an unexported name: there is
// a secret to what it points to, such as an array whose length stands
// elsewhere.
func isTrick(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Name() != "" && !token.IsExported(t.Name())
}

// foreignPackage returns the package of t if t is unexported, or of such a type
// that the unnamed t is made of, or "" if there is none. Two packages make a
// name that none has.
func foreignPackage(t reflect.Type) string {
	if t.Name() != "" {
		if t.PkgPath() == "" || token.IsExported(t.Name()) {
			return ""
		}
		return t.PkgPath()
	}
	switch t.Kind() {
	case reflect.Map:
		key, val := foreignPackage(t.Key()), foreignPackage(t.Elem())
		if key == "" || key == val {
			return val
		}
		return strings.TrimSuffix(key+" "+val, " ")
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return foreignPackage(t.Elem())
	}
	return ""
}

// homeOf returns the package of the type that an item of type t is made of.
func homeOf(t reflect.Type) string {
	for t.Name() == "" {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		default:
			return ""
		}
	}
	return t.PkgPath()
}

func (d *dynamic) implements(iface reflect.Type) bool {
	if iface.NumMethod() == 0 || d.zero == nil {
		return d.zero != nil // an interface type is no value's type
	}
	return d.fits.of(iface, d.typ.Implements)
}

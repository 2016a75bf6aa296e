package codec

import (
	"reflect"
	"sync"
)

// A plan says how the values of one type are walked. It is a graph of nodes,
// one for each type within T, compiled once and then only read.
type node struct {
	typ  reflect.Type
	op   op
	size uintptr // of a value in memory
	min  int     // bytes an encoding takes at least; 0 only for a type of size 0

	// bounded: the type alone bounds how deep a value nests, for it holds
	// neither itself nor an interface. Its values are walked without counting.
	bounded bool

	linked bool // a value may hold pointers, or itself
	flat   bool // a value refers to no memory that is measured

	nilPointer any            // a nil *typ, see value
	outline    func() outline // of typ; nil in a shadow
}

// newNode returns a node for t that is not complete.
func newNode(t reflect.Type) *node {
	return &node{typ: t, size: t.Size(), nilPointer: reflect.Zero(reflect.PointerTo(t)).Interface()}
}

// value returns the value at p, as reflect.NewAt does, which has to look for
// the pointer's type.
func (n *node) value(p ptr) reflect.Value {
	return reflect.ValueOf(withData(n.nilPointer, p)).Elem()
}

// An op encodes, decodes and measures the values of one type, found by their
// address.
type op interface {
	// encode appends the value at p to dst.
	encode(e *encoder, dst []byte, p ptr) []byte
	// decode sets the value at p, which is zero, and returns the rest of src.
	decode(d *decoder, src []byte, p ptr) (rest []byte)
	// measure takes the memory that the value at p refers to off m.
	measure(m *meter, p ptr)
}

// plans holds every node that was ever compiled. All are complete, but for
// those that a compilation under way keeps behind the lock.
var plans = struct {
	sync.Mutex
	known compiler
}{known: compiler{}}

// planOf returns the plan for t. There is one for every type: what can't be
// carried has an op that says so.
func planOf(t reflect.Type) *node {
	plans.Lock()
	defer plans.Unlock()
	return plans.known.node(t)
}

// forgetPlans makes codecs that are asked for from now on be compiled anew.
func forgetPlans() {
	plans.Lock()
	defer plans.Unlock()
	clear(plans.known)
	codecs.Clear()
	localCodecs.Clear()
	forms.Clear()

	dynamics.RLock()
	defer dynamics.RUnlock()
	for _, d := range dynamics.all {
		d.plan.Store(nil)
	}
}

// compiler holds the nodes of all types. One that comes up again within itself
// finds its node here, not yet complete.
type compiler map[reflect.Type]*node

func (c compiler) node(t reflect.Type) *node {
	if n := c[t]; n != nil {
		return n
	}

	n := newNode(t)
	n.outline = sync.OnceValue(func() outline { return outlineOf(t) })
	c[t] = n
	c.fill(n, formOf(t))
	return n
}

// fill completes n, whose values travel in the given form.
func (c compiler) fill(n *node, form form) {
	t := n.typ
	if form == formComposed {
		c.compose(n)
		n.linked = n.linked || !n.bounded
		return
	}

	n.bounded, n.min = true, 1
	switch form {
	case formFixed:
		n.op, n.min, n.flat = &fixedOp{t.Size(), checksOf(t, 0)}, int(t.Size()), true
	case formString:
		n.op = stringOp{}
	case formBytes:
		n.op = &memoryOp{n, fixedOp{size: 1}}
	case formTime:
		n.op, n.min, n.flat = timeOp{}, timeMin, true
	case formLocation:
		n.op, n.flat = locationOp{}, true
	case formType:
		n.op, n.flat = typeOp{}, true
	case formLive:
		n.op, n.flat = &liveOp{liveError(t), nilable(t)}, true
	case formCustom, formMarshal:
		n.op = c.marshaler(t)
	case formCapsule:
		n.op, n.min = &capsuleOp{c.marshaler(t)}, 2
	}
}

// sparse reports whether values of which the first word is zero, as of nil and
// most empty strings, are encoded as one zero byte, which zero memory decodes
// from.
func (n *node) sparse() bool {
	switch n.op.(type) {
	case stringOp, *memoryOp, *sliceOp, *mapOp, *pointerOp, *interfaceOp:
		return true
	}
	return false
}

// shadow returns a node that walks a t as what it is made of, although it
// travels otherwise.
func (c compiler) shadow(t reflect.Type) *node {
	n := newNode(t)
	switch t.Kind() {
	case reflect.Struct, reflect.Array, reflect.Slice, reflect.Map, reflect.Pointer,
		reflect.Interface:
		c.fill(n, formComposed)
	case reflect.String:
		c.fill(n, formString)
	default:
		c.fill(n, formFixed)
	}
	return n
}

// compose completes the node of a type that is made of others.
func (c compiler) compose(n *node) {
	t := n.typ
	n.min = 1
	switch t.Kind() {
	case reflect.Struct:
		c.structure(n)
	case reflect.Array:
		c.array(n)
	case reflect.Slice:
		c.slice(n)
	case reflect.Map:
		c.mapping(n)
	case reflect.Pointer:
		c.pointer(n)
	case reflect.Interface:
		n.op = &interfaceOp{t, t.NumMethod() > 0}
	default:
		panic("codec: internal error: no plan for " + t.String())
	}
}

func (c compiler) structure(n *node) {
	o := &structOp{guards: guardsOf(n.typ, 0)}
	n.op = o
	least, bounded, flat := 0, true, true
	for i := range n.typ.NumField() {
		f := n.typ.Field(i)
		child := c.node(f.Type)
		least += o.add(f.Offset, child)
		bounded = bounded && child.bounded
		flat = flat && child.flat
		n.linked = n.linked || child.linked
	}
	n.min, n.bounded, n.flat = least, bounded, flat || holdsLock(n.typ)
}

func (c compiler) array(n *node) {
	t := n.typ
	elem := c.node(t.Elem())
	n.op = &arrayOp{elem, t.Len()}
	n.min = t.Len() * elem.min
	n.bounded, n.linked, n.flat = elem.bounded, elem.linked, elem.flat
}

func (c compiler) slice(n *node) {
	o := &sliceOp{self: n}
	n.op = o
	o.elem = c.node(n.typ.Elem())
	if fixed, ok := o.elem.op.(*fixedOp); ok {
		n.op = &memoryOp{n, *fixed}
	}
	n.bounded, n.linked = o.elem.bounded, o.elem.linked
}

func (c compiler) mapping(n *node) {
	o := &mapOp{self: n}
	n.op = o
	o.key, o.val = c.node(n.typ.Key()), c.node(n.typ.Elem())
	o.entries = entriesOf(n.typ, o)
	n.bounded = o.key.bounded && o.val.bounded
	n.linked = o.key.linked || o.val.linked
	n.flat = isLive(n.typ.Key()) || isLive(n.typ.Elem())
}

func (c compiler) pointer(n *node) {
	o := new(pointerOp)
	n.op, n.linked = o, true
	o.elem = c.node(n.typ.Elem())
	n.bounded = o.elem.bounded
	o.live = isLive(n.typ)
	n.flat = o.live
}

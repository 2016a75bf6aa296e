package codec

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"
)

// plans holds every node that was ever compiled: all are complete, but for those
// that a compilation under way keeps to itself.
var plans = struct {
	sync.Mutex
	nodes map[reflect.Type]*node
}{nodes: map[reflect.Type]*node{}}

// planOf returns the plan for t. The error names the field that can't be carried.
func planOf(t reflect.Type) (*node, error) {
	plans.Lock()
	defer plans.Unlock()
	c := compiler{}
	n, err := c.node(t, rootName(t))
	if err != nil {
		return nil, err
	}
	maps.Copy(plans.nodes, c)
	return n, nil
}

// rootName returns what an error calls the item itself: the name of its type.
func rootName(t reflect.Type) string {
	for t.Name() == "" && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "" {
		return "T"
	}
	return t.Name()
}

// compiler holds the nodes of one compilation. A type that comes up again within
// itself finds its node here, op not yet complete.
type compiler map[reflect.Type]*node

func (c compiler) node(t reflect.Type, path string) (*node, error) {
	if n := plans.nodes[t]; n != nil {
		return n, nil
	}
	if n := c[t]; n != nil {
		return n, nil
	}
	n := &node{typ: t}
	c[t] = n
	return n, c.fill(n, path)
}

// form is how values of a type travel. What comes first wins, within an item as for
// the item itself.
type form int

const (
	formComposed form = iota // as what it is made of
	formFixed                // as its memory
	formString
	formBytes
	formTime
	formLocation
	formBinary // as what it marshals to
)

var (
	timeType     = reflect.TypeFor[time.Time]()
	locationType = reflect.TypeFor[*time.Location]()
	errnoType    = reflect.TypeFor[syscall.Errno]()
)

func formOf(t reflect.Type) form {
	switch {
	case t == timeType:
		return formTime
	case t == locationType:
		return formLocation
	case isFixed(t):
		return formFixed
	case t.Kind() == reflect.String:
		return formString
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return formBytes
	case marshals(t):
		return formBinary
	}
	return formComposed
}

// fill completes n.
func (c compiler) fill(n *node, path string) error {
	t := n.typ
	n.bounded = true
	switch formOf(t) {
	case formFixed:
		n.op, n.min = &fixedOp{t.Size(), checksOf(t, 0)}, int(t.Size())
	case formString:
		n.op, n.min = stringOp{}, 1
	case formBytes:
		n.op, n.min = &memoryOp{t, fixedOp{size: 1}}, 1
	case formTime:
		n.op, n.min = timeOp{}, timeMin
	case formLocation:
		n.op, n.min = locationOp{}, 1
	case formBinary:
		n.op, n.min = &marshalOp{t}, 1
	default:
		n.bounded = false // until it is known
		return c.compose(n, path)
	}
	return nil
}

// compose completes the node of a type that is made of others.
func (c compiler) compose(n *node, path string) error {
	t := n.typ
	if why := refused(t); why != "" {
		return fmt.Errorf("hopper: %s is %s: give WithCodec", path, why)
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.structure(n, path)
	case reflect.Array:
		return c.array(n, path)
	case reflect.Slice:
		return c.slice(n, path)
	case reflect.Map:
		return c.mapping(n, path)
	case reflect.Pointer:
		return c.pointer(n, path)
	case reflect.Interface:
		n.op, n.min = &interfaceOp{t}, 1
		return nil
	}
	panic(fmt.Sprintf("codec: internal error: no plan for %v", t))
}

func (c compiler) structure(n *node, path string) error {
	o := new(structOp)
	bounded := true
	for i := range n.typ.NumField() {
		f := n.typ.Field(i)
		child, err := c.node(f.Type, path+"."+f.Name)
		if err != nil {
			return err
		}
		n.min += o.add(f.Offset, child)
		bounded = bounded && child.bounded
	}
	if isLock(n.typ) {
		return fmt.Errorf("hopper: %s is %s%s: give WithCodec", path, article(n.typ), noCopy)
	}
	n.op, n.bounded = o, bounded
	return nil
}

// add adds the field at off and returns the bytes that it takes at least.
func (o *structOp) add(off uintptr, n *node) int {
	field, isFixed := n.op.(*fixedOp)
	if !isFixed {
		o.parts = append(o.parts, part{off, n.op})
		return n.min
	}
	run, start := o.run(off)
	for _, ch := range field.checks {
		ch.off += off - start
		run.checks = append(run.checks, ch)
	}
	grown := off + field.size - start - run.size
	run.size += grown
	return int(grown)
}

// run returns the piece of memory that a field at off belongs to, and where it starts:
// the last part if that is memory, else a new one.
func (o *structOp) run(off uintptr) (run *fixedOp, start uintptr) {
	if n := len(o.parts); n > 0 {
		if run, ok := o.parts[n-1].op.(*fixedOp); ok {
			return run, o.parts[n-1].off
		}
	}
	run = new(fixedOp)
	o.parts = append(o.parts, part{off, run})
	return run, off
}

func (c compiler) array(n *node, path string) error {
	t := n.typ
	elem, err := c.node(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	n.op = &arrayOp{elem, t.Elem().Size(), t.Len()}
	n.min = t.Len() * elem.min
	n.bounded = elem.bounded
	return nil
}

func (c compiler) slice(n *node, path string) error {
	t := n.typ
	o := &sliceOp{self: n, size: t.Elem().Size()}
	n.op, n.min = o, 1
	elem, err := c.node(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	if fixed, ok := elem.op.(*fixedOp); ok {
		n.op = &memoryOp{t, *fixed}
	}
	o.elem = elem
	n.bounded = elem.bounded
	return nil
}

func (c compiler) mapping(n *node, path string) (err error) {
	o := &mapOp{self: n, entries: entriesOf(n.typ)}
	n.op, n.min = o, 1
	if o.key, err = c.node(n.typ.Key(), path+"[key]"); err != nil {
		return err
	}
	if o.val, err = c.node(n.typ.Elem(), path+"[value]"); err != nil {
		return err
	}
	n.bounded = o.key.bounded && o.val.bounded
	return nil
}

func (c compiler) pointer(n *node, path string) (err error) {
	o := new(pointerOp)
	n.op, n.min = o, 1
	if o.elem, err = c.node(n.typ.Elem(), path); err != nil {
		return err
	}
	n.bounded = o.elem.bounded
	return nil
}

// isFixed reports whether t is data without pointers, so that a copy of its memory
// is a copy of it.
func isFixed(t reflect.Type) bool {
	if refused(t) != "" {
		return false
	}
	switch k := t.Kind(); k {
	case reflect.Array:
		return t.Len() == 0 || isFixed(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFixed(t.Field(i).Type) {
				return false
			}
		}
		return !isLock(t)
	default:
		return reflect.Bool <= k && k <= reflect.Complex128
	}
}

const noCopy = ", which must not be copied"

// refused says what t is if no value of it can be carried, whatever it is made of.
func refused(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return article(t)
	case reflect.Uintptr:
		if t == errnoType { // a number, not an address
			return ""
		}
		return article(t)
	case reflect.Interface:
		return ""
	}
	switch t.PkgPath() {
	case "sync", "sync/atomic":
		return article(t) + noCopy
	case "unique", "weak":
		return article(t) + ", which means nothing elsewhere"
	}
	if t.Kind() != reflect.Struct && isLock(t) {
		return article(t) + noCopy
	}
	return ""
}

// isLock reports whether t is a lock, or forbids copying in the way of one: the rule
// is that of go vet's copylocks.
func isLock(t reflect.Type) bool {
	locker := reflect.TypeFor[sync.Locker]()
	return t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(locker) && !t.Implements(locker)
}

// article returns t as its package's users write it, behind a or an.
func article(t reflect.Type) string {
	s := t.String()
	if strings.ContainsRune("aeioAEIO", rune(s[0])) || strings.HasPrefix(s, "unsafe") {
		return "an " + s
	}
	return "a " + s
}

package codec

import (
	"context"
	"fmt"
	"go/token"
	"reflect"
	"strings"
	"sync"
)

// What is live is part of the running program and no data: a copy of it would
// be something else, and reading it may race with those who use it.

const (
	noData    = ", which is no data"
	noCopy    = ", which must not be copied"
	elsewhere = ", which means nothing elsewhere"
)

// refused says why no codec can carry what is not nil of t, whatever it is made
// of. It returns "" if one can.
func refused(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return noData
	case reflect.Interface:
		return ""
	}
	exported := token.IsExported(t.Name())
	switch path := t.PkgPath(); {
	case path == "sync", path == "sync/atomic":
		return noCopy
	case path == "unique", path == "weak":
		return elsewhere
	case path == "runtime" && (t.Name() == "Func" || !exported),
		strings.HasPrefix(path, "internal/"):
		return noData
	}
	if isLock(t) {
		return noCopy
	}
	return ""
}

var lockerType = reflect.TypeFor[sync.Locker]()

// isLock reports whether t is a lock, or forbids copying in the way of one: the
// rule is that of go vet's copylocks.
func isLock(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() != reflect.Interface && p.Implements(lockerType) && !t.Implements(lockerType)
}

// holdsLock reports whether a lock, an atomic or the like is part of a t.
// Someone may be using what stands beside it.
func holdsLock(t reflect.Type) bool {
	return inline(t, func(t reflect.Type) bool { return refused(t) == noCopy })
}

func nilable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return true
	}
	return t.Kind() == reflect.Func || t.Kind() == reflect.Chan || t.Kind() == reflect.UnsafePointer
}

var contextType = reflect.TypeFor[context.Context]()

// isLive reports whether a t that is not nil is live.
func isLive(t reflect.Type) bool {
	if f := formOf(t); f != formComposed {
		return f == formLive
	}
	switch t.Kind() {
	case reflect.Interface:
		return t.Implements(contextType)
	case reflect.Pointer:
		f := formOf(t.Elem())
		return f == formLive || f == formComposed && holdsLock(t.Elem())
	}
	return false
}

// A guard is a field that must be nil. A struct looks at these before all else.
type guard struct {
	off uintptr
	err *ValueError
}

// guardsOf returns the guards of a t that stands at off.
func guardsOf(t reflect.Type, off uintptr) (all []guard) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case formOf(f.Type) == formComposed && f.Type.Kind() == reflect.Struct:
			all = append(all, guardsOf(f.Type, off+f.Offset)...)
		case isLive(f.Type) && (nilable(f.Type) || f.Type.Kind() == reflect.Interface):
			all = append(all, guard{off + f.Offset, liveError(f.Type)})
		}
	}
	return all
}

func liveError(t reflect.Type) *ValueError {
	why := refused(t)
	switch {
	case t.Kind() == reflect.Pointer && why == "":
		why = noCopy
	case why == "":
		why = noData
	}
	return &ValueError{t, why}
}

// liveOp is for what can't be carried, unless it is nil.
type liveOp struct {
	err    *ValueError
	canNil bool
}

func (o *liveOp) encode(e *encoder, dst []byte, p ptr) []byte {
	// The first word of whatever can be nil is a pointer.
	if !o.canNil || pointerAt(p) != nil {
		return e.fail(dst, o.err)
	}
	return append(dst, refNil)
}

func (o *liveOp) decode(d *decoder, src []byte, p ptr) []byte {
	b, src := d.byte(src)
	if !o.canNil || b != refNil {
		return d.fail(o.err)
	}
	return src
}

func (o *liveOp) measure(*meter, ptr) {}

// refusal returns the error that For refuses t with, which names the part that
// can't be carried, or nil.
func refusal(t reflect.Type) error {
	r := refuser{root: t, seen: map[reflect.Type]bool{}}
	return r.find(t, rootName(t), t)
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

type refuser struct {
	root reflect.Type
	seen map[reflect.Type]bool
}

// find looks for what can't be carried in the t at path. The owner is the type
// around it that a codec can be given to.
func (r *refuser) find(t reflect.Type, path string, owner reflect.Type) error {
	f := formOf(t)
	if r.seen[t] || f != formComposed && f != formLive {
		return nil
	}
	r.seen[t] = true
	if r.canName(t) && f != formLive && t.Kind() != reflect.Interface {
		owner = t
	}

	if !isStandardLock(t) {
		for step, part := range parts(t) {
			if err := r.find(part, path+step, owner); err != nil {
				return err
			}
		}
	}
	if f == formLive || t.Kind() == reflect.Interface && isLive(t) {
		const remedy = ": leave it out, or give %v a codec with codec.RegisterCodec"
		return fmt.Errorf("codec: %s is %s%s"+remedy, path, article(t), liveError(t).reason, owner)
	}
	return nil
}

// isStandardLock reports whether what t is made of is of no interest.
func isStandardLock(t reflect.Type) bool {
	return t.PkgPath() == "sync" || t.PkgPath() == "sync/atomic" || refused(t) == elsewhere
}

// canName reports whether those who send the root type can name t too.
func (r *refuser) canName(t reflect.Type) bool {
	return t.Name() != "" && (token.IsExported(t.Name()) || t.PkgPath() == homeOf(r.root))
}

// article returns t as its package's users write it, behind a or an.
func article(t reflect.Type) string {
	s := t.String()
	if strings.ContainsRune("aeioAEIO", rune(s[0])) || strings.HasPrefix(s, "unsafe") {
		return "an " + s
	}
	return "a " + s
}

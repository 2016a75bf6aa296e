package codec

import (
	"iter"
	"net/netip"
	"reflect"
	"time"
)

// form is how values of a type travel. What comes first wins, within an item as
// for the item itself.
type form int

const (
	formComposed form = iota // as what it is made of
	formFixed                // as its memory
	formString
	formBytes
	formTime
	formLocation
	formType    // a reflect.Type
	formLive    // not at all
	formCustom  // as RegisterCodec has it
	formMarshal // as what it marshals to
	formCapsule // as what it is made of, or if that can't be, as what it marshals to
)

var (
	timeType     = reflect.TypeFor[time.Time]()
	locationType = reflect.TypeFor[*time.Location]()
	rtypeType    = reflect.TypeOf(timeType)
	addrType     = reflect.TypeFor[netip.Addr]()
)

var forms memo[form]

func formOf(t reflect.Type) form { return forms.of(t, classify) }

func classify(t reflect.Type) form {
	switch {
	case customOf(t) != nil:
		return formCustom
	case isTime(t):
		return formTime
	case t == locationType:
		return formLocation
	case t == rtypeType:
		return formType
	case isProto(t):
		return formMarshal
	}

	// Plans come before marshalers: a marshaler may be lossy, a copy is not.
	switch marshals := wayOf(t) != nil; {
	case neverHeld(t) && marshals:
		return formMarshal
	case refused(t) != "":
		return formLive
	case isFixed(t):
		return formFixed
	case t.Kind() == reflect.String:
		return formString
	case t.Kind() == reflect.Slice && isByte(t.Elem()):
		return formBytes
	case marshals && mayFail(t):
		return formCapsule
	}
	return formComposed
}

// isTime reports whether t is time.Time, or a type made of it as in type Stamp
// time.Time.
func isTime(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.ConvertibleTo(timeType)
}

func isByte(t reflect.Type) bool {
	return t.Kind() == reflect.Uint8 && customOf(t) == nil
}

// isFixed reports whether t is data without pointers, so that a copy of its
// memory is a copy of it.
func isFixed(t reflect.Type) bool {
	return !inline(t, func(t reflect.Type) bool {
		k := t.Kind()
		isData := k <= reflect.Complex128 || k == reflect.Array || k == reflect.Struct
		return !isData || refused(t) != "" || customOf(t) != nil
	})
}

// parts yields the types that a t is made of, each behind what leads there in a
// path.
func parts(t reflect.Type) iter.Seq2[string, reflect.Type] {
	return func(yield func(string, reflect.Type) bool) {
		switch t.Kind() {
		case reflect.Struct:
			for i := range t.NumField() {
				if f := t.Field(i); !yield("."+f.Name, f.Type) {
					return
				}
			}
		case reflect.Array, reflect.Slice:
			yield("[]", t.Elem())
		case reflect.Map:
			if yield("[key]", t.Key()) {
				yield("[value]", t.Elem())
			}
		case reflect.Pointer:
			yield("", t.Elem())
		}
	}
}

// inline calls f for t and what is part of a t's own memory, until f returns
// true. It reports whether it did.
func inline(t reflect.Type, f func(reflect.Type) bool) bool {
	if f(t) {
		return true
	}
	if k := t.Kind(); k == reflect.Struct || k == reflect.Array && t.Len() > 0 {
		for _, part := range parts(t) {
			if inline(part, f) {
				return true
			}
		}
	}
	return false
}

// reaches calls f for t and all that a t may lead to by its type, but for what
// has a form of its own, until f returns true. It reports whether it did.
func reaches(t reflect.Type, f func(reflect.Type) bool) bool {
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type) bool
	walk = func(t reflect.Type) bool {
		ownForm := t == addrType || t == locationType || isTime(t) || customOf(t) != nil ||
			isProto(t)
		if seen[t] || ownForm {
			return false
		}
		seen[t] = true
		found := f(t)
		for _, part := range parts(t) {
			found = found || walk(part)
		}
		return found
	}
	return walk(t)
}

// mayFail reports whether the plan may be unable to carry a value of type t.
func mayFail(t reflect.Type) bool {
	return reaches(t, func(t reflect.Type) bool {
		return t.Kind() == reflect.Interface || refused(t) != ""
	})
}

// neverHeld reports whether no value of type t can be carried by its plan, for
// a part of it is no data even when it is zero.
func neverHeld(t reflect.Type) bool {
	return inline(t, func(t reflect.Type) bool { return refused(t) != "" && !nilable(t) })
}

// travelsLocally reports whether a t is no part of the running program,
// although its plan may be unable to carry it: what it marshals to can stand
// for it.
func travelsLocally(t reflect.Type) bool {
	return !reaches(t, func(t reflect.Type) bool {
		return refused(t) != "" && refused(t) != elsewhere
	})
}

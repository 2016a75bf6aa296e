package codec

import "reflect"

// MayRefuse reports whether there can be values of type T that the codecs of
// [For] and [Local] refuse: whether it leads to an interface or to a part of a
// running program.
func MayRefuse[T any]() bool { return mayFail(reflect.TypeFor[T]()) }

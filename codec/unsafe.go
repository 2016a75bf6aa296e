package codec

import "unsafe"

// This file alone imports unsafe. An op finds its values through a ptr, knows
// their type from the plan, and keeps no ptr once it has returned.

// ptr is the address of a value.
type ptr = unsafe.Pointer

// addr returns the address of *v. Unlike reflect.ValueOf(v).UnsafePointer() it
// leaves v on the stack where that is possible.
func addr[T any](v *T) ptr { return ptr(v) }

// at returns the value at p as a *T. The type at p must be T or one that is
// laid out as T is: a named T, or any slice type where T is []byte.
func at[T any](p ptr) *T { return (*T)(p) }

// offset returns p+n, which lies in the same value as p.
func offset(p ptr, n uintptr) ptr { return unsafe.Add(p, n) }

// memory returns the n bytes at p, which hold no Go pointers.
func memory(p ptr, n uintptr) []byte { return unsafe.Slice((*byte)(p), n) }

// memoryOf returns the bytes of *v, which holds no Go pointers.
func memoryOf[T any](v *T) []byte { return unsafe.Slice((*byte)(ptr(v)), unsafe.Sizeof(*v)) }

// sliceAt returns the first element and the length of the slice at p, whatever
// its type.
func sliceAt(p ptr) (first ptr, n int) {
	s := *at[[]byte](p)
	return ptr(unsafe.SliceData(s)), len(s)
}

// setSlice sets the slice at p, whatever its type, to the n elements from first
// on.
func setSlice(p, first ptr, n int) { *at[[]byte](p) = unsafe.Slice((*byte)(first), n) }

// pointerAt returns the pointer, or map, that stands at p.
func pointerAt(p ptr) ptr { return *(*ptr)(p) }

// mapLen returns the length of the map at p, whatever its type: it is the first
// word of all maps.
func mapLen(p ptr) int { return len(*at[map[byte]byte](p)) }

// setPointer sets the pointer at p.
func setPointer(p, to ptr) { *(*ptr)(p) = to }

// textOf returns b as a string. No one may write to b any more.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// An interface is two words: its type, or a table of methods for its type, and
// its data. The data is the value itself if that is a pointer, and its address
// if not.

// anyAt returns the interface at p as an any. Whatever methods an interface
// type has, its values are laid out alike; reflect relies on that too.
func anyAt(p ptr, hasMethods bool) any {
	if hasMethods {
		return *(*interface{ method() })(p)
	}
	return *(*any)(p)
}

// typeWord returns what x's type is known by in this process.
func typeWord(x any) ptr { return (*[2]ptr)(ptr(&x))[0] }

// dataWord returns x's data.
func dataWord(x any) ptr { return (*[2]ptr)(ptr(&x))[1] }

// withData returns an interface value of x's type whose data is word.
func withData(x any, word ptr) any {
	(*[2]ptr)(ptr(&x))[1] = word
	return x
}

// dataAt returns the address of the data of the interface at p.
func dataAt(p ptr) ptr { return unsafe.Add(p, unsafe.Sizeof(p)) }

// number returns an address as a number, which does not keep anything alive.
func number(p ptr) uintptr { return uintptr(p) }

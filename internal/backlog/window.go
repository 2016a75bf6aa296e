package backlog

import (
	"math"
	"reflect"

	"example.com/hopper/codec"
)

// A window is a queue of items that counts the bytes they take.
type window[T any] struct {
	items queue[T]
	sizes queue[int64] // of the items, where they can't be told from them
	bytes int64        // of the items, their places in the queues included

	fixed   int64                         // bytes of an item, if size is nil
	size    func(v *T, limit int64) int64 // of an item; nil: all are of the fixed size
	limit   int64                         // size need not count further
	repeats bool                          // size says the same again when the item is popped
}

const sizeBytes = 8 // of a place in window.sizes

func newWindow[T any](limit int64) window[T] {
	w := window[T]{limit: limit}
	w.fixed, w.size = codec.Sizer[T]()
	w.fixed = max(w.fixed, 1) // so that the number of items of no size is bounded too

	// A sender should not change what an item refers to, but nothing keeps it
	// from doing so. The header of a string or []byte is the window's own.
	switch t := reflect.TypeFor[T](); t.Kind() {
	case reflect.String:
		w.repeats = true
	case reflect.Slice:
		w.repeats = t.Elem().Kind() == reflect.Uint8
	}
	return w
}

func (w *window[T]) len() int { return w.items.n }

// sizeOf returns the bytes that an item takes.
func (w *window[T]) sizeOf(v *T) int64 {
	switch {
	case w.size == nil:
		return w.fixed
	case w.repeats:
		return w.size(v, w.limit)
	}
	return w.size(v, w.limit) + sizeBytes
}

// push adds an item.
func (w *window[T]) push(v T) {
	w.pushWithin(math.MaxInt64, v)
}

// pushWithin adds an item, unless the window would then take more than limit
// bytes.
func (w *window[T]) pushWithin(limit int64, v T) bool {
	n := w.sizeOf(w.items.push(v)) // of the queue's copy: v would escape
	if n > limit-w.bytes {
		w.items.unpush()
		return false
	}

	if w.size != nil && !w.repeats {
		w.sizes.push(n)
	}
	w.bytes += n
	return true
}

// pop removes the n oldest items, which stand in a row.
func (w *window[T]) pop(n int) {
	switch {
	case w.size == nil:
		w.bytes -= int64(n) * w.fixed
	case w.repeats:
		items := w.items.front()
		for i := range n {
			w.bytes -= w.size(&items[i], w.limit)
		}
	default:
		for range n {
			w.bytes -= *w.sizes.head()
			w.sizes.pop(1)
		}
	}
	w.items.pop(n)
}

func (w *window[T]) rest() {
	w.items.rest()
	w.sizes.rest()
}

package backlog

import "unsafe"

// A lot holds the parked items: those that can't be encoded. Each has a
// placeholder in the log, in the same order.
type lot[T any] struct {
	items queue[parked[T]] // whose placeholders have not been read
	taken []place          // of those that are in the window, oldest first
	bytes int64            // of both
	why   error            // why the youngest is here
}

type parked[T any] struct {
	place
	v T
}

type place struct {
	seq  uint64
	size int64
}

func (l *lot[T]) park(seq uint64, v T, sizeOf func(v *T) int64, why error) {
	p := l.items.push(parked[T]{place{seq: seq}, v})
	p.size = sizeOf(&p.v) + int64(unsafe.Sizeof(p.place))
	l.bytes += p.size
	l.why = why
}

// next returns the number of the next item to be taken.
func (l *lot[T]) next() (seq uint64, ok bool) {
	if l.items.n == 0 {
		return 0, false
	}
	return l.items.head().seq, true
}

// take returns the item seq if it is the next that was parked. Its bytes count
// until it is done.
func (l *lot[T]) take(seq uint64) (v T, ok bool) {
	if next, ok := l.next(); !ok || next != seq {
		return v, false
	}

	p := *l.items.head()
	l.items.pop()
	l.taken = append(l.taken, p.place)
	return p.v, true
}

// done says that the items below seq are done.
func (l *lot[T]) done(seq uint64) {
	for len(l.taken) > 0 && l.taken[0].seq < seq {
		l.bytes -= l.taken[0].size
		l.taken = l.taken[1:]
	}
	if l.len() == 0 {
		*l = lot[T]{}
	}
}

// len returns how many items are parked and not done.
func (l *lot[T]) len() int { return l.items.n + len(l.taken) }

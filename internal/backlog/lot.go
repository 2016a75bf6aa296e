package backlog

// A lot holds the parked items: those that can't be encoded. Each has a
// placeholder in the log, in the same order.
type lot[T any] struct {
	items queue[parked[T]] // whose placeholders have not been read
	bytes int64            // of these
	taken []uint64         // numbers of those that are in the window, oldest first
	why   error            // why the youngest is here
}

type parked[T any] struct {
	seq  uint64
	size int64
	v    T
}

func (l *lot[T]) park(seq uint64, v T, sizeOf func(v *T) int64, why error) {
	p := l.items.push(parked[T]{seq: seq, v: v})
	p.size = sizeOf(&p.v) + placeBytes
	l.bytes += p.size
	l.why = why
}

// placeBytes is what a parked item takes beside its own bytes.
const placeBytes = 16

// oldest returns the number of the next item to be taken.
func (l *lot[T]) oldest() (seq uint64, ok bool) {
	if l.items.n == 0 {
		return 0, false
	}
	return l.items.head().seq, true
}

// take returns the item seq if it is the next that was parked. It stays parked
// until it is done.
func (l *lot[T]) take(seq uint64) (v T, ok bool) {
	if oldest, ok := l.oldest(); !ok || oldest != seq {
		return v, false
	}

	p := *l.items.head()
	l.items.pop(1)
	l.bytes -= p.size
	l.taken = append(l.taken, seq)
	return p.v, true
}

// done says that the items below seq are done.
func (l *lot[T]) done(seq uint64) {
	for len(l.taken) > 0 && l.taken[0] < seq {
		l.taken = l.taken[1:]
	}
	if l.len() == 0 {
		*l = lot[T]{}
	}
}

// delivered returns how many of the items that are not done have numbers below
// head.
func (l *lot[T]) delivered(head uint64) (n int) {
	for n < len(l.taken) && l.taken[n] < head {
		n++
	}
	return n
}

// len returns how many items are parked and not done.
func (l *lot[T]) len() int { return l.items.n + len(l.taken) }

package backlog

import "unsafe"

const (
	// blockBytes is the size of a block, once the queue is not small any more.
	// The runtime puts a header of 8 bytes in front.
	blockBytes = 16<<10 - 8

	// smallBytes and smallItems bound the first block.
	smallBytes = 512
	smallItems = 16

	// keptBytes bounds a block that an empty queue keeps.
	keptBytes = 3 << 10
)

// A queue is a first-in, first-out queue. It grows and shrinks by blocks, so
// that it never holds much more than its items, and never copies them.
type queue[E any] struct {
	first, last *block[E]
	spare       *block[E] // the last one that was emptied
	at          int       // index in first of the oldest item
	n           int       // items
}

// A block is a piece of a queue. Its slice never grows beyond its capacity.
type block[E any] struct {
	next  *block[E]
	items []E
}

// blockItems returns how many items fit into so many bytes, at least one.
func blockItems[E any](bytes int) int {
	var e E
	return max(1, bytes/max(1, int(unsafe.Sizeof(e))))
}

func smallBlock[E any]() int { return min(smallItems, blockItems[E](smallBytes)) }

// head returns the oldest item, of which there must be one.
func (q *queue[E]) head() *E { return &q.first.items[q.at] }

// push adds an item and returns where it stands until it is popped.
func (q *queue[E]) push(e E) *E {
	b := q.last
	if b == nil || len(b.items) == cap(b.items) {
		b = q.grow()
	}

	i := len(b.items)
	b.items = b.items[:i+1]
	b.items[i] = e
	q.n++
	return &b.items[i]
}

// unpush takes back the item that was pushed last.
func (q *queue[E]) unpush() {
	var zero E
	b := q.last
	i := len(b.items) - 1
	b.items[i] = zero
	b.items = b.items[:i]
	q.n--
}

// grow adds a block, the spare one if there is one.
func (q *queue[E]) grow() *block[E] {
	b := q.spare
	q.spare = nil
	if b == nil {
		most := blockItems[E](blockBytes)
		b = &block[E]{items: make([]E, 0, min(max(q.n, smallBlock[E]()), most))}
	}

	if q.last == nil {
		q.first = b
	} else {
		q.last.next = b
	}
	q.last = b
	return b
}

// front returns the oldest items, those that stand in a row. The queue must not
// be empty.
func (q *queue[E]) front() []E { return q.first.items[q.at:] }

// pop removes the n oldest items, which stand in a row.
func (q *queue[E]) pop(n int) {
	b := q.first
	if n == 1 { // to clear one takes longer than to set it
		var zero E
		b.items[q.at] = zero
	} else {
		clear(b.items[q.at : q.at+n])
	}
	q.at += n
	q.n -= n

	switch {
	case q.n == 0:
		q.reset()
	case q.at == len(b.items) && b.next != nil:
		q.shrink()
	}
}

// reset makes an empty queue begin anew. It keeps no large block for what may
// never come.
func (q *queue[E]) reset() {
	most := blockItems[E](keptBytes)
	if q.spare != nil && cap(q.spare.items) > most {
		q.spare = nil
	}
	if cap(q.last.items) > most {
		*q = queue[E]{spare: q.spare}
		return
	}

	q.first, q.at = q.last, 0
	q.last.items = q.last.items[:0]
}

// shrink takes out the first block, which is used up.
func (q *queue[E]) shrink() {
	b := q.first
	q.first, q.at = b.next, 0

	b.next, b.items = nil, b.items[:0]
	q.spare = b
}

// rest gives back what is held without need.
func (q *queue[E]) rest() {
	q.spare = nil
	if q.n == 0 {
		*q = queue[E]{}
	}
}

// from calls f for each item from the i-th on, oldest first.
func (q *queue[E]) from(i int, f func(e *E)) {
	at := q.at
	for b := q.first; b != nil; b = b.next {
		for ; at < len(b.items); at++ {
			if i > 0 {
				i--
			} else {
				f(&b.items[at])
			}
		}
		at = 0
	}
}

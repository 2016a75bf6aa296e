package backlog

import (
	"sort"
	"time"
	"unsafe"
)

const (
	minMark  = 5 * time.Millisecond // between two marks
	manyMark = 512                  // marks, before they are looked through for the first time
)

// Ages tell when an item was received: to five milliseconds while it is in the
// window; in the log, where that is more, to one percent of its age. They hold
// marks, of which those of the log thin out as they grow old.
type ages struct {
	now   time.Duration // since the start, as the owner last said
	marks []mark        // oldest first
	many  int           // when they are thinned out
}

// A mark says that the items from seq up to the next mark were received at the
// time, or shortly after.
type mark struct {
	seq uint64
	at  time.Duration
}

// due reports whether an item that is received now is to be marked.
func (a *ages) due() bool {
	n := len(a.marks)
	return n == 0 || a.now-a.marks[n-1].at >= minMark
}

// mark notes that the item seq is received now. The items below logged are in
// the window.
func (a *ages) mark(seq, logged uint64) {
	a.marks = append(a.marks, mark{seq, a.now})
	if len(a.marks) >= max(a.many, manyMark) {
		a.thin(logged)
	}
}

// thin drops marks of the log that stand closer together than a hundredth of
// their age.
func (a *ages) thin(logged uint64) {
	kept := a.marks[:1]
	for i := 1; i < len(a.marks); i++ {
		last := i+1 == len(a.marks)
		if !last && a.marks[i].seq >= logged {
			next := a.marks[i+1].at
			if next-kept[len(kept)-1].at <= (a.now-next)/100 {
				continue
			}
		}
		kept = append(kept, a.marks[i])
	}

	a.marks = kept
	a.many = 2 * len(kept)
}

// bytes returns the memory that the marks take beyond a KiB.
func (a *ages) bytes() int64 {
	return max(0, int64(len(a.marks))*int64(unsafe.Sizeof(mark{}))-1<<10)
}

// of returns when the item seq was received, since the start, and may forget
// the times of older ones. There must have been one.
func (a *ages) of(seq uint64) time.Duration {
	n := sort.Search(len(a.marks)-1, func(i int) bool { return a.marks[i+1].seq > seq })
	at := a.marks[n].at
	if n > len(a.marks)/2 { // seldom, since the others are moved
		a.marks = a.marks[:copy(a.marks, a.marks[n:])]
	}
	return at
}

// clear forgets all times. It keeps the memory if that is little.
func (a *ages) clear() {
	if cap(a.marks) > manyMark {
		a.marks = nil
	}
	a.marks, a.many = a.marks[:0], 0
}

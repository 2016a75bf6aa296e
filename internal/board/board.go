// Package board passes snapshots of a value from one goroutine to others.
package board

import (
	"sync"
	"sync/atomic"
)

// A Board passes snapshots from one writer to any number of readers; neither
// side ever waits for the other. Of three copies one belongs to the writer, one
// to the readers, and one is on its way. The zero Board holds a zero S.
type Board[S any] struct {
	copies [3]S

	writer uint32 // 0 is copy 2, so that the zero Board is ready for use
	onWay  atomic.Uint32

	mu     sync.Mutex // among the readers
	reader uint32     // 0 is copy 1
}

// fresh marks the copy on its way if it has not been read.
const fresh = 4

// Draft returns the copy that the writer fills in before it calls Post. What is
// in it may be of any age. It is for one goroutine, as is Post.
func (b *Board[S]) Draft() *S { return &b.copies[2-b.writer] }

// Post publishes the draft.
func (b *Board[S]) Post() {
	b.writer = 2 - b.onWay.Swap((2-b.writer)|fresh)&^fresh
}

// Read returns the last snapshot. It is safe for concurrent use.
func (b *Board[S]) Read() S {
	b.mu.Lock()
	defer b.mu.Unlock()

	own := 1 ^ b.reader
	if b.onWay.Load()&fresh != 0 {
		own = b.onWay.Swap(own) &^ fresh
		b.reader = 1 ^ own
	}
	return b.copies[own]
}

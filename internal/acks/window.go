package acks

import (
	"math/bits"
	"sync"
)

const wordBits = 64

// A Window takes acknowledgements in any order, and tells how many deliveries
// in a row, from the oldest on, are acknowledged by now. Each one that is ahead
// of its turn costs a bit, and so does each that it is ahead of. The zero
// Window is ready for use. It is safe for concurrent use.
type Window struct {
	mu    sync.Mutex
	done  uint64   // deliveries below are acknowledged
	words []uint64 // a bit for each delivery from done/wordBits*wordBits on
}

// Ack acknowledges the n-th delivery, counted from 0. It returns how many more
// are acknowledged in a row now. For one that was acknowledged before that is
// none.
func (w *Window) Ack(n uint64) (more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n < w.done {
		return 0
	}

	at := n - w.done/wordBits*wordBits
	for uint64(len(w.words)) <= at/wordBits {
		w.words = append(w.words, 0)
	}
	w.words[at/wordBits] |= 1 << (at % wordBits)
	return w.advanceLocked()
}

// advanceLocked moves done to the first delivery that is not acknowledged.
func (w *Window) advanceLocked() (more int) {
	for len(w.words) > 0 {
		ones := bits.TrailingZeros64(^w.words[0]) // from the word's start on
		n := ones - int(w.done%wordBits)
		if n <= 0 {
			break
		}

		more += n
		w.done += uint64(n)
		if ones == wordBits {
			w.words = w.words[1:]
		}
	}
	if len(w.words) == 0 {
		w.words = nil // with the array that the slice has moved along
	}
	return more
}

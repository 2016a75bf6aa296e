package codec

import "fmt"

const (
	inlineDepth = 1_000  // from here on what a pointer points to is put off
	maxDepth    = 10_000 // slices, maps and interfaces in one another
)

var errDepth = fmt.Errorf("codec: more than %d slices, maps or interfaces in one another", maxDepth)

// walker is the state that an encoding and a decoding have in common. At the
// same byte it is the same in both, but for err: what comes next depends on it.
type walker struct {
	mode
	err      error       // the first; what comes after it is of no interest
	base     int         // descents on the stack before the item, which is within another
	depth    int         // descents on the stack
	later    []reference // what pointers point to, whose turn comes when all else is done
	types    []*dynamic  // that this item has named already
	capsules int         // marshaled values in one another, see capsuleOp

	// fixedPlace tells that the value stays where it is: it is neither in an
	// interface nor in a variable that a map is iterated with, nor a copy of
	// the item.
	fixedPlace bool
}

// within returns the state for an item within the item.
func (w *walker) within() walker {
	return walker{mode: w.mode, base: w.depth, capsules: w.capsules}
}

// fail ends the walk. A decoding that goes on does so with an empty input, and
// comes to nothing.
func (w *walker) fail(err error) []byte {
	if w.err == nil {
		w.err = err
	}
	return nil
}

// enter notes the descent into a value that another refers to.
func (w *walker) enter(fixedPlace bool) (was bool) {
	if w.depth >= maxDepth {
		w.fail(errDepth)
	}
	w.depth++
	was, w.fixedPlace = w.fixedPlace, fixedPlace
	return was
}

func (w *walker) leave(was bool) {
	w.depth--
	w.fixedPlace = was
}

// resume returns a value that was put off, and enters it as if it were met in
// the item itself.
func (w *walker) resume() reference {
	w.depth, w.fixedPlace = w.base+1, true
	return pop(&w.later)
}

// reset drops what w refers to, so that it can be used again.
func (w *walker) reset() {
	clear(w.later)
	clear(w.types)
	w.err, w.depth, w.fixedPlace = nil, w.base, false
	w.later, w.types = w.later[:0], w.types[:0]
}

// pop takes the last value from a stack.
func pop[E any](stack *[]E) E {
	var zero E
	last := len(*stack) - 1
	it := (*stack)[last]
	(*stack)[last] = zero
	*stack = (*stack)[:last]
	return it
}

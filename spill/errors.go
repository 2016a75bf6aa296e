package spill

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked says that another log is using the store, in this process or
	// another.
	ErrLocked = errors.New("spill: in use by another log")

	// ErrCorrupt is what every [*CorruptError] matches with errors.Is.
	ErrCorrupt = errors.New("spill: corrupt data")

	// ErrVersion says that a newer program has written the store, in a format
	// that this one does not know. The store is left untouched.
	ErrVersion = errors.New("spill: unknown format version")

	// ErrNotResumed says that the store holds items which an earlier log left
	// there on purpose, for one that is opened to keep them.
	ErrNotResumed = errors.New("spill: holds items that were left on purpose")

	// ErrFull is what a store's Append returns, possibly wrapped, where a limit
	// of its own is reached.
	ErrFull = errors.New("spill: limit reached")
)

// A CorruptError reports damage to a store: what is wrong, where, and exactly
// which items were lost by it. It matches [ErrCorrupt].
type CorruptError struct {
	Path   string // the file, or whatever the store keeps its chunks in
	Offset int64  // of the damage, in bytes from the start of it
	First  uint64 // number of the first item lost
	Items  uint64 // how many were lost, from First on; 0 if the damage cost none
	Err    error  // what is wrong
}

func (e *CorruptError) Error() string {
	where := ""
	if e.Path != "" {
		where = fmt.Sprintf("%s at offset %d: ", e.Path, e.Offset)
	}

	switch e.Items {
	case 0:
		return fmt.Sprintf("spill: %s%v: no item lost", where, e.Err)
	case 1:
		return fmt.Sprintf("spill: %s%v: item %d lost", where, e.Err, e.First)
	}
	last := e.First + e.Items - 1
	return fmt.Sprintf("spill: %s%v: items %d to %d lost (%d)",
		where, e.Err, e.First, last, e.Items)
}

// clip leaves out the items below seq: they are done, and were deleted. It
// reports whether anything is left to be told.
func (e *CorruptError) clip(seq uint64) bool {
	if e.First >= seq {
		return true
	}
	gone := min(e.Items, seq-e.First)
	told := e.Items == 0 || gone < e.Items
	e.First, e.Items = e.First+gone, e.Items-gone
	return told
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns what is wrong with the data.
func (e *CorruptError) Unwrap() error { return e.Err }

// A LabelError is returned by Open for a store whose items were written with
// another label. The store is left untouched.
type LabelError struct {
	Path        string // what holds them
	Found, Want string // labels: of the store, and as given to Open
}

func (e *LabelError) Error() string {
	return fmt.Sprintf("spill: %s holds items of another kind: it was written as %q, this is %q",
		e.Path, e.Found, e.Want)
}

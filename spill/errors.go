package spill

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked is returned by Open for a directory that another Log is using, in this
	// process or another.
	ErrLocked = errors.New("spill: directory is in use by another pipe: give each pipe its own directory")

	// ErrCorrupt is what every [*CorruptError] matches with errors.Is.
	ErrCorrupt = errors.New("spill: corrupt data")

	// ErrVersion is returned for a segment in a format that this version does not know.
	// The segment is left untouched.
	ErrVersion = errors.New("spill: unknown format version")

	// ErrNotResumed is returned by Open, when Config.Keep is off, for a directory that
	// holds a backlog which was kept on purpose.
	ErrNotResumed = errors.New("spill: directory holds a kept backlog")
)

// A CorruptError reports damage to a segment: what is wrong, where, and exactly which items
// were lost by it. It matches [ErrCorrupt].
type CorruptError struct {
	Path   string // the segment
	Offset int64  // of the chunk that is damaged, in bytes from the start of the file
	First  uint64 // sequence number of the first item lost
	Items  uint64 // number of items lost, from First on; 0 if the damage cost no item
	Err    error  // what is wrong
}

func (e *CorruptError) Error() string {
	lost := "no item lost"
	switch {
	case e.Items == 1:
		lost = fmt.Sprintf("item %d lost", e.First)
	case e.Items > 1:
		lost = fmt.Sprintf("items %d to %d lost (%d)", e.First, e.First+e.Items-1, e.Items)
	}
	return fmt.Sprintf("spill: %s at offset %d: %v: %s", e.Path, e.Offset, e.Err, lost)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns what is wrong with the data.
func (e *CorruptError) Unwrap() error { return e.Err }

// A LabelError is returned by Open for a segment whose items were written with another
// type or codec. The directory is left untouched.
type LabelError struct {
	Path        string // the segment
	Found, Want string // labels: of the segment, and Config.Label
}

func (e *LabelError) Error() string {
	return fmt.Sprintf("spill: %s holds items of another kind: it was written as %q, this is %q", e.Path, e.Found, e.Want)
}

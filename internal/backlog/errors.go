package backlog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// A DecodeError says that an intact item can't be decoded.
type DecodeError struct {
	Seq    uint64 // its number
	Path   string // what it was read from; empty if it never left memory
	Offset int64  // and where, in bytes
	Err    error  // what the codec said
}

func (e *DecodeError) Error() string { return fmt.Sprintf("decode item %d: %v", e.Seq, e.Err) }

func (e *DecodeError) Unwrap() error { return e.Err }

// ErrUnsynced says that what was received earlier has to become durable first.
var ErrUnsynced = errors.New("what was received is not yet durable")

// A ParkedError says that parked items fill the memory.
type ParkedError struct {
	Items int   // parked
	Err   error // why the youngest can't be encoded
}

func (e *ParkedError) Error() string {
	return fmt.Sprintf("items that can't be encoded fill the memory: %v", e.Err)
}

func (e *ParkedError) Unwrap() error { return e.Err }

const (
	maxLosses = 16 // that are returned one by one
	maxFaults = 16 // kinds of them that are logged
)

// Losses reports each loss at once, and keeps the first.
type losses struct {
	errs   []error
	logger *slog.Logger
}

func (l *losses) add(err error) {
	if len(l.errs) < maxLosses {
		l.errs = append(l.errs, err)
	}
	l.logger.Error("hopper: items are lost", "error", err)
}

// Faults logs each kind of item that can't be encoded once.
type faults struct {
	kinds  []string
	keep   bool // a stop would lose such items
	logger *slog.Logger
}

func (f *faults) parked(err error) {
	kind := err.Error()
	if len(f.kinds) == maxFaults || slices.Contains(f.kinds, kind) {
		return
	}
	f.kinds = append(f.kinds, kind)
	if f.keep {
		f.logger.Error("hopper: an item can't be encoded: it stays in memory, "+
			"and is lost if the pump is stopped before it is delivered", "error", err)
	} else {
		f.logger.Info("hopper: items that can't be copied stay in memory", "error", err)
	}
}

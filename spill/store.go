package spill

import (
	"context"
	"time"
)

// A Store keeps the batches of a [Log] and gives them back. The directory of
// package spill/segment is one; the contract below is all that another has to
// meet, and package spill/storetest checks it.
//
// A store sees numbered items only as chunks: opaque bytes that carry their own
// checksums and numbers. It appends them, reads them back by number, and trims
// the oldest. It need not look inside, nor detect damage: whoever reads the
// chunks does.
//
// Calls. Open comes first and once, Close last and once. In between one
// goroutine at a time calls Append, Trim, Sync and Lift, and another, at the
// same time, Read. Usage may be called from anywhere, before Open and after
// Close too; the log calls it with a lock held. All other methods but Lift may
// block; they should return when their context ends. The log keeps its own
// promises while they block.
//
// Numbers. Items are numbered without limit below 1<<63. The numbers of
// successive batches grow, mostly without a gap. A gap means that nobody waits
// for the items in it. Only at the end, after Lift, may batches come whose
// numbers lie below those of earlier ones: they are items that the log's user
// held in memory. An item may come twice, also after a restart, in batches with
// other bounds: it is the same item then.
type Store interface {
	// Open takes the store into use and returns what an earlier log has left in
	// it. The label names the kind of the items. Open fails with a
	// [*LabelError] if the store holds items of another kind, with [ErrVersion]
	// if a newer program wrote them, with [ErrLocked] if another log is using
	// the store, and, if keep is false, with [ErrNotResumed] if an earlier log
	// left items on purpose. A store whose Open has failed holds no resources
	// and may be dropped without Close.
	Open(ctx context.Context, label string, keep bool) (Range, error)

	// Append adds the batches in their order, each whole or not at all. It
	// returns how many of them, from the first on, are stored, and the reason
	// if and only if that is not all. Several batches come in one call, so that
	// a store with a long way to go can have them under way together. It must
	// not return while it doesn't know: after a time-out it finds out what has
	// become of a batch, or counts it as not stored and recognises it if it
	// comes again. The log calls again after a pause, with the same batches or
	// later ones; after Lift only a few times, so that a store which can do
	// better should, until the context ends. The chunks of a batch belong to
	// the log again once Append returns.
	Append(ctx context.Context, batches []*Batch) (stored int, err error)

	// Read returns chunks in which the item seq is to be found, or else the
	// first items behind it. The log asks only for what is there: seq lies
	// below the end of what Open has returned or Append has stored. The chunks
	// may be in buf, which has room for [MaxChunk] bytes or more, or in memory
	// of the store's own; either way they stay as they are until the next Read.
	// See [Extent] for how from leads from one Read to the next. An error means
	// "not now": the log asks again after a pause. What can't be read for good
	// is reported as damage, in Extent.Err.
	Read(ctx context.Context, seq uint64, from Position, buf []byte) (Extent, error)

	// Trim says that all items below acked are done. The store deletes what
	// holds no others and gives the space back. What can't be deleted now it
	// deletes in a later Trim; the error is for the log to report.
	Trim(ctx context.Context, acked uint64) error

	// Sync makes durable what Append has stored, of a store opened with keep:
	// after a crash of the machine it is there like after that of the process.
	// It also remembers, as durably, that all items below acked are done: if
	// any items are there at the next Open, it returns a Range.Next of at least
	// acked, and never one above the largest number that was ever passed as
	// acked to Sync or Trim, or as next to Close, unless it has no items below.
	// acked never exceeds the numbers of items to come, but it may exceed those
	// that are stored; a store that remembers it then also returns a Range.End
	// of at least acked.
	//
	// A store whose Append is durable has only acked to remember, and nothing
	// at all while no items below acked are left in it. One that can't keep
	// what it is given, because it was opened without keep, does nothing. An
	// error means that nothing new is sure: the log asks again after a pause,
	// with the same acked or a larger one. What a failed call may have lost,
	// such as data that the operating system has dropped after an error, must
	// be stored anew before a later call succeeds.
	Sync(ctx context.Context, acked uint64) error

	// Lift says that the log is ending: from here on the limits that the store
	// sets itself, such as a size or space to leave to others, are no reason to
	// refuse what remains.
	Lift()

	// Usage returns the space in use. It never blocks.
	Usage() Usage

	// Close ends the store. If keep is false it deletes everything. Otherwise
	// exactly the items from next up to, not including, end are left, but for
	// skipped numbers: Close makes them durable, and the next Open returns
	// them. If it finds that some of them are gone its error is a
	// [*CorruptError]. Equal numbers mean that nothing is known to be left
	// beyond what Append has stored from next on. keep is what Open was given.
	// Close lets go of locks, files and goroutines, also if the context has
	// ended: then what was appended is as after a crash. The store may not be
	// used afterwards, whatever Close returns.
	Close(ctx context.Context, keep bool, next, end uint64) error
}

// A Range is what Open finds in a store.
type Range struct {
	Next  uint64 // number of the oldest item; equal to End if there is none
	End   uint64 // the least number that the next item to be appended may have
	Items uint64 // how many items are there, those included that turn out to be lost

	Oldest time.Time // when the oldest was stored, as far as the store can tell

	// Crashed says that the log before this one ended without Close, so that
	// what it held in memory is missing, and that the first Repeated items may
	// have been delivered before.
	Crashed  bool
	Repeated uint64
}

// A Position is a place in a store: a byte offset in something with a name,
// such as a file or a stream.
type Position struct {
	Path   string
	Offset int64 // in bytes
}

// An Extent is what one Read returns: a stretch of whole chunks, in the order
// of their items, without a skipped number in between.
//
// If End is 0 there is more to read for items behind these chunks, of which
// there is at least one: the next Read gets the position behind them.
//
// Otherwise that was all there is of items below End: whichever of them the
// caller has not found is lost, for the reason Err if it is not nil. The next
// Read is for End or a later item, and its position is zero. A store that
// ignores positions returns everything up to End in one Extent.
//
// Err comes without chunks. With an End of 0 it reports, once, damage that has
// cost no item.
type Extent struct {
	// First is the number of the first item to be expected here. Numbers from
	// the one asked for up to it were skipped when the items were appended, or
	// have been trimmed: that is no loss. It may be 0 if there are none.
	First uint64

	Chunks []byte
	At     Position  // of Chunks, or of what can't be read
	End    uint64    // nothing below it remains to be read; 0 if there may be
	Stored time.Time // when, as far as the store can tell
	Err    error     // not nil: why the rest can't be read
}

// Usage is the space that a store takes.
type Usage struct {
	Bytes    int64 // in all
	Limit    int64 // of Bytes, set by the store itself; negative if there is none, 0 refuses all
	Segments int   // the pieces that can be deleted one by one

	// TrimAt is the number that acked must reach for Trim to free something; it
	// is math.MaxUint64 if there is nothing to free.
	TrimAt uint64
}

// A Batch is a run of whole items on its way to a store.
type Batch struct {
	First uint64 // number of the first item
	Items int    // how many; their numbers are consecutive

	tag    uint32 // checksum of the label
	buf    []byte // room for the headers of a chunk, then the frames
	packed []byte // the chunk, if it has been made already
}

// End returns the number behind the last item.
func (b *Batch) End() uint64 { return b.First + uint64(b.Items) }

// Chunks yields the batch's chunks, each valid until the next. There is one,
// unless the batch is a single item too large for a chunk.
func (b *Batch) Chunks(yield func([]byte) bool) {
	if b.packed != nil {
		yield(b.packed)
		return
	}

	var chunk []byte
	for p := range payloads(b.buf, b.First, b.Items, b.tag) {
		chunk = appendChunk(chunk[:0], p, false)
		if !yield(chunk) {
			return
		}
	}
}

// FrameBytes returns the bytes of the items with their lengths, uncompressed.
func (b *Batch) FrameBytes() int64 { return int64(len(b.buf) - framesAt) }

// NewBatch returns a batch of items, for tests of stores and tools that fill
// them. The items must fit into one chunk, or be a single one.
func NewBatch(label string, first uint64, items ...[]byte) *Batch {
	buf := make([]byte, framesAt)
	for _, item := range items {
		buf = appendFrame(buf, item)
	}
	return &Batch{First: first, Items: len(items), tag: Checksum([]byte(label)), buf: buf}
}

// Package backlog holds what a pump has received and is not yet done with: one
// sequence of numbered items, in the order received, with three cursors. The
// items below acked are done; those below head have been delivered; those below
// end have been received. An item is done when it has been delivered, or, with
// Config.Acks, when that has been acknowledged.
//
// An item waits in one of three places, or in two while it moves: as a T in the
// window, as bytes in the log, or, if it can't be encoded, parked in the lot,
// with a placeholder in the log. What is in the window is older than what is
// only in the log. While there is nothing of that kind items go into the
// window, up to a number of bytes, and into the log after that; once the window
// is empty it is filled again from the log, a few items at a time.
//
// With Config.Journal each item that waits is in the log from the start: the
// window is a cache in front of it. With Config.Acks so is each item that is
// delivered, before it is.
//
// A Backlog knows no channels and no clocks, and never waits for a disk, except
// in Finish, Close and, after Finish, Push. It is for one goroutine.
package backlog

import (
	"fmt"
	"log/slog"
	"time"

	"example.com/hopper/codec"
	"example.com/hopper/spill"
)

// Config says what a Backlog is made of.
type Config[T any] struct {
	Codec     codec.Codec[T]
	Log       *spill.Log
	Found     spill.Range // what the log was opened with
	MaxMemory int64       // bytes of waiting items in memory
	MayPark   bool        // the codec may refuse items
	Keep      bool        // what remains at the end is kept
	Acks      bool        // an item is done when its delivery is acknowledged; needs Journal
	Journal   bool        // what waits in the window is in the log too
	Skip      bool        // an item that can't be decoded is lost, and does not end the backlog
	Start     time.Time   // when the pump started; see Tick
	Logger    *slog.Logger
}

// A Tally counts the items of a backlog. Always,
//
//	Received + Resumed == Delivered + InMemory + OnDisk + Lost
type Tally struct {
	Received, Delivered, Lost, Resumed uint64
	InMemory, OnDisk                   uint64
	Unacked                            uint64 // delivered and not acknowledged
	MemoryBytes                        int64  // of those in memory
	Spilled, HighWater                 uint64
}

// A Backlog is the sequence of the items that were received and are not done.
type Backlog[T any] struct {
	cfg Config[T]
	log *spill.Log

	acked uint64 // while Unacked is not 0: number of the oldest item that is not done
	head  uint64 // number of the oldest item that waits, or of the next one to come
	end   uint64 // number of the next item to be received
	born  uint64 // number of the first item that was received, not found in the log

	ledger    ledger
	journaled uint64                      // the items below are in the journal, or done
	whole     bool                        // the last one of them could be encoded
	syncing   struct{ end, acked uint64 } // what the last Sync has asked the log for
	overdue   bool                        // that takes too long

	window window[T]           // the items from head on
	copied int                 // so many of them, the oldest, are in the log too
	cursor *spill.Cursor       // the items behind the window, if they have been handed out
	torn   *spill.CorruptError // what is lost behind the window, if that is known
	logged uint64              // items in the log that have not come into the window
	lot    lot[T]

	settled   uint64 // the log knows that the items below are done
	unsettled bool   // it holds, or has handed out, items that are not

	dropped uint64 // items that Drop was told of

	tally  Tally // but for InMemory, OnDisk and MemoryBytes
	losses losses
	faults faults
	broken *DecodeError // the item behind the window can't be decoded, and must not be lost

	ages      ages
	oldest    time.Time     // what Oldest has made of oldestAge
	oldestAge time.Duration // the last time
	stored    time.Time     // when the oldest item was stored, if it was found in the log
}

// New returns a backlog of what the log holds.
func New[T any](cfg Config[T]) *Backlog[T] {
	b := &Backlog[T]{
		cfg: cfg, log: cfg.Log,
		acked: cfg.Found.Next, head: cfg.Found.Next, end: cfg.Found.End, born: cfg.Found.End,
		journaled: cfg.Found.End,
		window:    newWindow[T](cfg.MaxMemory), logged: cfg.Found.Items,
		unsettled: cfg.Found.Items > 0,
		losses:    losses{logger: cfg.Logger}, faults: faults{keep: cfg.Keep, logger: cfg.Logger},
	}
	b.stored = b.notLater(cfg.Found.Oldest)
	b.tally.Resumed, b.tally.HighWater = b.logged, b.logged
	return b
}

// notLater returns when an item that was found in the log was stored, as its
// store tells: it can't have been after the start.
func (b *Backlog[T]) notLater(stored time.Time) time.Time {
	if stored.After(b.cfg.Start) {
		return b.cfg.Start
	}
	return stored
}

// Len returns the number of items that wait.
func (b *Backlog[T]) Len() uint64 { return uint64(b.window.len()) + b.logged }

// Empty reports whether no item waits.
func (b *Backlog[T]) Empty() bool { return b.logged == 0 && b.window.len() == 0 }

// Tick says how long after Config.Start the items are received that are pushed
// from here on.
func (b *Backlog[T]) Tick(now time.Duration) { b.ages.now = now }

// Passed says that n items were received and delivered while none waited.
func (b *Backlog[T]) Passed(n int) {
	if b.cfg.Acks && n > 0 {
		b.delivered(b.end)
	}
	b.tally.Received += uint64(n)
	b.tally.Delivered += uint64(n)
	b.end += uint64(n)
	b.head = b.end
}

// Push adds an item behind all others. It always succeeds; see Room.
func (b *Backlog[T]) Push(v T) {
	seq := b.end
	b.end++
	b.tally.Received++
	if b.Empty() {
		b.head = seq
		b.ages.clear()
		if b.cfg.Journal && !b.cfg.Acks {
			b.log.Ack(seq) // so that the log begins anew, instead of with a gap
		}
	}
	if b.ages.due() {
		b.ages.mark(seq, b.head+uint64(b.window.len()))
	}

	switch {
	case b.cfg.Journal && !b.journal(v, seq): // it is parked
		b.logged++
	case b.logged == 0 && b.window.pushWithin(b.windowLimit(), v):
		if b.cfg.Journal {
			b.copied++
		}
	default:
		if b.cfg.Journal || b.spill(v, seq) {
			b.tally.Spilled++
		}
		b.logged++
	}
	b.tally.HighWater = max(b.tally.HighWater, b.Len())
}

// windowLimit returns how many bytes the window may take. Some are left to
// items that may have to be parked once it is full.
func (b *Backlog[T]) windowLimit() int64 {
	most := b.cfg.MaxMemory
	if b.cfg.MayPark {
		most -= most / 4
	}
	return min(most, b.cfg.MaxMemory-b.lot.bytes) - b.ages.bytes()
}

// spill appends the item to the log, or parks it and reports false if it can't
// be encoded.
func (b *Backlog[T]) spill(v T, seq uint64) bool {
	b.unsettled = true
	buf, err := b.encode(b.log.Begin(seq), v)
	if err != nil {
		b.log.Park()
		b.lot.park(seq, v, b.window.sizeOf, err)
		b.faults.parked(err)
		return false
	}
	b.log.Commit(buf)
	return true
}

// Room reports whether another item may be received. One always may while all
// are done.
func (b *Backlog[T]) Room() bool {
	switch {
	case b.crowded() || b.overdue:
		return false
	case b.Done() && b.journaled <= b.end: // nor is any about to pass
		return true
	}
	return b.log.Room(b.unlogged())
}

// crowded reports whether parked items, and others, fill the memory.
func (b *Backlog[T]) crowded() bool {
	return b.lot.len() > 0 && b.window.bytes+b.lot.bytes >= b.cfg.MaxMemory
}

// unlogged bounds the bytes that the window would take in the log.
func (b *Backlog[T]) unlogged() int64 {
	if b.cfg.Journal {
		return 0
	}
	return b.window.bytes + int64(b.window.len())*maxPrefix
}

const maxPrefix = 3 // bytes of the length in front of an item, unless it is very large

// Refusal returns why Room is false, or nil if that is only because the log's
// store is slower than the caller.
func (b *Backlog[T]) Refusal() error {
	if b.crowded() {
		return &ParkedError{Items: b.lot.len(), Err: b.lot.why}
	}
	return b.refusal()
}

// Head returns the oldest item, or nil if there is none at hand: because none
// waits, or it has to be read from the log first, which wakes the pump, or Err
// is not nil.
func (b *Backlog[T]) Head() *T {
	if b.window.len() == 0 && !b.refill() {
		return nil
	}
	return b.window.items.head()
}

// Heads returns some of the oldest items, up to limit of them, or none where
// Head returns nil. They stay where they are until Pop.
func (b *Backlog[T]) Heads(limit int) []T {
	if b.window.len() == 0 && !b.refill() {
		return nil
	}
	items := b.window.items.front()
	return items[:min(len(items), limit)]
}

// Pop says that the n oldest items are delivered, of those that Heads or Head
// has returned: these have consecutive numbers.
func (b *Backlog[T]) Pop(n int) {
	if n == 0 {
		return
	}
	if b.cfg.Acks {
		b.delivered(b.head)
	}
	b.window.pop(n)
	b.head += uint64(n)
	b.tally.Delivered += uint64(n)
	b.copied = max(0, b.copied-n)
	if b.lot.len() > 0 {
		b.lot.done(b.done())
	}
}

// Err returns why Head will not return the oldest item, or that another log has
// taken the store over, or nil.
func (b *Backlog[T]) Err() error {
	if b.broken == nil { // not a nil *DecodeError in an interface
		return b.log.Err()
	}
	return b.broken
}

// Settle tells the log what is done, so that it can give back space.
func (b *Backlog[T]) Settle() {
	done := b.done()
	if !b.unsettled || done == b.settled {
		return
	}
	used := b.cursor != nil && b.cursor.Left == 0
	frees := b.cfg.Journal || b.Done() || done >= b.log.Usage().TrimAt
	if !used && !frees {
		return
	}

	if used {
		b.cursor = nil // Ack gives it back
	}
	b.log.Ack(done)
	b.settled, b.unsettled = done, !b.Done()
}

// Rest gives up memory that a backlog which nobody uses does not need.
func (b *Backlog[T]) Rest() {
	b.window.rest()
	if b.log.Rest(b.head + uint64(b.window.len())) {
		b.cursor = nil
	}
}

// RestDue reports whether Rest should be called.
func (b *Backlog[T]) RestDue() bool { return b.log.RestDue() }

// Tally returns the counts.
func (b *Backlog[T]) Tally() Tally {
	t := b.tally
	waiting := uint64(b.lot.items.n) // their placeholders are in the log
	t.InMemory = uint64(b.window.len()) + waiting
	t.OnDisk = b.logged - waiting
	t.MemoryBytes = b.window.bytes + b.lot.bytes
	t.Unacked = b.Unacked()
	return t
}

// Oldest returns when the oldest item was received or, if it was found in the
// log, stored. It is zero if none waits. It forgets the times of older ones.
func (b *Backlog[T]) Oldest() time.Time {
	switch {
	case b.Empty(), b.head >= b.end: // what the store may still count never was
		b.ages.clear()
		return time.Time{}
	case b.head < b.born:
		return b.stored
	}

	if age := b.ages.of(b.head); b.oldest.IsZero() || age != b.oldestAge {
		b.oldest, b.oldestAge = b.cfg.Start.Add(age), age
	}
	return b.oldest
}

// Delivered returns the number of items delivered.
func (b *Backlog[T]) Delivered() uint64 { return b.tally.Delivered }

// Losses returns the errors that tell what was lost so far, the first ones.
func (b *Backlog[T]) Losses() []error { return b.losses.errs }

func (b *Backlog[T]) String() string {
	return fmt.Sprintf("backlog [%d, %d, %d): %d in the window, %d in the log, %d parked",
		b.done(), b.head, b.end, b.window.len(), b.logged, b.lot.len())
}

package backlog

// Journal appends to the log an item that is about to be delivered, or to be
// pushed, behind all others. It reports false if the item is parked instead:
// then it can't be delivered yet, but must be pushed.
func (b *Backlog[T]) Journal(v T) bool { return b.journal(v, max(b.end, b.journaled)) }

// journal does that for the item seq, unless it has been done.
func (b *Backlog[T]) journal(v T, seq uint64) bool {
	if seq >= b.journaled {
		b.journaled = seq + 1
		b.whole = b.spill(v, seq)
	}
	return b.whole
}

// Ack says that n deliveries are acknowledged in all. An item that was lost
// before a delivery is acknowledged with it.
func (b *Backlog[T]) Ack(n uint64) {
	n = min(n, b.tally.Delivered)
	if n <= b.ledger.acked {
		return
	}

	b.acked = b.ledger.acknowledge(n)
	b.lot.done(b.done())
}

// delivered notes that the item seq is delivered, while its number is not yet
// counted.
func (b *Backlog[T]) delivered(seq uint64) {
	if b.Unacked() == 0 {
		b.acked = seq
	}
	b.ledger.delivered(b.tally.Delivered, seq)
}

// Unacked returns how many items are delivered and not acknowledged.
func (b *Backlog[T]) Unacked() uint64 {
	if !b.cfg.Acks {
		return 0
	}
	return b.tally.Delivered - b.ledger.acked
}

// done returns the number below which all items are done. What was lost behind
// the last delivery is done when that is.
func (b *Backlog[T]) done() uint64 {
	if b.Unacked() > 0 {
		return b.acked
	}
	return b.head
}

// Stored reports whether there is anything in the log's store.
func (b *Backlog[T]) Stored() bool { return b.log.Usage().Bytes > 0 }

// Done reports whether all items are done.
func (b *Backlog[T]) Done() bool { return b.Empty() && b.Unacked() == 0 }

// Unsynced reports whether the store would give back something else after a
// crash than what waits and what is not acknowledged.
func (b *Backlog[T]) Unsynced() bool {
	end, acked := b.log.Synced()
	missing := b.done() < b.journaled && end < b.journaled
	return missing || acked < b.done() && b.Stored()
}

// Sync begins to make the store hold, durably, what waits and what is not
// acknowledged now. It does not wait for that; see Synced.
func (b *Backlog[T]) Sync() {
	b.syncing.end, b.syncing.acked = b.journaled, b.done()
	b.log.SyncLater(b.syncing.acked)
}

// Synced reports whether what the last Sync has begun is done.
func (b *Backlog[T]) Synced() bool {
	end, acked := b.log.Synced()
	return end >= b.syncing.end && acked >= b.syncing.acked
}

// Overdue says whether the store is so late with a Sync that nothing more
// should be received.
func (b *Backlog[T]) Overdue(late bool) { b.overdue = late }

// refusal returns why nothing more should be received, as far as the log goes.
func (b *Backlog[T]) refusal() error {
	err := b.log.Refusal(b.unlogged())
	if err == nil && b.overdue {
		err = ErrUnsynced
	}
	return err
}

package backlog

// A ledger knows the numbers of the items that were delivered, up to the oldest
// that is not acknowledged. Deliveries are counted; the numbers of what was
// delivered have gaps where items were lost.
type ledger struct {
	acked uint64 // deliveries that are acknowledged
	runs  []deliveries
}

// Deliveries are some in a row without a gap: the one with that many before it
// is of the item seq, and so on up to the next run.
type deliveries struct{ before, seq uint64 }

// delivered notes that the item seq is delivered, as the first or behind that
// many others.
func (l *ledger) delivered(before, seq uint64) {
	if n := len(l.runs); n > 0 && l.runs[n-1].after(before) == seq {
		return
	}
	l.runs = append(l.runs, deliveries{before, seq})
}

// after returns the number behind the item of the n-th delivery, if that is one
// of the run.
func (r deliveries) after(n uint64) uint64 { return r.seq + (n - r.before) }

// acknowledge says that n deliveries are acknowledged in all, one at least, and
// returns the number behind the last one's item.
func (l *ledger) acknowledge(n uint64) uint64 {
	l.acked = n
	for len(l.runs) > 1 && l.runs[1].before < n {
		l.runs = l.runs[1:]
	}
	return l.runs[0].after(n)
}

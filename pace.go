package hopper

import "time"

const (
	many    = 7  // turns in a row without a delivery: out is taken to be stalled
	maxVain = 10 // doublings of the deliveries from one wait for out to the next

	// patience is for a consumer that may want no more than the CPU. A coarse
	// timer makes a millisecond of it.
	patience = 100 * time.Microsecond
)

// A pace decides how much is received while items wait.
//
// While out takes what waits, only every other turn receives, and no more than
// was delivered: else a producer at full speed would keep a backlog for ever.
// While out blocks, each turn receives twice as much as the one before.
// Before that goes on at full speed, the pump waits for out alone for a moment,
// once in a burst of deliveries and more rarely where it is in vain: the
// consumer's thread may be waiting for the very CPU that pump and producer keep
// busy, and would get it when their time slice is over, some milliseconds and
// 100,000 items later.
type pace struct {
	refusals int    // turns in a row without a delivery, counted up to many
	odd      bool   // of the turns that have delivered
	patient  bool   // the pump is about to wait for out alone
	last     uint64 // how many items had been delivered when it last did
	vain     int    // such waits in a row that took longer than patience
}

// stalled reports whether out has taken nothing for so long that it is not worth
// a turn.
func (p *pace) stalled() bool { return p.refusals == many }

// took notes that out has taken an item.
func (p *pace) took() { p.refusals = 0 }

// delivered notes a turn that has delivered, and reports whether it may receive.
func (p *pace) delivered() bool {
	p.took()
	p.odd = !p.odd
	return p.odd
}

// refused notes a turn without a delivery and returns how many items it may
// receive. total is the number of items delivered so far, and ready says whether
// there is one that out could take.
func (p *pace) refused(total uint64, ready bool) int {
	switch {
	case p.refusals < many:
		p.refusals++
	case ready && total-p.last >= burst<<p.vain:
		p.last, p.patient = total, true
		return 0
	}
	return 1 << p.refusals
}

// waited notes how long the pump has waited for out alone.
func (p *pace) waited(d time.Duration) {
	p.patient = false
	if d < patience {
		p.vain = 0
	} else {
		p.vain = min(p.vain+1, maxVain)
	}
}

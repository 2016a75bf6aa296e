package hopper

import (
	"runtime"
	"strings"
	"time"

	"example.com/hopper/internal/acks"
	"example.com/hopper/internal/backlog"
	"example.com/hopper/internal/clock"
	"example.com/hopper/internal/syncs"
)

const (
	burst        = 1 << many // channel operations in a row, before the loop looks around
	publishEvery = 16        // bursts
)

// A loop is the pump's goroutine. It owns all of this, takes no locks, and
// never waits for the disk before the end.
type loop[T any] struct {
	p     *Pump
	in    <-chan T // nil: nothing more is received
	out   chan<- T
	items *backlog.Backlog[T]
	pace  pace

	stopped   bool // nothing more is received than what stood in in's buffer
	buffered  int  // so many items of it are yet to come; set when it stops
	closed    bool // in was closed
	outClosed bool // out was closed, by the pump
	outGone   bool // or by somebody else

	opts   *config
	clock  clock.Clock
	stall  stall
	rested bool // since items.Rest, wait has moved nothing
	syncs  *syncs.Schedule
}

// run moves items until everything is delivered or the pump is to end. It works
// in bursts of operations that don't block, which cost a third of a select with
// several arms, and blocks only when nothing else can be done.
func (l *loop[T]) run() {
	defer l.recoverOutGone()
	for moves := 1; !l.finished(); moves++ {
		moved := l.move()
		if !moved || moves%publishEvery == 0 {
			l.publish()
		}
		if !moved {
			l.wait()
		}
	}
}

// finished reports whether the pump is to end.
func (l *loop[T]) finished() bool {
	switch l.p.state.Load() {
	case closing:
		return true
	case draining:
		l.stop()
	}
	return l.items.Err() != nil || l.drained() && l.acknowledged()
}

// drained reports whether everything has been delivered that ever will be.
func (l *loop[T]) drained() bool { return l.in == nil && l.items.Empty() }

// acknowledged reports whether all that was delivered is done. Nothing more
// will be: the consumer sees that.
func (l *loop[T]) acknowledged() bool {
	if l.p.acks == nil {
		return true
	}
	l.closeOut()
	l.items.Ack(l.p.acks.Count())
	return l.items.Done()
}

// stop sees to it that nothing more is received than is in in's buffer.
func (l *loop[T]) stop() {
	if !l.stopped {
		l.stopped, l.buffered = true, len(l.in)
	}
	if l.buffered == 0 || len(l.in) == 0 { // somebody else may have received it
		l.in = nil
	}
}

// accepting reports whether the next item may be received.
func (l *loop[T]) accepting() bool { return l.in != nil && l.items.Room() }

// move does what can be done without blocking, and reports whether that was
// anything.
func (l *loop[T]) move() bool {
	if l.items.Empty() {
		return l.accepting() && l.pass()
	}

	sent := l.deliver()
	// The consumer may need no more than its turn.
	if sent == 0 && l.in != nil && !l.pace.stalled() {
		runtime.Gosched()
		sent = l.deliver()
	}

	switch {
	case sent > 0:
		if l.pace.delivered() {
			l.receive(sent)
		}
		return true
	case l.items.Empty() || l.items.Err() != nil: // what waited is lost, or can't be delivered
		return true
	}
	limit := l.pace.refused(l.items.Delivered(), l.items.Head() != nil)
	return l.receive(limit)
}

// limit returns how many items may be received in a burst of n.
func (l *loop[T]) limit(n int) int {
	if l.stopped {
		return min(n, l.buffered)
	}
	return n
}

// pass hands items from in to out while out takes them and none waits.
func (l *loop[T]) pass() (moved bool) {
	var v T
	acks := l.p.acks != nil
	passed, inHand := 0, false
	defer func() {
		l.items.Passed(passed)
		if inHand { // out did not take it, or is gone
			l.push(v)
		}
	}()

	for range l.limit(burst) {
		if acks && !l.items.Room() { // what passes stays in the backlog
			return moved
		}
		var ok bool
		select {
		case v, ok = <-l.in:
		default:
			return moved
		}
		if !ok {
			l.endOfInput()
			return true
		}

		l.buffered--
		moved, inHand = true, true
		if acks && !l.prepare(v, passed) || !l.offer(v) {
			return true
		}
		inHand = false
		passed++
	}
	return moved
}

func (l *loop[T]) endOfInput() { l.in, l.closed = nil, true }

// prepare makes v, which has not waited, ready for a delivery that is to be
// acknowledged. Behind is as in announce. It reports false if v can't be
// delivered yet.
func (l *loop[T]) prepare(v T, behind int) bool {
	if !l.items.Journal(v) {
		return false
	}
	l.announce(behind)
	return true
}

// announce tells those who count acknowledgements of the delivery that is next,
// behind so many of which the backlog has not been told.
func (l *loop[T]) announce(behind int) {
	l.p.acks.Announce(l.items.Delivered() + uint64(behind) + 1)
}

// head returns the oldest item and announces its delivery, or nil if it is not
// at hand.
func (l *loop[T]) head() *T {
	head := l.items.Head()
	if head != nil && l.p.acks != nil {
		l.announce(0)
	}
	return head
}

func (l *loop[T]) push(v T) {
	l.items.Tick(l.clock.Read())
	l.items.Push(v)
}

// offer sends v if out takes it, which may need no more than the consumer's
// turn.
func (l *loop[T]) offer(v T) bool {
	select {
	case l.out <- v:
		return true
	default:
	}

	runtime.Gosched()
	select {
	case l.out <- v:
		return true
	default:
		return false
	}
}

// deliver sends waiting items while out takes them, and returns how many.
func (l *loop[T]) deliver() (sent int) {
	for sent < burst {
		heads := l.items.Heads(burst - sent)
		n := l.send(heads)
		sent += n
		if n < len(heads) || n == 0 {
			return sent
		}
	}
	return sent
}

// send sends the oldest items while out takes them, and returns how many.
func (l *loop[T]) send(heads []T) (n int) {
	defer func() { l.items.Pop(n) }() // also if out is gone
	acks := l.p.acks != nil
	for n < len(heads) {
		if acks {
			l.announce(n)
		}
		select {
		case l.out <- heads[n]:
			n++
		default:
			return n
		}
	}
	return n
}

// receive takes up to n items while there are any, behind those that wait.
func (l *loop[T]) receive(n int) (moved bool) {
	for range l.limit(n) {
		if l.items.Empty() || !l.accepting() {
			return moved
		}
		select {
		case v, ok := <-l.in:
			if !moved {
				l.items.Tick(l.clock.Read())
			}
			l.received(v, ok)
			moved = true
		default:
			return moved
		}
	}
	return moved
}

func (l *loop[T]) received(v T, ok bool) {
	if !ok {
		l.endOfInput()
		return
	}
	l.buffered--
	l.items.Push(v)
}

// wait blocks until something can be done, or returns to have another look. An
// arm whose channel is nil is off. A patient wait is for out alone, and short:
// a consumer that wanted no more than the CPU is there at once.
func (l *loop[T]) wait() {
	var in <-chan T
	var late <-chan time.Time
	switch {
	case l.pace.patient:
		start := time.Now()
		defer func() { l.pace.waited(time.Since(start)) }()
		late = time.After(patience)
	case l.stopped && l.accepting():
		return // in's buffer is empty by now: nobody will send what is waited for
	case l.accepting():
		in = l.in
	}

	var out chan<- T
	var oldest T
	if head := l.head(); head != nil {
		out, oldest = l.out, *head
	}
	l.awaitAcks()

	select {
	case out <- oldest:
		l.items.Pop(1)
		l.pace.took()
	case v, ok := <-in:
		l.arrived(v, ok)
	case <-l.p.wake:
		l.woken()
		return
	case <-late:
		return
	}
	l.rested = false
}

// awaitAcks has the pump woken when acknowledgements let it do something.
func (l *loop[T]) awaitAcks() {
	if l.p.acks == nil {
		return
	}

	target, unacked := uint64(acks.Never), l.items.Unacked()
	acked := l.items.Delivered() - unacked
	switch {
	case unacked == 0:
	case l.in != nil && !l.items.Room(): // the next one may make room
		target = acked + 1
	case l.items.Stored(): // now and then, to give space back
		target = acked + max(1, unacked/16)
		if l.syncs.Idle() { // the first one begins the time until they are synced
			target = acked + 1
		}
	case l.drained(), l.rested: // to end, or to give the last memory back
		target = acked + unacked
	}
	l.p.acks.Await(target)
}

// woken looks at what the log may have to say.
func (l *loop[T]) woken() {
	if l.items.RestDue() {
		l.items.Rest()
		l.rested = true
	}
}

// arrived takes an item that was waited for. It goes straight to out while no
// other waits.
func (l *loop[T]) arrived(v T, ok bool) {
	if !ok || !l.items.Empty() {
		l.items.Tick(l.clock.Read())
		l.received(v, ok)
		return
	}

	l.buffered--
	sent := false
	defer func() {
		if sent {
			l.items.Passed(1)
		} else {
			l.push(v)
		}
	}()
	if l.p.acks != nil && !l.prepare(v, 0) {
		return
	}
	select {
	case l.out <- v:
		sent = true
	default:
	}
}

// publish lets Stats see, and the backlog know, where the loop has got to.
func (l *loop[T]) publish() {
	if l.p.acks != nil {
		l.items.Ack(l.p.acks.Count())
	}
	l.items.Settle()
	l.syncs.Look(l.items)
	var why error
	if l.in != nil && !l.stopped && !l.items.Room() {
		why = l.items.Refusal()
	}
	l.stall.set(l.opts, why, l.in == nil || l.stopped)

	s := l.p.board.Draft()
	s.tally, s.oldest, s.blocked = l.items.Tally(), l.items.Oldest(), l.stall.now
	l.p.board.Post()
}

func (l *loop[T]) closeOut() {
	if l.opts.keepOpen || l.outClosed {
		return
	}
	defer func() {
		l.outClosed = true
		if recover() != nil { // close panics for no other reason
			l.outGone = true
		}
	}()
	close(l.out)
}

// recoverOutGone ends the loop if it sent on a channel that somebody else has
// closed.
func (l *loop[T]) recoverOutGone() {
	r := recover()
	if r == nil {
		return
	}
	err, ok := r.(runtime.Error)
	if !ok || !strings.Contains(err.Error(), "send on closed channel") {
		panic(r)
	}
	l.outGone = true
}

// Pacing.
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

// stalled reports whether out has taken nothing for so long that it is not
// worth a turn.
func (p *pace) stalled() bool { return p.refusals == many }

// took notes that out has taken an item.
func (p *pace) took() { p.refusals = 0 }

// delivered notes a turn that has delivered, and reports whether it may
// receive.
func (p *pace) delivered() bool {
	p.took()
	p.odd = !p.odd
	return p.odd
}

// refused notes a turn without a delivery and returns how many items it may
// receive. total is the number of items delivered so far, and ready says
// whether there is one that out could take.
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

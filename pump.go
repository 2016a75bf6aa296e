package hopper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/hopper/codec"
	"example.com/hopper/spill"
)

const (
	many         = 7         // turns in a row without a delivery: out is taken to be stalled
	burst        = 1 << many // channel operations in a row, before the loop looks around
	publishEvery = 16        // bursts
	maxErrors    = 16        // stretches of loss that Wait reports one by one

	patience    = 100 * time.Microsecond // with a consumer that may want no more than the CPU; a coarse timer makes a millisecond of it
	maxVain     = 10                     // doublings of the deliveries from one such wait to the next
	closeGrace  = time.Second            // for the disk, to delete the segments
	resumeGrace = 10 * time.Second       // for the disk, to make the backlog durable
)

// A loop is the pump's goroutine: it owns all of this, without locks, and never touches the disk. Waiting items are in three
// places, oldest first: the window; the log (its segments, then its tail); held.
type loop[T any] struct {
	p        *Pump
	in       <-chan T // nil once it is closed
	out      chan<- T
	codec    codec.Codec[T]
	log      *spill.Log
	keepOpen bool
	resuming bool

	window window[T]
	batch  *spill.Batch // the log's oldest items, being decoded, or nil
	left   int          // of them, not decoded yet
	next   uint64       // sequence number behind the window, while anything waits
	bad    error        // not nil: that item has been read from the batch, and can't be decoded

	held   T    // an item that can't be encoded; the youngest of all
	isHeld bool // whether there is one
	stuck  bool // not receiving, until that item is delivered

	first uint64 // sequence number of the first item received
	n     Stats  // the log's part of it excepted

	refusals int    // turns in a row without a delivery, counted up to many
	patient  bool   // about to wait for out alone, for a while
	waited   uint64 // how many had been delivered when it last did so
	vain     int    // such waits in a row that took longer than patience
	odd      bool   // of the turns that have delivered

	outClosed bool
	losses    []error
	logger    *slog.Logger
}

func newLoop[T any](p *Pump, cfg *config, out chan<- T, in <-chan T, c codec.Codec[T], log *spill.Log) *loop[T] {
	l := &loop[T]{p: p, in: in, out: out, codec: c, log: log, keepOpen: cfg.keepOpen, resuming: cfg.resume, logger: cfg.logger, first: log.End()}
	l.window = newWindow[T](cfg.maxMemory)
	return l
}

// resume takes over the backlog that the log was opened with.
func (l *loop[T]) resume(next, items uint64) {
	l.next = next
	l.n.Resumed, l.n.OnDisk, l.n.HighWater = items, items, items
	l.publish()
}

// run moves items until everything is delivered or the pump is to end. It works in bursts of operations that don't
// block, which cost a third of a select with several arms, and blocks only when nothing else can be done.
func (l *loop[T]) run() {
	defer l.recoverOutClosed()
	for moves := 1; !l.finished(); moves++ {
		if l.move() {
			if moves%publishEvery == 0 {
				l.publish()
			}
			continue
		}
		l.publish()
		l.wait()
	}
}

// finished reports whether the pump has nothing more to do.
func (l *loop[T]) finished() bool {
	state := l.p.state.Load()
	return state == closing || (state == draining || l.in == nil) && l.empty() && !l.isHeld
}

// empty reports whether no item waits in the window or the log.
func (l *loop[T]) empty() bool { return l.window.len() == 0 && l.n.OnDisk == 0 }

// accepting reports whether the next item may be received.
func (l *loop[T]) accepting() bool {
	if l.in == nil || l.stuck || l.p.state.Load() != running {
		return false
	}
	return l.empty() || l.log.Room(l.kept())
}

// kept returns about how many bytes Close would have to put on disk of what the log has handed out or never had: exactly,
// but for codecs that make an item larger than it is in memory.
func (l *loop[T]) kept() int64 {
	n := l.window.bytes + int64(l.window.len())*spill.MaxPrefix
	if l.batch != nil {
		n += l.batch.Unsaved()
	}
	return n
}

// move does what can be done without blocking, and reports whether that was anything. While out takes what waits, only every other
// turn receives, and no more than was delivered: else a producer at full speed would keep a backlog for ever.
func (l *loop[T]) move() bool {
	if l.empty() && !l.isHeld {
		l.stuck = false
		return l.accepting() && l.pass()
	}
	sent := l.deliver()
	if sent == 0 && l.in != nil && l.refusals < many { // the consumer may need no more than its turn
		runtime.Gosched()
		sent = l.deliver()
	}
	if sent == 0 { // the last items may have been lost instead
		return l.empty() && !l.isHeld || l.refused()
	}
	if l.odd = !l.odd; l.odd {
		l.receive(sent)
	}
	return true
}

// refused receives while out takes nothing, more in each turn. Before it does so at full speed it lets the CPU go, once in a burst of
// deliveries, more rarely where that is in vain: the consumer's thread may be waiting for the very CPU that pump and producer
// keep busy, and would get it when their time slice is over, some milliseconds and 100,000 items later.
func (l *loop[T]) refused() bool {
	if l.refusals < many {
		l.refusals++
	} else if l.window.len() > 0 && l.n.Delivered-l.waited >= burst<<l.vain {
		l.waited, l.patient = l.n.Delivered, true
		return false
	}
	return l.receive(1 << l.refusals)
}

// pass hands items from in to out while out takes them and nothing waits.
func (l *loop[T]) pass() (any bool) {
	var v T
	sending := false
	defer func() {
		if sending { // out was closed: see recoverOutClosed
			l.hold(v)
		}
	}()
	for range burst {
		select {
		case got, ok := <-l.in:
			if !ok {
				l.in = nil
				return true
			}
			v = got
		default:
			return any
		}
		l.n.Received++
		any, sending = true, true
		if !l.offer(v) {
			sending = false
			l.place(v)
			return true
		}
		sending = false
		l.n.Delivered++
	}
	return true
}

// offer sends v if out takes it, which may need no more than the consumer's turn.
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
		if l.window.len() == 0 && !l.refill() {
			return sent
		}
		select {
		case l.out <- *l.window.head():
			l.sent()
			sent++
		default:
			return sent
		}
	}
	return sent
}

// sent notes that the head has been delivered.
func (l *loop[T]) sent() {
	l.window.pop()
	l.n.Delivered++
	l.refusals = 0
}

// receive takes up to limit items while there are any, behind those that wait.
func (l *loop[T]) receive(limit int) (any bool) {
	for range limit {
		if l.empty() || !l.accepting() {
			break
		}
		select {
		case v, ok := <-l.in:
			any = true
			l.received(v, ok)
		default:
			return any
		}
	}
	return any
}

// received places what was received from in.
func (l *loop[T]) received(v T, ok bool) {
	if !ok {
		l.in = nil
		return
	}
	l.n.Received++
	l.place(v)
}

// place puts the youngest item behind all others. The items in the window have consecutive numbers: one that does not
// follow them goes to the log, which tells.
func (l *loop[T]) place(v T) {
	seq := l.first + l.n.Received - 1
	if l.empty() {
		l.next = seq
	}
	if l.n.OnDisk == 0 && l.next == seq && l.window.push(v) {
		l.next++
	} else {
		l.spill(v, seq)
	}
	l.n.HighWater = max(l.n.HighWater, l.waiting())
}

func (l *loop[T]) waiting() uint64 { return l.n.Received + l.n.Resumed - l.n.Delivered - l.n.Lost }

// spill appends the item to the log. If it can't be encoded it is held here instead, and with it all that follow.
func (l *loop[T]) spill(v T, seq uint64) {
	b, err := l.encode(l.log.Begin(seq), v)
	if err != nil {
		l.hold(v)
		return
	}
	l.log.Commit(b)
	l.n.OnDisk++
	l.n.Spilled++
}

// encode turns a panic of the codec into an error.
func (l *loop[T]) encode(dst []byte, v T) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("hopper: the codec panics: %v", r)
		}
	}()
	if b, err = l.codec.Append(dst, v); err == nil && len(b) < len(dst) {
		err = errors.New("hopper: the codec does not append: it returns less than it was given")
	}
	return b, err
}

func (l *loop[T]) hold(v T) {
	l.held, l.isHeld, l.stuck = v, true, true
}

// refill decodes items of the log into the empty window, a few at a time: they are cheaper to keep as bytes. false: there are none yet.
func (l *loop[T]) refill() bool {
	for l.window.len() == 0 && l.n.OnDisk > 0 {
		if l.batch == nil && !l.nextBatch() {
			return false
		}
		if l.left > 0 {
			l.decode(min(l.left, burst))
		}
		if l.left == 0 {
			l.log.Release(l.batch)
			l.batch = nil
		}
	}
	if l.isHeld && l.empty() {
		l.window.pushAnyway(l.held)
		l.release()
		l.next = l.first + l.n.Received
	}
	return l.window.len() > 0
}

func (l *loop[T]) release() {
	var zero T
	l.held, l.isHeld = zero, false
}

// nextBatch fetches the log's oldest items, or the report of their loss.
func (l *loop[T]) nextBatch() bool {
	b := l.log.Next()
	if b == nil {
		return false
	}
	l.batch, l.left, l.next = b, b.Items, b.First
	if b.Err != nil {
		l.lose(uint64(b.Items), b.Err)
		l.next += uint64(b.Items)
		l.left = 0
	}
	return true
}

// decode moves up to max items from the batch to the window. It stops at one that can't be decoded while others are in the
// window, whose items have consecutive numbers: the bad one comes first in the next round.
func (l *loop[T]) decode(max int) {
	for i := 0; i < max && (l.window.len() == 0 || l.window.bytes < l.window.max); i++ {
		if l.bad == nil {
			v, err := l.decodeNext()
			if err == nil {
				l.left--
				l.next++
				l.n.OnDisk--
				l.window.pushAnyway(v)
				continue
			}
			l.bad = err
		}
		if l.window.len() > 0 {
			return
		}
		l.lose(1, l.batch.Corrupt(l.next, l.bad))
		l.left--
		l.next++
		l.bad = nil
	}
}

// decodeNext turns a panic of the codec into an error.
func (l *loop[T]) decodeNext() (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the codec panics: %v", r)
		}
	}()
	return l.codec.Decode(l.batch.Next())
}

// lose accounts for items of the log that can't be read.
func (l *loop[T]) lose(items uint64, err error) {
	l.n.OnDisk -= items
	l.n.Lost += items
	if len(l.losses) < maxErrors {
		l.losses = append(l.losses, err)
	}
}

// head returns the sequence number of the oldest item that waits, or of the next one to come.
func (l *loop[T]) head() uint64 {
	if !l.empty() {
		return l.next - uint64(l.window.len())
	}
	if l.isHeld {
		return l.first + l.n.Received - 1
	}
	return l.first + l.n.Received
}

// wait blocks until something can be done. An arm whose channel is nil is off.
func (l *loop[T]) wait() {
	if l.patient {
		l.waitForOut()
		return
	}
	var out chan<- T
	var head T
	if l.window.len() > 0 {
		out, head = l.out, *l.window.head()
	}
	var in <-chan T
	if l.accepting() {
		in = l.in
	}
	select {
	case out <- head:
		l.sent()
	case v, ok := <-in:
		l.arrived(v, ok)
	case <-l.p.wake:
	}
}

// waitForOut blocks until out takes the head, for a while. A consumer that wanted no more than the CPU is there at once.
func (l *loop[T]) waitForOut() {
	l.patient = false
	start := time.Now()
	select {
	case l.out <- *l.window.head():
		l.sent()
	case <-l.p.wake:
	case <-time.After(patience):
	}
	if time.Since(start) < patience {
		l.vain = 0
	} else {
		l.vain = min(l.vain+1, maxVain)
	}
}

// arrived takes an item that was waited for: out comes first while nothing else waits.
func (l *loop[T]) arrived(v T, ok bool) {
	if !ok || !l.empty() {
		l.received(v, ok)
		return
	}
	l.n.Received++
	sending := true
	defer func() {
		if sending {
			l.hold(v)
		}
	}()
	select {
	case l.out <- v:
		sending = false
		l.n.Delivered++
	default:
		sending = false
		l.place(v)
	}
}

// publish lets Stats see, and the log know, where the loop has got to.
func (l *loop[T]) publish() {
	if l.n.Spilled+l.n.Resumed > 0 {
		l.log.Ack(l.head())
	}
	s := l.n
	s.InMemory, s.MemoryBytes = uint64(l.window.len()), l.window.bytes
	if l.isHeld {
		s.InMemory++
		s.MemoryBytes += l.window.sizeOf(&l.held)
	}
	s.Blocked = l.in != nil && l.p.state.Load() == running && !l.accepting()
	l.p.board.write(s)
}

// recoverOutClosed ends the loop if it sent on a channel that somebody else has closed.
func (l *loop[T]) recoverOutClosed() {
	r := recover()
	if r == nil {
		return
	}
	if err, ok := r.(runtime.Error); !ok || !strings.Contains(err.Error(), "send on closed channel") {
		panic(r)
	}
	l.outClosed = true
}

// end gives up everything, in order: the log, out, the final count. It returns what Wait and Close return.
func (l *loop[T]) end(ctx context.Context) (err, loss error) {
	stopped := l.waiting() > 0 || l.in != nil && l.p.state.Load() == closing
	undelivered, loss := l.closeLog()
	loss = errors.Join(append(l.losses, loss)...)
	l.publish()
	if !l.keepOpen {
		l.closeOut()
	}
	switch {
	case l.outClosed:
		err = ErrOutClosed
	case stopped:
		err = errors.Join(ErrStopped, context.Cause(ctx))
	}
	return errors.Join(err, undelivered, loss), loss
}

func (l *loop[T]) closeOut() {
	defer func() {
		if recover() != nil { // close panics for no other reason
			l.outClosed = true
		}
	}()
	close(l.out)
}

// closeLog ends the log, which keeps what was not delivered or deletes it.
func (l *loop[T]) closeLog() (kept, loss error) {
	items, grace := l.waiting(), closeGrace
	var keep *spill.Keep
	if l.resuming {
		keep, grace = l.gather(), resumeGrace
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	lost, err := l.log.Close(ctx, l.head(), keep)
	if !l.resuming {
		lost = items
	}
	l.window, l.isHeld = window[T]{}, false
	l.n.OnDisk = items - lost
	l.n.Lost += lost
	if l.n.OnDisk > 0 {
		kept = &UndeliveredError{Items: l.n.OnDisk, Kept: true}
	}
	if lost > 0 {
		loss = &UndeliveredError{Items: lost}
	}
	if err != nil && !l.resuming {
		l.logger.Warn("hopper: the segments could not be removed", "dir", l.log.Dir(), "error", err)
		err = nil
	}
	return kept, errors.Join(loss, err)
}

// gather encodes what only memory holds, for the log to keep.
func (l *loop[T]) gather() *spill.Keep {
	keep := spill.NewKeep()
	seq := l.head()
	add := func(v T) {
		if b, err := l.encode(keep.Begin(seq), v); err != nil {
			l.logger.Error("hopper: an item can't be kept, since it can't be encoded", "error", err)
			keep.Skip()
		} else {
			keep.Commit(b)
		}
	}
	for i := range l.window.len() {
		if !l.log.Stored(seq) {
			add(*l.window.at(i))
		}
		seq++
	}
	if l.left > 0 && !l.log.Stored(seq) {
		if l.bad != nil { // read from the batch already
			keep.Skip()
			seq++
		}
		keep.AddRest(l.batch, seq)
	}
	if l.isHeld {
		seq = l.first + l.n.Received - 1
		add(l.held)
	}
	return keep
}

// A window is a ring of waiting items, bounded by the bytes that they take.
type window[T any] struct {
	items       []T     // its length is a power of two
	sizes       []int64 // of the items, where they differ
	first, last int     // items [first, last) modulo the length
	bytes, max  int64
	fixed       int64
	size        func(v *T, limit int64) int64 // nil: all are of the fixed size
}

func newWindow[T any](max int64) window[T] {
	w := window[T]{max: max}
	w.fixed, w.size = codec.Sizer[T]()
	return w
}

func (w *window[T]) len() int { return w.last - w.first }

func (w *window[T]) at(i int) *T { return &w.items[(w.first+i)&(len(w.items)-1)] }

func (w *window[T]) head() *T { return w.at(0) }

// sizeOf returns the bytes that an item takes; those of no size count as one, so that
// their number is bounded too.
func (w *window[T]) sizeOf(v *T) int64 {
	if w.size == nil {
		return max(w.fixed, 1)
	}
	return w.size(v, w.max)
}

// push adds an item if there is room for it.
func (w *window[T]) push(v T) bool {
	w.pushAnyway(v)
	if w.bytes <= w.max {
		return true
	}
	w.last--
	w.drop(w.last)
	return false
}

// pushAnyway adds an item of whatever size.
func (w *window[T]) pushAnyway(v T) {
	if w.len() == len(w.items) {
		w.grow()
	}
	i := w.last & (len(w.items) - 1)
	w.items[i] = v
	size := w.sizeOf(&w.items[i]) // of the ring's copy: v would escape
	if w.size != nil {
		w.sizes[i] = size
	}
	w.bytes += size
	w.last++
}

// pop removes the head.
func (w *window[T]) pop() {
	w.drop(w.first)
	w.first++
}

func (w *window[T]) drop(at int) {
	var zero T
	i := at & (len(w.items) - 1)
	w.items[i] = zero
	if w.size == nil {
		w.bytes -= max(w.fixed, 1)
	} else {
		w.bytes -= w.sizes[i]
	}
}

func (w *window[T]) grow() {
	n := max(16, 2*len(w.items))
	items := make([]T, n)
	var sizes []int64
	if w.size != nil {
		sizes = make([]int64, n)
	}
	for i := range w.len() {
		items[i] = *w.at(i)
		if sizes != nil {
			sizes[i] = w.sizes[(w.first+i)&(len(w.items)-1)]
		}
	}
	w.items, w.sizes, w.first, w.last = items, sizes, 0, w.len()
}

// A board passes snapshots from the loop to any number of readers; neither side ever waits for the
// other. Of three copies one belongs to the writer, one to the readers, and one is on its way.
type board struct {
	copies  [3]Stats
	writer  uint32
	between atomic.Uint32 // index of the copy on its way, and fresh if it has not been read

	mu     sync.Mutex // among the readers
	reader uint32
}

const fresh = 4

func (b *board) init() {
	b.writer, b.reader = 1, 2
}

func (b *board) write(s Stats) {
	b.copies[b.writer] = s
	b.writer = b.between.Swap(b.writer|fresh) &^ fresh
}

func (b *board) read() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.between.Load()&fresh != 0 {
		b.reader = b.between.Swap(b.reader) &^ fresh
	}
	return b.copies[b.reader]
}

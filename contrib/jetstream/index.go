package jetstream

import (
	"errors"
	"math"
	"slices"
	"sync"

	"example.com/hopper/spill"
)

// errLost is why items can't be had that are known to have been stored.
var errLost = errors.New("the server had acknowledged it, and has lost it")

// A piece is a stretch of items that stand in one message, or are lost.
type piece struct {
	first, end uint64
	msg        *message // nil: they are lost
}

// An index knows which message holds which items. It is safe for concurrent
// use.
type index struct {
	mu     sync.Mutex
	msgs   []*message // that take space, in the order of the stream
	pieces []piece    // disjoint, in the order of their items
	bytes  int64      // of msgs

	granule int64 // bytes of messages that are worth while to delete

	reach uint64 // the number behind the last item ever stored
}

// add adds a message with its items, but for those that are there already.
func (x *index) add(m *message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.takeSpaceLocked(m)
	if !m.scrap {
		x.coverLocked(m.first, m.end, m)
		x.reach = max(x.reach, m.end)
	}
}

// takeSpaceLocked puts a message in its place in the stream. Those that had its
// number or a later one are lost: a server that had acknowledged them did not
// keep them.
func (x *index) takeSpaceLocked(m *message) {
	for n := len(x.msgs); n > 0 && x.msgs[n-1].behind() > m.seq; n-- {
		last := x.msgs[n-1]
		last.lost = errLost
		x.bytes -= last.bytes()
		x.msgs = x.msgs[:n-1]
	}
	x.msgs = append(x.msgs, m)
	x.bytes += m.bytes()
}

// coverLocked makes m, or nothing, what the items from first up to end are
// found in that no piece has.
func (x *index) coverLocked(first, end uint64, m *message) {
	at := x.atLocked(first)
	for first < end {
		if at == len(x.pieces) || x.pieces[at].first >= end {
			x.pieces = slices.Insert(x.pieces, at, piece{first, end, m})
			return
		}
		p := x.pieces[at]
		if p.first > first {
			x.pieces = slices.Insert(x.pieces, at, piece{first, p.first, m})
			at++
		}
		first = p.end
		at++
	}
}

// atLocked returns where the first piece stands that goes beyond seq.
func (x *index) atLocked(seq uint64) int {
	i, _ := slices.BinarySearchFunc(x.pieces, seq, func(p piece, seq uint64) int {
		if p.end <= seq {
			return -1
		}
		return 1
	})
	return i
}

// lose notes that the items from first up to end have been stored: those that
// no piece has are lost.
func (x *index) lose(first, end uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.coverLocked(first, end, nil)
	x.reach = max(x.reach, end)
}

// find returns the piece that holds seq, or else the next one.
func (x *index) find(seq uint64) (p piece, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.atLocked(seq); i < len(x.pieces) {
		return x.pieces[i], true
	}
	return piece{}, false
}

// after returns the messages that hold the items from seq on, as many as asked
// for.
func (x *index) after(seq uint64, n int) (msgs []*message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := x.atLocked(seq); i < len(x.pieces) && len(msgs) < n; i++ {
		m := x.pieces[i].msg
		if m != nil && m.lost == nil && (len(msgs) == 0 || msgs[len(msgs)-1] != m) {
			msgs = append(msgs, m)
		}
	}
	return msgs
}

// spoil notes that a message can't be had any more.
func (x *index) spoil(m *message, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m.lost = why
}

// spoiled returns why a message can't be had, or nil.
func (x *index) spoiled(m *message) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return m.lost
}

// covered reports whether all items from first up to end are stored.
func (x *index) covered(first, end uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := x.atLocked(first); first < end; i++ {
		if i == len(x.pieces) {
			return false
		}
		p := x.pieces[i]
		if p.first > first || p.msg == nil || p.msg.lost != nil {
			return false
		}
		first = p.end
	}
	return true
}

// behind returns the number behind the last item ever stored.
func (x *index) behind() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.reach
}

// doneUntil returns up to which message of the stream all items are done, and
// how many messages these are: none if it is not worth while to delete them
// yet. If that is every message the number is last+1.
func (x *index) doneUntil(acked, last uint64) (n int, seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if acked < x.trimAtLocked(0) {
		return 0, 0
	}
	for n < len(x.msgs) && x.msgs[n].end <= acked {
		n++
	}
	if n < len(x.msgs) {
		return n, x.msgs[n].seq
	}
	return n, last + 1
}

// maxGranule is how many bytes of messages are deleted together. Each time
// takes two requests.
const maxGranule = 4 << 20

// setGranule makes it less where the space is limited.
func (x *index) setGranule(limit int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.granule = maxGranule
	if limit >= 0 {
		x.granule = min(maxGranule, limit/16)
	}
}

// trimAtLocked returns the number up to which items must be done before
// messages with items from next on are deleted: those that hold a granule, or
// all.
func (x *index) trimAtLocked(next uint64) uint64 {
	at, bytes := uint64(0), int64(0)
	for _, m := range x.msgs {
		if m.end <= next {
			continue
		}
		at, bytes = max(at, m.end), bytes+m.bytes()
		if bytes >= x.granule {
			break
		}
	}
	if bytes == 0 {
		return math.MaxUint64
	}
	return at
}

// trimAt is trimAtLocked.
func (x *index) trimAt(next uint64) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.trimAtLocked(next)
}

// drop forgets the first n messages, which have been deleted, and the items
// below acked.
func (x *index) drop(n int, acked uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range n {
		x.bytes -= x.msgs[i].bytes()
		x.msgs[i] = nil
	}
	x.msgs = x.msgs[n:]

	n = 0
	for n < len(x.pieces) && x.pieces[n].end <= acked {
		n++
	}
	clear(x.pieces[:n])
	x.pieces = x.pieces[n:]
}

// remove forgets a message that has been deleted.
func (x *index) remove(m *message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.Index(x.msgs, m); i >= 0 {
		x.msgs = slices.Delete(x.msgs, i, i+1)
		x.bytes -= m.bytes()
	}
}

// cut drops the items from end on.
func (x *index) cut(end uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := x.atLocked(end)
	if at < len(x.pieces) && x.pieces[at].first < end {
		x.pieces[at].end = end
		at++
	}
	clear(x.pieces[at:])
	x.pieces = x.pieces[:at]
}

// reset forgets everything. The next item may have the number reach.
func (x *index) reset(reach uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.msgs, x.pieces, x.bytes, x.reach = nil, nil, 0, reach
}

// count returns how many items from next up to end are there or are lost.
func (x *index) count(next, end uint64) (items uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := x.atLocked(next); i < len(x.pieces); i++ {
		p := x.pieces[i]
		first, until := max(p.first, next), min(p.end, end)
		if first >= end {
			break
		}
		items += until - first
	}
	return items
}

// maxSkipped is how many skipped stretches a lease tells of.
const maxSkipped = 256

// vouch returns up to where items from next on are known to have been stored,
// and which numbers were skipped on the way. If these are too many it stops in
// front of one.
func (x *index) vouch(next uint64) (end uint64, skipped []span) {
	x.mu.Lock()
	defer x.mu.Unlock()
	end = next
	for i := x.atLocked(next); i < len(x.pieces); i++ {
		p := x.pieces[i]
		if p.first > end {
			if len(skipped) == maxSkipped {
				break
			}
			skipped = append(skipped, span{end, p.first})
		}
		end = p.end
	}
	return end, skipped
}

// missing takes out the items from next on that stand in messages which are
// gone, and returns the first and how many they are.
func (x *index) missing(next uint64, gone func(*message) bool) (first, items uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pieces = slices.DeleteFunc(x.pieces, func(p piece) bool {
		if p.msg == nil || p.end <= next || !gone(p.msg) {
			return false
		}
		from := max(p.first, next)
		if items == 0 {
			first = from
		}
		items += p.end - from
		return true
	})
	return first, items
}

// usage returns the space that is taken.
func (x *index) usage() spill.Usage {
	x.mu.Lock()
	defer x.mu.Unlock()
	return spill.Usage{Bytes: x.bytes, Segments: len(x.msgs), TrimAt: x.trimAtLocked(0)}
}

// firstLeft returns the first message of the stream with items from next on, or
// nil.
func (x *index) firstLeft(next uint64) *message {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.msgs {
		if m.end > next {
			return m
		}
	}
	return nil
}

// A span is the numbers from the first up to, not including, the second.
type span [2]uint64

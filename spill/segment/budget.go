package segment

import (
	"fmt"
	"slices"
	"sync"

	"example.com/hopper/spill"
)

// ErrBudget says that the stores that share a [Budget] have used it up, but for
// what is left to others of them. It matches [spill.ErrFull].
var ErrBudget = fmt.Errorf("%w: the shared budget is used up", spill.ErrFull)

// A Budget is disk space that several stores share: their segments together
// take no more. Of n open stores each is sure of a 2n-th of it, as far as it is
// there; the rest goes to whoever comes first. So none can keep the others from
// going on for good.
//
// What a store finds when it is opened, and what it writes after Lift, is
// granted, and counts. A store that is closed no longer counts, whatever it
// leaves. A Budget is safe for concurrent use.
type Budget struct {
	disk int64

	mu      sync.Mutex
	members []*account
	taken   int64      // by all members
	secured int64      // what each has taken, or is sure of if that is more
	freed   bool       // what was refused might be granted now
	refused []*account // that have been since they last got something, in that order
}

// NewBudget returns a budget of so many bytes. With 0 or less nothing is
// granted but what is granted always.
func NewBudget(disk int64) *Budget { return &Budget{disk: max(disk, 0)} }

// Disk returns the size of the budget, in bytes.
func (b *Budget) Disk() int64 { return b.disk }

// Usage returns how many bytes the segments of all open stores take.
func (b *Budget) Usage() (disk int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.members {
		disk += a.used
	}
	return disk
}

// An account is one store's part of a budget. A nil account has no limit. The
// budget's lock guards it.
type account struct {
	budget  *Budget
	member  bool
	used    int64 // by segments
	claimed int64 // for what is about to be written
	lifted  bool  // everything is granted

	want   int64  // the last claim, if it was refused
	notify func() // called when that might be granted now
}

// join makes a store share the budget. notify must not block.
func (b *Budget) join(notify func()) *account {
	if b == nil {
		return nil
	}
	a := &account{budget: b, member: true, notify: notify}
	b.change(func() {
		b.members = append(b.members, a)
		b.countLocked()
	})
	return a
}

// leave ends that. What the store has used is there for the others.
func (a *account) leave() {
	if a == nil {
		return
	}
	b := a.budget
	b.change(func() {
		is := func(m *account) bool { return m == a }
		a.member = false
		b.members = slices.DeleteFunc(b.members, is)
		b.refused = slices.DeleteFunc(b.refused, is)
		b.countLocked()
	})
}

// countLocked counts anew what is taken: with the members the part changes that
// each is sure of.
func (b *Budget) countLocked() {
	sure := b.partLocked(2)
	b.taken, b.secured, b.freed = 0, 0, true
	for _, m := range b.members {
		b.taken += m.used + m.claimed
		b.secured += max(m.used+m.claimed, sure)
	}
}

// setLocked sets what the store has used and claimed.
func (a *account) setLocked(used, claimed int64) {
	was, is := a.used+a.claimed, used+claimed
	a.used, a.claimed = used, claimed
	if b := a.budget; a.member {
		sure := b.partLocked(2)
		b.taken += is - was
		b.secured += max(is, sure) - max(was, sure)
		b.freed = b.freed || is < was
	}
}

// add says that the segments have grown by n bytes, which may be negative.
func (a *account) add(n int64) {
	if a != nil {
		a.budget.change(func() { a.setLocked(a.used+n, a.claimed) })
	}
}

// claim asks for n bytes in place of what was claimed before, and reports
// whether they are granted.
func (a *account) claim(n int64) (granted bool) {
	if a == nil {
		return true
	}
	a.budget.change(func() {
		a.setLocked(a.used, 0)
		granted = a.lifted || a.budget.grantsLocked(a, n)
		if granted {
			a.setLocked(a.used, n)
			return
		}

		a.want = n
		if !slices.Contains(a.budget.refused, a) {
			a.budget.refused = append(a.budget.refused, a)
		}
	})
	return granted
}

// settle gives back what was claimed and not used, but for n bytes.
func (a *account) settle(n int64) {
	if a != nil {
		a.budget.change(func() { a.setLocked(a.used, min(a.claimed, n)) })
	}
}

// lift has everything granted from here on.
func (a *account) lift() {
	if a != nil {
		a.budget.change(func() { a.lifted = true })
	}
}

// part returns how many bytes a k-th of an equal part of the budget is.
func (a *account) part(k int64) (bytes int64) {
	a.budget.change(func() { bytes = a.budget.partLocked(k) })
	return bytes
}

func (b *Budget) partLocked(k int64) int64 {
	return b.disk / (k * max(int64(len(b.members)), 1))
}

// change changes something, with the lock held, and notifies the stores that
// were refused what they might get now.
func (b *Budget) change(f func()) {
	b.mu.Lock()
	f()
	var granted []*account
	if b.freed {
		b.freed = false
		b.refused = slices.DeleteFunc(b.refused, func(a *account) bool {
			if !b.grantsLocked(a, a.want) {
				return false
			}
			granted = append(granted, a)
			return true
		})
	}
	b.mu.Unlock()

	for _, a := range granted {
		a.notify()
	}
}

// grantsLocked reports whether the store may take n more bytes: they must be
// there, and not be what others are sure of, unless they are what it is sure of
// itself.
func (b *Budget) grantsLocked(a *account, n int64) bool {
	sure, own := b.partLocked(2), a.used+a.claimed
	others, othersSecured := b.taken-own, b.secured-max(own, sure)
	return own+n+others <= b.disk && (own+n <= sure || own+n+othersSecured <= b.disk)
}

package segment

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"example.com/hopper/spill"
)

// Damage that shows only when all segments are seen together.
var (
	errMissing = errors.New("segment is missing")
	errCutOff  = errors.New("segment ends without its footer, and what should follow is missing")
	errFooter  = errors.New("segment footer is damaged")
	errJunk    = errors.New("junk behind the segment's footer")
)

// A plan says what to make of what was found.
type plan struct {
	next, end, items uint64

	segments []*segment // with items from next on, in the order of their items
	gaps     []gap
	dead     []*segment // the others: empty, or come back after they were removed

	receipt *receipt // the one that counts, or nil
	opened  bool     // it is marked as opened already
	extra   []string // names of other receipts and marks, which are to go

	crashed  bool
	repeated uint64
}

// plan makes the plan, by the rules of the package's documentation.
func (f *found) plan(dir string) *plan {
	p := &plan{}
	vouched := p.chooseReceipt(f)
	p.next = vouched.next
	for _, c := range f.segments {
		p.next = max(p.next, c.acked)
		p.crashed = p.crashed || !p.closedBehind(c)
	}

	var live, dead []*candidate
	for _, c := range f.segments {
		if c.seg.end > max(p.next, c.seg.first) {
			live = append(live, c)
		} else {
			dead = append(dead, c)
		}
	}
	dead, live = keepCursor(dead, live)
	for _, c := range dead {
		p.dead = append(p.dead, c.seg)
	}
	slices.SortStableFunc(live, func(a, b *candidate) int { return compareSegments(a.seg, b.seg) })
	if len(live) > 0 && p.next >= vouched.end {
		p.next = max(p.next, live[0].firstLeft(dead, p.next))
	}

	p.arrange(dir, live, dead, vouched)
	if p.crashed && len(live) > 0 {
		s := live[0].seg
		p.repeated = min(p.items, s.end-min(max(p.next, s.first), s.end))
	}
	return p
}

// keepCursor moves a segment without items from dead to live if nothing but its
// cursor says that items in the others are done.
func keepCursor(dead, live []*candidate) (remaining, kept []*candidate) {
	byAcked := func(a, b *candidate) int { return cmp.Compare(a.acked, b.acked) }
	if len(dead) == 0 || len(live) == 0 {
		return dead, live
	}

	best := slices.MaxFunc(dead, byAcked)
	first := slices.MinFunc(live, func(a, b *candidate) int {
		return compareSegments(a.seg, b.seg)
	})
	if best.seg.end > best.seg.first || best.acked <= first.seg.first ||
		best.acked <= slices.MaxFunc(live, byAcked).acked {
		return dead, live
	}
	others := func(c *candidate) bool { return c == best }
	return slices.DeleteFunc(dead, others), append(live, best)
}

// chooseReceipt picks the receipt that counts: the newest one, which begins
// later, or where the other does and goes further.
func (p *plan) chooseReceipt(f *found) (r receipt) {
	if len(f.receipts) > 0 {
		r = slices.MaxFunc(f.receipts, func(a, b receipt) int {
			return cmp.Or(cmp.Compare(a.next, b.next), cmp.Compare(a.end, b.end))
		})
		p.receipt = &r
	}

	for _, name := range f.marks {
		switch {
		case p.receipt != nil && name == r.name():
		case p.receipt != nil && name == r.openedName():
			p.opened = true
		default:
			p.extra = append(p.extra, name)
		}
	}
	return r
}

// firstLeft returns the number of the first item that was left when nothing
// tells but the first segment: its own, or that of an empty file which it
// follows. Of that all has been cut off, since it would have been deleted had
// its items been done.
func (c *candidate) firstLeft(dead []*candidate, next uint64) uint64 {
	first := c.seg.first
	for _, d := range dead {
		if !d.sealed && d.seg.first >= next && d.seg.first < c.header.follows {
			first = min(first, d.seg.first)
		}
	}
	return first
}

// closedBehind reports whether the log was closed after it had appended the
// segment. An empty receipt vouches for no item, but for the Close that could
// not store them all.
func (p *plan) closedBehind(c *candidate) bool {
	r, end := p.receipt, c.seg.end
	if c.header.version == version1 { // else it may have been made for the cursor alone
		end = max(end, c.seg.first+1)
	}
	return r != nil && !p.opened && (r.next == r.end || end <= r.end)
}

// arrange puts the segments into their order, with a gap where items are
// missing: those that a later segment says it follows, or the receipt vouches
// for, and no segment has.
func (p *plan) arrange(dir string, live, dead []*candidate, vouched receipt) {
	p.end = p.next
	var last *candidate
	for i, c := range live {
		s := c.seg
		c.correctGuess(live[i+1:], vouched)

		// Items in front of this segment are known to have been there as far as
		// it follows them, or the receipt vouches for them.
		until := max(min(c.header.follows, s.first), min(s.first, vouched.end))
		p.miss(until, last, dead, dir)

		s.loose = p.crashed
		c.note(vouched)
		p.segments = append(p.segments, s)
		if s.end > p.end {
			p.items += s.end - max(p.end, s.first)
			p.end = s.end
		}
		last = c
	}
	p.miss(vouched.end, last, dead, dir)
}

// correctGuess takes back the guess that an item was there (rule 2) if the
// store went on elsewhere, so that none was.
func (c *candidate) correctGuess(later []*candidate, vouched receipt) {
	if !c.guessed {
		return
	}
	s := c.seg
	wentOn := len(later) > 0 && later[0].seg.first < s.end
	if wentOn || s.first < vouched.end && vouched.end < s.end {
		s.end--
		c.guessed = false
	}
}

// note makes the notices of damage that costs no item.
func (c *candidate) note(vouched receipt) {
	s := c.seg
	switch {
	case c.damage != nil:
		s.notices = append(s.notices, notice{0, c.damage})
	case c.junk:
		s.notices = append(s.notices, notice{s.size + footerLen, errJunk})
	case !c.sealed && s.size < s.disk && s.end <= vouched.end:
		s.notices = append(s.notices, notice{s.size, errFooter})
	}
}

// miss adds a gap up to the item until, if there is one. Where a segment in
// front of it, or an empty one in its place, seems to be cut off, the gap is
// there.
func (p *plan) miss(until uint64, before *candidate, dead []*candidate, dir string) {
	if until <= p.end {
		return
	}

	g := gap{first: p.end, end: until, at: spill.Position{Path: dir}, why: errMissing}
	i := slices.IndexFunc(dead, func(c *candidate) bool {
		return c.seg.first == p.end && !c.sealed
	})
	switch {
	case i >= 0:
		s := dead[i].seg
		g.at, g.why = spill.Position{Path: s.path, Offset: min(s.size, s.disk)}, errCutOff
	case before != nil && !before.sealed && before.seg.end == p.end:
		s := before.seg
		g.at, g.why = spill.Position{Path: s.path, Offset: s.size}, errCutOff
		s.notices = slices.DeleteFunc(s.notices, func(n notice) bool { return n.err == errFooter })
	}

	p.gaps = append(p.gaps, g)
	p.items += until - p.end
	p.end = until
}

// recover makes what an earlier store has left the content of this one. It
// changes nothing but to delete what is done, so that it can be interrupted and
// repeated at any point.
func (s *Store) recover(label string, keep bool) (spill.Range, error) {
	got, _, err := walkDir(s.dir.fs, s.dir.path, &label)
	if err != nil {
		return spill.Range{}, explain(err)
	}

	for _, n := range append(got.nobodys, got.retained...) {
		s.dir.log.Warn("spill: not a segment of this log: left alone",
			"path", n.path, "error", n.why)
	}
	if len(got.unreadable) > 0 {
		return spill.Range{}, explain(got.unreadable[0].why)
	}
	if !keep {
		return spill.Range{}, s.discard(got)
	}
	return s.adopt(got.plan(s.dir.path)), nil
}

// adopt carries out a plan.
func (s *Store) adopt(p *plan) spill.Range {
	for _, name := range p.extra {
		s.dir.remove(s.dir.join(name)) // or the next store does
	}
	if err := s.trash.useReceipt(p.receipt); err != nil {
		s.dir.log.Warn("spill: the next log may not notice if this process is killed",
			"dir", s.dir.path, "error", err)
	}
	for _, seg := range slices.Concat(p.segments, p.dead) {
		s.usage.add(seg)
	}

	s.index.set(p.segments, p.gaps)
	s.writer.last = p.end
	s.trash.doom(p.dead...)
	if err := s.trim(p.next); err != nil {
		s.dir.log.Warn("spill: segments that are done could not be removed: trying again",
			"dir", s.dir.path, "error", err)
	}
	return p.found()
}

// found returns the plan as the result of Open.
func (p *plan) found() spill.Range {
	r := spill.Range{
		Next: p.next, End: p.end, Items: p.items, Crashed: p.crashed, Repeated: p.repeated,
	}
	if len(p.segments) > 0 {
		r.Oldest = p.segments[0].stored
	}
	return r
}

// discard deletes what an earlier store has left without being told to, and
// refuses to delete anything else.
func (s *Store) discard(got found) error {
	var items uint64
	for _, c := range got.segments {
		n := c.seg.end - c.seg.first
		if items += n; c.header.kept && n > 0 {
			return fmt.Errorf("%w: %s", spill.ErrNotResumed, c.seg.path)
		}
	}
	for _, r := range got.receipts {
		if r.next < r.end {
			return fmt.Errorf("%w: %s", spill.ErrNotResumed, s.dir.path)
		}
	}

	if len(got.segments) > 0 {
		s.dir.log.Warn("spill: deleting what a log has left that ended without Close",
			"dir", s.dir.path, "segments", len(got.segments), "items", items)
	}
	var errs error
	remove := func(path string) { errs = errors.Join(errs, s.dir.remove(path)) }
	for _, name := range got.marks { // the receipts vouch for nothing
		remove(s.dir.join(name))
	}
	for _, c := range got.segments {
		remove(c.seg.path)
	}
	return explain(errs)
}

package storetest

import (
	"bytes"

	"example.com/hopper/spill"
)

// A user is the user of a log on the store under test. It appends items that
// look like no other, and checks those that it gets.
type user struct {
	tr   *trial
	log  *spill.Log
	read *bounded // the store, as the log reads it
	wake chan struct{}
	sent uint64 // number of the next item to be appended
	got  uint64 // number of the next item to be handed out
}

// openLog opens a log on the store, which is to hold what was sent and not
// handed out.
func (tr *trial) openLog(sent, got uint64) *user {
	tr.t.Helper()
	u := &user{
		tr: tr, read: bound(tr.m.Store()), wake: make(chan struct{}, 1), sent: sent, got: got,
	}

	log, r, err := spill.Open(tr.ctx, spill.Config{
		Store: u.read, Label: label, Keep: true, Wake: u.wake,
	})
	if err != nil {
		tr.t.Fatalf("spill.Open: %v", err)
	}
	if r.Items != sent-got || r.Crashed || r.Items > 0 && (r.Next != got || r.End != sent) {
		tr.t.Fatalf("spill.Open: found %+v, want items %d to %d", r, got, sent)
	}
	u.log, tr.log = log, u
	return u
}

// send appends items up to end, or as many as the log takes now.
func (u *user) send(end uint64) {
	for u.sent < end && u.log.Room(0) {
		b := u.log.Begin(u.sent)
		u.log.Commit(append(b, u.tr.item(u.sent)...))
		u.sent++
	}
}

// take takes what the log has at hand up to an item, or waits until there may
// be more.
func (u *user) take(until uint64) {
	u.tr.t.Helper()
	c, lost := u.log.Next(u.got, u.got)
	if lost != nil {
		u.tr.t.Fatalf("the log reports a loss: %v", lost)
	}
	if c == nil {
		u.wait()
		return
	}

	for ; c.Left > 0 && u.got < until; c.Advance() {
		item, parked := c.Item()
		if c.Seq != u.got || parked || !bytes.Equal(item, u.tr.item(c.Seq)) {
			u.tr.t.Fatalf("the log has item %d where %d is to come, or it is another", c.Seq, u.got)
		}
		u.got++
	}
}

func (u *user) wait() {
	u.tr.t.Helper()
	select {
	case <-u.wake:
	case <-u.read.stuck:
		u.tr.t.Fatalf("the log gets nowhere, after %d items of %d: %v",
			u.got, u.sent, errNoProgress)
	case <-u.tr.ctx.Done():
		u.tr.t.Fatalf("the log waits for ever, after %d items of %d", u.got, u.sent)
	}
}

// close closes the log, which keeps what was not handed out.
func (u *user) close() {
	u.tr.t.Helper()
	u.tr.log = nil
	if left := u.log.Close(u.tr.ctx, u.got); left.Err != nil || left.Unsaved > 0 {
		u.tr.t.Fatalf("closing the log: %d items unsaved, error %v", left.Unsaved, left.Err)
	}
}

// testLog fills a log, lets it deliver a part, and has others deliver the rest
// while more is added.
func testLog(tr *trial) {
	const items = 3000
	sizes := []int{0, 1, 127, 128, 16383, 16384, 65534, 65535, 65536, 65537, 1 << 20}
	for seq := uint64(0); seq < 2*items; seq += 300 {
		for i, size := range sizes {
			tr.sizes[seq+uint64(i)] = size
		}
	}

	u := tr.openLog(0, 0)
	for u.send(items); u.sent < items; u.send(items) {
		u.wait()
	}
	for u.got < items/3 {
		u.take(items / 3)
	}
	u.close()

	u = tr.openLog(u.sent, u.got)
	for u.got < items {
		u.send(2 * items)
		u.take(items)
	}
	u.close()

	u = tr.openLog(u.sent, u.got)
	for u.got < u.sent {
		u.take(u.sent)
	}
	u.close()

	s := tr.openEmpty()
	s.delete()
}

package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

// leaseKey is the only key of the bucket.
const leaseKey = "lease"

// bucketOf returns the bucket that the store makes.
func bucketOf(c Config) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      "hopper_" + c.StreamName,
		Description: "whose the stream " + c.StreamName + " is, and what is done of it",
		Storage:     c.Storage,
		Replicas:    c.Replicas,
	}
}

// A record is the value of the lease.
type record struct {
	Version int    `json:"version"`
	Holder  string `json:"holder"` // random; empty if nobody has it
	Epoch   uint64 `json:"epoch"`  // grows with each holder
	Writes  uint64 `json:"writes"` // number of this one, of this holder
	TTL     int64  `json:"ttl_ms"` // how long it is the holder's after each
	Label   string `json:"label"`  // of the items
	Keep    bool   `json:"keep"`   // they are not to be deleted

	Next    uint64 `json:"next"`              // the items below are done
	End     uint64 `json:"end"`               // those from Next up to it have been stored,
	Skipped []span `json:"skipped,omitempty"` // but for these
	Exact   bool   `json:"exact,omitempty"`   // and none behind
	Clean   bool   `json:"clean,omitempty"`   // the last log has ended with Close
}

func (r *record) ttl() time.Duration { return time.Duration(r.TTL) * time.Millisecond }

// A lease is the store's view of the record, of which it is the only writer
// while it is the holder.
type lease struct {
	api     *api
	stream  string // of the bucket
	subject string // of the key
	holder  string
	ttl     time.Duration

	lock  chan struct{} // of capacity 1: full while the record is being written
	tried uint64        // writes so far, those included that have failed
	rec   record        // as it was read or written last
	rev   uint64        // its revision; 0: there is none

	saved atomic.Pointer[time.Time] // when it was written last
}

func newLease(a *api, c Config, holder string) *lease {
	bucket := bucketOf(c).Bucket
	l := &lease{
		api: a, stream: "KV_" + bucket, subject: "$KV." + bucket + "." + leaseKey,
		holder: holder, ttl: c.Lease, lock: make(chan struct{}, 1),
	}
	if a.prefix != jetstream.DefaultAPIPrefix {
		l.subject = a.prefix + l.subject // as the client library has it
	}
	return l
}

// read returns the record as the bucket's leader has it, with its revision and
// its age. A revision of 0 means that there is none.
func (l *lease) read(ctx context.Context) (r record, rev uint64, age time.Duration, err error) {
	m, err := l.api.get(ctx, l.stream, "$KV."+l.bucket()+"."+leaseKey, 0)
	if errors.Is(err, errMissing) {
		return r, 0, 0, nil
	}
	if err != nil {
		return r, 0, 0, err
	}
	if len(m.Data) == 0 { // it was deleted
		return record{}, m.Seq, 0, nil
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return r, 0, 0, fmt.Errorf("jetstream: the lease in bucket %s: %w", l.bucket(), err)
	}
	if r.Version > 1 {
		return r, 0, 0, fmt.Errorf("%w: the lease has version %d", spill.ErrVersion, r.Version)
	}

	i, err := l.api.info(ctx, l.stream, false)
	if err != nil {
		return r, 0, 0, err
	}
	if !i.TimeStamp.IsZero() {
		age = i.TimeStamp.Sub(m.Time)
	}
	return r, m.Seq, age, nil
}

func (l *lease) bucket() string { return l.stream[len("KV_"):] }

// free waits until nobody has the lease: it was given back, or its holder has
// not been heard of for as long as it holds. If the holder renews it meanwhile
// the error is ErrLocked.
func (l *lease) free(ctx context.Context) (record, error) {
	start := time.Now()
	first := uint64(0)
	for {
		r, rev, age, err := l.read(ctx)
		if err != nil {
			return r, err
		}
		if first == 0 {
			first = rev
		}

		left := r.ttl() - max(age, time.Since(start))
		switch {
		case rev == 0, r.Holder == "", r.Holder == l.holder, rev == first && left <= 0:
			l.rec, l.rev = r, rev
			return r, nil
		case rev != first:
			return r, fmt.Errorf("%w: the lease in bucket %s is being renewed",
				spill.ErrLocked, l.bucket())
		}
		if err := pause(ctx, min(left, max(r.ttl()/20, 10*time.Millisecond))); err != nil {
			return r, err
		}
	}
}

func (l *lease) nowSaved() {
	now := time.Now()
	l.saved.Store(&now)
}

// errMoved says that somebody else has taken the lease at the same time.
var errMoved = errors.New("jetstream: the lease has been taken meanwhile")

// take makes the store the holder of the lease that free has returned.
func (l *lease) take(ctx context.Context, epoch uint64) error {
	l.lock <- struct{}{}
	defer func() { <-l.lock }()

	r := l.rec
	l.tried++
	r.Version, r.Holder, r.Writes, r.TTL = 1, l.holder, l.tried, l.ttl.Milliseconds()
	r.Epoch = max(r.Epoch, epoch) + 1
	rev, err := l.write(ctx, r)
	if err != nil {
		found, now, _, readErr := l.read(ctx)
		switch {
		case readErr != nil:
			return err
		case found.Holder != l.holder && now == l.rev:
			return err // it has not been written, or not yet
		case found.Holder != l.holder:
			return errMoved
		}
		rev = now
	}
	l.rec, l.rev = r, rev
	l.nowSaved()
	return nil
}

// save changes the record, which proves that the lease is still the store's.
// The error is ErrLocked if it is not.
func (l *lease) save(ctx context.Context, change func(*record)) error {
	select {
	case l.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.lock }()

	var err error
	for range 5 {
		r := l.rec
		r.Skipped = slices.Clone(r.Skipped)
		change(&r)
		l.tried++
		r.Writes = l.tried // no two have the same, so that each is recognised

		var rev uint64
		if rev, err = l.write(ctx, r); err == nil {
			l.rec, l.rev = r, rev
			l.nowSaved()
			return nil
		}
		if !isCode(err, codeWrongLast, codeWrongLastBare) && !errors.Is(err, errCut) &&
			!errors.Is(err, errNoAnswer) {
			return err
		}
		if done, err := l.recheck(ctx, r); done || err != nil {
			return err
		}
	}
	return err
}

// recheck finds out what has become of a write whose outcome is not known, or
// which was refused, maybe because an earlier one had been written after all.
func (l *lease) recheck(ctx context.Context, r record) (done bool, err error) {
	found, rev, _, err := l.read(ctx)
	switch {
	case err != nil:
		return false, err
	case rev == 0: // somebody has deleted the record, or the bucket
		l.rev = 0
		return false, nil
	case found.Holder != l.holder && found.Holder != "", found.Epoch != r.Epoch:
		return false, fmt.Errorf("%w: another store has taken over", spill.ErrLocked)
	}

	l.rev = rev
	if found.Writes == r.Writes {
		l.rec = r
		l.nowSaved()
		return true, nil
	}
	return false, nil
}

// check asks whether the lease is still the store's, for when it can't be
// written.
func (l *lease) check(ctx context.Context) error {
	found, rev, _, err := l.read(ctx)
	if err == nil && rev != 0 && found.Holder != l.holder {
		err = fmt.Errorf("%w: another store has taken over", spill.ErrLocked)
	}
	return err
}

// write stores a record if the last one is still that which the lease knows.
func (l *lease) write(ctx context.Context, r record) (rev uint64, err error) {
	h, data := l.encode(r)
	return published(ctx, l.api.w.start(ctx, l.subject, h, data))
}

func (l *lease) encode(r record) (nats.Header, []byte) {
	data, err := json.Marshal(r)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return nats.Header{expectSubjectKey: {strconv.FormatUint(l.rev, 10)}}, data
}

// abandon gives the lease back without waiting for an answer, so that the next
// store need not wait. Nothing else of it changes. If it can't be done at once
// the lease ends by itself.
func (l *lease) abandon() {
	select {
	case l.lock <- struct{}{}:
	default:
		return
	}
	defer func() { <-l.lock }()
	if l.rec.Holder != l.holder {
		return
	}

	r := l.rec
	r.Holder = ""
	h, data := l.encode(r)
	l.api.w.post(l.subject, h, data)
	l.rec = r
}

// pause waits for some time, or until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

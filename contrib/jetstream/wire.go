package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// answerWait is how long an answer is waited for.
const answerWait = 5 * time.Second

var (
	errAway     = errors.New("jetstream: not connected to the server")
	errCut      = errors.New("jetstream: the connection was lost before the answer came")
	errNoAnswer = errors.New("jetstream: the server does not answer")
	errNobody   = errors.New("jetstream: no server answers for the stream: " +
		"it has no leader now, or JetStream is off")
)

// A wire carries requests to the server and the answers back. Several can be
// under way at once, and those of one goroutine leave in its order. A call
// whose connection is lost fails at once. Nothing here waits for longer than a
// context allows, also where a write to the connection hangs.
type wire struct {
	nc     *nats.Conn
	inbox  string
	sub    *nats.Subscription
	status chan nats.Status

	maxPayload atomic.Int64 // bytes, of the server
	out        chan *call   // to the goroutine that sends
	quit       chan struct{}
	goroutines sync.WaitGroup

	mu    sync.Mutex
	calls map[string]*call // by the last token of the subject of the answer
	made  uint64
	away  error         // not nil: why there is no connection now
	cut   chan struct{} // closed when the connection is lost
}

// A call is a request that is under way.
type call struct {
	w      *wire
	token  string
	msg    *nats.Msg
	answer chan answer // of capacity 1
	until  time.Time
}

type answer struct {
	msg *nats.Msg
	err error
}

// newWire starts a wire. It may take as long as the connection hangs.
func newWire(nc *nats.Conn) (*wire, error) {
	w := &wire{
		nc: nc, inbox: nc.NewInbox() + ".",
		out: make(chan *call), quit: make(chan struct{}), calls: make(map[string]*call),
		cut: make(chan struct{}),
	}
	sub, err := nc.Subscribe(w.inbox+"*", w.answered)
	if err != nil {
		return nil, err
	}
	w.sub = sub

	w.status = nc.StatusChanged()
	w.maxPayload.Store(nc.MaxPayload())
	if st := nc.Status(); st != nats.CONNECTED {
		w.setStatus(st)
	}
	w.goroutines.Go(w.send)
	go w.watch() // ends with the listener
	return w, nil
}

// openWire is newWire, and returns when the context ends. What comes later is
// closed.
func openWire(ctx context.Context, nc *nats.Conn) (*wire, error) {
	type result struct {
		w   *wire
		err error
	}
	made := make(chan result, 1)
	go func() {
		w, err := newWire(nc)
		made <- result{w, err}
	}()

	select {
	case r := <-made:
		return r.w, r.err
	case <-ctx.Done():
	}
	go func() {
		if r := <-made; r.err == nil {
			r.w.close(ctx)
		}
	}()
	return nil, ctx.Err()
}

// close ends the wire: all calls fail. It waits for its goroutines, unless the
// context ends before a write that hangs.
func (w *wire) close(ctx context.Context) {
	close(w.quit)
	w.fail(errAway)

	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.sub.Unsubscribe() // of a connection that is closed
		w.nc.RemoveStatusListener(w.status)
		w.goroutines.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// watch notes whether there is a connection.
func (w *wire) watch() {
	for st := range w.status {
		w.setStatus(st)
	}
}

func (w *wire) setStatus(st nats.Status) {
	switch st {
	case nats.CONNECTED:
		w.maxPayload.Store(w.nc.MaxPayload())
		w.setAway(nil)
	case nats.CLOSED:
		w.setAway(fmt.Errorf("%w: the connection was closed", errAway))
	default:
		w.setAway(errAway)
	}
}

func (w *wire) setAway(err error) {
	w.mu.Lock()
	if err != nil && w.away == nil {
		close(w.cut)
		w.cut = make(chan struct{})
	}
	w.away = err
	w.mu.Unlock()
	if err != nil {
		w.fail(errCut)
	}
}

// up returns why there is no connection now, or nil.
func (w *wire) up() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// lost returns a channel that is closed when the connection is lost.
func (w *wire) lost() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// fail ends all calls that are under way.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, c := range w.calls {
		delete(w.calls, token)
		c.answer <- answer{err: err}
	}
}

// start sends a request. Data is not to be changed before the answer has come.
func (w *wire) start(ctx context.Context, subject string, h nats.Header, data []byte) *call {
	c := &call{w: w, answer: make(chan answer, 1), until: time.Now().Add(answerWait)}
	if err := w.register(c); err != nil {
		c.answer <- answer{err: err}
		return c
	}

	c.msg = &nats.Msg{Subject: subject, Reply: w.inbox + c.token, Header: h, Data: data}
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case w.out <- c:
	case <-w.quit:
		c.end(nil, errAway)
	case <-ctx.Done():
		c.end(nil, ctx.Err())
	case <-timer.C:
		c.end(nil, errNoAnswer)
	}
	return c
}

// post sends a message that nobody answers, if that is possible at once.
func (w *wire) post(subject string, h nats.Header, data []byte) {
	c := &call{w: w, answer: make(chan answer, 1)}
	c.msg = &nats.Msg{Subject: subject, Header: h, Data: data}
	select {
	case w.out <- c:
	case <-time.After(10 * time.Millisecond):
	}
}

func (w *wire) register(c *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away != nil {
		return w.away
	}
	w.made++
	c.token = strconv.FormatUint(w.made, 36)
	w.calls[c.token] = c
	return nil
}

// send is the goroutine that writes to the connection.
func (w *wire) send() {
	for {
		select {
		case c := <-w.out:
			if err := w.nc.PublishMsg(c.msg); err != nil {
				c.end(nil, fmt.Errorf("jetstream: send: %w", err))
			}
		case <-w.quit:
			return
		}
	}
}

// answered passes an answer on.
func (w *wire) answered(m *nats.Msg) {
	c := w.take(strings.TrimPrefix(m.Subject, w.inbox))
	switch {
	case c == nil: // it came too late
	case m.Header.Get("Status") == "503" && len(m.Data) == 0:
		c.answer <- answer{err: fmt.Errorf("%w (%s)", errNobody, c.msg.Subject)}
	default:
		c.answer <- answer{msg: m}
	}
}

func (w *wire) take(token string) *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls[token]
	delete(w.calls, token)
	return c
}

// end ends the call, unless it has its answer.
func (c *call) end(m *nats.Msg, err error) {
	if c.w.take(c.token) != nil {
		c.answer <- answer{m, err}
	}
}

// wait returns the answer.
func (c *call) wait(ctx context.Context) (*nats.Msg, error) {
	select {
	case a := <-c.answer:
		return a.msg, a.err
	default:
	}

	timer := time.NewTimer(time.Until(c.until))
	defer timer.Stop()
	select {
	case a := <-c.answer:
		return a.msg, a.err
	case <-ctx.Done():
		c.end(nil, ctx.Err())
	case <-timer.C:
		c.end(nil, errNoAnswer)
	}
	a := <-c.answer
	return a.msg, a.err
}

// await calls f and returns once f has, or the context ends.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()

	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// library calls f, which asks the server by way of the client library. It
// returns once f has, or the context ends, or when no answer can be expected
// any more.
func library[T any](ctx context.Context, w *wire, f func(context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeoutCause(ctx, answerWait, errNoAnswer)
	defer cancel()
	within, cut := w.whileUp(within)
	defer cut()

	v, err := await(within, func() (T, error) { return f(within) })
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return v, context.Cause(within)
	}
	return v, err
}

// whileUp returns a context that ends when the connection is lost.
func (w *wire) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := w.lost()
	go func() {
		select {
		case <-lost:
			cancel(errCut)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

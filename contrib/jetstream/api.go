package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

// Error codes of the server (server/errors.json) that the client library does
// not name, or not for what they are used here.
const (
	codeNoPeers       = 10005 // too few servers for the replicas: some may not be up yet
	codeNoResources   = 10023
	codeNoMemory      = 10028
	codeNoMessage     = 10037
	codeNoStorage     = 10047
	codeWrongLast     = 10071
	codeStoreFailed   = 10077 // max_bytes is reached, for one
	codeWrongLastBare = 10164 // says no sequence
)

// errMissing says that a message is not in the stream.
var errMissing = errors.New("message is missing in the stream")

// An api asks the server for what the client library would ask it for, by way
// of a wire: so that several can be under way, none outlives its context, and
// it is known whom an answer is from.
type api struct {
	w      *wire
	prefix string // "$JS.API."
	stream string
	direct bool // the stream allows direct gets
}

// A response is what all answers have in common.
type response struct {
	Error *jetstream.APIError `json:"error"`
}

// ask sends a request and decodes the answer.
func (a *api) ask(ctx context.Context, what string, req, resp any) error {
	data, err := json.Marshal(req)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	m, err := a.w.start(ctx, a.prefix+what, nil, data).wait(ctx)
	if err != nil {
		return err
	}

	var r response
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return fmt.Errorf("jetstream: answer to %s: %w", what, err)
	}
	if r.Error != nil {
		return r.Error
	}
	return json.Unmarshal(m.Data, resp)
}

// info returns what the stream's leader says of a stream.
func (a *api) info(
	ctx context.Context, stream string, deleted bool,
) (i jetstream.StreamInfo, err error) {
	req := struct {
		Deleted bool `json:"deleted_details,omitempty"`
	}{deleted}
	err = a.ask(ctx, "STREAM.INFO."+stream, req, &i)
	return i, err
}

// purge deletes the messages below seq, which is greater than 1: some servers
// take 0 and 1 for everything.
func (a *api) purge(ctx context.Context, seq uint64) error {
	if seq <= 1 {
		return nil
	}
	req := struct {
		Seq uint64 `json:"seq"`
	}{seq}
	return a.ask(ctx, "STREAM.PURGE."+a.stream, req, &struct{}{})
}

// remove deletes one message.
func (a *api) remove(ctx context.Context, seq uint64) error {
	req := struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true}
	err := a.ask(ctx, "STREAM.MSG.DELETE."+a.stream, req, &struct{}{})
	if isCode(err, codeNoMessage) {
		return nil
	}
	return err
}

// A stored message is one that the server has returned.
type stored struct {
	Seq    uint64    `json:"seq"`
	Header []byte    `json:"hdrs"`
	Data   []byte    `json:"data"`
	Time   time.Time `json:"time"`

	header nats.Header
}

// get asks the leader of a stream for a message: the last on a subject, or the
// one with a number. The error is errMissing if there is none.
func (a *api) get(ctx context.Context, stream, lastOn string, seq uint64) (stored, error) {
	req := struct {
		Seq    uint64 `json:"seq,omitempty"`
		LastOn string `json:"last_by_subj,omitempty"`
	}{seq, lastOn}
	var resp struct {
		Message stored `json:"message"`
	}
	err := a.ask(ctx, "STREAM.MSG.GET."+stream, req, &resp)
	switch {
	case isCode(err, codeNoMessage):
		return stored{}, errMissing
	case err != nil:
		return stored{}, err
	}

	m := resp.Message
	m.header, err = nats.DecodeHeadersMsg(m.Header)
	if len(m.Header) == 0 {
		m.header, err = nil, nil
	}
	return m, err
}

// startDirect asks any replica for a message.
func (a *api) startDirect(ctx context.Context, seq uint64) *call {
	return a.w.start(ctx, a.prefix+"DIRECT.GET."+a.stream, nil,
		[]byte(`{"seq":`+strconv.FormatUint(seq, 10)+`}`))
}

// directAnswer returns the message that a direct get has brought.
func directAnswer(m *nats.Msg, seq uint64) (stored, error) {
	if m.Header.Get("Status") != "" || m.Header.Get(sequenceKey) != strconv.FormatUint(seq, 10) {
		return stored{}, errMissing // there, or it has a later one
	}
	when, _ := time.Parse(time.RFC3339Nano, m.Header.Get(timeKey))
	return stored{Seq: seq, Data: m.Data, Time: when, header: m.Header}, nil
}

// startPublish sends a message that is to be stored if expect holds.
func (a *api) startPublish(ctx context.Context, subject string, h nats.Header, data []byte) *call {
	return a.w.start(ctx, subject, h, data)
}

// published returns the number that a message has got.
func published(ctx context.Context, c *call) (uint64, error) {
	m, err := c.wait(ctx)
	if err != nil {
		return 0, err
	}
	var ack struct {
		response
		jetstream.PubAck
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return 0, fmt.Errorf("jetstream: answer to a message: %w", err)
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	if ack.Sequence == 0 {
		return 0, errors.New("jetstream: the answer to a message has no number")
	}
	return ack.Sequence, nil
}

// wrongLast reports whether a message was refused because the stream's last one
// has another number, and which. That is what counts: a server whose files are
// damaged may say something else where it is asked for its state.
func wrongLast(err error) (last uint64, ok bool) {
	e := (*jetstream.APIError)(nil)
	if !errors.As(err, &e) || e.ErrorCode != codeWrongLast {
		return 0, false
	}
	_, err = fmt.Sscanf(e.Description, "wrong last sequence: %d", &last)
	return last, err == nil
}

// isCode reports whether the server has answered with one of these errors.
func isCode(err error, codes ...jetstream.ErrorCode) bool {
	e := (*jetstream.APIError)(nil)
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.ErrorCode == code {
			return true
		}
	}
	return false
}

// isFull reports whether the server has no room, in the stream or the account.
func isFull(err error) bool {
	return isCode(err, codeStoreFailed, codeNoResources, codeNoMemory, codeNoStorage)
}

// explain makes an error of the server that means a limit match spill.ErrFull.
func explain(err error) error {
	switch {
	case isFull(err):
		return fmt.Errorf("%w: the server's: %w", spill.ErrFull, err)
	case isCode(err, codeNoPeers):
		return fmt.Errorf("jetstream: too few of the cluster's servers are up for so many "+
			"replicas: start them, or set Config.Replicas to less: %w", err)
	case isCode(err, jetstream.JSErrCodeStreamNotFound):
		return fmt.Errorf("jetstream: the stream is gone: it was deleted, or a server that kept "+
			"it in memory has been restarted: start the pipe again: %w", err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("jetstream: the server's max_payload is smaller than it was: raise it "+
			"to %d bytes: %w", minMessageSize, err)
	}
	return err
}

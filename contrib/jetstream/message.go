package jetstream

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/hopper/spill"
)

// Names of headers.
const (
	headerKey = "Hopper"
	labelKey  = "Hopper-Label" // of fences
	keepKey   = "Hopper-Keep"  // of fences

	expectKey        = "Nats-Expected-Last-Sequence"
	expectSubjectKey = "Nats-Expected-Last-Subject-Sequence"
	streamKey        = "Nats-Expected-Stream"
	sequenceKey      = "Nats-Sequence"
	timeKey          = "Nats-Time-Stamp"
	sizeKey          = "Nats-Msg-Size"
)

// A header is what a message says of itself. See the package's documentation.
type header struct {
	fence  bool
	holder string // random, of the store that has sent it
	epoch  uint64 // grows with each store that is opened
	id     uint64 // grows with each message of a store

	first, end uint64 // of the items
	follows    uint64 // items below it were stored before, if it is not 0
	part       int    // of items that need several messages
	last       bool   // it is the last part
}

const headerForm = "%s %s %s %d %d %d %d %d %d %t"

// encode returns the header's text.
func (h *header) encode() string {
	kind := "chunks"
	if h.fence {
		kind = "fence"
	}
	return fmt.Sprintf(headerForm, version, kind, h.holder, h.epoch, h.id, h.first, h.end,
		h.follows, h.part, h.last)
}

var errForeign = errors.New("jetstream: not a message of a hopper store")

// parseHeader returns the header of a message. The error is errForeign, or
// matches spill.ErrVersion.
func parseHeader(m nats.Header) (h header, err error) {
	text := m.Get(headerKey)
	var kind, v string
	n, err := fmt.Sscanf(text, headerForm, &v, &kind, &h.holder, &h.epoch, &h.id, &h.first, &h.end,
		&h.follows, &h.part, &h.last)
	switch number, numErr := strconv.Atoi(v); {
	case n == 0, numErr != nil:
		return h, errForeign
	case number > 1:
		return h, fmt.Errorf("%w: a message has version %d", spill.ErrVersion, number)
	case err != nil, kind != "chunks" && kind != "fence":
		return h, errForeign
	}

	h.fence = kind == "fence"
	bad := h.end > spill.MaxSeq || h.part < 0 || !h.fence && h.first >= h.end
	if bad {
		return h, errForeign
	}
	return h, nil
}

// A sent message is one in the stream, without its chunks.
type sent struct {
	header
	seq    uint64 // in the stream
	size   int    // of the chunks, in bytes
	stored time.Time
}

// A message is one message of whole items, or several that hold the parts of
// one item.
type message struct {
	seq        uint64 // in the stream, of the first part
	sizes      []int  // of the parts' chunks, in bytes
	first, end uint64 // of the items
	follows    uint64
	holder     string
	id         uint64 // of the first part
	stored     time.Time
	scrap      bool  // it holds no whole item
	lost       error // not nil: it can't be had any more, and why; guarded by the index
}

// behind returns the number behind that of the last part.
func (m *message) behind() uint64 { return m.seq + uint64(len(m.sizes)) }

// overhead is what a message takes in a stream beside its chunks, about: the
// server's own, the subject and the headers.
const overhead = 300

// bytes returns the space that the message takes.
func (m *message) bytes() (n int64) {
	for _, size := range m.sizes {
		n += int64(size) + overhead
	}
	return n
}

// An assembler puts messages together again that hold parts of an item.
type assembler struct{ open *message }

// add takes the next message of the stream. It returns a message that is whole
// now, and the parts of one that never will be.
func (a *assembler) add(s sent) (whole, scrap *message) {
	m := a.open
	switch {
	case s.fence || s.part == 0:
		scrap, a.open = m, nil
		if s.fence {
			return nil, scrap
		}
		m = &message{
			seq: s.seq, first: s.first, end: s.end, follows: s.follows,
			holder: s.holder, id: s.id, stored: s.stored,
		}

	case m == nil, s.seq != m.behind(), s.holder != m.holder, s.first != m.first,
		s.part != len(m.sizes), s.id != m.id+uint64(s.part):
		a.open = nil
		return nil, m
	}

	m.sizes = append(m.sizes, s.size)
	m.stored = s.stored
	a.open = m
	if s.last {
		a.open = nil
		return m, scrap
	}
	return nil, scrap
}

package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"example.com/hopper/spill"
)

const (
	aheadMessages = 2       // that are read ahead
	aheadBytes    = 1 << 20 // of them
)

// A reader holds what is being read ahead. It belongs to the goroutine that
// reads, but for letting go of it after some time.
type reader struct {
	mu    sync.Mutex
	ahead []*fetch
	used  bool // since the last rest
}

// A fetch is a message that has been asked for.
type fetch struct {
	seq  uint64
	size int
	call *call
}

// rest lets go of what nobody has asked for since the last time.
func (r *reader) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.used {
		r.dropLocked()
	}
	r.used = false
}

func (r *reader) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked()
}

func (r *reader) dropLocked() {
	for _, f := range r.ahead {
		f.call.end(nil, errAway)
	}
	r.ahead = nil
}

// take returns the fetch of a message, and forgets those in front of it, or all
// if it is not there.
func (r *reader) take(seq uint64) *fetch {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = true
	for len(r.ahead) > 0 {
		f := r.ahead[0]
		r.ahead = r.ahead[1:]
		if f.seq == seq {
			return f
		}
		f.call.end(nil, errAway)
	}
	return nil
}

// Read implements [spill.Store]. An extent is a message. The next ones are on
// their way by then.
func (s *store) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if err := s.usable(); err != nil {
		return spill.Extent{}, err
	}
	ext, err := s.read(ctx, seq, from)
	return ext, s.note(err)
}

func (s *store) read(ctx context.Context, seq uint64, from spill.Position) (spill.Extent, error) {
	p, ok := s.index.find(seq)
	if !ok {
		behind := s.index.behind()
		if seq >= behind {
			return spill.Extent{}, fmt.Errorf("jetstream: no items are stored from %d on", seq)
		}
		return spill.Extent{First: behind, End: behind}, nil // trimmed
	}

	ext := spill.Extent{First: p.first, End: p.end, At: spill.Position{Path: s.path()}}
	if p.msg == nil {
		ext.Err = errLost
		return ext, nil
	}

	m := p.msg
	ext.At.Path = fmt.Sprintf("%s, message %d", s.path(), m.seq)
	ext.Stored = m.stored
	part, offset := m.partAt(ext.At.Path, from)
	ext.At.Offset = offset
	if part == len(m.sizes) {
		return ext, nil // all of it has been read
	}
	if ext.Err = s.index.spoiled(m); ext.Err != nil {
		return ext, nil
	}

	data, err := s.fetch(ctx, m, part)
	switch {
	case errors.Is(err, errMissing), errors.Is(err, errLost):
		s.index.spoil(m, err)
		ext.Err = err
		return ext, nil
	case err != nil:
		return spill.Extent{}, err
	}
	ext.Chunks = data
	if part+1 < len(m.sizes) && len(data) > 0 {
		ext.End = 0
	}
	return ext, nil
}

// path names the stream in positions and errors.
func (s *store) path() string { return "stream " + s.cfg.StreamName }

// partAt returns which part stands at a position, and its offset. The first one
// is read where the position is another message's.
func (m *message) partAt(path string, from spill.Position) (part int, offset int64) {
	if from.Path != path {
		return 0, 0
	}
	for part < len(m.sizes) && offset < from.Offset {
		offset += int64(m.sizes[part])
		part++
	}
	if offset != from.Offset {
		return 0, 0
	}
	if len(m.sizes) == 1 && part == 1 {
		return 1, offset
	}
	return part, offset
}

// fetch returns the chunks of a part of a message, and asks for what comes
// next.
func (s *store) fetch(ctx context.Context, m *message, part int) ([]byte, error) {
	seq := m.seq + uint64(part)
	f := s.fetched.take(seq)
	if f == nil {
		f = &fetch{seq, m.sizes[part], s.start(ctx, seq)}
	}
	s.fetchAhead(ctx, m, part)

	got, err := s.finish(ctx, f)
	if err == nil && !m.is(got, part) {
		err = errMissing // of a replica that lags
	}
	if errors.Is(err, errMissing) {
		return s.fetchSurely(ctx, m, part)
	}
	return got.Data, err
}

// start asks for a message, in the way that the stream allows.
func (s *store) start(ctx context.Context, seq uint64) *call {
	if !s.api.direct {
		return nil
	}
	return s.api.startDirect(ctx, seq)
}

func (s *store) finish(ctx context.Context, f *fetch) (stored, error) {
	if f.call == nil {
		return s.api.get(ctx, s.cfg.StreamName, "", f.seq)
	}
	m, err := f.call.wait(ctx)
	if err != nil {
		return stored{}, err
	}
	return directAnswer(m, f.seq)
}

// fetchAhead asks for the messages behind a part of m.
func (s *store) fetchAhead(ctx context.Context, m *message, part int) {
	if !s.api.direct {
		return
	}
	r := &s.fetched
	r.mu.Lock()
	defer r.mu.Unlock()

	bytes := 0
	for _, f := range r.ahead {
		bytes += f.size
	}
	at := 0 // in ahead
	for _, next := range s.index.after(m.first, aheadMessages+1) {
		for i, size := range next.sizes {
			seq := next.seq + uint64(i)
			if next == m && i <= part {
				continue
			}
			if at == aheadMessages || at >= len(r.ahead) && bytes+size > aheadBytes {
				return
			}
			if at < len(r.ahead) && r.ahead[at].seq != seq {
				for _, f := range r.ahead[at:] {
					f.call.end(nil, errAway)
					bytes -= f.size
				}
				r.ahead = r.ahead[:at]
			}
			if at == len(r.ahead) {
				r.ahead = append(r.ahead, &fetch{seq, size, s.start(ctx, seq)})
				bytes += size
			}
			at++
		}
	}
}

// fetchSurely asks the stream's leader for a part that a replica does not have.
// If the leader does not have it either it is lost, unless another store has
// taken over and deleted it.
func (s *store) fetchSurely(ctx context.Context, m *message, part int) ([]byte, error) {
	got, err := s.api.get(ctx, s.cfg.StreamName, "", m.seq+uint64(part))
	if err == nil && !m.is(got, part) {
		err = errLost
	}
	if errors.Is(err, errMissing) || errors.Is(err, errLost) {
		if err := s.lease.save(ctx, func(*record) {}); err != nil {
			return nil, err
		}
	}
	return got.Data, err
}

// is reports whether that is what the server has returned.
func (m *message) is(got stored, part int) bool {
	h, err := parseHeader(got.header)
	return err == nil && h.holder == m.holder && h.id == m.id+uint64(part) && h.part == part
}

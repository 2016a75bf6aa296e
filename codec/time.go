package codec

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// A time.Time goes as its instant and its location: seconds since 1970 (8 bytes) and
// nanoseconds (4 bytes), little-endian, then a tag. UTC and Local are a tag alone;
// Local is whatever is local to the reader. Any other location goes by its name, and
// by the abbreviation and offset that it has at that instant. The reader takes a
// location of the three that the process has met already, so that what is spilled and
// read by one process keeps its very *Location; else it loads the location by its
// name; else it makes do with a fixed zone. The monotonic clock reading stays
// behind: it means nothing in another process.

const (
	locationNil = iota // for a *time.Location only
	locationUTC
	locationLocal
	locationNamed
)

const timeMin = 8 + 4 + 1

var errTime = errors.New("codec: not a time")

type timeOp struct{}

func (timeOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	t := *at[time.Time](p)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Unix()))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t.Nanosecond()))
	return appendLocation(dst, t), nil
}

func (timeOp) decode(_ *decoder, src []byte, p ptr) ([]byte, error) {
	if len(src) < timeMin {
		return nil, errShort
	}
	sec := int64(binary.LittleEndian.Uint64(src))
	nsec := binary.LittleEndian.Uint32(src[8:])
	if nsec >= 1e9 {
		return nil, errTime
	}
	t := time.Unix(sec, int64(nsec))
	loc, rest, err := cutLocation(src[12:], t)
	if err != nil {
		return nil, err
	}
	if loc == nil {
		return nil, errTime
	}
	*at[time.Time](p) = t.In(loc)
	return rest, nil
}

// locationOp is for a *time.Location by itself. It goes by its name, abbreviation and
// offset of 1970, since it may be used for any instant.
type locationOp struct{}

func (locationOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	loc := *at[*time.Location](p)
	if loc == nil {
		return append(dst, locationNil), nil
	}
	return appendLocation(dst, time.Unix(0, 0).In(loc)), nil
}

func (locationOp) decode(_ *decoder, src []byte, p ptr) ([]byte, error) {
	loc, rest, err := cutLocation(src, time.Unix(0, 0))
	*at[*time.Location](p) = loc
	return rest, err
}

// zone is what stands for a location at one instant.
type zone struct {
	name, abbreviation string
	offset             int // seconds east of UTC
}

// zones holds the locations that this process has met. It stops growing where a
// program, or a hostile input, makes up ever new ones.
var zones = struct {
	sync.RWMutex
	known map[zone]*time.Location
}{known: map[zone]*time.Location{}}

const maxZones = 1024

func (z zone) remember(loc *time.Location) {
	zones.Lock()
	defer zones.Unlock()
	if _, ok := zones.known[z]; !ok && len(zones.known) < maxZones {
		zones.known[z] = loc
	}
}

func appendLocation(dst []byte, t time.Time) []byte {
	loc := t.Location()
	switch loc {
	case time.UTC:
		return append(dst, locationUTC)
	case time.Local:
		return append(dst, locationLocal)
	}
	z := zone{name: loc.String()}
	z.abbreviation, z.offset = t.Zone()
	zones.RLock()
	known := zones.known[z]
	zones.RUnlock()
	if known == nil {
		z.remember(loc)
	}
	dst = appendString(append(dst, locationNamed), z.name)
	dst = appendString(dst, z.abbreviation)
	return binary.AppendVarint(dst, int64(z.offset))
}

// cutLocation cuts what appendLocation appended for the instant t.
func cutLocation(src []byte, t time.Time) (loc *time.Location, rest []byte, err error) {
	if len(src) == 0 {
		return nil, nil, errShort
	}
	tag, src := src[0], src[1:]
	switch tag {
	case locationNil:
		return nil, src, nil
	case locationUTC:
		return time.UTC, src, nil
	case locationLocal:
		return time.Local, src, nil
	case locationNamed:
		return cutZone(src, t)
	}
	return nil, nil, errTime
}

func cutZone(src []byte, t time.Time) (loc *time.Location, rest []byte, err error) {
	name, src, err := cutString(src)
	if err != nil {
		return nil, nil, err
	}
	abbreviation, src, err := cutString(src)
	if err != nil {
		return nil, nil, err
	}
	off, n := binary.Varint(src)
	if n <= 0 || off != int64(int32(off)) {
		return nil, nil, errTime
	}
	zones.RLock()
	loc = zones.known[zone{string(name), string(abbreviation), int(off)}] // allocates no key
	room := len(zones.known) < maxZones
	zones.RUnlock()
	if loc == nil {
		z := zone{string(name), string(abbreviation), int(off)}
		loc = z.load(t, room)
	}
	return loc, src[n:], nil
}

// load returns a location that is z at t: from the system's files if it is known there
// and may be remembered, else a fixed zone.
func (z zone) load(t time.Time, remember bool) *time.Location {
	if !remember {
		return time.FixedZone(z.abbreviation, z.offset)
	}
	loc := time.FixedZone(z.abbreviation, z.offset)
	if z.name != z.abbreviation { // else it was a fixed zone to begin with
		if l, err := time.LoadLocation(z.name); err == nil {
			if abbreviation, offset := t.In(l).Zone(); abbreviation == z.abbreviation && offset == z.offset {
				loc = l
			}
		}
	}
	z.remember(loc)
	return loc
}

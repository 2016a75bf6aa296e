package codec

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// A time.Time goes as its instant and its location: seconds since 1970 (8
// bytes, little-endian) and nanoseconds (a uvarint), then a tag. UTC and Local
// are a tag alone; Local is whatever is local to the reader. Any other location
// has, behind the tag,
//
//	4 bytes    its number among those that this process has met, little-endian
//	string     its name
//	string     its abbreviation at that instant
//	varint     its offset at that instant, in seconds east of UTC
//
// Within the process that wrote it the number leads back to the very *Location.
// Another process loads the location by its name, or makes do with a fixed
// zone. The monotonic clock reading stays behind: it means nothing in another
// process.

const (
	locationNil    = iota // for a *time.Location only
	locationUTC           //
	locationLocal         //
	locationFixed         // it has but one offset, and that for its name
	locationLoaded        // it has a name in the time zone database
)

const timeMin = 8 + 1 + 1

var (
	errTime  = errors.New("codec: not a time")
	errZones = &ValueError{locationType, tooMany}
)

type timeOp struct{}

func (timeOp) encode(e *encoder, dst []byte, p ptr) []byte {
	t := *at[time.Time](p)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Unix()))
	dst = binary.AppendUvarint(dst, uint64(t.Nanosecond()))
	e.blurred++
	return e.appendLocation(dst, t)
}

func (timeOp) decode(d *decoder, src []byte, p ptr) []byte {
	if len(src) < timeMin {
		return d.fail(errShort)
	}
	sec := int64(binary.LittleEndian.Uint64(src))
	nsec, src := d.uvarint(src[8:])
	t := time.Unix(sec, int64(nsec))
	loc, rest := d.location(src, t)
	if nsec >= 1e9 || loc == nil {
		return d.fail(errTime)
	}
	*at[time.Time](p) = t.In(loc)
	return rest
}

func (timeOp) measure(*meter, ptr) {}

// locationOp is for a *time.Location by itself. It goes by its abbreviation and
// offset of 1970, since it may be used for any instant.
type locationOp struct{}

func (locationOp) encode(e *encoder, dst []byte, p ptr) []byte {
	loc := *at[*time.Location](p)
	if loc == nil {
		return append(dst, locationNil)
	}
	e.blurred++
	return e.appendLocation(dst, time.Unix(0, 0).In(loc))
}

func (locationOp) decode(d *decoder, src []byte, p ptr) []byte {
	*at[*time.Location](p), src = d.location(src, time.Unix(0, 0))
	return src
}

func (locationOp) measure(*meter, ptr) {}

var metLocations = newMet()

func (e *encoder) appendLocation(dst []byte, t time.Time) []byte {
	loc := t.Location()
	switch loc {
	case time.UTC:
		return append(dst, locationUTC)
	case time.Local:
		return append(dst, locationLocal)
	}

	id := metLocations.number(addr(loc), nil)
	if id == 0 && e.local {
		return e.fail(dst, errZones)
	}
	tag, name := byte(locationLoaded), loc.String()
	abbreviation, offset := t.Zone()
	if start, end := t.ZoneBounds(); start.IsZero() && end.IsZero() && name == abbreviation {
		tag = locationFixed
	}

	dst = binary.LittleEndian.AppendUint32(append(dst, tag), id)
	dst = appendString(dst, name)
	dst = appendString(dst, abbreviation)
	return binary.AppendVarint(dst, int64(offset))
}

// zone is what stands for a location at one instant.
type zone struct {
	id                 uint32
	tag                byte
	name, abbreviation string
	offset             int // seconds east of UTC
}

// location cuts what appendLocation appended for the instant t.
func (d *decoder) location(src []byte, t time.Time) (loc *time.Location, rest []byte) {
	tag, src := d.byte(src)
	switch tag {
	case locationNil:
		return nil, src
	case locationUTC:
		return time.UTC, src
	case locationLocal:
		return time.Local, src
	case locationFixed, locationLoaded:
		return d.zone(tag, src, t)
	}
	return nil, d.fail(errTime)
}

func (d *decoder) zone(tag byte, src []byte, t time.Time) (loc *time.Location, rest []byte) {
	if len(src) < 4 {
		return nil, d.fail(errShort)
	}
	id := binary.LittleEndian.Uint32(src)
	name, src := d.string(src[4:])
	abbreviation, src := d.string(src)
	offset, n := binary.Varint(src)
	if n <= 0 || offset != int64(int32(offset)) {
		return nil, d.fail(errTime)
	}

	// The number alone is no proof: the bytes may be another process's.
	loc = at[time.Location](metLocations.object(id, nil))
	if loc != nil && loc.String() == string(name) {
		if a, o := t.In(loc).Zone(); a == string(abbreviation) && o == int(offset) {
			return loc, src[n:]
		}
	}
	z := zone{id, tag, string(name), string(abbreviation), int(offset)}
	return z.location(t), src[n:]
}

// zones holds the locations of other processes. It stops growing where a
// program, or a hostile input, makes up ever new ones.
var zones = struct {
	sync.Mutex
	known map[zone]*time.Location
}{known: map[zone]*time.Location{}}

// location returns a location that is z at t. Two that had two numbers stay
// two.
func (z zone) location(t time.Time) *time.Location {
	zones.Lock()
	defer zones.Unlock()
	if z.tag == locationLoaded {
		// What is not among the system's files is looked for each time.
		named := zone{id: z.id, name: z.name}
		loc := named.known(func() *time.Location {
			loc, _ := time.LoadLocation(z.name)
			return loc
		})
		if loc != nil {
			if a, o := t.In(loc).Zone(); a == z.abbreviation && o == z.offset {
				return loc
			}
		}
	}
	return z.known(func() *time.Location { return time.FixedZone(z.abbreviation, z.offset) })
}

// known returns the location that z stands for, which find may not find.
func (z zone) known(find func() *time.Location) *time.Location {
	loc := zones.known[z]
	if loc != nil {
		return loc
	}
	if loc = find(); loc != nil && len(zones.known) < maxMet {
		zones.known[z] = loc
	}
	return loc
}

package codec

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Difference returns a clause that names what differs between the label found
// and the one wanted, such as
//
//	field "B" was string, is []byte
//
// for an error that says why the one can't be read as the other. It returns ""
// for equal labels.
func Difference(found, want string) string {
	if found == want {
		return ""
	}
	f, foundLines := parseLabel(found)
	w, wantLines := parseLabel(want)
	if f != w || foundLines == nil || wantLines == nil {
		return fmt.Sprintf("it was %s, is %s", f, w)
	}
	return difference(foundLines, wantLines, wantLines, false)
}

// parseLabel takes apart the label of one of For's codecs: its first line,
// without the hash, and the lines below. Of other labels there is but the text.
func parseLabel(s string) (head string, lines []line) {
	first, below, _ := strings.Cut(s, "\n")
	words := strings.Fields(first)
	if n := len(words); n > 3 && words[0] == planWord {
		words = slices.Delete(words, n-2, n-1)
		for text := range strings.Lines(below) {
			path, typ, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
			lines = append(lines, line{path, typ})
		}
		return strings.Join(words, " "), append(lines, line{})
	}
	return strconv.Quote(s), nil
}

// difference names the first difference between the lines found and those
// wanted, which are shown; all end with an empty line. Where both are hashed,
// nobody knows what those found were.
func difference(found, want, shown []line, hashed bool) string {
	i, last := 0, min(len(found), len(want))-1
	for i < last && found[i] == want[i] {
		i++
	}
	has := func(lines []line, path string) bool {
		return slices.ContainsFunc(lines, func(l line) bool { return l.path == path })
	}
	was, is, show := found[i], want[i], shown[i]

	gone := is.path == "" || was.path != "" && !has(want, was.path)
	switch {
	case was.path == cutMark || is.path == cutMark || was == is:
		return "what differs is not listed: the layout in memory, or a field far down"
	case was.path == is.path && hashed:
		return fmt.Sprintf("field %q was something else, is %s", show.path, show.typ)
	case was.path == is.path:
		return fmt.Sprintf("field %q was %s, is %s", show.path, was.typ, show.typ)
	case gone && hashed:
		return fmt.Sprintf("a field is gone, which was number %d", i+1)
	case gone:
		return fmt.Sprintf("field %q, a %s, is gone", was.path, was.typ)
	case !has(found, is.path):
		return fmt.Sprintf("field %q, a %s, is new", show.path, show.typ)
	}
	return fmt.Sprintf("field %q has moved", show.path)
}

// An outline stands for the shape of a registered type in the encoding of each
// item that holds one. It is the hash of the shape, 8 bytes; the number of
// lines that follow, a byte; and for each of these 2 bytes that stand for its
// path and 1 for its type.
type outline struct {
	encoded []byte
	lines   []line // what it stands for
}

const (
	outlineHead = 8 + 1
	lineSize    = 3
	maxLines    = 64 // in an outline
)

func outlineOf(t reflect.Type) outline {
	lines, sum := shape(t)
	first := lines[:min(len(lines), maxLines)]
	encoded := binary.LittleEndian.AppendUint64(nil, sum)
	encoded = append(encoded, byte(len(first)))
	for _, l := range first {
		encoded = l.appendHash(encoded)
	}
	return outline{encoded, lines}
}

// appendHash appends what stands for l in an outline.
func (l line) appendHash(dst []byte) []byte {
	path, typ := fnv.New32a(), fnv.New32a()
	path.Write([]byte(l.path))
	typ.Write([]byte(l.typ))
	p, t := path.Sum(nil), typ.Sum(nil)
	return append(dst, p[0]^p[2], p[1]^p[3], t[0]^t[1]^t[2]^t[3])
}

// outline cuts an outline, and returns it as it is in the input.
func (d *decoder) outline(src []byte) (encoded, rest []byte) {
	if len(src) < outlineHead {
		return nil, d.fail(errShort)
	}
	n := int(src[outlineHead-1])
	end := outlineHead + n*lineSize
	if n > maxLines || end > len(src) {
		return nil, d.fail(errShort)
	}
	return src[:end], src[end:]
}

// difference names what differs between the outline encoded, which was read,
// and o.
func (o outline) difference(encoded []byte) string {
	shown := append(slices.Clone(o.lines), line{})
	return difference(hashedLines(encoded), hashedLines(o.encoded), shown, true)
}

// hashedLines returns what stands for lines in an encoded outline.
func hashedLines(encoded []byte) (lines []line) {
	for text := encoded[outlineHead:]; len(text) > 0; text = text[lineSize:] {
		lines = append(lines, line{string(text[:2]), string(text[2:lineSize])})
	}
	return append(lines, line{})
}

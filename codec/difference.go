package codec

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
)

// Difference returns a clause that names what differs between the label found and the
// one wanted, such as
//
//	field "B" was string, is []byte
//
// to stand in an error that says why the one can't be read as the other. It returns ""
// for equal labels.
func Difference(found, want string) string {
	if found == want {
		return ""
	}
	f, w := parseLabel(found), parseLabel(want)
	switch {
	case f.codec != w.codec:
		return fmt.Sprintf("codec was %s, is %s", f.codec, w.codec)
	case f.typ != w.typ:
		return fmt.Sprintf("type was %s, is %s", f.typ, w.typ)
	case f.codec != planWord:
		return fmt.Sprintf("label was %q, is %q", found, want)
	case f.platform != w.platform:
		return fmt.Sprintf("platform was %s, is %s", f.platform, w.platform)
	}
	return f.lines.difference(w.lines, w.lines.all, f.typ)
}

// label is a label taken apart.
type label struct {
	codec, typ, platform string
	lines                lines
}

// lines are those of a shape, or the first of them.
type lines struct {
	all []line
	cut bool // there were more
}

func parseLabel(s string) (l label) {
	first, below, _ := strings.Cut(s, "\n")
	l.codec, l.typ, _ = strings.Cut(first, " ")
	if l.codec != planWord {
		return l
	}
	if words := strings.Fields(l.typ); len(words) > 2 {
		l.typ, l.platform = strings.Join(words[:len(words)-2], " "), words[len(words)-1]
	}
	for text := range strings.Lines(below) {
		text = strings.TrimSuffix(text, "\n")
		if text == cutMark {
			l.lines.cut = true
			break
		}
		path, typ, _ := strings.Cut(text, " ")
		l.lines.all = append(l.lines.all, line{path, typ})
	}
	return l
}

// find returns the line with the given path.
func (l lines) find(path string) (found line, ok bool) {
	i := slices.IndexFunc(l.all, func(l line) bool { return l.path == path })
	if i < 0 {
		return line{}, false
	}
	return l.all[i], true
}

// difference names the first difference between the lines found and those wanted of the
// type typ. Both may be hashes of what they stand for: shown are the wanted ones in full.
func (l lines) difference(want lines, shown []line, typ string) string {
	hashed := len(shown) > 0 && shown[0] != want.all[0]
	for i := range max(len(l.all), len(want.all)) {
		if i < len(l.all) {
			was := l.all[i]
			is, ok := want.find(was.path)
			switch {
			case ok && is != was:
				return changed(was, shown[slices.Index(want.all, is)], hashed, typ)
			case !ok && !want.cut && hashed:
				return fmt.Sprintf("a field is gone, which was number %d", i+1)
			case !ok && !want.cut:
				return fmt.Sprintf("field %q, a %s, is gone", was.path, was.typ)
			}
		}
		if i < len(want.all) {
			if _, ok := l.find(want.all[i].path); !ok && !l.cut {
				return fmt.Sprintf("field %q, a %s, is new", shown[i].path, shown[i].typ)
			}
		}
		if i < len(l.all) && i < len(want.all) && l.all[i].path != want.all[i].path {
			return fmt.Sprintf("field %q has moved", shown[i].path)
		}
	}
	if l.cut || want.cut {
		return fmt.Sprintf("type %s differs in a field beyond those that are listed", typ)
	}
	return fmt.Sprintf("type %s is laid out otherwise in memory", typ)
}

// changed tells of a line whose type is another.
func changed(was, is line, hashed bool, typ string) string {
	switch {
	case hashed:
		return fmt.Sprintf("field %q was something else, is %s", is.path, is.typ)
	case is.path == rootPath:
		return fmt.Sprintf("type %s was %s, is %s", typ, was.typ, is.typ)
	}
	return fmt.Sprintf("field %q was %s, is %s", is.path, was.typ, is.typ)
}

// An outline stands for the shape of a registered type in the encoding of each item
// that holds one. It is the hash of the shape, 8 bytes; the number of lines that follow,
// a uvarint; and for each of these 2 bytes that stand for its path and 1 for its type.
type outline struct {
	name  string
	hash  uint64
	lines lines // hashed
	full  []line
}

const (
	lineSize = 3
	maxLines = 64 // in an outline
)

func outlineOf(t reflect.Type) outline {
	full, sum := shape(t)
	o := outline{name: typeName(t), hash: sum, full: full}
	for _, l := range full[:min(len(full), maxLines)] {
		o.lines.all = append(o.lines.all, l.hashed())
	}
	o.lines.cut = len(full) > maxLines
	return o
}

// hashed returns what stands for l in an outline.
func (l line) hashed() line {
	path, typ := fnv.New32a(), fnv.New32a()
	path.Write([]byte(l.path))
	typ.Write([]byte(l.typ))
	p, t := path.Sum(nil), typ.Sum(nil)
	return line{string([]byte{p[0] ^ p[2], p[1] ^ p[3]}), string([]byte{t[0] ^ t[1] ^ t[2] ^ t[3]})}
}

func (o outline) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, o.hash)
	dst = binary.AppendUvarint(dst, uint64(len(o.lines.all)))
	for _, l := range o.lines.all {
		dst = append(append(dst, l.path...), l.typ...)
	}
	return dst
}

// outline cuts an outline, and returns it as it is in the input.
func (d *decoder) outline(src []byte) (o, rest []byte) {
	if len(src) < 8 {
		return nil, d.fail(errShort)
	}
	n, rest := d.uvarint(src[8:])
	if n > maxLines || n*lineSize > uint64(len(rest)) {
		return nil, d.fail(errShort)
	}
	end := len(src) - len(rest) + int(n)*lineSize
	return src[:end], src[end:]
}

// is reports whether o is the outline that encoded holds.
func (o outline) is(encoded []byte) bool { return binary.LittleEndian.Uint64(encoded) == o.hash }

// difference names what has changed since the outline that encoded holds.
func (o outline) difference(encoded []byte) string {
	n, text := new(decoder).uvarint(encoded[8:])
	was := lines{cut: n == maxLines}
	for ; len(text) >= lineSize; text = text[lineSize:] {
		was.all = append(was.all, line{string(text[:2]), string(text[2:lineSize])})
	}
	return was.difference(o.lines, o.full, o.name)
}

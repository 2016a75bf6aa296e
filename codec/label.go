package codec

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"reflect"
	"slices"
	"strings"
)

// Label returns what names c, T and the form of T's values, as short text that is the
// same in every process: what is written under one label can be read under an equal
// one. The first line is for people. For a codec of [For] it ends with a hash of T's
// shape and with the platform; the lines below are that shape, a field each, in at most
// 4 KiB altogether. [Gob] and [JSON] outlive a change of T, so their labels name it only. A
// codec with a method Label() string has the label it returns, and any other the name
// of its Go type and T's.
func Label[T any](c Codec[T]) string {
	name := brief(typeName(reflect.TypeFor[T]()))
	switch c := any(c).(type) {
	case interface{ Label() string }:
		return c.Label()
	case *fixedCodec[T], stringCodec[T], bytesCodec[T], *planCodec[T]:
		return planLabel(reflect.TypeFor[T]())
	case Gob[T], *Gob[T]:
		return "gob " + name
	case JSON[T], *JSON[T]:
		return "json " + name
	case Bytes, *Bytes:
		return "raw " + name
	case nil:
		return "none " + name
	}
	return brief(typeName(reflect.TypeOf(c))) + " " + name
}

// planWord begins the label of For's codecs. A change of the wire form changes it.
const planWord = "plan"

const (
	maxLabel = 4 << 10
	cutMark  = "…" // ends what was cut; as the last line, it stands for all lines below
)

func planLabel(t reflect.Type) string {
	lines, hash := shape(t)
	text := fmt.Sprintf("%s %s %016x %s", planWord, brief(typeName(t)), hash, platform())
	for i, line := range lines {
		line = brief(line)
		last := i == len(lines)-1
		if len(text)+len(line)+1 > maxLabel || !last && len(text)+len(line)+len("\n\n"+cutMark) > maxLabel {
			return text + "\n" + cutMark
		}
		text += "\n" + line
	}
	return text
}

// brief cuts the text of a very long unnamed type.
func brief(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + cutMark
}

// platform returns what values copied as memory depend on, beside their layout.
func platform() string {
	order := "le"
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		order = "be"
	}
	return fmt.Sprint(order, bits.UintSize)
}

// shape describes t for the label: a line per field, and a hash of these and of the
// memory layout.
func shape(t reflect.Type) (lines []string, hash uint64) {
	d := describer{seen: map[reflect.Type]bool{}, layout: fnv.New64a()}
	if t.Kind() == reflect.Struct && formOf(t) <= formFixed {
		d.parts("", t)
	} else {
		d.line("", t)
	}
	for _, l := range d.lines {
		fmt.Fprintln(d.layout, l)
	}
	return d.lines, d.layout.Sum64()
}

// describer walks a type. Each named type is described where it is met first.
type describer struct {
	seen   map[reflect.Type]bool
	lines  []string
	layout interface {
		io.Writer
		Sum64() uint64
	}
}

// rootPath stands for the item itself where it is no struct.
const rootPath = "."

// line adds the line for the t at path, and those for what t is made of.
func (d *describer) line(path string, t reflect.Type) {
	text := typeName(t)
	switch under := underlying(t); {
	case formOf(t) == formBinary:
		text += " binary"
	case t.PkgPath() != "" && formOf(t) != formTime:
		text += " " + under
	}
	if path == "" {
		path = rootPath
	}
	d.lines = append(d.lines, path+" "+text)
	d.parts(strings.TrimPrefix(path, rootPath), t)
}

// parts adds the lines for what the t at path is made of.
func (d *describer) parts(path string, t reflect.Type) {
	if d.seen[t] || formOf(t) > formBytes {
		return
	}
	d.seen[t] = true
	switch t.Kind() {
	case reflect.Struct:
		d.fields(path, t)
	case reflect.Array, reflect.Slice:
		d.elem(path+"[]", t.Elem())
	case reflect.Map:
		d.elem(path+"[key]", t.Key())
		d.elem(path+"[value]", t.Elem())
	case reflect.Pointer:
		d.elem(path, t.Elem())
	}
}

func (d *describer) fields(path string, t reflect.Type) {
	fmt.Fprintln(d.layout, path, t.Size())
	for i := range t.NumField() {
		f := t.Field(i)
		fmt.Fprintln(d.layout, f.Offset)
		d.line(strings.TrimPrefix(path+"."+f.Name, "."), f.Type)
	}
}

// elem adds a line only where the container's own line left something open.
func (d *describer) elem(path string, t reflect.Type) {
	switch {
	case t.Name() == "" || t.PkgPath() == "" || t.Kind() == reflect.Struct && formOf(t) <= formFixed:
		d.parts(path, t)
	case !d.seen[t]:
		d.line(path, t)
	}
}

// typeName returns t in Go's syntax with full package paths. Unnamed struct and
// function types have the packages' names only.
func typeName(t reflect.Type) string {
	if t.Name() != "" && t.PkgPath() != "" {
		return t.PkgPath() + "." + t.Name()
	}
	if t.Name() != "" {
		return t.Name()
	}
	return underlying(t)
}

// underlying returns typeName for t's underlying type, in which a struct is just that.
func underlying(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + typeName(t.Elem())
	case reflect.Slice:
		if t.Elem() == reflect.TypeFor[byte]() {
			return "[]byte"
		}
		return "[]" + typeName(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), typeName(t.Elem()))
	case reflect.Map:
		return "map[" + typeName(t.Key()) + "]" + typeName(t.Elem())
	case reflect.Interface:
		if t.Name() == "" && t.NumMethod() == 0 {
			return "any"
		}
	case reflect.Struct:
		if t.Name() != "" {
			return "struct"
		}
	}
	if t.Name() == "" {
		return t.String()
	}
	return t.Kind().String()
}

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
	for i := range max(len(f.fields), len(w.fields)) {
		if text := fieldDifference(f, w, i); text != "" {
			return text
		}
	}
	if f.cut || w.cut {
		return fmt.Sprintf("type %s differs in a field beyond those that the label lists", f.typ)
	}
	return fmt.Sprintf("type %s is laid out otherwise in memory", f.typ)
}

// label is a label taken apart.
type label struct {
	codec, typ, platform string
	fields               []field
	cut                  bool // there were more fields
}

type field struct{ path, typ string }

func parseLabel(s string) (l label) {
	first, below, _ := strings.Cut(s, "\n")
	l.codec, l.typ, _ = strings.Cut(first, " ")
	if l.codec != planWord {
		return l
	}
	if words := strings.Fields(l.typ); len(words) > 2 {
		l.typ, l.platform = strings.Join(words[:len(words)-2], " "), words[len(words)-1]
	}
	for line := range strings.Lines(below) {
		line = strings.TrimSuffix(line, "\n")
		if line == cutMark {
			l.cut = true
			break
		}
		path, typ, _ := strings.Cut(line, " ")
		l.fields = append(l.fields, field{path, typ})
	}
	return l
}

// find returns the type of the field at path.
func (l label) find(path string) (typ string, ok bool) {
	i := slices.IndexFunc(l.fields, func(f field) bool { return f.path == path })
	if i < 0 {
		return "", false
	}
	return l.fields[i].typ, true
}

// fieldDifference compares the i-th fields, where there are such.
func fieldDifference(found, want label, i int) string {
	if i < len(found.fields) {
		f := found.fields[i]
		typ, ok := want.find(f.path)
		switch {
		case ok && typ != f.typ && f.path == rootPath:
			return fmt.Sprintf("type %s was %s, is %s", found.typ, f.typ, typ)
		case ok && typ != f.typ:
			return fmt.Sprintf("field %q was %s, is %s", f.path, f.typ, typ)
		case !ok && !want.cut:
			return fmt.Sprintf("field %q, a %s, is gone", f.path, f.typ)
		}
	}
	if i < len(want.fields) {
		w := want.fields[i]
		if _, ok := found.find(w.path); !ok && !found.cut {
			return fmt.Sprintf("field %q, a %s, is new", w.path, w.typ)
		}
	}
	if i < len(found.fields) && i < len(want.fields) && found.fields[i].path != want.fields[i].path {
		return fmt.Sprintf("field %q has moved", want.fields[i].path)
	}
	return ""
}

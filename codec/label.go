package codec

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/bits"
	"reflect"
	"strings"
)

// Label returns a short text that names c, T and the form of T's values, and is
// the same in every process: what was written under one label can be read under
// an equal one. The first line is for people. For a codec of [For] it ends with
// a hash of T's shape and with the platform; the lines below list that shape, a
// field each, in at most 4 KiB altogether. It does not cover what interfaces
// hold: each such value carries an outline of its own type. The labels of [Gob]
// and [JSON], which survive a change of T, have only its name. If c has a
// method Label() string, that is its label; any other codec is named by its Go
// type and T.
func Label[T any](c Codec[T]) string {
	t := reflect.TypeFor[T]()
	name := brief(typeName(t))
	switch c := any(c).(type) {
	case interface{ Label() string }:
		return c.Label()
	case *fixedCodec[T], stringCodec[T], bytesCodec[T]:
		return planLabel(t)
	case *planCodec[T]:
		if c.mode.local {
			return "local " + name
		}
		return planLabel(t)
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

// planWord begins the label of For's codecs. A change of the wire form changes
// it.
const planWord = "plan3"

const (
	maxLabel = 4 << 10
	cutMark  = "…" // ends what was cut; as the last line, it stands for all lines below
)

func planLabel(t reflect.Type) string {
	lines, sum := shape(t)
	text := fmt.Sprintf("%s %s %016x %s", planWord, brief(typeName(t)), sum, platform())
	for _, l := range lines {
		text += "\n" + brief(l.path+" "+l.typ)
		if len(text) > maxLabel {
			end := strings.LastIndexByte(text[:maxLabel-len(cutMark)], '\n')
			return text[:end] + "\n" + cutMark
		}
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

// line describes a field, or something that a field's own line left open.
type line struct{ path, typ string }

// shape describes t for the label: a line per field, and a hash of these and of
// the memory layout.
func shape(t reflect.Type) (lines []line, sum uint64) {
	d := describer{seen: map[reflect.Type]bool{}, layout: fnv.New64a()}
	if t.Kind() == reflect.Struct && formOf(t) <= formFixed {
		d.parts("", t)
	} else {
		d.line("", t)
	}
	for _, l := range d.lines {
		fmt.Fprintln(d.layout, l.path+" "+l.typ)
	}
	return d.lines, d.layout.Sum64()
}

// describer walks a type. Each named type is described where it is met first.
type describer struct {
	seen   map[reflect.Type]bool
	lines  []line
	layout hash.Hash64
}

// rootPath stands for the item itself where it is no struct.
const rootPath = "."

// line adds the line for the t at path, and those for what t is made of.
func (d *describer) line(path string, t reflect.Type) {
	text := typeName(t)
	switch f := formOf(t); {
	case f >= formCustom:
		text += " " + wayOf(t).name
	case t.PkgPath() != "" && f != formTime:
		text += " " + underlying(t)
	}
	if path == "" {
		path = rootPath
	}
	d.lines = append(d.lines, line{path, text})
	d.parts(strings.TrimPrefix(path, rootPath), t)
}

// parts adds the lines for what the t at path is made of.
func (d *describer) parts(path string, t reflect.Type) {
	if f := formOf(t); d.seen[t] || f > formBytes && f != formCapsule {
		return
	}
	d.seen[t] = true
	if t.Kind() == reflect.Struct {
		d.fields(path, t)
		return
	}
	for step, part := range parts(t) {
		d.elem(path+step, part)
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
	switch isStruct := t.Kind() == reflect.Struct && formOf(t) <= formFixed; {
	case t.Name() == "" || t.PkgPath() == "" || isStruct:
		d.parts(path, t)
	case !d.seen[t]:
		d.line(path, t)
	}
}

// typeName returns t in Go's syntax with full package paths. Unnamed struct and
// function types have the packages' names only.
func typeName(t reflect.Type) string {
	switch {
	case t.Name() == "":
		return underlying(t)
	case t.PkgPath() == "":
		return t.Name()
	}
	return t.PkgPath() + "." + t.Name()
}

// underlying returns typeName for t's underlying type, in which a struct is
// just that.
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
	}
	if t.Name() == "" {
		return t.String()
	}
	return t.Kind().String()
}

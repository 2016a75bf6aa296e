//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

type labelled struct {
	ID    uint64
	At    time.Time
	Level severity
	Tags  names
	Parts []*part
	Index map[key]struct{ N int }
	Any   any
	Err   error
	Token token
	hidden
}

type (
	severity int32
	part     struct {
		Name  string
		Parts []*part
	}
	key struct{ A, B string }
)

// The labels stand in segment headers: a change here makes every backlog on
// disk unreadable.
func TestLabelsAreStable(t *testing.T) {
	if reflect.TypeFor[uintptr]().Size() != 8 || !strings.HasSuffix(strings.SplitN(codec.Label(mustFor[int](t)), "\n", 2)[0], " le64") {
		t.Skip("the hashes below are of a 64-bit little-endian platform")
	}
	const test = "example.com/hopper/codec_test."

	// A hash covers the names of types, and with them the module's path. Where
	// that was changed, as README.md says, those of this module have others.
	renamed := test != "example.com/"+"hopper/codec_test."
	hash := regexp.MustCompile(`^(plan3 \S+) [0-9a-f]{16} `)
	for _, c := range []struct{ got, want string }{
		{codec.Label(mustFor[string](t)), "plan3 string 41b63189a23ea984 le64\n. string"},
		{codec.Label(mustFor[[]byte](t)), "plan3 []byte 8ce8119d4649b3e5 le64\n. []byte"},
		{codec.Label(mustFor[*int](t)), "plan3 *int 3ff084311c06ce2a le64\n. *int"},
		{codec.Label(mustFor[point](t)), "plan3 " + test + "point a918649f88fb2014 le64\nX int32\nY int32"},
		{codec.Label(mustFor[list](t)), "plan3 " + test + "list c16d8081bc488d73 le64\nValue int\nNext *" + test + "list"},
		{codec.Label(mustFor[labelled](t)), "plan3 " + test + `labelled dbed31c4bcc9badf le64
ID uint64
At time.Time
Level ` + test + `severity int32
Tags ` + test + `names []` + test + `name
Tags[] ` + test + `name string
Parts []*` + test + `part
Parts[].Name string
Parts[].Parts []*` + test + `part
Index map[` + test + `key]struct { N int }
Index[key].A string
Index[key].B string
Index[value].N int
Any any
Err error
Token ` + test + `token struct
Token.text *string
hidden ` + test + `hidden struct
hidden.a int
hidden.b string
hidden.c []byte`},
		{codec.Label[point](codec.Gob[point]{}), "gob " + test + "point"},
		{codec.Label[*point](&codec.JSON[*point]{}), "json *" + test + "point"},
		{codec.Label[[]byte](codec.Bytes{}), "raw []byte"},
		{codec.Label[point](own{}), test + "own " + test + "point"},
		{codec.Label[point](&own{}), "*" + test + "own " + test + "point"},
		{codec.Label[point](ownLabel{}), "points, version 2"},
	} {
		if renamed && strings.Contains(c.want, test) {
			c.got, c.want = hash.ReplaceAllString(c.got, "$1 "), hash.ReplaceAllString(c.want, "$1 ")
		}
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

type own struct{ codec.JSON[point] }

type ownLabel struct{ codec.Codec[point] }

func (ownLabel) Label() string { return "points, version 2" }

func TestALabelIsBoundedAndItsHashIsNot(t *testing.T) {
	wide := func(last reflect.Type) string {
		var fields []reflect.StructField
		for i := range 1000 {
			fields = append(fields, reflect.StructField{Name: fmt.Sprint("F", i), Type: reflect.TypeFor[string]()})
		}
		fields[999].Type = last
		return codec.LabelOf(reflect.StructOf(fields))
	}
	a, b := wide(reflect.TypeFor[string]()), wide(reflect.TypeFor[[]byte]())
	if len(a) > 4096 || !strings.HasSuffix(a, "\n…") {
		t.Errorf("%d bytes, ending in %q", len(a), a[len(a)-20:])
	}
	if a == b {
		t.Errorf("the last field of a thousand makes no difference")
	}
	if got := codec.Difference(a, b); !strings.HasPrefix(got, "what differs is not listed") {
		t.Errorf("got %s", got)
	}
}

func TestDifferenceNamesWhatDiffers(t *testing.T) {
	const head = "plan3 main.Event 1111 le64\n"
	for _, c := range []struct{ found, want, text string }{
		{head, head, ""},
		{"gob main.Event", head, `it was "gob main.Event", is plan3 main.Event le64`},
		{"plan3 main.Event 1 le64\n", "plan3 main.Alert 2 le64\n", "it was plan3 main.Event le64, is plan3 main.Alert le64"},
		{"plan3 struct { A int } 1 le64\n", "plan3 struct { B int } 2 le64\n", "it was plan3 struct { A int } le64, is plan3 struct { B int } le64"},
		{"gob main.Event", "gob main.Alert", `it was "gob main.Event", is "gob main.Alert"`},
		{head, "plan3 main.Event 1111 be64\n", "it was plan3 main.Event le64, is plan3 main.Event be64"},
		{head + "A int\nB string", head + "A int\nB []byte", `field "B" was string, is []byte`},
		{head + "A int\nB string", head + "A int", `field "B", a string, is gone`},
		{head + "A int\nB string", head + "B string", `field "A", a int, is gone`},
		{head + "A int", head + "A int\nB main.X int", `field "B", a main.X int, is new`},
		{head + "B int", head + "A int\nB int", `field "A", a int, is new`},
		{head + "A int\nB string", head + "B string\nA int", `field "B" has moved`},
		{head + ". []string", head + ". []int", `field "." was []string, is []int`},
		{head + "A int", "plan3 main.Event 2222 le64\nA int", "what differs is not listed: the layout in memory, or a field far down"},
		{head + "A int\n…", "plan3 main.Event 2222 le64\nA int\nB string", "what differs is not listed: the layout in memory, or a field far down"},
		{"points 1", "points 1\nx", `it was "points 1", is "points 1\nx"`},
		{"", "", ""},
		{"", head, `it was "", is plan3 main.Event le64`},
	} {
		if diff := cmp.Diff(c.text, codec.Difference(c.found, c.want)); diff != "" {
			t.Errorf("Difference(%q, %q): -want +got:\n%s", c.found, c.want, diff)
		}
	}
}

func TestTypesThatDifferHaveLabelsThatDiffer(t *testing.T) {
	seen := map[string]bool{}
	labels := []string{
		codec.Label(mustFor[struct{ A, B int }](t)), codec.Label(mustFor[struct{ B, A int }](t)), codec.Label(mustFor[struct{ A int }](t)),
		codec.Label(mustFor[struct{ A []byte }](t)), codec.Label(mustFor[struct{ A string }](t)), codec.Label(mustFor[struct{ A *string }](t)),
		codec.Label(mustFor[[]byte](t)), codec.Label(mustFor[raw](t)), codec.Label(mustFor[[2]int32](t)), codec.Label(mustFor[[2]float32](t)),
		codec.Label(mustFor[any](t)), codec.Label(mustFor[error](t)), codec.Label(mustFor[time.Time](t)), codec.Label(mustFor[*time.Time](t)),
		codec.Label[[]byte](codec.Bytes{}), codec.Label[[]byte](codec.Gob[[]byte]{}),
	}
	for _, l := range labels {
		if seen[l] {
			t.Errorf("two types have the label %q", l)
		}
		seen[l] = true
	}
}

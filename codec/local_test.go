//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

// passLocal encodes and decodes v within this process.
func passLocal[T any](t *testing.T, v T) T {
	t.Helper()
	c := codec.Local[T]()
	b, err := c.Append([]byte("before"), v)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	got, err := c.Decode(b[6:])
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	clear(b) // the value must not refer to it
	return got
}

// parked returns the error for a value that Local can't encode.
func parked[T any](t *testing.T, v T) *codec.ValueError {
	t.Helper()
	got, err := codec.Local[T]().Append([]byte("x"), v)
	if string(got) != "x" {
		t.Errorf("Append returned %q beside %v", got, err)
	}
	var value *codec.ValueError
	if !errors.As(err, &value) {
		t.Errorf("%T: got error %v, want a *ValueError", v, err)
	}
	return value
}

type request struct {
	Ctx   context.Context
	Body  []byte
	Reply chan<- string
	Done  func()
	mem   unsafe.Pointer
	peer  *peer
	Meta  map[string]any
}

func TestLocalCopiesAValueWhoseLivePartsAreNil(t *testing.T) {
	want := request{Body: []byte("body"), Meta: map[string]any{"a": []string{"b"}}}
	if diff := cmp.Diff(want, passLocal(t, want), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
	if diff := cmp.Diff(&want, passLocal(t, &want), exact); diff != "" {
		t.Errorf("by pointer, -sent +received:\n%s", diff)
	}
}

func TestLocalRefusesAValueWithLiveParts(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, c := range map[string]struct {
		v    request
		want string
	}{
		"context": {request{Ctx: ctx}, "codec: a context.Context, which is no data"},
		"chan":    {request{Reply: make(chan string)}, "codec: a chan<- string, which is no data"},
		"func":    {request{Done: cancel}, "codec: a func(), which is no data"},
		"unsafe":  {request{mem: unsafe.Pointer(&name0)}, "codec: an unsafe.Pointer, which is no data"},
		"lock":    {request{peer: &peer{}}, "codec: a *codec_test.peer, which must not be copied"},
		"in any":  {request{Meta: map[string]any{"a": func() {}}}, "codec: a func(), which is no data"},
		"context in any": {request{Meta: map[string]any{"a": ctx}},
			"codec: a *context.cancelCtx, which must not be copied"},
		"a pointer to an atomic": {request{Meta: map[string]any{"a": new(atomic.Bool)}},
			"codec: an *atomic.Bool, which must not be copied"},
	} {
		for _, err := range []*codec.ValueError{parked(t, c.v), parked(t, &c.v), parked(t, []*request{&c.v})} {
			if err == nil || err.Error() != c.want && !(name == "a pointer to an atomic" && err.Type == reflect.TypeFor[*atomic.Bool]()) {
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
		}
	}
}

var name0 int

func TestLocalTakesEveryType(t *testing.T) {
	if v := passLocal(t, (chan int)(nil)); v != nil {
		t.Errorf("got %v, want nil", v)
	}
	parked(t, make(chan int))
	parked(t, func() {})
	parked(t, unsafe.Pointer(&name0))
	parked(t, sync.OnceFunc(func() {}))
	parked(t, &sync.Mutex{})
	parked(t, os.Stdout)
	parked(t, time.NewTimer(time.Hour))
	parked(t, http.DefaultTransport)
	parked(t, any(os.Stdin))
	parked(t, context.Background())
	parked(t, reflect.ValueOf(1))
	if got := passLocal(t, (*http.Request)(nil)); got != nil {
		t.Errorf("got %v, want nil", got)
	}
	if got := passLocal(t, uintptr(5)); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}

func TestLocalNeedsNoRegister(t *testing.T) {
	type inner struct{ Name string } // unexported, of this package, as request is
	for _, want := range []any{
		&http.Cookie{Name: "a", Expires: time.Unix(1, 0)}, http.Header{"a": {"b"}}, netip.MustParseAddr("::1"),
		[]*slog.Attr{{Key: "a"}}, struct{ A any }{time.Second}, sql.NullString{String: "a", Valid: true},
	} {
		got := passLocal(t, want)
		if diff := cmp.Diff(want, got, exact); diff != "" {
			t.Errorf("-sent +received:\n%s", diff)
		}
	}
	want := request{Meta: map[string]any{"a": &inner{"b"}}}
	if diff := cmp.Diff(want, passLocal(t, want), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

func TestLocalLeavesOtherPackagesUnexportedTypesAlone(t *testing.T) {
	record := slog.NewRecord(time.Unix(1, 0), slog.LevelInfo, "message", 0)
	if diff := cmp.Diff(record, passLocal(t, record), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
	record.Add("key", "a string whose length stands elsewhere")
	parked(t, record)
	parked(t, any(stranger{1}))
	parked(t, []any{map[string]*stranger{}})
	if diff := cmp.Diff(any([]int{1}), passLocal(t, any([]int{1}))); diff != "" {
		t.Error(diff)
	}
}

type leafError struct{ Code int }

func (e *leafError) Error() string { return fmt.Sprint("code ", e.Code) }

func TestASentinelErrorKeepsItsIdentityLocally(t *testing.T) {
	leaf := &leafError{1}
	for _, want := range []error{sql.ErrNoRows, errPlain, http.ErrServerClosed, context.DeadlineExceeded} {
		if got := passLocal(t, want); got != want {
			t.Errorf("%v came back as another", want)
		}
		if got := passLocal(t, fmt.Errorf("wrapped: %w", want)); !errors.Is(got, want) || got.Error() != "wrapped: "+want.Error() {
			t.Errorf("%v came back as another, in %v", want, got)
		}
		if got := passLocal(t, errors.Join(want, errSoldOut)); !errors.Is(got, want) || !errors.Is(got, errSoldOut) {
			t.Errorf("%v came back as another, in %v", want, got)
		}
	}
	if got := passLocal(t, result[int]{Err: leaf}); got.Err != leaf {
		t.Errorf("a pointer came back as %p, want %p", got.Err, leaf)
	}
}

func TestAnErrorThatNobodyUsesAnyMoreArrivesAsACopy(t *testing.T) {
	c := codec.Local[error]()
	b, err := c.Append(nil, errors.New(fmt.Sprint("gone ", time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC()
	got, err := c.Decode(b)
	if err != nil || !bytes.HasPrefix([]byte(got.Error()), []byte("gone ")) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTooManyErrorsInUseAreNotEncoded(t *testing.T) {
	c := codec.Local[result[int]]()
	var all []result[int]
	full := func() bool {
		all = append(all, result[int]{Err: &leafError{len(all)}})
		_, err := c.Append(nil, all[len(all)-1])
		var value *codec.ValueError
		return errors.As(err, &value)
	}
	for !full() {
		if len(all) > 5_000 {
			t.Fatal("5000 errors keep their identity, want 4096")
		}
	}
	if len(all) < 3_000 {
		t.Errorf("no room for error %d", len(all))
	}
	if _, err := c.Append(nil, all[0]); err != nil {
		t.Errorf("one that is known: %v", err)
	}
	if _, err := c.Append(nil, result[int]{Err: (*leafError)(nil)}); err != nil {
		t.Errorf("a nil pointer needs no room: %v", err)
	}
	runtime.KeepAlive(all)
	all = nil
	for deadline := time.Now().Add(time.Minute); full(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("there is no room although no error is in use")
		}
		runtime.GC() // cleanups run some time after it
	}
}

func TestAnErrorThatIsANilPointerStaysOne(t *testing.T) {
	for _, want := range []error{(*leafError)(nil), (*fs.PathError)(nil), (*emptyError)(nil), &emptyError{}} {
		for range 3 {
			got := passLocal(t, []result[int]{{Err: want}, {Err: want}})
			if got[0].Err != want || got[1].Err != want {
				t.Errorf("%T: got %#v", want, got)
			}
		}
	}
	if got := pass(t, error((*fs.PathError)(nil))); got != error((*fs.PathError)(nil)) {
		t.Errorf("got %#v", got)
	}
}

// emptyError has no identity: all pointers to one may be equal.
type emptyError struct{}

func (*emptyError) Error() string { return "empty" }

// outerError begins with another error, which has the same address.
type outerError struct {
	leafError
	Text string
}

func TestTwoErrorsAtOneAddressKeepTheirIdentity(t *testing.T) {
	outer := &outerError{leafError{1}, "a"}
	c := codec.Local[result[int]]()
	first, err := c.Append(nil, result[int]{Err: outer})
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Append(nil, result[int]{Err: &outer.leafError})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decode(first); err != nil || got.Err != error(outer) {
		t.Errorf("got %#v, %v", got, err)
	}
	if got, err := c.Decode(second); err != nil || got.Err != error(&outer.leafError) {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestErrorsOutsideTheHeapKeepTheirIdentity(t *testing.T) {
	within := &struct {
		_   [3]int
		Err leafError
	}{Err: leafError{7}}
	for _, want := range []error{&inData, &inBSS, &within.Err} {
		if got := passLocal(t, result[int]{Err: want}); got.Err != want {
			t.Errorf("%v came back as another", want)
		}
	}
}

var (
	inData = leafError{5}
	inBSS  leafError
)

func TestALockOfNoSizeIsNotCopied(t *testing.T) {
	parked(t, &noCopy{})
	parked(t, struct{ p *noCopy }{&noCopy{}})
	if _, err := codec.Local[*noCopy]().Decode([]byte{0, 1}); err == nil {
		t.Error("a lock was made of bytes")
	}
}

type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

func TestALocalCodecsBytesMeanNothingElsewhere(t *testing.T) {
	b, err := codec.Local[any]().Append(nil, &http.Cookie{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := mustFor[any](t).Decode(b); err == nil {
		t.Errorf("another process would get %v", v)
	}
	if got := codec.Label(codec.Local[any]()); got != "local any" {
		t.Errorf("label %q", got)
	}
}

func TestParkingCostsLittle(t *testing.T) {
	if raceEnabled {
		return
	}
	c := codec.Local[*request]()
	v := &request{Body: make([]byte, 1<<20), Reply: make(chan string)}
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { buf, _ = c.Append(buf[:0], v) }); n > 0 || cap(buf) > 64 {
		t.Errorf("%v allocations, %d bytes: what can't be copied is found before the rest is", n, cap(buf))
	}
}

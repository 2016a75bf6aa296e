//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unique"

	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

type (
	shape    interface{ Area() float64 }
	square   struct{ side float64 }
	stranger struct{ A int }
	failure  struct {
		Op  string
		Err error
	}
	code int
)

func (s square) Area() float64   { return s.side * s.side }
func (f *failure) Error() string { return f.Op + ": " + f.Err.Error() }
func (f *failure) Unwrap() error { return f.Err }
func (c code) Error() string     { return fmt.Sprint("code ", int(c)) }

var (
	errSoldOut = errors.New("sold out")
	errPlain   = errors.New("plain")
	errCode    = error(code(7))
)

func init() {
	codec.Register[square]()
	codec.Register[*failure]()
	codec.RegisterError("codec_test.errSoldOut", errSoldOut)
	codec.RegisterError("codec_test.errCode", errCode)
}

func TestInterfacesKeepTheirDynamicTypes(t *testing.T) {
	for _, want := range []any{
		nil, true, int8(1), "a", 1.5, time.Second, []any{nil, "a", []any{}}, map[any]any{1: 2, "a": nil},
		square{2}, []map[string]any{{"a": square{3}}}, error(nil), io.EOF, &failure{"x", nil},
	} {
		got := pass(t, want)
		if diff := cmp.Diff(want, got, exact); diff != "" {
			t.Errorf("-sent +received:\n%s", diff)
		}
		if reflect.TypeOf(got) != reflect.TypeOf(want) {
			t.Errorf("got a %T, want a %T", got, want)
		}
	}
	if diff := cmp.Diff(shape(square{2}), pass(t, shape(square{2})), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

func TestAnUnregisteredTypeIsAnErrorThatSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{appendErr(any(stranger{})), "codec: a codec_test.stranger in an interface: call codec.Register[codec_test.stranger]() at start, or codec.RegisterValue with one"},
		{appendErr([]any{1, &stranger{}}), "codec: a *codec_test.stranger in an interface: call codec.Register[*codec_test.stranger]() at start, or codec.RegisterValue with one"},
		{appendErr(map[string]any{"a": struct{ e any }{1}}), "codec: a struct { e interface {} } in an interface: call codec.Register[struct { e interface {} }]() at start"},
		{appendErr([2]any{1, stranger{}}), "codec: a codec_test.stranger in an interface: call codec.Register[codec_test.stranger]() at start, or codec.RegisterValue with one"},
		{appendErr(map[name]any{"a": stranger{}}), "codec: a codec_test.stranger in an interface: call codec.Register[codec_test.stranger]() at start, or codec.RegisterValue with one"},
		{appendErr(map[any]int{stranger{}: 1}), "codec: a codec_test.stranger in an interface: call codec.Register[codec_test.stranger]() at start, or codec.RegisterValue with one"},
		{appendErr(fmt.Errorf("wrapped: %w", code(8))), "codec: a codec_test.code in an interface: call codec.Register[codec_test.code]() at start, or codec.RegisterValue with one"},
	} {
		if diff := cmp.Diff(c.want, fmt.Sprint(c.err)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestErrorsKeepTheirChain(t *testing.T) {
	var addr net.Addr = &net.TCPAddr{IP: net.IP{127, 0, 0, 1}, Port: 80, Zone: "lo"}
	_, atoi := strconv.Atoi("x")
	for _, want := range []error{
		nil, errPlain, errSoldOut, errCode, io.EOF, os.ErrNotExist, context.DeadlineExceeded, net.ErrClosed, os.ErrDeadlineExceeded, atoi,
		fmt.Errorf("no verb"), fmt.Errorf("buy: %w", errSoldOut), fmt.Errorf("%w and %w", io.EOF, errPlain), errors.Join(errCode, nil, context.Canceled),
		&failure{"buy", fmt.Errorf("a: %w", errSoldOut)}, &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT},
		&net.OpError{Op: "read", Net: "tcp", Source: addr, Err: os.NewSyscallError("read", syscall.ECONNRESET)}, &url.Error{Op: "Get", URL: "http://a", Err: context.Canceled},
		&net.DNSError{Err: "no such host", Name: "a", IsNotFound: true}, &os.LinkError{Op: "link", Old: "a", New: "b", Err: fs.ErrExist},
	} {
		got := pass(t, want)
		if diff := cmp.Diff(want, got, exact); diff != "" {
			t.Errorf("-sent +received:\n%s", diff)
		}
		for _, sentinel := range []error{errSoldOut, errCode, io.EOF, os.ErrNotExist, context.Canceled, context.DeadlineExceeded, net.ErrClosed, fs.ErrExist, syscall.ECONNRESET} {
			if errors.Is(got, sentinel) != errors.Is(want, sentinel) {
				t.Errorf("%v: errors.Is(_, %v) is %v", want, sentinel, errors.Is(got, sentinel))
			}
		}
	}
	if got := pass(t, fmt.Errorf("a: %w", errPlain)); errors.Is(got, errPlain) || got.Error() != "a: plain" {
		t.Errorf("got %v; an unregistered error arrives as a copy", got)
	}
	var f *failure
	if got := pass(t, fmt.Errorf("a: %w", &failure{"buy", errSoldOut})); !errors.As(got, &f) || f.Op != "buy" {
		t.Errorf("errors.As does not find the *failure in %v", got)
	}
}

func TestRegisterPanicsOnConflicts(t *testing.T) {
	first := func() {
		type local struct{ A int }
		codec.Register[local]()
	}
	second := func() {
		type local struct{ B string }
		codec.Register[local]()
	}
	first()
	first() // again is fine
	codec.RegisterError("codec_test.errSoldOut", errSoldOut)
	codec.Register[int]()
	for name, f := range map[string]func(){
		"another type of that name":  second,
		"an interface type":          codec.Register[shape],
		"a type that For refuses":    codec.Register[withFunc],
		"another error of that name": func() { codec.RegisterError("codec_test.errSoldOut", errPlain) },
		"another name for the error": func() { codec.RegisterError("codec_test.other", errSoldOut) },
		"nil":                        func() { codec.RegisterError("codec_test.nil", nil) },
		"an incomparable error":      func() { codec.RegisterError("codec_test.slice", incomparable{}) },
	} {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
	if diff := cmp.Diff(any(1), pass(t, any(1))); diff != "" { // the registry is not left locked
		t.Error(diff)
	}
}

// detailed is comparable or not, as its detail is.
type detailed struct{ Detail any }

func (d detailed) Error() string { return fmt.Sprint(d.Detail) }

func TestAnErrorIsFoundOnlyIfItCanBeCompared(t *testing.T) {
	codec.Register[detailed]()
	codec.RegisterError("codec_test.detailed", detailed{1})
	for _, want := range []error{detailed{1}, detailed{2}, detailed{[]int{1}}} {
		if diff := cmp.Diff(want, pass(t, want), exact); diff != "" {
			t.Errorf("-sent +received:\n%s", diff)
		}
	}
}

type incomparable []error

func (incomparable) Error() string { return "incomparable" }

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestRegisterIsSafeForConcurrentUse(t *testing.T) {
	type a struct{ A int }
	type b struct{ B []a }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			codec.Register[a]()
			codec.Register[[]b]()
			codec.RegisterError("codec_test.errConcurrent", errConcurrent)
			c, err := codec.For[[]any]()
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				want := []any{a{1}, []b{{}}, errConcurrent}
				enc, err := c.Append(nil, want)
				if err != nil {
					t.Error(err)
				}
				if got, err := c.Decode(enc); err != nil || !cmp.Equal(want, got, exact) {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

var errConcurrent = errors.New("concurrent")

// moody panics when it marshals or is unmarshaled.
type moody struct{ h unique.Handle[string] }

func (moody) MarshalBinary() ([]byte, error)  { panic("not today") }
func (*moody) UnmarshalBinary(b []byte) error { panic(io.EOF) }

// short returns less than AppendBinary was given.
type short struct{ h unique.Handle[string] }

func (short) AppendBinary([]byte) ([]byte, error) { return nil, nil }
func (*short) UnmarshalBinary([]byte) error       { return nil }

func TestAPanicInAMarshalerIsAnError(t *testing.T) {
	if err := appendErr(moody{}); fmt.Sprint(err) != "codec: marshal codec_test.moody: panic: not today" {
		t.Errorf("Append: %v", err)
	}
	if _, err := mustFor[moody](t).Decode([]byte{0}); !errors.Is(err, io.EOF) {
		t.Errorf("Decode: %v", err)
	}
	if err := appendErr(short{}); fmt.Sprint(err) != "codec: marshal codec_test.short: it returned less than it was given" {
		t.Errorf("Append: %v", err)
	}
}

func TestALongMarshaledValueKeepsItsLength(t *testing.T) {
	for _, n := range []int{0, 1, 126, 127, 128, 129, 16_383, 16_384, 100_000} {
		text := string(make([]byte, n))
		want := []token{{&text}, {&text}}
		if diff := cmp.Diff(want, pass(t, want), exact); diff != "" {
			t.Errorf("%d bytes: -sent +received:\n%.200s", n, diff)
		}
	}
}

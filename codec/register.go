package codec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Register makes T known as a type that interface values may have: the codecs of [For]
// carry a value in an interface only if its type is registered, basic, or an error
// type of the standard library. T and *T are two types. On disk the type goes by its
// package path and name, so that a backlog outlives the process. The place for it is
// an init function or the start of main.
//
// Basic are bool, string, the numbers, []byte, time.Time, time.Duration, []any,
// map[string]any, and a few more slices and maps of these.
//
// Register panics if T is an interface type, if For could not carry a T, or if another
// type has the same name, as types within functions may. To register a type
// again does nothing. Safe for concurrent use.
func Register[T any]() {
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.Interface {
		panic(fmt.Sprintf("codec: Register[%v]: an interface: register the types in it", t))
	}
	if _, err := planOf(t); err != nil {
		panic(fmt.Sprintf("codec: Register[%v]: %v", t, err))
	}
	update(func(k *known) { k.addType(t, typeName(t), tagNamed) })
}

// RegisterError makes err, a sentinel, known by a name that is stable across
// processes, such as "example.com/shop.ErrSoldOut". Wherever it stands in an interface,
// in an error chain too, the very same err comes out, so that [errors.Is] finds it; an
// error that is not registered arrives as a copy, of the same type and text. The
// sentinels of io, io/fs, os, context, net, strconv and errors are registered.
//
// RegisterError panics if err is nil or can't be compared, or if name or err is taken.
// To register the same again does nothing. Safe for concurrent use.
func RegisterError(name string, err error) {
	if v := reflect.ValueOf(err); !v.IsValid() || !v.Comparable() {
		panic(fmt.Sprintf("codec: RegisterError(%q): %#v can't be compared", name, err))
	}
	update(func(k *known) { k.addError(name, err) })
}

// known is what interface values may be. It does not change once it is published.
type known struct {
	types map[reflect.Type]*dynamic
	names map[string]*dynamic
	basic []*dynamic // by tag

	errors     map[string]error
	errorNames map[error]string
	errorTypes map[reflect.Type]bool // the types of errors
}

var (
	registry   atomic.Pointer[known]
	registryMu sync.Mutex // held by who replaces it
)

func init() { registry.Store(standard()) }

// update replaces the registry by a copy that change has been applied to.
func update(change func(k *known)) {
	registryMu.Lock()
	defer registryMu.Unlock()
	k := *registry.Load()
	k.types, k.names = maps.Clone(k.types), maps.Clone(k.names)
	k.errors, k.errorNames, k.errorTypes = maps.Clone(k.errors), maps.Clone(k.errorNames), maps.Clone(k.errorTypes)
	change(&k)
	registry.Store(&k)
}

func (k *known) addType(t reflect.Type, name string, tag byte) {
	if k.types[t] != nil {
		return
	}
	if other := k.names[name]; other != nil {
		panic(fmt.Sprintf("codec: Register[%v]: another type is registered as %s", t, name))
	}
	d := newDynamic(t, name, tag)
	k.types[t], k.names[name] = d, d
	if tag != tagNamed {
		k.basic = append(k.basic, d)
	}
}

func (k *known) addError(name string, err error) {
	if other, taken := k.errors[name]; taken && other != err {
		panic(fmt.Sprintf("codec: RegisterError(%q): the name is that of another error", name))
	}
	if other, taken := k.errorNames[err]; taken && other != name {
		panic(fmt.Sprintf("codec: RegisterError(%q): the error is registered as %q", name, other))
	}
	k.errors[name], k.errorNames[err] = err, name
	k.errorTypes[reflect.TypeOf(err)] = true
}

// typeOf returns what is known of t.
func (k *known) typeOf(t reflect.Type) (*dynamic, error) {
	d := k.types[t]
	if d == nil {
		return nil, fmt.Errorf("codec: %v in an interface: call codec.Register[%v]() at start", t, t)
	}
	return d, d.compile()
}

// nameOf returns the name that v's value is registered by as an error.
func (k *known) nameOf(v reflect.Value) (name string, ok bool) {
	if !k.errorTypes[v.Type()] {
		return "", false
	}
	if v.Kind() != reflect.Pointer && !v.Comparable() { // Comparable allocates
		return "", false
	}
	name, ok = k.errorNames[v.Interface().(error)]
	return name, ok
}

// standard is the registry to begin with.
func standard() *known {
	k := &known{
		types:      map[reflect.Type]*dynamic{},
		names:      map[string]*dynamic{},
		errors:     map[string]error{},
		errorNames: map[error]string{},
		errorTypes: map[reflect.Type]bool{},
	}
	for i, t := range basicTypes() {
		k.addType(t, typeName(t), byte(i+1))
	}
	for _, t := range errorTypes() {
		k.addType(t, typeName(t), tagNamed)
	}
	for name, err := range sentinels() {
		k.addError(name, err)
	}
	return k
}

// basicTypes returns the types whose tag is their place in the list, from 1: it may
// grow at its end only.
func basicTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[bool](),
		reflect.TypeFor[string](),
		reflect.TypeFor[int](),
		reflect.TypeFor[int8](),
		reflect.TypeFor[int16](),
		reflect.TypeFor[int32](),
		reflect.TypeFor[int64](),
		reflect.TypeFor[uint](),
		reflect.TypeFor[uint8](),
		reflect.TypeFor[uint16](),
		reflect.TypeFor[uint32](),
		reflect.TypeFor[uint64](),
		reflect.TypeFor[float32](),
		reflect.TypeFor[float64](),
		reflect.TypeFor[complex64](),
		reflect.TypeFor[complex128](),
		reflect.TypeFor[[]byte](),
		reflect.TypeFor[time.Time](),
		reflect.TypeFor[time.Duration](),
		reflect.TypeFor[[]any](),
		reflect.TypeFor[map[string]any](),
		reflect.TypeFor[[]string](),
		reflect.TypeFor[[]bool](),
		reflect.TypeFor[[]int](),
		reflect.TypeFor[[]int64](),
		reflect.TypeFor[[]float64](),
		reflect.TypeFor[[]map[string]any](),
		reflect.TypeFor[map[string]string](),
		reflect.TypeFor[map[string]int](),
		reflect.TypeFor[map[any]any](),
		reflect.TypeFor[struct{}](),
	}
}

// errorTypes returns the types of the errors that the standard library makes, and of
// what stands in them. Unexported ones are had from a value.
func errorTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeOf(errors.New("")),
		reflect.TypeOf(errors.Join(io.EOF)),
		reflect.TypeOf(fmt.Errorf("%w", io.EOF)),
		reflect.TypeOf(fmt.Errorf("%w %w", io.EOF, io.EOF)),
		reflect.TypeOf(fmt.Errorf("%d", 0)),
		reflect.TypeFor[*fs.PathError](),
		reflect.TypeFor[*os.LinkError](),
		reflect.TypeFor[*os.SyscallError](),
		reflect.TypeFor[syscall.Errno](),
		reflect.TypeFor[*strconv.NumError](),
		reflect.TypeFor[*url.Error](),
		reflect.TypeFor[*net.OpError](),
		reflect.TypeFor[*net.DNSError](),
		reflect.TypeFor[*net.AddrError](),
		reflect.TypeFor[*net.ParseError](),
		reflect.TypeFor[*net.TCPAddr](),
		reflect.TypeFor[*net.UDPAddr](),
		reflect.TypeFor[*net.IPAddr](),
		reflect.TypeFor[*net.UnixAddr](),
	}
}

func sentinels() map[string]error {
	return map[string]error{
		"io.EOF":                   io.EOF,
		"io.ErrClosedPipe":         io.ErrClosedPipe,
		"io.ErrNoProgress":         io.ErrNoProgress,
		"io.ErrShortBuffer":        io.ErrShortBuffer,
		"io.ErrShortWrite":         io.ErrShortWrite,
		"io.ErrUnexpectedEOF":      io.ErrUnexpectedEOF,
		"context.Canceled":         context.Canceled,
		"context.DeadlineExceeded": context.DeadlineExceeded,
		"errors.ErrUnsupported":    errors.ErrUnsupported,
		"fs.ErrClosed":             fs.ErrClosed,
		"fs.ErrExist":              fs.ErrExist,
		"fs.ErrInvalid":            fs.ErrInvalid,
		"fs.ErrNotExist":           fs.ErrNotExist,
		"fs.ErrPermission":         fs.ErrPermission,
		"fs.SkipAll":               fs.SkipAll,
		"fs.SkipDir":               fs.SkipDir,
		"net.ErrClosed":            net.ErrClosed,
		"os.ErrDeadlineExceeded":   os.ErrDeadlineExceeded,
		"os.ErrNoDeadline":         os.ErrNoDeadline,
		"os.ErrProcessDone":        os.ErrProcessDone,
		"strconv.ErrRange":         strconv.ErrRange,
		"strconv.ErrSyntax":        strconv.ErrSyntax,
	}
}

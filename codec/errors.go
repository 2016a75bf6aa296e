package codec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"syscall"
	"time"
)

// What is known to begin with: basic types, and the errors of the standard library.

func standard() *known {
	k := &known{types: map[string]*dynamic{}, errors: map[string]error{}, names: map[error]string{}}
	for i, t := range basicTypes() {
		k.addType(t, byte(i+1))
	}
	for _, t := range errorTypes() {
		k.addType(t, tagNamed)
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
		reflect.TypeFor[uintptr](),
	}
}

// errorTypes returns the types of the errors that the standard library makes, and of
// what stands in them. Unexported ones are had from a value.
func errorTypes() []reflect.Type {
	_, duration := time.ParseDuration("") // of an unexported type, in newer releases
	return []reflect.Type{
		reflect.TypeOf(errors.New("")),
		reflect.TypeOf(errors.Join(io.EOF)),
		reflect.TypeOf(fmt.Errorf("%w", io.EOF)),
		reflect.TypeOf(fmt.Errorf("%w %w", io.EOF, io.EOF)),
		reflect.TypeFor[*fs.PathError](),
		reflect.TypeFor[*os.LinkError](),
		reflect.TypeFor[*os.SyscallError](),
		reflect.TypeFor[syscall.Errno](),
		reflect.TypeFor[syscall.Signal](),
		reflect.TypeFor[*strconv.NumError](),
		reflect.TypeFor[*time.ParseError](),
		reflect.TypeOf(duration),
		reflect.TypeFor[*url.Error](),
		reflect.TypeFor[url.EscapeError](),
		reflect.TypeFor[url.InvalidHostError](),
		reflect.TypeFor[*net.OpError](),
		reflect.TypeFor[*net.DNSError](),
		reflect.TypeFor[*net.AddrError](),
		reflect.TypeFor[*net.ParseError](),
		reflect.TypeFor[*net.DNSConfigError](),
		reflect.TypeFor[net.UnknownNetworkError](),
		reflect.TypeFor[net.InvalidAddrError](),
		reflect.TypeFor[*net.TCPAddr](),
		reflect.TypeFor[*net.UDPAddr](),
		reflect.TypeFor[*net.IPAddr](),
		reflect.TypeFor[*net.UnixAddr](),
		reflect.TypeFor[*json.SyntaxError](),
		reflect.TypeFor[*json.UnmarshalTypeError](),
		reflect.TypeFor[*json.InvalidUnmarshalError](),
		reflect.TypeFor[*json.UnsupportedTypeError](),
		reflect.TypeFor[*json.MarshalerError](),
		reflect.TypeFor[*exec.Error](),
		reflect.TypeFor[*exec.ExitError](),
		reflect.TypeFor[*http.ProtocolError](),
		reflect.TypeFor[*http.MaxBytesError](),
		rtypeType,
	}
}

func sentinels() map[string]error {
	timeout, canceled := dialErrors()
	return map[string]error{
		"io.EOF":                     io.EOF,
		"io.ErrClosedPipe":           io.ErrClosedPipe,
		"io.ErrNoProgress":           io.ErrNoProgress,
		"io.ErrShortBuffer":          io.ErrShortBuffer,
		"io.ErrShortWrite":           io.ErrShortWrite,
		"io.ErrUnexpectedEOF":        io.ErrUnexpectedEOF,
		"context.Canceled":           context.Canceled,
		"context.DeadlineExceeded":   context.DeadlineExceeded,
		"errors.ErrUnsupported":      errors.ErrUnsupported,
		"exec.ErrDot":                exec.ErrDot,
		"exec.ErrNotFound":           exec.ErrNotFound,
		"exec.ErrWaitDelay":          exec.ErrWaitDelay,
		"fs.ErrClosed":               fs.ErrClosed,
		"fs.ErrExist":                fs.ErrExist,
		"fs.ErrInvalid":              fs.ErrInvalid,
		"fs.ErrNotExist":             fs.ErrNotExist,
		"fs.ErrPermission":           fs.ErrPermission,
		"fs.SkipAll":                 fs.SkipAll,
		"fs.SkipDir":                 fs.SkipDir,
		"http.ErrAbortHandler":       http.ErrAbortHandler,
		"http.ErrBodyNotAllowed":     http.ErrBodyNotAllowed,
		"http.ErrBodyReadAfterClose": http.ErrBodyReadAfterClose,
		"http.ErrContentLength":      http.ErrContentLength,
		"http.ErrHandlerTimeout":     http.ErrHandlerTimeout,
		"http.ErrHijacked":           http.ErrHijacked,
		"http.ErrLineTooLong":        http.ErrLineTooLong,
		"http.ErrMissingFile":        http.ErrMissingFile,
		"http.ErrNoCookie":           http.ErrNoCookie,
		"http.ErrNoLocation":         http.ErrNoLocation,
		"http.ErrNotSupported":       http.ErrNotSupported,
		"http.ErrSchemeMismatch":     http.ErrSchemeMismatch,
		"http.ErrServerClosed":       http.ErrServerClosed,
		"http.ErrSkipAltProtocol":    http.ErrSkipAltProtocol,
		"http.ErrUseLastResponse":    http.ErrUseLastResponse,
		"net.ErrClosed":              net.ErrClosed,
		"net.canceled":               canceled,
		"net.timeout":                timeout,
		"os.ErrDeadlineExceeded":     os.ErrDeadlineExceeded,
		"os.ErrNoDeadline":           os.ErrNoDeadline,
		"os.ErrProcessDone":          os.ErrProcessDone,
		"strconv.ErrRange":           strconv.ErrRange,
		"strconv.ErrSyntax":          strconv.ErrSyntax,
	}
}

// dialErrors returns what package net says, in an OpError, of a dial that took too long
// or was canceled. It has no names for them; these dials end before they begin.
func dialErrors() (timeout, canceled error) {
	cause := func(d net.Dialer, ctx context.Context) error {
		_, err := d.DialContext(ctx, "tcp", "127.0.0.1:1")
		var op *net.OpError
		if !errors.As(err, &op) {
			return errors.New("codec: internal error: a dial with no time did not end at once")
		}
		return op.Err
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return cause(net.Dialer{Timeout: -1}, context.Background()), cause(net.Dialer{}, ctx)
}

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

// What is known to begin with: basic types, and the errors of the standard
// library.

func standard() *known {
	k := &known{types: map[string]*dynamic{}, errors: map[string]error{}, names: map[error]string{}}
	for i, v := range basicTypes() {
		k.addType(reflect.TypeOf(v), byte(i+1))
	}
	for _, v := range errorTypes() {
		k.addType(reflect.TypeOf(v), tagNamed)
	}
	for name, err := range sentinels() {
		k.addError(name, err)
	}
	return k
}

// basicTypes returns a value of each type whose tag is its place in the list,
// from 1: it may grow at its end only.
func basicTypes() []any {
	return []any{
		false, "", 0, int8(0), int16(0), int32(0), int64(0), uint(0), uint8(0), uint16(0),
		uint32(0), uint64(0), float32(0), 0.0, complex64(0), 0i, []byte{}, time.Time{},
		time.Duration(0), []any{}, map[string]any{}, []string{}, []bool{}, []int{}, []int64{},
		[]float64{}, []map[string]any{}, map[string]string{}, map[string]int{}, map[any]any{},
		struct{}{}, uintptr(0),
	}
}

// errorTypes returns a value of each type of the errors that the standard
// library makes, and of what stands in them. Values are all there is to have of
// those that can't be named.
func errorTypes() []any {
	_, duration := time.ParseDuration("")
	return []any{
		errors.New(""), errors.Join(io.EOF), fmt.Errorf("%w", io.EOF),
		fmt.Errorf("%w %w", io.EOF, io.EOF), new(fs.PathError), new(os.LinkError),
		new(os.SyscallError), syscall.Errno(0), syscall.Signal(0), new(strconv.NumError),
		new(time.ParseError), duration, new(url.Error), url.EscapeError(""),
		url.InvalidHostError(""), new(net.OpError), new(net.DNSError), new(net.AddrError),
		new(net.ParseError), new(net.DNSConfigError), net.UnknownNetworkError(""),
		net.InvalidAddrError(""), new(net.TCPAddr), new(net.UDPAddr), new(net.IPAddr),
		new(net.UnixAddr), new(json.SyntaxError), new(json.UnmarshalTypeError),
		new(json.InvalidUnmarshalError), new(json.UnsupportedTypeError),
		new(json.MarshalerError), reflect.TypeFor[int](), new(exec.Error), new(exec.ExitError),
		new(http.MaxBytesError),
	}
}

func sentinels() map[string]error {
	timeout, canceled := dialErrors()
	return map[string]error{
		"io.EOF": io.EOF, "io.ErrClosedPipe": io.ErrClosedPipe,
		"io.ErrNoProgress": io.ErrNoProgress, "io.ErrShortBuffer": io.ErrShortBuffer,
		"io.ErrShortWrite": io.ErrShortWrite, "io.ErrUnexpectedEOF": io.ErrUnexpectedEOF,
		"errors.ErrUnsupported": errors.ErrUnsupported, "context.Canceled": context.Canceled,
		"context.DeadlineExceeded": context.DeadlineExceeded, "fs.ErrClosed": fs.ErrClosed,
		"fs.ErrExist": fs.ErrExist, "fs.ErrInvalid": fs.ErrInvalid,
		"fs.ErrNotExist": fs.ErrNotExist, "fs.ErrPermission": fs.ErrPermission,
		"fs.SkipAll": fs.SkipAll, "fs.SkipDir": fs.SkipDir,
		"os.ErrDeadlineExceeded": os.ErrDeadlineExceeded, "os.ErrNoDeadline": os.ErrNoDeadline,
		"os.ErrProcessDone": os.ErrProcessDone, "net.ErrClosed": net.ErrClosed,
		"net.canceled": canceled, "net.timeout": timeout, "strconv.ErrRange": strconv.ErrRange,
		"strconv.ErrSyntax": strconv.ErrSyntax, "exec.ErrDot": exec.ErrDot,
		"exec.ErrNotFound": exec.ErrNotFound, "exec.ErrWaitDelay": exec.ErrWaitDelay,
		"http.ErrAbortHandler":       http.ErrAbortHandler,
		"http.ErrBodyNotAllowed":     http.ErrBodyNotAllowed,
		"http.ErrBodyReadAfterClose": http.ErrBodyReadAfterClose,
		"http.ErrContentLength":      http.ErrContentLength,
		"http.ErrHandlerTimeout":     http.ErrHandlerTimeout, "http.ErrHijacked": http.ErrHijacked,
		"http.ErrLineTooLong": http.ErrLineTooLong, "http.ErrMissingFile": http.ErrMissingFile,
		"http.ErrNoCookie": http.ErrNoCookie, "http.ErrNoLocation": http.ErrNoLocation,
		"http.ErrNotSupported":    http.ErrNotSupported,
		"http.ErrSchemeMismatch":  http.ErrSchemeMismatch,
		"http.ErrServerClosed":    http.ErrServerClosed,
		"http.ErrSkipAltProtocol": http.ErrSkipAltProtocol,
		"http.ErrUseLastResponse": http.ErrUseLastResponse,
	}
}

// dialErrors returns what package net says, in an OpError, of a dial that took
// too long or was canceled. It has no names for them; these dials end before
// they begin.
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

package zoo

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"container/list"
	"container/ring"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"debug/buildinfo"
	"encoding/asn1"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"image"
	"image/color"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math/big"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"regexp"
	"regexp/syntax"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/scanner"
	"text/template/parse"
	"time"
	"unicode"
)

var at = time.Date(2026, 11, 26, 1, 2, 3, 4, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func standard() []species {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := list.New()
	l.PushBack(1)
	l.PushBack("two")
	r := ring.New(3)
	r.Value = 1.5
	var built strings.Builder
	built.WriteString("text")
	record := slog.NewRecord(at, slog.LevelWarn, "message", 0)
	withText := record.Clone()
	withText.Add("key", "value")
	withNumbers := record.Clone()
	withNumbers.Add("n", uint64(1))
	edKey := must(x509.ParsePKIXPublicKey(must(x509.MarshalPKIXPublicKey(ed25519.PublicKey(make([]byte, 32))))))
	file := must(parser.ParseFile(token.NewFileSet(), "a.go", "package a\nimport \"fmt\"\nfunc f() { fmt.Println(1) }", 0))
	_, dial := (&net.Dialer{Timeout: -1}).Dial("tcp", "127.0.0.1:1")
	pipeReader, _ := io.Pipe()
	build, _ := debug.ReadBuildInfo()
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaPublic := &rsa.PublicKey{N: big.NewInt(3233), E: 17}

	return []species{
		copied[any](nil, 1, "a", 1.5, []any{1, "b", map[string]any{"c": nil}}, at, []byte("x"), map[string]int{"a": 1}),
		copied[error](nil, io.EOF, errors.New("x"), fmt.Errorf("a: %w", fs.ErrNotExist), errors.Join(io.EOF, dial), dial),
		copied(true, false),
		copied("", "text"),
		copied([]byte(nil), []byte{}, []byte("x")),
		copied(1, -1),
		copied(struct{}{}),
		copied(uintptr(7)),
		copied(complex(1, 2)),
		copied(map[string]string{"a": "b"}),
		copied[os.Signal](os.Interrupt, syscall.SIGTERM),
		copied(syscall.SIGHUP),
		copied(syscall.ENOENT),
		copied(time.Second),
		copied(at, at.In(time.FixedZone("x", 60)), time.Time{}),
		copied(time.UTC, nil, time.Local),
		copied(time.March),
		copied(&at),
		copied[fmt.Stringer](time.Second, netip.MustParseAddr("::1")),
		copied(url.URL{Scheme: "http", User: url.UserPassword("a", "b"), Host: "c", Path: "/d"}),
		copied(url.Values{"a": {"b"}}),
		copied(url.User("a")),
		copied(net.IP{1, 2, 3, 4}),
		copied(net.IPNet{IP: net.IP{1}, Mask: net.IPMask{2}}),
		copied(&net.TCPAddr{Port: 1}),
		copied[net.Addr](&net.UDPAddr{IP: net.IP{1}, Zone: "z"}),
		copied(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}),
		copied(&net.DNSError{Name: "a", IsNotFound: true}),
		copied(net.MX{Host: "a"}),
		copied(net.Interface{Name: "lo"}),
		copied(netip.MustParseAddr("1.2.3.4"), netip.Addr{}),
		copied(netip.MustParseAddrPort("[fe80::1%eth0]:80")),
		copied(netip.MustParsePrefix("10.0.0.0/8")),
		copied(big.NewInt(-5), nil),
		copied(big.NewRat(1, 3)),
		copied(big.NewFloat(1.5)),
		copied(&mail.Address{Name: "a", Address: "b"}),
		copied(mail.Header{"A": {"b"}}),
		copied(textproto.MIMEHeader{"A": {"b"}}),
		copied(http.Header{"A": {"b"}}),
		copied(&http.Cookie{Name: "a", Expires: at, SameSite: http.SameSiteLaxMode}),
		copied(http.ConnState(1)),
		copied(&http.MaxBytesError{Limit: 5}),
		copied(&http.Response{Status: "200 OK", Header: http.Header{"A": {"b"}}, ContentLength: 5}, &http.Response{Request: &http.Request{Method: "GET"}}),
		copied(http.Request{Method: "GET", URL: &url.URL{Host: "a"}}),
		parked(httptest.NewRequestWithContext(ctx, "GET", "/", nil)),
		copied(json.RawMessage("{}")),
		copied(json.Number("1")),
		copied(&json.SyntaxError{Offset: 5}),
		copied(&json.UnmarshalTypeError{Value: "a", Type: reflect.TypeFor[int]()}),
		copied(sql.NullString{String: "a", Valid: true}),
		copied(sql.NullTime{Time: at, Valid: true}),
		copied(sql.Null[int]{V: 1, Valid: true}),
		copied(sql.NamedArg{Name: "a", Value: 1}),
		copied(sql.RawBytes("a")),
		copied(xml.Name{Space: "a", Local: "b"}),
		copied[xml.Token](xml.StartElement{Name: xml.Name{Local: "a"}, Attr: []xml.Attr{{Value: "b"}}}, xml.CharData("x"), xml.Comment("y")),
		copied(&csv.ParseError{Line: 1, Err: csv.ErrQuote}),
		copied(&pem.Block{Type: "a", Headers: map[string]string{"b": "c"}, Bytes: []byte{1}}),
		copied(asn1.ObjectIdentifier{1, 2}),
		copied(asn1.RawValue{Tag: 1, Bytes: []byte{2}}),
		copied(&x509.Certificate{Raw: []byte{1}, SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "a"}, NotAfter: at, PublicKey: edKey, IPAddresses: []net.IP{{1}}}),
		copied(pkix.Name{Country: []string{"a"}}),
		copied(x509.OID{}),
		copied(x509.UnknownAuthorityError{}),
		copied(ed25519.PublicKey{1}),
		copied(rsaPublic),
		parked(&ecKey.PublicKey),
		copied(sha256.Sum256(nil)),
		copied(image.Rect(1, 2, 3, 4)),
		copied(image.NewRGBA(image.Rect(0, 0, 2, 2))),
		copied(color.RGBA{1, 2, 3, 4}),
		copied[color.Color](color.Gray{1}),
		copied(&tar.Header{Name: "a", ModTime: at, PAXRecords: map[string]string{"b": "c"}}),
		copied(&zip.FileHeader{Name: "a", Modified: at}),
		copied(gzip.Header{Name: "a", ModTime: at}),
		copied(l),
		copied(r),
		copied(&built),
		copied(*bytes.NewBufferString("a")),
		copied(strings.NewReader("abc")),
		copied(bytes.NewReader([]byte("a"))),
		copied(slog.LevelError),
		copied(record),
		copied(slog.Int("a", 1)),
		parked(&withText),
		copied(&withNumbers),
		parked(slog.Default()),
		copied(regexp.MustCompile("a+(b|c)*")),
		copied(must(syntax.Parse("a|b", syntax.Perl))),
		copied(token.Position{Filename: "a", Line: 1}),
		copied(file),
		copied[ast.Node](file, &ast.Ident{Name: "a"}),
		copied(scanner.Position{Line: 1}),
		copied(parse.NodeType(1)),
		copied(unicode.Latin),
		copied(fs.FileMode(0o644)),
		copied(&fs.PathError{Op: "a", Err: fs.ErrExist}),
		copied(&exec.Error{Name: "a", Err: exec.ErrNotFound}),
		copied(build),
		copied(buildinfo.BuildInfo{GoVersion: "a"}),
		copied(multipart.FileHeader{Filename: "a", Header: textproto.MIMEHeader{"a": nil}}),
		copied(runtime.MemStats{Alloc: 1}),
		copied(reflect.TypeFor[int]()),
		parked(reflect.ValueOf(1)),
		parked(make(chan int)),
		parked(func() {}),
		parked(ctx),
		parked(time.NewTimer(time.Hour)),
		parked(os.Stdout),
		parked[io.Writer](os.Stderr),
		parked[io.Reader](pipeReader),
		parked(&sync.WaitGroup{}),
		parked(new(atomic.Int64)),
		parked(log.Default()),
		parked(&tls.Config{}),
		parked(http.DefaultClient.Do),
		parked[http.Handler](handler),
		parked(&http.Server{}),
		parked(template.Must(template.New("a").Parse("{{.}}"))),
		parked(new(expvar.Map)),
		parked(bufio.NewReader(os.Stdin)),
		parked(exec.CommandContext(ctx, "true")),
		parked(signal.Notify),
		parked(net.DefaultResolver),
	}
}

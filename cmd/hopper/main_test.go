package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the command itself where a test wants it as a process of its
// own.
func TestMain(m *testing.M) {
	if os.Getenv("HOPPER_TEST_MAIN") != "" {
		main()
	}
	// A child inherits what is ignored here, as in a script's background job;
	// not what is caught.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(m.Run())
}

// A process is the command, running.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *os.File      // to be read, or closed
	stderr *bytes.Buffer // complete after exit
	lines  chan string   // of stderr, as they come
}

// start starts the command with stdin from in, or an empty one. Its stdout is a
// pipe that nobody reads until the test does.
func start(t *testing.T, in *os.File, args ...string) *process {
	t.Helper()
	r, w := newPipePair(t)
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), stdout: r, stderr: new(bytes.Buffer), lines: make(chan string, 100)}
	p.cmd.Env = append(os.Environ(), "HOPPER_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0") // else each process waits a second at its end
	if p.cmd.Stdout = w; in != nil {
		p.cmd.Stdin = in
	}
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { p.cmd.Process.Kill() })
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(errs); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

func newPipePair(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// saying waits for a line on stderr that contains text.
func (p *process) saying(text string) {
	p.t.Helper()
	for line := range p.lines {
		p.stderr.WriteString(line + "\n")
		if strings.Contains(line, text) {
			return
		}
	}
	p.t.Fatalf("stderr never says %q but %q", text, p.stderr)
}

// next returns the next line on stderr, or "" if none comes for a moment.
func (p *process) next() string {
	select {
	case line := <-p.lines:
		return line
	case <-time.After(50 * time.Millisecond):
		return ""
	}
}

// exits waits for the end and checks the exit code.
func (p *process) exits(code int) {
	p.t.Helper()
	for line := range p.lines {
		p.stderr.WriteString(line + "\n")
	}
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit code %d, want %d; stderr: %s", got, code, p.stderr)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.stdout, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *process) readAll() []byte {
	p.t.Helper()
	b, err := io.ReadAll(p.stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// random returns n bytes, at most 24 MiB, that no compression shrinks and no
// other place repeats. They are shared: nobody may change them.
func random(n int) []byte { return noise()[:n:n] }

var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
})

// feed writes data to w in the background; done is closed when all of it is
// taken.
func feed(w io.Writer, data []byte) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		w.Write(data)
	}()
	return done
}

// same fails if the bytes differ, without printing megabytes.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%s: %d bytes, want %d; they differ from byte %d on", what, len(got), len(want), i)
}

func TestWrongCommandLinesAreUsageErrorsOfOneLine(t *testing.T) {
	for _, args := range []string{
		"unknown", "-unknown", "-resume", "-max-memory 1XB", "-max-disk -1", "-keep-free", "-progress=maybe", "-dir d extra",
		"inspect", "inspect a b", "inspect -x a", "cat", "verify", "verify a b",
	} {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(args), stdio{in: strings.NewReader("input"), out: &stdout, err: &stderr})
		if code != exitUsage || stdout.Len() > 0 {
			t.Errorf("hopper %s: exit code %d, stdout %q; want %d and nothing", args, code, &stdout, exitUsage)
		}
		if s := stderr.String(); !strings.HasPrefix(s, "hopper: ") || strings.Count(s, "\n") != 1 || !strings.HasSuffix(s, "\n") {
			t.Errorf("hopper %s: stderr is %q, want one line", args, s)
		}
	}
}

func TestHelpFitsOneScreen(t *testing.T) {
	for _, args := range []string{"-h", "--help", "help", "inspect -h"} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), stdio{out: &stdout, err: &stderr}); code != exitOK || stderr.Len() > 0 {
			t.Errorf("hopper %s: exit code %d, stderr %q", args, code, &stderr)
		}
		lines := strings.Split(stdout.String(), "\n")
		if len(lines) < 10 || len(lines) > 35 {
			t.Errorf("hopper %s: %d lines", args, len(lines))
		}
		for _, line := range lines {
			if len(line) > 100 {
				t.Errorf("too wide: %s", line)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "1": 1, "65536": 65536, "64KiB": 65536, "64kib": 65536, "64K": 65536, "64 KiB": 65536, "1.5GiB": 3 << 29, "500MB": 500e6,
		"1TB": 1e12, "2TiB": 2 << 40, ".5M": 1 << 19, "10B": 10, "9007199254740993": 9007199254740993, "9223372036854775807": 9223372036854775807,
	} {
		var got size
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, int64(got), err, int64(want))
		}
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "1e3", "inf", "NaN", "0x10", "1.2.3", "1XB", "9EiB", "8388608TiB", "9223372036854775808", "1 2"} {
		var got size
		if err := got.Set(text); err == nil {
			t.Errorf("%q: %d, want an error", text, int64(got))
		}
	}
	for s, want := range map[size]string{
		0: "0B", 1023: "1023B", 1024: "1.00KiB", 1 << 20: "1.00MiB", 1023 << 10: "1.00MiB", 12345678: "11.8MiB", 999 << 30: "999GiB", 1<<63 - 1: "8.00EiB", -2048: "-2.00KiB",
	} {
		if got := s.String(); got != want {
			t.Errorf("%d is shown as %s, want %s", int64(s), got, want)
		}
	}
}

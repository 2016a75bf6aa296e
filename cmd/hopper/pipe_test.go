package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestItCopiesByteForByte(t *testing.T) {
	for _, n := range []int{0, 1, 4095, pieceSize - 1, pieceSize, pieceSize + 1, 1 << 16, largeSize - 1, largeSize, largeSize + 1, 5 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r, w := newPipePair(t)
			p := start(t, r, "-dir", t.TempDir())
			data := random(n)
			go func() {
				w.Write(data)
				w.Close()
			}()
			same(t, "stdout", p.readAll(), data)
			p.exits(exitOK)
			if p.stderr.Len() > 0 {
				t.Errorf("stderr: %s", p.stderr)
			}
		})
	}
}

func TestItCopiesAFileIntoAFile(t *testing.T) {
	data := random(1 << 20)
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := start(t, in)
	same(t, "stdout", p.readAll(), data)
	p.exits(exitOK)
}

func TestAStoppedReaderDoesNotStopTheProducer(t *testing.T) {
	r, w := newPipePair(t)
	dir := t.TempDir()
	p := start(t, r, "-dir", dir, "-max-memory", "64KiB", "-segment-size", "1MiB")
	data := random(24 << 20)
	<-feed(w, data)
	w.Close()
	same(t, "stdout", p.readAll(), data)
	p.exits(exitOK)
	if names := segments(t, dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestAtMaxDiskTheProducerWaits(t *testing.T) {
	const maxDisk = 1 << 20
	r, w := newPipePair(t)
	dir := t.TempDir()
	p := start(t, r, "-dir", dir, "-max-memory", "64KiB", "-max-disk", "1MiB")
	data := random(16 << 20)
	fed := feed(w, data)
	p.saying("-max-disk is reached")
	var got bytes.Buffer
	for got.Len() < len(data) {
		if used := diskUse(t, dir); used > maxDisk {
			t.Fatalf("%d bytes on disk", used)
		}
		if got.Len() == 0 {
			select {
			case <-fed:
				t.Fatal("everything was taken: the cap does not hold")
			default:
			}
		}
		got.Write(p.read(min(64<<10, len(data)-got.Len())))
	}
	w.Close()
	same(t, "stdout", got.Bytes(), data)
	p.exits(exitOK)
}

func TestASignalWithResumeKeepsEveryByteAndTheNextRunGoesOn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux can a blocked read or write of a pipe be interrupted")
	}
	data := random(8 << 20)
	for _, taken := range []int{0, 100_000, 2 << 20} {
		for _, flags := range []string{"-max-memory 1MiB -segment-size 1MiB", "-max-memory 64MiB", "-max-memory 0 -max-disk 20MiB"} {
			t.Run(fmt.Sprint(taken, flags), func(t *testing.T) {
				r, w := newPipePair(t)
				args := append(strings.Fields(flags), "-dir", t.TempDir(), "-resume")
				half := len(data) / 2
				p := start(t, r, args...)
				<-feed(w, data[:half])
				got := p.read(taken)
				p.signal(os.Interrupt)
				p.exits(exitOK)
				got = append(got, p.readAll()...) // what the pipe still holds

				p = start(t, r, args...) // stopped again at once, and then not any more
				got = append(got, p.read(1)...)
				p.signal(syscall.SIGTERM)
				p.exits(exitOK)
				got = append(got, p.readAll()...)

				p = start(t, r, args...)
				go func() {
					w.Write(data[half:])
					w.Close()
				}()
				got = append(got, p.readAll()...)
				p.exits(exitOK)
				same(t, "stdout of all runs", got, data)
			})
		}
	}
}

func TestASignalAtMaxDiskKeepsWhatIsInHand(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux can a blocked read or write of a pipe be interrupted")
	}
	r, w := newPipePair(t)
	args := []string{"-dir", t.TempDir(), "-resume", "-max-memory", "64KiB", "-max-disk", "1MiB"}
	data := random(16 << 20)
	fed := feed(w, data)
	p := start(t, r, append(args, "-progress")...)
	got := p.read(1 << 20)
	p.saying("blocked")
	p.signal(os.Interrupt)
	p.exits(exitOK)
	got = append(got, p.readAll()...)
	p = start(t, r, args...)
	go func() {
		<-fed
		w.Close()
	}()
	got = append(got, p.readAll()...)
	p.exits(exitOK)
	same(t, "stdout of both runs", got, data)
}

func TestASignalWithoutResumeDeliversTheRest(t *testing.T) {
	r, w := newPipePair(t)
	p := start(t, r, "-dir", t.TempDir(), "-max-memory", "64KiB")
	data := random(8 << 20)
	<-feed(w, data)
	p.signal(syscall.SIGTERM)
	p.saying("signal again to stop at once")
	got := p.readAll()
	p.exits(exitOK)
	if len(got) < len(data)-1<<20 || !bytes.HasPrefix(data, got) { // the rest is still in the pipe of stdin
		t.Errorf("%d bytes, which are not the beginning of the input", len(got))
	}
}

func TestASecondSignalStopsAtOnce(t *testing.T) {
	r, w := newPipePair(t)
	dir := t.TempDir()
	p := start(t, r, "-dir", dir, "-max-memory", "64KiB")
	<-feed(w, random(8<<20))
	p.signal(os.Interrupt)
	p.saying("signal again")
	p.signal(os.Interrupt) // as timeout(1) does: it is the same one
	p.read(100_000)
	for { // a second later it is another one
		if p.cmd.Process.Signal(os.Interrupt); strings.Contains(p.next(), "lost") {
			break
		}
	}
	p.exits(exitFailed)
	if names := segments(t, dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestKillWithResumeBringsBackWhatWasOnDisk(t *testing.T) {
	r, w := newPipePair(t)
	args := []string{"-dir", t.TempDir(), "-resume", "-max-memory", "64KiB", "-segment-size", "1MiB"}
	data := random(16 << 20)
	p := start(t, r, args...)
	<-feed(w, data)
	p.read(4 << 20)
	p.signal(syscall.SIGKILL)
	p.exits(-1)
	p = start(t, nil, args...) // stdin is empty: what its pipe still holds would come behind a gap
	got := p.readAll()
	p.exits(exitOK)
	at := bytes.Index(data, got)
	if at < 0 || at > 4<<20+3<<20 || at+len(got) < len(data)-3<<20 {
		t.Errorf("%d bytes from %d on, of %d", len(got), at, len(data))
	}
}

func TestAClosedStdoutEndsItQuietly(t *testing.T) {
	r, w := newPipePair(t)
	p := start(t, r, "-dir", t.TempDir())
	feed(w, random(4<<20))
	p.read(10)
	p.stdout.Close()
	p.exits(exitPipe)
	if p.stderr.Len() > 0 {
		t.Errorf("stderr: %s", p.stderr)
	}
}

func TestAClosedStdoutEndsTheDeliveryAfterASignal(t *testing.T) {
	r, w := newPipePair(t)
	p := start(t, r, "-dir", t.TempDir(), "-max-memory", "64KiB")
	<-feed(w, random(8<<20))
	p.signal(syscall.SIGTERM)
	p.saying("signal again to stop at once")
	p.stdout.Close()
	p.exits(exitPipe)
}

func TestAClosedStdoutWithResumeKeepsTheRest(t *testing.T) {
	r, w := newPipePair(t)
	args := []string{"-dir", t.TempDir(), "-resume", "-max-memory", "64KiB"}
	data := random(8 << 20)
	p := start(t, r, args...)
	<-feed(w, data[:6<<20])
	p.read(1 << 20)
	p.stdout.Close()
	p.exits(exitPipe)
	p = start(t, r, args...)
	go func() {
		w.Write(data[6<<20:])
		w.Close()
	}()
	got := p.readAll()
	p.exits(exitOK)
	if !bytes.HasSuffix(data, got) || len(got) < len(data)-3<<20 { // what the pipe held went with its reader
		t.Errorf("%d bytes, which are not the end of the input", len(got))
	}
}

func TestProgress(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run([]string{"-progress"}, stdio{in: strings.NewReader("some input"), out: &stdout, err: &stderr})
	if code != exitOK || stdout.String() != "some input" {
		t.Fatalf("exit code %d, stdout %q", code, &stdout)
	}
	if s := stderr.String(); !strings.HasPrefix(s, "in 10B  out 10B in 0s, ") {
		t.Errorf("stderr: %q", s)
	}
}

func TestStatusOverwritesTheOneBefore(t *testing.T) {
	var b bytes.Buffer
	c := console{w: &b}
	c.setStatus("abcdef")
	c.setStatus("xy")
	c.say("told")
	want := "\rabcdef" + "\rxy    \b\b\b\b" + "\r  \b\b" + "hopper: told\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestErrorsOfStdinAndStdoutAreReported(t *testing.T) {
	var stdout, stderr bytes.Buffer
	in := io.MultiReader(strings.NewReader("before"), failing{})
	if code := run(nil, stdio{in: in, out: &stdout, err: &stderr}); code != exitFailed || stdout.String() != "before" || stderr.String() != "hopper: read stdin: no luck\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	stderr.Reset()
	if code := run(nil, stdio{in: strings.NewReader("input"), out: failing{}, err: &stderr}); code != exitFailed || stderr.String() != "hopper: write stdout: no luck: 5B not delivered\n" {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, fmt.Errorf("no luck") }
func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("no luck") }

func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sz"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// diskUse returns the size of the segments. A segment may go and another one
// come while they are looked at: then it looks again.
func diskUse(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for {
		before := segments(t, dir)
		bytes = 0
		for _, name := range before {
			if fi, err := os.Stat(name); err == nil { // else it is gone by now
				bytes += fi.Size()
			}
		}
		if slices.Equal(before, segments(t, dir)) {
			return bytes
		}
	}
}

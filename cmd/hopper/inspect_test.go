package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/hopper"
	"example.com/hopper/codec"
	"example.com/hopper/spill/segment"
)

// keep leaves a backlog of the items in dir.
func keep[T any](t *testing.T, dir string, c codec.Codec[T], items []T, opts ...hopper.Option) {
	t.Helper()
	in, out := make(chan T), make(chan T)
	p, err := hopper.Pipe(out, in, append(opts, hopper.Dir(dir), hopper.Resume(), hopper.WithCodec(c))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range items {
		in <- v
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// backlog leaves pieces of random data in dir, in several segments.
func backlog(t *testing.T, dir string) (data []byte) {
	t.Helper()
	data = random(2 << 20)
	var items [][]byte
	for at := 0; at < len(data); at += 10_000 {
		items = append(items, data[at:min(at+10_000, len(data))])
	}
	keep(t, dir, codec.Bytes{}, items, hopper.SegmentSize(512<<10), hopper.MaxMemory(0))
	return data
}

// command runs the command in this process.
func command(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(args, stdio{in: strings.NewReader(""), out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestInspectListsTheSegments(t *testing.T) {
	dir := t.TempDir()
	backlog(t, dir)
	code, stdout, stderr := command("inspect", dir)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != exitOK || stderr != "" || len(lines) < 6 {
		t.Fatalf("exit code %d, stderr %q, stdout:\n%s", code, stderr, stdout)
	}
	if first := strings.Fields(lines[1]); first[0] != "00000000000000000000.sz" || first[1] != "0" || !strings.HasSuffix(lines[1], "sealed  raw []byte") {
		t.Errorf("first segment: %s", lines[1])
	}
	if last := lines[len(lines)-1]; last != "210 items to be delivered, from 0 on" {
		t.Errorf("last line: %s", last)
	}
}

func TestInspectAsJSON(t *testing.T) {
	dir := t.TempDir()
	backlog(t, dir)
	code, stdout, _ := command("inspect", "-json", dir)
	var l listing
	if err := json.Unmarshal([]byte(stdout), &l); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v, stdout:\n%s", code, err, stdout)
	}
	var bytes int64
	at := uint64(0)
	for _, s := range l.Segments {
		if s.First != at || s.Items != s.End-s.First || s.State != "sealed" || s.Ratio < 1 || s.Ratio > 1.1 {
			t.Errorf("segment %+v, want one from %d on", s, at)
		}
		at = s.End
		bytes += s.Unpacked
	}
	if l.Items != 210 || at != 210 || bytes != 2<<20+2*210 {
		t.Errorf("%d items, to %d, %d bytes of frames", l.Items, at, bytes)
	}
}

func TestCatWritesTheBacklogAndLeavesIt(t *testing.T) {
	dir := t.TempDir()
	data := backlog(t, dir)
	for range 2 {
		code, stdout, stderr := command("cat", dir)
		if code != exitOK || stderr != "" {
			t.Fatalf("exit code %d, stderr %q", code, stderr)
		}
		same(t, "stdout", []byte(stdout), data)
	}
}

func TestCatWritesALineForEachItem(t *testing.T) {
	dir := t.TempDir()
	keep(t, dir, codec.JSON[map[string]int]{}, []map[string]int{{"a": 1}, {"b": 2}, nil})
	code, stdout, stderr := command("cat", "-lines", dir)
	if want := "{\"a\":1}\n{\"b\":2}\nnull\n"; code != exitOK || stdout != want {
		t.Errorf("exit code %d, stderr %q, stdout %q, want %q", code, stderr, stdout, want)
	}
}

func TestCatWritesWhatAStoppedRunWouldHaveWritten(t *testing.T) {
	r, w := newPipePair(t)
	args := []string{"-dir", t.TempDir(), "-resume", "-max-memory", "64KiB"}
	data := random(8 << 20)
	p := start(t, r, args...)
	<-feed(w, data)
	got := p.read(1 << 20)
	p.signal(os.Interrupt)
	p.exits(exitOK)
	got = append(got, p.readAll()...)

	code, cat, stderr := command("cat", args[1])
	if code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	w.Close()
	p = start(t, r, args...)
	rest := p.readAll()
	p.exits(exitOK)
	if !bytes.HasPrefix(rest, []byte(cat)) || len(rest)-len(cat) > 1<<20 { // the pipe of stdin held some more
		t.Errorf("cat wrote %d bytes, the next run %d", len(cat), len(rest))
	}
	same(t, "stdout of both runs", append(got, rest...), data)
}

func TestVerifyFindsNothingWrong(t *testing.T) {
	dir := t.TempDir()
	backlog(t, dir)
	code, stdout, stderr := command("verify", dir)
	if code != exitOK || stderr != "" || !strings.Contains(stdout, "all is well: 210 items") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestDamageIsToldExactlyAndTheRestIsRead(t *testing.T) {
	for name, test := range map[string]struct {
		damage      func(t *testing.T, path string)
		want        string
		first, last uint64 // items lost, counted from the segment's first; last 0: to its end
	}{
		"a flipped bit":      {flipBit, "checksum mismatch", 6, 11},
		"a segment is gone":  {func(t *testing.T, path string) { os.Remove(path) }, "segment is missing", 0, 0},
		"a segment is empty": {func(t *testing.T, path string) { os.Truncate(path, 0) }, "what should follow is missing", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := backlog(t, dir)
			l, err := segment.Inspect(dir)
			if err != nil {
				t.Fatal(err)
			}
			s := l.Segments[2]
			first, last := s.First+test.first, s.First+test.last
			if test.last == 0 {
				last = s.End - 1
			}
			want := fmt.Sprintf("%s: items %d to %d lost (%d)\n", test.want, first, last, last-first+1)
			test.damage(t, s.Path)

			code, stdout, stderr := command("verify", dir)
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, dir) {
				t.Errorf("verify: exit code %d, stdout %q, stderr %q; want %q", code, stdout, stderr, want)
			}
			code, stdout, stderr = command("cat", dir)
			if code != exitFailed || !strings.HasSuffix(stderr, want) {
				t.Errorf("cat: exit code %d, stderr %q; want %q", code, stderr, want)
			}
			same(t, "cat", []byte(stdout), append(bytes.Clone(data[:10_000*first]), data[10_000*(last+1):]...))
		})
	}
}

// flipBit flips a bit in the second chunk of a segment.
func flipBit(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[100_000] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedRestIsTold(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"a flipped bit":   func(b []byte) []byte { b[500] ^= 1; return b },
		"empty":           func(b []byte) []byte { return nil },
		"a chunk less":    func(b []byte) []byte { return b[:len("\xff\x06\x00\x00sNaPpY")] },
		"a skipped chunk": func(b []byte) []byte { b[len("\xff\x06\x00\x00sNaPpY")] = 0x80; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := saveRest(dir, random(1000)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, restName)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"verify", dir}, {"cat", dir}, {"-dir", dir, "-resume"}} {
				if code, _, stderr := command(args...); code != exitFailed || !strings.Contains(stderr, path) {
					t.Errorf("%s: exit code %d, stderr %q", args[0], code, stderr)
				}
			}
			if code, stdout, _ := command("inspect", dir); code != exitOK || !strings.Contains(stdout, path) {
				t.Errorf("inspect: exit code %d, stdout %q", code, stdout)
			}
		})
	}
}

func TestARestAloneIsABacklogToo(t *testing.T) {
	dir := t.TempDir()
	rest := random(1000)
	if err := saveRest(dir, rest); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := command("-dir", dir); code != exitFailed || stdout != "" || !strings.Contains(stderr, "-resume") {
		t.Errorf("exit code %d, %d bytes, stderr %q; want it refused without -resume", code, len(stdout), stderr)
	}
	if code, stdout, stderr := command("-dir", dir, "-resume"); code != exitOK || stdout != string(rest) {
		t.Errorf("exit code %d, %d bytes, stderr %q; want the rest", code, len(stdout), stderr)
	}
}

func TestDirectoriesWithoutABacklog(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "notes.txt"), []byte("not a segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{t.TempDir(), foreign} {
		for cmd, want := range map[string]string{"inspect": dir + ": no segments\n", "cat": ""} {
			if code, stdout, stderr := command(cmd, dir); code != exitOK || stdout != want || stderr != "" {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", cmd, code, stdout, stderr)
			}
		}
		if code, stdout, stderr := command("verify", dir); code != exitFailed || stdout != "" ||
			!strings.Contains(stderr, dir+" holds no backlog") {
			t.Errorf("verify: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	}
	missing := filepath.Join(foreign, "missing")
	for _, dir := range []string{missing, filepath.Join(foreign, "notes.txt")} {
		for _, cmd := range []string{"inspect", "cat", "verify"} {
			if code, stdout, stderr := command(cmd, dir); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "hopper: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", cmd, code, stdout, stderr)
			}
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("looking made a directory")
	}
}

// TestLookingIntoALiveDirectory looks while segments come and go, and the last
// one grows.
func TestLookingIntoALiveDirectory(t *testing.T) {
	dir := t.TempDir()
	keep(t, dir, codec.Bytes{}, [][]byte{random(100_000), random(200_000)}) // so that there is a receipt too
	in, out := make(chan []byte), make(chan []byte)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.WithCodec(codec.Bytes{}), hopper.SegmentSize(256<<10), hopper.MaxMemory(0))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		item := random(50_000)
		for waiting := 2; ; {
			to, from := in, (chan []byte)(nil)
			if waiting >= 100 {
				to, from = nil, out
			}
			select {
			case to <- item:
				waiting++
			case <-from:
				waiting--
			case <-stop:
				return
			}
		}
	}()
	for i := range 20 {
		for _, cmd := range []string{"verify", "cat", "inspect"} {
			code, stdout, stderr := command(cmd, dir)
			if code != exitOK || stderr != "" || strings.Contains(stdout, "damaged") || strings.Contains(stdout, "missing") {
				t.Fatalf("%d: %s: exit code %d, stderr %q", i, cmd, code, stderr)
			}
		}
	}
	close(stop)
	<-ended
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A screen is a tmux session in which the command runs.
type screen struct {
	t      *testing.T
	socket string
}

func newScreen(t *testing.T, columns int, command string) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux: how it looks in a terminal is not tested")
	}
	s := &screen{t, filepath.Join(t.TempDir(), "tmux")}
	s.tmux("new-session", "-d", "-x", fmt.Sprint(columns), "-y", "30", "-s", "hopper", "sh", "-c",
		"export HOPPER_TEST_MAIN=1 LC_ALL=C.UTF-8; "+command+"; echo ended; sleep 1000")
	t.Cleanup(func() { exec.Command("tmux", "-S", s.socket, "kill-server").Run() })
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// lines returns what stands on the screen.
func (s *screen) lines() []string {
	return strings.Split(strings.TrimRight(s.tmux("capture-pane", "-p", "-t", "hopper"), "\n"), "\n")
}

// await waits until a line on the screen matches, and returns it.
func (s *screen) await(pattern string) string {
	s.t.Helper()
	wanted := regexp.MustCompile(pattern)
	for range 300 {
		for _, line := range s.lines() {
			if wanted.MatchString(line) {
				return line
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%q does not come:\n%s", pattern, strings.Join(s.lines(), "\n"))
	return ""
}

// megabytes is a command that writes so many.
func megabytes(n int) string { return fmt.Sprintf("head -c %d000000 /dev/zero", n) }

var widths = []int{20, 40, 80, 160}

func TestInATerminalTheProgressStaysOnOneLine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, width := range widths {
		t.Run(fmt.Sprint("columns=", width), func(t *testing.T) {
			s := newScreen(t, width, "("+megabytes(5)+"; sleep 2; "+megabytes(5)+"; sleep 1000) | "+self+
				" -progress | (sleep 1000; cat)")
			line := s.await("wait [34][.]")
			if n := utf8.RuneCountInString(line); n >= width {
				t.Errorf("%d columns of %d: %q", n, width, line)
			}
			s.await("wait [89][.]")
			if all := s.lines(); len(all) != 1 {
				t.Errorf("%d lines: %q", len(all), all)
			}
		})
	}
}

func TestTheProgressSurvivesResizing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := newScreen(t, 100, "("+megabytes(5)+"; sleep 1000) | "+self+" -progress | (sleep 1000; cat)")
	s.await("wait [34].*disk")
	s.tmux("resize-window", "-t", "hopper", "-x", "30")
	for tries := 0; ; tries++ {
		all := s.lines()
		if last := all[len(all)-1]; strings.Contains(last, "wait ") && !strings.Contains(last, "disk") {
			return
		}
		if tries == 100 {
			t.Fatalf("after resizing: %q", all)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestInATerminalTheDemoIsAPicture(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, width := range widths {
		t.Run(fmt.Sprint("columns=", width), func(t *testing.T) {
			s := newScreen(t, width, self+" demo -for 1s")
			s.await("ended")
			text := strings.Join(s.lines(), "\n")
			for _, want := range []string{"bare channel", "slice", "hopper.Pipe"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s:\n%s", want, text)
				}
			}
			if width >= 40 { // as broken between words as on a wide one
				for _, want := range []string{"Its consumer", "none lost", "producer"} {
					if words := strings.Join(strings.Fields(text), " "); !strings.Contains(words, want) {
						t.Errorf("no %q:\n%s", want, text)
					}
				}
			}
			if strings.Count(text, "consumers") != 1 {
				t.Errorf("the picture does not stay in its place:\n%s", text)
			}
		})
	}
}

package main

import (
	"bytes"
	"flag"
	"os/exec"
	"strings"
	"testing"
)

// says runs the command and returns what it writes to stdout.
func says(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(args, stdio{out: &stdout, err: &stderr}); code != exitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, &stderr)
	}
	return stdout.String()
}

func TestTheHelpNamesEachFlagAndCommand(t *testing.T) {
	text := says(t, "-h")
	new(settings).flags().VisitAll(func(f *flag.Flag) {
		if !strings.Contains(text, "\n  -"+f.Name+" ") {
			t.Errorf("the help does not tell of -%s", f.Name)
		}
	})
	for _, c := range commands {
		if c != "help" && !strings.Contains(text, "hopper "+c) {
			t.Errorf("the help does not tell of %s", c)
		}
	}
}

func TestTheVersionIsTold(t *testing.T) {
	if got := says(t, "-version"); !strings.HasPrefix(got, "hopper ") || !strings.Contains(got, "go1.") {
		t.Errorf("%q", got)
	}
}

func TestTheManualIsSoundRoff(t *testing.T) {
	page := says(t, "man")
	if !strings.Contains(page, "max\\-memory") {
		t.Errorf("the flags are not in it:\n%s", page)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("there is no groff: the page is not formatted")
	}
	cmd := exec.Command("groff", "-man", "-Tascii", "-ww", "-z")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}

func TestShellsCompleteEachFlagAndCommand(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := says(t, "completion", shell)
		for _, word := range append([]string{"max-disk", "resume", "version"}, commands...) {
			if !strings.Contains(script, word) {
				t.Errorf("%s does not complete %s:\n%s", shell, word, script)
			}
		}
		if _, err := exec.LookPath(shell); err != nil || shell == "zsh" {
			continue // zsh sources it in a completion only
		}
		cmd := exec.Command(shell)
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"completion", "csh"}, stdio{out: &stdout, err: &stderr}); code != exitUsage {
		t.Errorf("csh: exit code %d", code)
	}
}

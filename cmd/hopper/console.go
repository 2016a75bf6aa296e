package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"example.com/hopper/spill"
)

// A console writes lines to stderr, and below them a status that is
// overwritten. It is safe for concurrent use.
type console struct {
	mu     sync.Mutex
	w      io.Writer
	status int // columns of the status that is shown
}

// say writes a line, behind the name of this command.
func (c *console) say(format string, args ...any) {
	c.line("hopper: " + fmt.Sprintf(format, args...))
}

func (c *console) line(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showLocked("")
	fmt.Fprintln(c.w, text)
}

// setStatus shows text, which must be shorter than a line, in place of the
// status before. One that was longer than the line is now, since the terminal
// has become narrower, stays above.
func (c *console) setStatus(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showLocked(text)
}

// showLocked replaces the status.
func (c *console) showLocked(text string) {
	if text == "" && c.status == 0 {
		return
	}
	if c.status >= terminalWidth(c.w) {
		fmt.Fprintln(c.w)
		c.status = 0
	}
	columns := utf8.RuneCountInString(text)
	pad := max(0, c.status-columns)
	fmt.Fprint(c.w, "\r"+text+strings.Repeat(" ", pad)+strings.Repeat("\b", pad))
	c.status = columns
}

// A logger writes what the pump logs to the console: damage in detail, since it
// may be long until the end, and of all else each kind of message once, since a
// pipe at its cap would tell with every segment.
type logger struct {
	con     *console
	told    sync.Map
	damages atomic.Int32
	slog.Handler
}

// maxDamages is how many damaged places are told.
const maxDamages = 16

// Enabled implements [slog.Handler].
func (l *logger) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (l *logger) Handle(_ context.Context, r slog.Record) error {
	var err error
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(error); ok {
			err = e
		}
		if a.Key == "reason" {
			text += ": " + inFlags.Replace(a.Value.String())
		}
		return true
	})
	if errors.Is(err, spill.ErrCorrupt) {
		switch n := l.damages.Add(1); {
		case n <= maxDamages:
			l.con.line(messages(err)[0])
		case n == maxDamages+1:
			l.con.say("there is more damage: hopper verify tells all of a directory")
		}
		return nil
	}
	if _, told := l.told.LoadOrStore(r.Message, true); told {
		return nil
	}
	if err != nil {
		text += ": " + err.Error()
	}
	l.con.line(text)
	return nil
}

// inFlags puts the names of the library's options into those of the flags.
var inFlags = strings.NewReplacer(
	"MaxDisk", "-max-disk", "KeepFree", "-keep-free", "MaxMemory", "-max-memory")

func (l *logger) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *logger) WithGroup(string) slog.Handler { return l }

//go:build unix && !illumos && !solaris

package segment

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// inherit gives a descriptor to a child that has been forked, and does not
// execute its program before the test ends.
func inherit(t *testing.T, f *os.File) {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
}

func TestALockDoesNotOutliveCloseInAChild(t *testing.T) { // R9
	cfg := realConfig(t)
	s, _ := openReal(t, cfg)
	inherit(t, s.dir.lock.(dirLock).f)
	must(t, s.Close(t.Context(), true, 0, 0))
	s, _ = openReal(t, cfg)
	must(t, s.Close(t.Context(), true, 0, 0))

	s, _ = openReal(t, cfg)
	inherit(t, s.dir.lock.(dirLock).f)
	s.dir.giveUp()
	must(t, s.dir.open(cfg.Dir))
	s.dir.giveUp()
}

func TestAMarkerThatStaysIsNotLockedByAChild(t *testing.T) { // R9
	parent := t.TempDir()
	path, m, err := newTemp(parent)
	must(t, err)
	inherit(t, m.f)
	must(t, m.unlock())
	sweepDir(path)
	if exists(path) {
		t.Error("not swept")
	}
}

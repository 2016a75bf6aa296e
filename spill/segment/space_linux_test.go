package segment

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSpaceIsCountedInFragments(t *testing.T) { // A7
	for _, tt := range []struct {
		st           unix.Statfs_t
		avail, total int64
	}{
		{unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096, Bavail: 100, Blocks: 1000}, 409600, 4096000},
		{unix.Statfs_t{Bsize: 4096, Bavail: 100, Blocks: 1000}, 409600, 4096000},
		{unix.Statfs_t{Bsize: 4096, Frsize: 4096}, 0, 0},
		{unix.Statfs_t{Frsize: 4096, Bavail: math.MaxUint64, Blocks: 1 << 60}, math.MaxInt64,
			math.MaxInt64},
	} {
		avail, total := spaceOf(&tt.st)
		if avail != tt.avail || total != tt.total {
			t.Errorf("%+v: %d of %d, want %d of %d", tt.st, avail, total, tt.avail, tt.total)
		}
	}
	if avail, total, err := Free(t.TempDir()); err != nil || avail <= 0 || total < avail {
		t.Errorf("%d of %d, %v", avail, total, err)
	}
}

package storetest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
)

// A Medium is what the stores under test keep their batches in, together with
// what the tests can make of it. It begins empty, and belongs to one test.
//
// All fields but Store are optional: a test that needs one which is nil is
// skipped.
type Medium struct {
	// Store returns a new store on the medium, to be opened. It sets itself no
	// limit below 64 MiB.
	Store func() spill.Store

	// Limited returns a new store on the medium, to be opened, that takes no
	// more space than limit, in bytes.
	Limited func(limit int64) spill.Store

	// Crash leaves the medium as the end of s's process would. Nothing more is
	// called of s but Usage. The stores that Store returns from here on can be
	// opened, though s has not been closed: on a copy of the medium, if it
	// can't be unlocked.
	Crash func(s spill.Store)

	// CutPower leaves the medium as the end of s's machine would: what was
	// stored since the last Sync or Close is lost, as far as the store does not
	// make it durable before. Else it is like Crash.
	CutPower func(s spill.Store)

	// Refuse makes Append refuse everything, as a full disk does, or, if on is
	// false, no longer. What it has refused has not changed the medium. Sync
	// may fail meanwhile.
	Refuse func(on bool)

	// Hang makes the calls of all stores hang until resume is called or their
	// context ends, as if the medium did not answer. Resume is called at least
	// once.
	Hang func() (resume func())

	// Corrupt changes a bit in the chunk in which the item seq begins; see
	// [FlipBit]. No store is open.
	Corrupt func(seq uint64)

	// Lose deletes whatever holds the item seq, as far as the store keeps it in
	// one piece, such as a file. No store is open.
	Lose func(seq uint64)

	// MakeNewer makes the medium look as if a newer program had written it. No
	// store is open.
	MakeNewer func()
}

// Test runs the conformance suite, each test in a subtest. It calls create for
// each to get an empty medium; the t is that of the subtest.
func Test(t *testing.T, create func(t *testing.T) Medium) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			run(t, create(t), c.test)
		})
	}
}

// TestInBubble is like [Test], and runs each test inside a bubble of
// [testing/synctest]: for stores that wait, and neither start goroutines that
// outlive them nor use the network.
func TestInBubble(t *testing.T, create func(t *testing.T) Medium) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run(t, create(t), c.test)
			})
		})
	}
}

// patience is how long a test waits for a store.
const patience = 5 * time.Minute

// run runs one test.
func run(t tb, m Medium, test func(*trial)) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	tr := &trial{t: t, ctx: ctx, m: m, sizes: make(map[uint64]int)}
	defer tr.cleanUp()
	test(tr)
}

// tb is what the tests use of a [testing.T].
type tb interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A testCase is one test of the suite.
type testCase struct {
	name string // a sentence
	test func(*trial)
}

// cases are the tests of the suite.
var cases = []testCase{
	{"items come back in the order in which they were appended", testOrder},
	{"several batches in one Append are stored in their order", testManyBatches},
	{"an item over many chunks comes back whole", testLargeItems},
	{"a batch that comes twice is delivered once", testTwice},
	{"numbers that were skipped are no loss", testSkippedNumbers},
	{"numbers that were skipped are no loss after a crash", testSkippedNumbersAfterCrash},
	{"numbers may begin anywhere and be large", testLargeNumbers},

	{"reading may begin at any number", testReadAnywhere},
	{"a position is only a hint", testHints},
	{"what Read has returned stays as it is until the next Read", testReadMemory},
	{"one goroutine reads while another appends and trims", testReadWhileAppending},
	{"reading what was trimmed comes to an end", testReadTrimmed},

	{"Trim gives space back and loses nothing from acked on", testTrim},
	{"TrimAt is where Trim begins to give space back", testTrimAt},
	{"a store whose items are all done takes no space", testAllDone},
	{"Usage never blocks and works before Open and after Close", testUsage},

	{"at its limit a store refuses whole batches until items are done", testLimit},
	{"an Append that reaches the limit says how far it got", testLimitMidway},
	{"an item that does not fit leaves nothing behind", testLimitLarge},
	{"Lift lifts the limit", testLift},
	{"after Lift older items may come last", testOlderItems},
	{"what was refused may come again", testRefusal},

	{"what was done at a Sync does not come back after a crash", testCursor},
	{"Sync, Append and Trim may come in any order", testCursors},
	{"Sync of a store without items keeps nothing", testSyncOfNothing},
	{"numbers after Sync of a store without items are new ones", testNumbersAfterSync},
	{"Sync when everything is done leaves nothing", testSyncWhenAllIsDone},
	{"a Sync that was refused may come again", testSyncRefused},
	{"what was synced survives a power cut", testPowerCut},
	{"what a clean Close left survives a power cut", testPowerCutAfterClose},
	{"a log that is to leave nothing may sync", testSyncNotKept},
	{"Sync returns though its context has ended", testSyncEndedContext},

	{"a clean Close leaves exactly what it says", testCleanClose},
	{"a clean Close may leave nothing", testNothingLeft},
	{"a Close with equal numbers leaves what was stored from there on", testEqualNumbers},
	{"a Close without keep deletes everything", testNotKept},
	{"a backlog may be reopened many times", testManyReopenings},
	{"after a crash everything that was appended is there", testCrash},
	{"a crash after a clean Close brings no loss", testCrashAfterClose},
	{"a crash of a log that was not to be kept leaves nothing to the next", testCrashNotKept},

	{"items of another kind are refused and left untouched", testLabel},
	{"items that were left on purpose are not deleted", testNotResumed},
	{"items of a log that crashed are not deleted", testCrashNotResumed},
	{"a store in use is locked", testLocked},
	{"what a newer program wrote is refused and left untouched", testNewer},

	{"a damaged chunk costs exactly its items", testDamage},
	{"a damaged chunk of an item over many costs that item", testDamagedLargeItem},
	{"a lost piece is reported exactly", testLostPiece},

	{"the end of its context ends a call that hangs", testHang},
	{"a store lets go though its context has ended", testEndedContext},
	{"a log on the store delivers every item once and in order", testLog},
}

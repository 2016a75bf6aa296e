package storetest_test

import (
	"context"
	"fmt"
	"testing"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// A test of your own store. Its body is all that is needed; the optional fields
// of [storetest.Medium] have more of the suite run.
func ExampleTest() {
	newStore := func(dir string) spill.Store { return storetest.NewMemory().Store() } // yours

	_ = func(t *testing.T) { // func TestStore(t *testing.T)
		storetest.Test(t, func(t *testing.T) storetest.Medium {
			dir := t.TempDir()
			return storetest.Medium{
				Store: func() spill.Store { return newStore(dir) },
			}
		})
	}
}

// A log whose store hangs keeps its items in memory, and says so when it is
// closed.
func ExampleMemory() {
	m := storetest.NewMemory()
	log, _, err := spill.Open(context.Background(), spill.Config{
		Store: m.Store(), Label: "lines", Keep: true, Wake: make(chan struct{}, 1),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	log.Commit(append(log.Begin(0), "a line"...))

	resume := m.Hang(storetest.Append)
	defer resume()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	left := log.Close(ctx, 0)
	fmt.Println("items unsaved:", left.Unsaved)
	// Output: items unsaved: 1
}

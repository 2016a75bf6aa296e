package spill_test

import (
	"errors"
	"testing"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

func TestALogWhoseStoreIsTakenOverSaysSo(t *testing.T) {
	for _, call := range []storetest.Call{storetest.Append, storetest.Read} {
		t.Run(call.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.send(5000)
				sleep(2 * spill.RetryMax) // stored
				if err := r.log.Err(); err != nil {
					t.Fatalf("Err before: %v", err)
				}

				r.m.Fail(call, 1<<30, spill.ErrLocked)
				r.send(5000)
				r.log.Next(0, 0)
				sleep(2 * spill.RetryMax)
				if err := r.log.Err(); !errors.Is(err, spill.ErrLocked) || !r.woken() {
					t.Errorf("Err of a log whose store was taken over: %v, want ErrLocked", err)
				}
			})
		})
	}
}

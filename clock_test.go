package hopper

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheClockIsExactToItsStepHoweverOftenItIsRead(t *testing.T) {
	for _, pause := range []time.Duration{0, 1, clockStep - 1, clockStep, time.Hour} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := clock{start: time.Now()}
				for range 100 {
					for range 3 {
						if late := time.Since(c.start) - c.read(); late < 0 || late > clockStep {
							t.Fatalf("%v late after %v", late, time.Since(c.start))
						}
					}
					time.Sleep(pause)
				}
			})
		})
	}
}

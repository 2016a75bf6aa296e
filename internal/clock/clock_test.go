package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAClockIsExactToItsStepHoweverOftenItIsRead(t *testing.T) {
	for _, pause := range []time.Duration{0, 1, Step - 1, Step, time.Hour} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := Clock{Start: time.Now()}
				for range 100 {
					for range 3 {
						if late := time.Since(c.Start) - c.Read(); late < 0 || late > Step {
							t.Fatalf("%v late after %v", late, time.Since(c.Start))
						}
					}
					time.Sleep(pause)
				}
			})
		})
	}
}

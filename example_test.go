package hopper_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/hopper"
)

func ExamplePipe() {
	type Event struct {
		ID   int
		Text string
	}
	in := make(chan Event, 16)  // producers send here
	out := make(chan Event, 16) // and the consumer, which used to range over in, here

	pump, err := hopper.Pipe(out, in) // the destination comes first
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for i := range 3 {
			in <- Event{i, "hello"} // does not wait for the consumer
		}
		close(in)
	}()

	for e := range out {
		fmt.Println(e.ID, e.Text)
	}
	if err := pump.Wait(); err != nil { // nil: everything was delivered
		log.Fatal(err)
	}
	// Output:
	// 0 hello
	// 1 hello
	// 2 hello
}

func ExampleMake() {
	in, out, pump, err := hopper.Make[string](0)
	if err != nil {
		log.Fatal(err)
	}
	in <- "nobody"
	in <- "waits"
	close(in)

	for s := range out {
		fmt.Println(s)
	}
	fmt.Println(pump.Wait())
	// Output:
	// nobody
	// waits
	// <nil>
}

// A service that sheds load, but only at a limit. That in is full for a moment
// is no reason: the pump may only not have had its turn yet.
func ExampleStats_shedding() {
	in, out, pump, err := hopper.Make[string](64, hopper.MaxMemory(64<<10), hopper.MaxDisk(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	send := func(s string) (accepted bool) {
		for {
			select {
			case in <- s:
				return true
			case <-time.After(time.Millisecond):
				if pump.Stats().Blocked { // and Reason says why
					return false
				}
			}
		}
	}

	accepted, shed := 0, 0
	for shed < 10 {
		if send(strings.Repeat("a request", 1000)) {
			accepted++
		} else {
			shed++
		}
	}
	close(in)

	received := 0
	for range out {
		received++
	}
	fmt.Println(accepted > 100, received == accepted, pump.Wait())
	// Output: true true <nil>
}

func ExamplePump_Shutdown() {
	in, out := make(chan int), make(chan int)
	pump, err := hopper.Pipe(out, in)
	if err != nil {
		log.Fatal(err)
	}
	in <- 1
	in <- 2
	fmt.Println("got", <-out)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = pump.Shutdown(ctx) // nobody receives the second item in time

	var undelivered *hopper.UndeliveredError
	if errors.As(err, &undelivered) {
		fmt.Println("undelivered:", undelivered.Items, "kept:", undelivered.Kept)
	}
	// Output:
	// got 1
	// undelivered: 1 kept: false
}

func ExampleResume() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	in, _, pump, err := hopper.Make[string](0, hopper.Dir(dir), hopper.Resume())
	if err != nil {
		log.Fatal(err)
	}
	in <- "first"
	in <- "second"
	fmt.Println("close:", pump.Close()) // nil: nothing is lost

	// The next start of the program.
	in, out, pump, err := hopper.Make[string](0, hopper.Dir(dir), hopper.Resume())
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		in <- "third"
		close(in)
	}()
	for s := range out {
		fmt.Println(s)
	}
	fmt.Println("wait:", pump.Wait())
	// Output:
	// close: <nil>
	// first
	// second
	// third
	// wait: <nil>
}

// At least once: an item that was not acknowledged comes back at the next
// start.
func ExampleManualAck() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	options := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.ManualAck()}

	in, out, pump, err := hopper.Make[string](0, options...)
	if err != nil {
		log.Fatal(err)
	}
	in <- "stored"
	in <- "lost in a crash of the sink"
	fmt.Println("got:", <-out)
	pump.Ack(1) // it is in the sink
	fmt.Println("got:", <-out)
	pump.Close() // without an Ack of the second

	// The next start of the program.
	in, out, pump, err = hopper.Make[string](0, options...)
	if err != nil {
		log.Fatal(err)
	}
	close(in)
	for s := range out {
		fmt.Println("again:", s)
		pump.Ack(1)
	}
	fmt.Println("wait:", pump.Wait())
	// Output:
	// got: stored
	// got: lost in a crash of the sink
	// again: lost in a crash of the sink
	// wait: <nil>
}

// A pool of workers, each of which is done with its items in its own time.
func ExampleDeliveries() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	in, out, pump, err := hopper.Make[int](0, hopper.Dir(dir), hopper.Resume(), hopper.ManualAck())
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for i := range 100 {
			in <- i
		}
		close(in)
	}()

	var sum atomic.Int64
	var workers sync.WaitGroup
	deliveries := hopper.Deliveries(pump, out)
	for range 4 {
		workers.Go(func() {
			for d := range deliveries {
				sum.Add(int64(d.Value)) // the work
				d.Ack()
			}
		})
	}
	workers.Wait()
	fmt.Println(sum.Load(), pump.Wait())
	// Output: 4950 <nil>
}

// What was received more than a tenth of a second ago survives a crash.
func ExampleSyncEvery() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	in, out, pump, err := hopper.Make[string](0, hopper.Dir(dir), hopper.Resume(),
		hopper.ManualAck(), hopper.SyncEvery(100*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	in <- "an order"
	close(in)
	for order := range out {
		fmt.Println(order)
		pump.Ack(1) // once it is done
	}
	fmt.Println(pump.Wait())
	// Output:
	// an order
	// <nil>
}

// Batches go into a slow sink, and are acknowledged as a whole.
func ExampleBatches() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	in, out, pump, err := hopper.Make[int](0, hopper.Dir(dir), hopper.Resume(), hopper.ManualAck())
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for i := range 25 {
			in <- i
		}
		close(in)
	}()

	for batch := range hopper.Batches(out, 10, time.Minute) {
		fmt.Println(len(batch), "items from", batch[0]) // one INSERT, say
		pump.Ack(len(batch))
	}
	fmt.Println(pump.Wait())
	// Output:
	// 10 items from 0
	// 10 items from 10
	// 5 items from 20
	// <nil>
}

// Ten tenants share a GiB of disk. One whose consumer stalls gets what nobody
// else needs, and no more.
func ExampleShare() {
	budget := hopper.NewBudget(1 << 30)
	var tenants sync.WaitGroup
	var delivered atomic.Int64
	for range 10 {
		in, out, pump, err := hopper.Make[string](0, hopper.Share(budget))
		if err != nil {
			log.Fatal(err)
		}
		tenants.Go(func() {
			for range out {
				delivered.Add(1)
			}
			if err := pump.Wait(); err != nil {
				log.Print(err)
			}
		})
		for range 100 {
			in <- "a request"
		}
		close(in)
	}
	tenants.Wait()
	fmt.Println(delivered.Load(), budget.Usage())
	// Output: 1000 0
}

// Kafka produces the lines of its standard input to a topic. A pipe stands in
// front of the producer: while the brokers are away, lines wait on disk, and
// whoever writes them does not notice. At least once: a line leaves the backlog
// when Kafka has confirmed it, and comes back at the next start if it has not.
//
//	app | go run ./kafka -brokers localhost:9092 -topic events -dir /var/spool/events
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"example.com/hopper"
)

func main() {
	brokers := flag.String("brokers", "localhost:9092", "comma-separated addresses")
	topic := flag.String("topic", "events", "produce to this topic")
	dir := flag.String("dir", "spool", "directory of the backlog")
	grace := flag.Duration("grace", 10*time.Second, "time to deliver what waits after SIGTERM")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*brokers, ",")...),
		kgo.DefaultProduceTopic(*topic),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	if err := run(ctx, client, os.Stdin, *dir, *grace); err != nil {
		log.Fatal(err)
	}
}

// run produces lines until they end or ctx does. It returns nil if Kafka has
// all of them; what it has not is kept in dir.
func run(
	ctx context.Context, client *kgo.Client, lines io.Reader, dir string, grace time.Duration,
) error {
	in, out, pump, err := hopper.Make[string](64,
		hopper.Dir(dir), hopper.Resume(), hopper.ManualAck(),
		hopper.SyncEvery(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer pump.Close()

	// What has failed for good ends everything, as a signal does.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	producing, abandon := context.WithCancel(context.Background())
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		produce(producing, client, hopper.Deliveries(pump, out), fail)
	}()

	go feed(in, lines, pump.Done(), fail)
	select {
	case <-pump.Done(): // the lines have ended, and Kafka has them all
	case <-ctx.Done():
		shutdown(pump, grace)
	}
	err = pump.Wait()

	abandon() // fails what Kafka has not confirmed; it is kept
	<-produced
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}

// feed sends each line, and closes in at the end.
func feed(
	in chan<- string, lines io.Reader, done <-chan struct{}, fail context.CancelCauseFunc,
) {
	defer close(in)
	s := bufio.NewScanner(lines)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		select {
		case in <- s.Text():
		case <-done:
			return
		}
	}
	if err := s.Err(); err != nil {
		fail(fmt.Errorf("read lines: %w", err))
	}
}

func shutdown(pump *hopper.Pump, grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := pump.Shutdown(ctx); err != nil {
		log.Print(err)
	}
}

// produce hands every line to the client. Produce blocks when the client's
// buffer is full, which is when lines begin to wait in the pipe.
func produce(
	ctx context.Context, client *kgo.Client, lines <-chan hopper.Delivery[string],
	fail context.CancelCauseFunc,
) {
	for line := range lines {
		client.Produce(ctx, kgo.StringRecord(line.Value), func(_ *kgo.Record, err error) {
			switch {
			case err == nil:
				line.Ack()
			case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord):
				log.Printf("dropping a line that Kafka will never take: %v", err)
				line.Ack()
			case ctx.Err() == nil:
				fail(fmt.Errorf("produce: %w", err))
			}
		})
	}
}

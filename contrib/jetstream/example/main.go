// The example fills a backlog in a NATS JetStream stream in one run and drains
// it in another, which may be on another host.
//
//	go run ./example fill
//	go run ./example drain
//
// Without -url each run starts a server in its own process, which keeps the
// stream in a directory.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjetstream "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper"
	"example.com/hopper/contrib/jetstream"
)

// An Order is what the example sends.
type Order struct {
	Number int
	Placed time.Time
}

var tempDir = filepath.Join(os.TempDir(), "hopper-jetstream")

var (
	url = flag.String("url", "",
		"of a NATS server with JetStream; empty: start one in this process")
	dir      = flag.String("dir", tempDir, "of the server in this process")
	stream   = flag.String("stream", "orders", "name of the stream, which is made if need be")
	replicas = flag.Int("replicas", 1, "servers that keep each message")
	items    = flag.Int("items", 1_000_000, "to fill in")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	do := map[string]func(natsjetstream.JetStream) error{"fill": fill, "drain": drain}[flag.Arg(0)]
	if do == nil {
		log.Fatal("usage: go run ./example [flags] fill|drain")
	}
	if err := run(do); err != nil {
		log.Fatal(err)
	}
}

// run connects, and calls do.
func run(do func(natsjetstream.JetStream) error) error {
	opts := []nats.Option{nats.MaxReconnects(-1)} // a server may be away for long
	if *url == "" {
		s, err := startServer(*dir)
		if err != nil {
			return err
		}
		defer s.WaitForShutdown()
		defer s.Shutdown()
		opts = append(opts, nats.InProcessServer(s))
	}

	nc, err := nats.Connect(*url, opts...)
	if err != nil {
		return fmt.Errorf("connect to %q: %w", *url, err)
	}
	defer nc.Close()
	js, err := natsjetstream.New(nc)
	if err != nil {
		return err
	}
	return do(js)
}

// startServer starts a server that listens on no port.
func startServer(dir string) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, fmt.Errorf("the server in %s does not start: is another run using it?", dir)
	}
	return s, nil
}

// pipe starts a pipe whose backlog is in the stream.
func pipe(js natsjetstream.JetStream) (chan<- Order, <-chan Order, *hopper.Pump, error) {
	store, err := jetstream.New(js, jetstream.Config{StreamName: *stream, Replicas: *replicas})
	if err != nil {
		return nil, nil, nil, err
	}
	return hopper.Make[Order](0, hopper.WithStore(store), hopper.Resume())
}

// fill sends orders that nobody receives, and stops: they stay in the stream.
func fill(js natsjetstream.JetStream) error {
	in, _, pump, err := pipe(js)
	if err != nil {
		return err
	}

	start := time.Now()
	for i := range *items {
		in <- Order{Number: i, Placed: time.Now()}
	}
	if err := pump.Close(); err != nil {
		return err
	}
	fmt.Printf("%d orders are in the stream %q, sent in %v\n", *items, *stream,
		time.Since(start).Round(time.Millisecond))
	return nil
}

// drain receives the orders that an earlier run has left.
func drain(js natsjetstream.JetStream) error {
	in, out, pump, err := pipe(js)
	if err != nil {
		return err
	}
	close(in) // nothing is added

	start := time.Now()
	received, inOrder := 0, true
	last := Order{Number: -1}
	for o := range out {
		inOrder = inOrder && o.Number == (last.Number+1)%*items
		received, last = received+1, o
	}
	if err := pump.Wait(); err != nil {
		return err
	}
	fmt.Printf("%d orders received in %v, all in order: %t\n", received,
		time.Since(start).Round(time.Millisecond), inOrder)
	return nil
}

package hopperotel_test

import (
	"log"

	"go.opentelemetry.io/otel"

	"example.com/hopper"
	hopperotel "example.com/hopper/contrib/otel"
)

func Example() {
	in, out, pump, err := hopper.Make[string](64)
	if err != nil {
		log.Fatal(err)
	}
	defer pump.Close()

	pipes, err := hopperotel.New(otel.Meter("example.com/my/service"))
	if err != nil {
		log.Fatal(err)
	}
	defer pipes.Close()
	pipes.Add("requests", pump, hopperotel.Limits{MaxMemory: hopper.DefaultMaxMemory})

	in <- "a request"
	<-out
	// Output:
}

package hopperprom_test

import (
	"log"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/hopper"
	hopperprom "example.com/hopper/contrib/prometheus"
)

func Example() {
	in, out, pump, err := hopper.Make[string](64, hopper.MaxDisk(10<<30))
	if err != nil {
		log.Fatal(err)
	}
	defer pump.Close()

	var pipes hopperprom.Collector
	prometheus.MustRegister(&pipes)
	pipes.Add("requests", pump, hopperprom.Limits{
		MaxMemory: hopper.DefaultMaxMemory, MaxDisk: 10 << 30,
	})
	http.Handle("/metrics", promhttp.Handler())

	in <- "a request"
	<-out
	// Output:
}

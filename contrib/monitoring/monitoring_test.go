package monitoring

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/hopper"
	hopperprom "example.com/hopper/contrib/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// exported returns the names of the series that a pipe has.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	var c hopperprom.Collector
	c.Add("a", full{}, hopperprom.Limits{MaxMemory: 1, MaxDisk: 1})
	r := prometheus.NewRegistry()
	r.MustRegister(&c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}

	names := make(map[string]bool)
	for _, f := range families {
		names[f.GetName()] = true
	}
	return names
}

// full is a pipe that has something of everything.
type full struct{}

func (full) Stats() hopper.Stats { return hopper.Stats{Oldest: time.Unix(1, 0)} }

// checkExpr fails if an expression does not parse, or asks for series that
// nobody exports. It returns what it asks for.
func checkExpr(t *testing.T, names map[string]bool, expr string) (asked []string) {
	t.Helper()
	expr = strings.ReplaceAll(expr, "$__rate_interval", "5m")
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return nil
	}

	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			asked = append(asked, s.Name)
			if !names[s.Name] {
				t.Errorf("%s: nobody exports %s", expr, s.Name)
			}
		}
		return nil
	})
	if len(asked) == 0 {
		t.Errorf("%s asks for nothing", expr)
	}
	return asked
}

func TestTheAlertsAskForWhatIsExported(t *testing.T) {
	names, rules := exported(t), alerts(t)
	for _, r := range rules {
		checkExpr(t, names, r.Expr)
		if r.Alert == "" || r.Annotations["summary"] == "" {
			t.Errorf("an alert %q without a summary", r.Alert)
		}
	}
	if len(rules) != 3 {
		t.Errorf("%d rules, want 3", len(rules))
	}
}

// alerts returns the rules by name.
func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	b, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(b, false)
	if len(errs) > 0 {
		t.Fatal(errs)
	}

	rules := make(map[string]rulefmt.Rule)
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			rules[r.Alert] = r
		}
	}
	return rules
}

func TestAnAlertIsPendingWhenItShouldBe(t *testing.T) {
	storage := promqltest.LoadedStorage(t, `
load 1m
  hopper_blocked{pipe="a"} 0x4 1x10 0x40
  hopper_lost_items_total{pipe="a"} 0x10 7x40
  hopper_queue_oldest_timestamp_seconds{pipe="a"} 60x60
`)
	t.Cleanup(func() { storage.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)

	rules := alerts(t)
	for _, test := range []struct {
		alert string
		at    time.Duration
		want  bool
	}{
		{"HopperBlocked", 4 * time.Minute, false},
		{"HopperBlocked", 6 * time.Minute, true},
		{"HopperBlocked", 20 * time.Minute, false},
		{"HopperItemsLost", 9 * time.Minute, false},
		{"HopperItemsLost", 12 * time.Minute, true},
		{"HopperItemsLost", 40 * time.Minute, false},
		{"HopperOldestItem", 15 * time.Minute, false},
		{"HopperOldestItem", 17 * time.Minute, true},
	} {
		at := time.Unix(0, 0).Add(test.at)
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, rules[test.alert].Expr, at)
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(t.Context())
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		if got := len(result.Value.(promql.Vector)) > 0; got != test.want {
			t.Errorf("%s after %v: %v, want %v", test.alert, test.at, got, test.want)
		}
		query.Close()
	}
	if got := time.Duration(rules["HopperBlocked"].For); got != 5*time.Minute {
		t.Errorf("HopperBlocked fires after %v, want 5m", got)
	}
}

func TestTheDashboardAsksForWhatIsExported(t *testing.T) {
	b, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}

	names, shown, ids := exported(t), map[string]bool{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if p.Title == "" || ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q: no title, a number that is taken, or no figures", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			for _, name := range checkExpr(t, names, target.Expr) {
				shown[name] = true
			}
		}
	}
	for _, name := range []string{"hopper_received_items_total", "hopper_queue_size",
		"hopper_queue_oldest_timestamp_seconds", "hopper_disk_usage_bytes", "hopper_unacked_size",
		"hopper_lost_items_total"} {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

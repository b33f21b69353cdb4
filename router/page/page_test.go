package page

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// What is said of an update, and of the whole.
func TestWords(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	u := update.Update{Time: at.Add(-10 * time.Hour), Limited: true}
	over, err := update.ParseVersion("1500000000")
	if err != nil {
		t.Fatal(err)
	}
	steps := []trust.Step{{After: time.Hour, Percent: 10}, {After: 20 * time.Hour, Percent: 100}}
	for want, c := range map[string]trust.Conditions{
		"10% of boxes":                         {Rollout: &trust.Rollout{Steps: steps}},
		"paused at 10% of boxes":               {Rollout: &trust.Rollout{Steps: steps, Paused: true, PausedAt: 2 * time.Hour}},
		"0% of boxes":                          {Rollout: &trust.Rollout{Steps: []trust.Step{{After: 11 * time.Hour, Percent: 10}}}},
		"every box":                            {Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 100}}}},
		"hardware a, b":                        {Hardware: []string{"b", "a"}},
		"over 1500000000 or newer":             {MinVersion: over},
		"hardware a; over 1500000000 or newer": {Hardware: []string{"a"}, MinVersion: over},
		"some boxes":                           {},
	} {
		if got := describeConditions(u, c, at); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for field, c := range testworld.Conditions(t) {
		if got := describeConditions(update.Update{Time: at}, c, at); got == everyBox {
			t.Errorf("%s: got %q", field, got)
		}
	}
	if got := describeConditions(update.Update{}, trust.Conditions{}, at); got != everyBox {
		t.Errorf("got %q without conditions", got)
	}
	for d, want := range map[time.Duration]string{
		59 * time.Second: "less than a minute", time.Minute: "1 minute", 119 * time.Minute: "119 minutes",
		2 * time.Hour: "2 hours", 47 * time.Hour: "47 hours", 49 * time.Hour: "2 days",
	} {
		if got := length(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9940: "9.9 kB", 9960: "10 kB", 999_400: "999 kB", 999_600: "1.0 MB", 5 << 30: "5.4 GB", update.MaxLength: "1.1 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

package status

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestVerdict: a copy is fresh, or it is said why it isn't, or may not be.
func TestVerdict(t *testing.T) {
	fresh := Freshness{Synced: true}
	if err := fresh.Verdict(); err != nil || !fresh.Ready() {
		t.Errorf("fresh: %v", err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for want, change := range map[string]func(*Freshness){
		"not synced": func(f *Freshness) { f.Synced = false },
		"timestamp expired at 2026-03-01T12:00:00Z":    func(f *Freshness) { f.Expired, f.Expiring, f.Expires = true, "timestamp", at },
		"no sync went well since 2026-03-01T12:00:00Z": func(f *Freshness) { f.Reason, f.Since = ReasonUnavailable, at },
		ErrRing.Error():       func(f *Freshness) { f.Ring = true },
		"behind the upstream": func(f *Freshness) { f.UpdatesBehind = 1 },
	} {
		f := fresh
		change(&f)
		if err := f.Verdict(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := f.Public().Verdict(); err == nil || err.Error() != want {
			t.Errorf("anyone sees %v, want %s", err, want)
		}
	}
	ring := Freshness{Synced: true, Ring: true}
	if !errors.Is(ring.Verdict(), ErrRing) {
		t.Error("a ring is told as one")
	}
}

// TestPublic: no message leaves the machine, since it may tell of a network or a disk.
func TestPublic(t *testing.T) {
	f := Freshness{Error: "secret", Reason: ReasonUnavailable, Upstreams: []Upstream{{URL: "https://a", Error: "secret", Reason: ReasonRefused}}}
	raw, err := json.Marshal(f.Public())
	if err != nil || strings.Contains(string(raw), "secret") || !strings.Contains(string(raw), "unavailable") || !strings.Contains(string(raw), "refused") {
		t.Errorf("got %s, %v", raw, err)
	}
	if f.Error == "" || f.Upstreams[0].Error == "" {
		t.Error("what the program itself knows was changed")
	}
}

func TestUpstreamProblem(t *testing.T) {
	for want, u := range map[string]Upstream{
		"":                 {},
		"unavailable":      {Reason: ReasonUnavailable, Slow: true},
		"copies from here": {Loop: true, Slow: true},
		"damaged":          {Damaged: true, Slow: true},
		"slow":             {Slow: true},
	} {
		if got := u.Problem(); got != want {
			t.Errorf("%+v: got %q, want %q", u, got, want)
		}
	}
}

// TestComponents: a component is in order when all of its parts are.
func TestComponents(t *testing.T) {
	urgent, soon := Warning{Subject: "archives", Urgent: true, Text: "lost"}, Warning{Text: "old\n[-] forged"}
	all := []Component{{Name: "a", Components: []Component{{Name: "b", Warnings: []Warning{soon, urgent}}}}, {Name: "c"}}
	if all[0].OK() || AllOK(all) || !all[1].OK() || !Ready(all) {
		t.Error("an urgent warning of a part is one of the whole, and keeps nothing from being served")
	}
	all[0].Components[0].Unready = true
	if Ready(all) {
		t.Error("a part that is not ready keeps the whole from being ready")
	}
	first, other := Problems(all)
	if len(first) != 1 || first[0] != "a, b: archives: lost" || len(other) != 1 || other[0] != "a, b: old [-] forged" {
		t.Errorf("got %q and %q", first, other)
	}
}

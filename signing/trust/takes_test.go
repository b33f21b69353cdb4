package trust_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func version(t testing.TB, s string) update.Version {
	t.Helper()
	v, err := update.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// conditioned publishes one update with conditions and returns it as a box reads it.
func conditioned(t testing.TB, n string, c trust.Conditions) trust.Release {
	t.Helper()
	w := newWorld(t)
	e := w.edit()
	a := addition(t, n, content(n))
	a.Conditions = c
	if err := e.Add(a); err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	rel, ok := w.repo.Release(name(t, n))
	if !ok {
		t.Fatalf("%s is not listed", n)
	}
	return rel
}

// fleet is enough boxes to see a share.
const fleet = 10_000

func machine(i int) trust.Box { return trust.Box{Machine: fmt.Sprintf("%032x", i)} }

var steps = []trust.Step{{After: 0, Percent: 5}, {After: hours24, Percent: 50}, {After: 3 * hours24, Percent: 100}}

// TestShareOfTheFleet looks at 10,000 boxes around each step: their share is within 1% of it, and a box
// that took the update takes it ever after.
func TestShareOfTheFleet(t *testing.T) {
	rel := conditioned(t, "p-7.tar.gz", trust.Conditions{Rollout: &trust.Rollout{Steps: steps}})
	had := map[int]bool{}
	for _, c := range []struct {
		after time.Duration
		want  float64
	}{
		{-time.Second, 0}, {0, 5}, {time.Hour, 5}, {hours24 - time.Second, 5}, {hours24, 50},
		{2 * hours24, 50}, {3*hours24 - time.Second, 50}, {3 * hours24, 100}, {1000 * hours24, 100},
	} {
		count := 0
		for i := range fleet {
			v := rel.Evaluate(machine(i), rel.Published().Add(c.after))
			takes := v.Hold == trust.HoldNone
			if takes {
				count++
			}
			if had[i] && !takes {
				t.Fatalf("after %v box %d lost the update: %s", c.after, i, v.Reason)
			}
			had[i] = takes
			if takes != (v.Reason == "") {
				t.Fatalf("verdict %+v", v)
			}
		}
		if got := 100 * float64(count) / fleet; math.Abs(got-c.want) > 1 {
			t.Errorf("after %v: expected %v%% of the boxes within 1%%, got %.2f%%", c.after, c.want, got)
		}
	}
}

// TestNextIsWhenItTakes asks each box when it takes the update, and then at that time.
func TestNextIsWhenItTakes(t *testing.T) {
	rel := conditioned(t, "p-7.tar.gz", trust.Conditions{Rollout: &trust.Rollout{Steps: steps}})
	for i := range 1000 {
		v := rel.Evaluate(machine(i), rel.Published())
		if v.Hold == trust.HoldNone {
			continue
		}
		if got := rel.Evaluate(machine(i), v.Next.Add(-time.Second)); v.Next.IsZero() || got.Hold != trust.HoldRollout {
			t.Fatalf("box %d before %v: %+v", i, v.Next, got)
		}
		if got := rel.Evaluate(machine(i), v.Next); got.Hold != trust.HoldNone {
			t.Fatalf("box %d at %v: %+v", i, v.Next, got)
		}
	}
}

// TestSharesAreIndependent: of the boxes that take one update early, half take the other one.
func TestSharesAreIndependent(t *testing.T) {
	half := trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 50}}}}
	one, two := conditioned(t, "p-7.tar.gz", half), conditioned(t, "p-8.tar.gz", half)
	first, both := 0, 0
	for i := range fleet {
		if one.Evaluate(machine(i), one.Published()).Hold != trust.HoldNone {
			continue
		}
		first++
		if two.Evaluate(machine(i), two.Published()).Hold == trust.HoldNone {
			both++
		}
	}
	if got := float64(both) / float64(first); math.Abs(got-0.5) > 0.02 {
		t.Errorf("of %d boxes that take one update %.1f%% take the other, expected 50%%", first, 100*got)
	}
}

func TestPause(t *testing.T) {
	paused := trust.Conditions{Rollout: &trust.Rollout{Steps: steps, Paused: true, PausedAt: 2 * hours24}}
	rel := conditioned(t, "p-7.tar.gz", paused)
	late := rel.Published().Add(1000 * hours24)
	count := 0
	for i := range fleet {
		v := rel.Evaluate(machine(i), late)
		if v.Hold == trust.HoldNone {
			count++
		} else if !v.Next.IsZero() || !strings.Contains(v.Reason, "paused") {
			t.Fatalf("box %d: %+v", i, v)
		}
	}
	if got := 100 * float64(count) / fleet; math.Abs(got-50) > 1 {
		t.Errorf("expected 50%% within 1%%, got %.2f%%", got)
	}
}

func TestConditionsOfABox(t *testing.T) {
	rel := conditioned(t, "p-7.tar.gz", trust.Conditions{Hardware: []string{"rev-a", "rev-b"}, MinVersion: version(t, "5")})
	good := trust.Box{Machine: "m", Hardware: "rev-b", Installed: version(t, "5")}
	for _, c := range []struct {
		name   string
		change func(*trust.Box)
		hold   trust.Hold
		reason string
	}{
		{"as it should be", func(*trust.Box) {}, trust.HoldNone, ""},
		{"newer", func(b *trust.Box) { b.Installed = version(t, "6") }, trust.HoldNone, ""},
		{"other hardware", func(b *trust.Box) { b.Hardware = "rev-c" }, trust.HoldHardware, "it is for hardware rev-a, rev-b, and this is rev-c"},
		{"hardware not known", func(b *trust.Box) { b.Hardware = "" }, trust.HoldHardware, "it is for hardware rev-a, rev-b, and this is not known here"},
		{"too old", func(b *trust.Box) { b.Installed = version(t, "4") }, trust.HoldVersion, "it installs over version 5 or newer, and 4 is installed"},
		{"nothing installed", func(b *trust.Box) { b.Installed = update.Version{} }, trust.HoldVersion, "it installs over version 5 or newer, and none is installed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := good
			c.change(&b)
			if v := rel.Evaluate(b, rel.Published()); v.Hold != c.hold || v.Reason != c.reason {
				t.Errorf("got %+v, want %q, %q", v, c.hold, c.reason)
			}
		})
	}
}

// TestPlaceOfABox holds the rule by which a box finds its share: it is written down, and boxes that run
// different versions of the program must agree.
func TestPlaceOfABox(t *testing.T) {
	// printf '0123456789abcdef0123456789abcdef\np-7.tar.bz2' | sha256sum # a56170142c81d31e…, 65% of 2^64
	rel := conditioned(t, "p-7.tar.gz", trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{After: time.Hour, Percent: 1}}}})
	v := rel.Evaluate(trust.Box{Machine: "0123456789abcdef0123456789abcdef"}, rel.Published())
	if want := "0% of the boxes take it by now; this one does from 65% on"; !strings.HasPrefix(v.Reason, want) {
		t.Errorf("got %q, want %q", v.Reason, want)
	}
}

// A version is for the same boxes in each format, and for those that a .tar.bz2 was always for.
func TestShareOfFormats(t *testing.T) {
	rollout := &trust.Rollout{Steps: []trust.Step{{After: 0, Percent: 30}}}
	old := func(machine string) bool {
		sum := sha256.Sum256([]byte(machine + "\np-7.tar.bz2"))
		return float64(binary.BigEndian.Uint64(sum[:])) < 0.3*(1<<64)
	}
	for _, n := range []string{"p-7.tar.bz2", "p-7.tar.gz", "p-7.tar.zst"} {
		rel := conditioned(t, n, trust.Conditions{Rollout: rollout})
		for i := range 1000 {
			b := machine(i)
			if got := rel.Evaluate(b, rel.Published()).Hold == trust.HoldNone; got != old(b.Machine) {
				t.Fatalf("%s: box %d takes it: %t, want %t", n, i, got, !got)
			}
		}
	}
}

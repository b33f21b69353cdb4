package signer

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func TestParseConditions(t *testing.T) {
	version, err := update.ParseVersion("1547861057")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConditions("5%,24h:50%,72h:100%", "rev2,rev 3", "1547861057")
	want := trust.Conditions{
		Rollout:    &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: 24 * time.Hour, Percent: 50}, {After: 72 * time.Hour, Percent: 100}}},
		Hardware:   []string{"rev2", "rev 3"},
		MinVersion: version,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, want := range map[string][]trust.Step{
		"100%":             {{Percent: 100}},
		"0s:1%":            {{Percent: 1}},
		"90m:7%":           {{After: 90 * time.Minute, Percent: 7}},
		"1%,1s:2%,1d:100%": {{Percent: 1}, {After: time.Second, Percent: 2}, {After: 24 * time.Hour, Percent: 100}},
		"3650d:100%":       {{After: 3650 * 24 * time.Hour, Percent: 100}},
	} {
		if got, err := parseRollout(text); err != nil || !reflect.DeepEqual(got.Steps, want) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

// Each is one change of what is accepted, and its message names the step.
func TestParseConditionsRefuses(t *testing.T) {
	if _, err := ParseConditions("5%,24h:50%", "a,b", "7"); err != nil {
		t.Fatal(err)
	}
	rollout := func(text string) [3]string { return [3]string{0: text} }
	for _, c := range []struct {
		given [3]string
		want  string
	}{
		{rollout("5,24h:50%"), `step "5": expected a share from 1% to 100%`},
		{rollout("5%%,24h:50%"), `step "5%%": expected a share from 1% to 100%, got "5%%"`},
		{rollout("0%,24h:50%"), `step "0%": expected a share from 1% to 100%`},
		{rollout("05%,24h:50%"), `step "05%": expected a share`},
		{rollout("+5%,24h:50%"), `step "+5%": expected a share`},
		{rollout("5.5%,24h:50%"), `step "5.5%": expected a share`},
		{rollout("5%,24h:101%"), `step "24h:101%": expected a share from 1% to 100%, got "101%"`},
		{rollout("5%,50%"), `step "50%": expected a time before the share, as in 24h:50%`},
		{rollout("5%,24:50%"), `step "24:50%": expected a time of at most ten years like 90m, 24h or 3d, got "24"`},
		{rollout("5%,:50%"), `step ":50%": expected a time`},
		{rollout("5%,h:50%"), `step "h:50%": expected a time`},
		{rollout("5%,-24h:50%"), `step "-24h:50%": expected a time`},
		{rollout("5%,1h30m:50%"), `step "1h30m:50%": expected a time`},
		{rollout("5%,3651d:50%"), `step "3651d:50%": expected a time of at most ten years`},
		{rollout("5%,9223372036854775807d:50%"), `expected a time of at most ten years`},
		{rollout("5%,0h:50%"), `step "0h:50%": expected a later time`},
		{rollout("5%,24h:50%,24h:60%"), `step "24h:60%": expected a later time`},
		{rollout("5%,24h:5%"), `step "24h:5%": expected more than the 5% of the previous step`},
		{rollout("5%, 24h:50%"), `step " 24h:50%": expected a time`},
		{rollout("5%,"), `step "": expected a time before the share`},
		{rollout(","), `step "": expected a share`},
		{[3]string{1: "a,"}, `--hardware "a,": expected names with a comma and no space between them, got ""`},
		{[3]string{1: "a, b"}, `got " b"`},
		{[3]string{2: "07"}, `--min-version: `},
		{[3]string{2: "new"}, `--min-version: `},
	} {
		got, err := ParseConditions(c.given[0], c.given[1], c.given[2])
		if err == nil || !strings.Contains(err.Error(), c.want) || !reflect.DeepEqual(got, trust.Conditions{}) {
			t.Errorf("%+v: got %+v, %v; want %q", c.given, got, err, c.want)
		}
	}
}

func FuzzParseRollout(f *testing.F) {
	for _, text := range []string{"5%,24h:50%,72h:100%", "100%", "1d:1%", "5%,5%", ":", "99999999999d:1%", "0s:1%,1s:2%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRollout(text)
		if err != nil {
			return
		}
		var words []string
		for _, s := range r.Steps {
			words = append(words, fmt.Sprintf("%ds:%d%%", s.After/time.Second, s.Percent))
		}
		again, err := parseRollout(strings.Join(words, ","))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q: %+v, said again %+v, %v", text, r, again, err)
		}
	})
}

// rollouts draws any rollout that is not paused.
func rollouts(t *rapid.T) *trust.Rollout {
	r := &trust.Rollout{}
	for _, percent := range rapid.SliceOfNDistinct(rapid.IntRange(1, 100), 1, 16, rapid.ID[int]).Draw(t, "percent") {
		r.Steps = append(r.Steps, trust.Step{Percent: percent})
	}
	after := time.Duration(0)
	slices.SortFunc(r.Steps, func(a, b trust.Step) int { return a.Percent - b.Percent })
	for i := range r.Steps {
		after += seconds(t, "after")
		r.Steps[i].After = after
		after += time.Second
	}
	return r
}

func seconds(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.IntRange(0, 100).Draw(t, label)) * time.Second
}

// However often a rollout is paused and resumed, the share never falls, it stays while paused, and each
// step comes as much later as the pauses were long.
func TestPauseAndResume(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		original := rollouts(t)
		now, lost, share := time.Duration(0), time.Duration(0), 0
		r := original
		for range rapid.IntRange(1, 4).Draw(t, "pauses") {
			now += seconds(t, "running")
			share = original.Share(now - lost)
			if got := r.Share(now); got != share {
				t.Fatalf("at %v, after pauses of %v: share %d, want %d", now, lost, got, share)
			}
			p, err := pauseRollout(r, now)
			if share == 100 {
				if err == nil {
					t.Fatal("a rollout that is complete was paused")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if again, err := pauseRollout(p, now+time.Hour); err != nil || !reflect.DeepEqual(again, p) {
				t.Fatalf("paused again: %+v, %v", again, err)
			}
			pause := seconds(t, "pause")
			now, lost = now+pause, lost+pause
			if got := p.Share(now); got != share {
				t.Fatalf("paused: share %d, want %d", got, share)
			}
			if r, err = resumeRollout(p, now); err != nil || r.Share(now) != share {
				t.Fatalf("resumed: %+v, %v, want share %d", r, err, share)
			}
			if again, err := resumeRollout(r, now+time.Hour); err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("resumed again: %+v, %v", again, err)
			}
		}
	})
}

// Each field of trust.Conditions is in what boxsign prints of an update, as text and as JSON.
func TestDescribesEachCondition(t *testing.T) {
	describe := func(c trust.Conditions) (text, object string) {
		ring := testworld.NewKeyring("")
		p := testworld.SignList(t, ring.Init(t, testworld.Start, 1), &trust.Ledger{}, testworld.Start, ring.Releases, func(e *trust.TargetsEdit) error {
			a := testworld.Addition("p-1.tar.gz", nil)
			a.Conditions = c
			return e.Add(a)
		})
		l := describeRelease(p.Releases()[0], testworld.Start)
		b, err := json.Marshal(l)
		testworld.Must(t, err)
		return l.conditions(""), string(b)
	}
	noText, noCondition := describe(trust.Conditions{})
	if noText != "" {
		t.Errorf("got %q without conditions", noText)
	}
	for field, c := range testworld.Conditions(t) {
		text, object := describe(c)
		if strings.Count(text, "\n") != 1 || object == noCondition {
			t.Errorf("%s: got %q and %s", field, text, object)
		}
	}
}

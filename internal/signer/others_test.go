package signer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// What another signer did to an update is seen, whether it was added, withdrawn or given another rollout.
func TestDiffLists(t *testing.T) {
	day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	key, _ := seeded(t, 1)
	one := trust.Holder{Keys: []keys.Public{key.Public()}, Threshold: 1}
	empty, err := trust.Init(t.Context(), day, trust.Setup{Root: one, Release: one, Online: key.Public()}, key)
	if err != nil {
		t.Fatal(err)
	}
	next := func(from *trust.Repository, edit func(*trust.TargetsEdit) error) *trust.Repository {
		t.Helper()
		e, err := from.EditTargets(&trust.Ledger{}, 0, day)
		if err != nil {
			t.Fatal(err)
		}
		if err := edit(e); err != nil {
			t.Fatal(err)
		}
		p, err := e.Sign(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := from.Next(t.Context(), day, trust.Change{Targets: p}, key)
		if err != nil {
			t.Fatal(err)
		}
		return repo
	}
	add := func(e *trust.TargetsEdit, text string, c trust.Conditions) error {
		name, err := update.ParseName(text)
		digest := update.Sum([]byte(text))
		return errors.Join(err, e.Add(trust.Addition{Name: name, Digest: digest, Length: 1, Blocks: update.Sum(digest[:]), Unpacked: 1, Conditions: c}))
	}
	slow := trust.Conditions{Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: 24 * time.Hour, Percent: 100}}}}
	before := next(empty, func(e *trust.TargetsEdit) error {
		return errors.Join(add(e, "p-6.tar.gz", trust.Conditions{}), add(e, "p-7.tar.gz", trust.Conditions{}), add(e, "p-8.tar.gz", slow))
	})
	after := next(before, func(e *trust.TargetsEdit) error {
		paused := *slow.Rollout
		paused.Paused, paused.PausedAt = true, time.Second
		p7, p8 := before.Releases()[1].Name(), before.Releases()[2].Name()
		return errors.Join(e.Withdraw(p7), e.Condition(p8, trust.Conditions{Rollout: &paused}), add(e, "p-9.tar.gz", trust.Conditions{}))
	})
	var got []string
	for _, c := range diffLists(before, after) {
		got = append(got, c.verb+" "+c.name.String())
	}
	want := []string{"withdrew p-7.tar.gz", "changed p-8.tar.gz", "added p-9.tar.gz"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if list := diffLists(after, after); len(list) > 0 {
		t.Errorf("nothing was changed, got %v", list)
	}
}

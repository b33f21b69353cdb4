package trust_test

import (
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// agree follows the client workflow of go-tuf over the same files.
func agree(t testing.TB, roots [][]byte, f *files, at time.Time) error {
	t.Helper()
	peer, err := trustedmetadata.New(roots[0])
	if err != nil {
		return err
	}
	peer.RefTime = at
	for _, raw := range roots[1:] {
		if _, err := peer.UpdateRoot(raw); err != nil {
			return err
		}
	}
	ts, err := peer.UpdateTimestamp(f.data[trust.TimestampName])
	if err != nil {
		return err
	}
	sn, err := peer.UpdateSnapshot(f.data[trust.FileName(trust.RoleSnapshot, ts.Signed.Meta["snapshot.json"].Version)], false)
	if err != nil {
		return err
	}
	tg, err := peer.UpdateTargets(f.data[trust.FileName(trust.RoleTargets, sn.Signed.Meta["targets.json"].Version)])
	if err != nil {
		return err
	}
	var _ *metadata.Metadata[metadata.TargetsType] = tg
	return nil
}

// TestPeerAgrees has go-tuf's own reader accept a repository with everything in it.
func TestPeerAgrees(t *testing.T) {
	w := newWorldOf(t, 3, 2)
	roots := [][]byte{w.repo.Raw(trust.RoleRoot)}
	e := w.edit()
	a := addition(t, one, content(one))
	a.Conditions = trust.Conditions{
		Rollout:    &trust.Rollout{Steps: []trust.Step{{Percent: 5}, {After: hours24, Percent: 100}}, Paused: true, PausedAt: time.Hour},
		Hardware:   []string{`Raspberry Pi "Zero" \ W <&>`, "x86"},
		MinVersion: name(t, two).Version(),
	}
	if err := e.Add(a); err != nil {
		t.Fatal(err)
	}
	p := w.sign(e, w.releases[0])
	p, err := p.Cosign(t.Context(), w.releases[1])
	if err != nil {
		t.Fatal(err)
	}
	w.publish(trust.Change{Targets: p})
	w.newRoot(w.roots, nil)
	roots = append(roots, w.repo.Raw(trust.RoleRoot))
	if err := agree(t, roots, copyOf(t, w.dir), w.at); err != nil {
		t.Error(err)
	}
	rel, _ := w.repo.Release(a.Name)
	got := rel.Conditions()
	if got.Hardware[0] != a.Conditions.Hardware[0] || got.MinVersion != a.Conditions.MinVersion || got.Rollout.PausedAt != time.Hour || len(got.Rollout.Steps) != 2 {
		t.Errorf("expected %+v, got %+v", a.Conditions, got)
	}
}

func TestConditions(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	steps := []trust.Step{{Percent: 5}, {After: hours24, Percent: 50}, {After: 3 * hours24, Percent: 100}}
	cases := []struct {
		rollout *trust.Rollout
		elapsed time.Duration
		want    int
	}{
		{nil, 0, 100},
		{&trust.Rollout{Steps: steps}, -time.Second, 0},
		{&trust.Rollout{Steps: steps}, 0, 5},
		{&trust.Rollout{Steps: steps}, hours24 - time.Second, 5},
		{&trust.Rollout{Steps: steps}, hours24, 50},
		{&trust.Rollout{Steps: steps}, 3 * hours24, 100},
		{&trust.Rollout{Steps: steps, Paused: true, PausedAt: 2 * hours24}, 9 * hours24, 50},
	}
	for _, c := range cases {
		if got := c.rollout.Share(c.elapsed); got != c.want {
			t.Errorf("%+v after %v: expected %d%%, got %d%%", c.rollout, c.elapsed, c.want, got)
		}
	}

	e := w.edit()
	if err := e.Condition(name(t, one), trust.Conditions{Rollout: &trust.Rollout{Steps: steps}}); err != nil {
		t.Fatal(err)
	}
	if p := e.Plan(); len(p.Changed) != 1 || len(p.Added)+len(p.Withdrawn) != 0 || p.From != 2 || p.To != 3 {
		t.Errorf("expected one change, got %+v", p)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	rel, _ := w.repo.Release(name(t, one))
	if rel.ForEveryBox(w.at) || !rel.ForEveryBox(w.at.Add(3*hours24)) {
		t.Error("expected the release to be for every box after three days")
	}
	for what, bad := range map[string]trust.Conditions{
		"no steps": {Rollout: &trust.Rollout{}}, "half seconds": {Rollout: &trust.Rollout{Steps: []trust.Step{{After: time.Second / 2, Percent: 1}}}},
		"empty hardware": {Hardware: []string{""}}, "hardware in German": {Hardware: []string{"Gerät"}},
	} {
		if err := w.edit().Condition(name(t, one), bad); err == nil {
			t.Errorf("%s: expected to be refused", what)
		}
	}
}

func TestKeepAndTooMany(t *testing.T) {
	w := newWorld(t)
	w.add(one, two, three, "opq-box-update-3.tar.gz", "other-1.tar.gz")
	e := w.edit()
	e.Keep(2)
	if got := e.Plan().Withdrawn; len(got) != 1 || got[0].Name().String() != one {
		t.Errorf("expected the oldest version of the one product to go, got %v", got)
	}
	w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	wantListed(t, w.repo, "other-1.tar.gz", two, "opq-box-update-3.tar.gz", three)

	e = w.edit()
	for i := range trust.MaxUpdates {
		a := addition(t, one, content(one))
		a.Name = name(t, "many-"+name(t, one).Version().String()+pad(i)+".tar.gz")
		if err := e.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.Sign(t.Context(), w.releases[0])
	wantErr(t, err, trust.ErrTooMany)
}

func pad(i int) string {
	const digits = "0123456789"
	return string([]byte{digits[i/1000], digits[i/100%10], digits[i/10%10], digits[i%10]})
}

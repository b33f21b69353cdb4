package trust_test

import (
	"fmt"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// full returns a world with as many updates as a list holds, less one.
func full(b *testing.B) *world {
	b.Helper()
	w := newWorld(b)
	names := make([]string, trust.MaxUpdates-1)
	for i := range names {
		names[i] = fmt.Sprintf("opq-box-update-%d.tar.bz2", 1550000000+i)
	}
	w.add(names...)
	return w
}

// BenchmarkAdd is boxsign add of one update to a full list, without the hashing of the archive.
func BenchmarkAdd(b *testing.B) {
	w := full(b)
	for i := 0; b.Loop(); i++ {
		state := reopened(b, w.dir)
		repo, err := state.Current()
		if err != nil {
			b.Fatal(err)
		}
		e, err := repo.EditTargets(state.Ledger(), 0, w.at)
		if err != nil {
			b.Fatal(err)
		}
		n := fmt.Sprintf("opq-box-update-%d.tar.bz2", 1560000000+i)
		if err := e.Add(addition(b, n, content(n))); err != nil {
			b.Fatal(err)
		}
		e.Keep(trust.MaxUpdates - 1)
		w.repo, w.state = repo, state
		w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
	}
}

// BenchmarkVerify is boxsign verify-repo of a full list without archives.
func BenchmarkVerify(b *testing.B) {
	w := full(b)
	root := w.repo.Root().Raw()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verify(w.dir, root, w.clock()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefresh is what a box does with a full list that it hasn't seen.
func BenchmarkRefresh(b *testing.B) {
	w := full(b)
	b.ReportAllocs()
	for b.Loop() {
		newBox(b, w.repo.Root()).must(w.dir, w.clock())
	}
	b.ReportMetric(float64(len(w.repo.Raw(trust.RoleTargets))), "bytes-of-list")
}

// BenchmarkNoChange is a box that starts and finds nothing new on a full list.
func BenchmarkNoChange(b *testing.B) {
	w := full(b)
	x := newBox(b, w.repo.Root())
	x.must(w.dir, w.clock())
	f := copyOf(b, w.dir)
	b.ReportAllocs()
	for b.Loop() {
		x.reopen()
		if _, err := x.state.Refresh(b.Context(), f, w.clock()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNoChangeOfAMirror is BenchmarkNoChange for a directory that others read, which has copies of its files.
func BenchmarkNoChangeOfAMirror(b *testing.B) {
	w := full(b)
	x, _ := newMirror(b, w)
	f := copyOf(b, w.dir)
	b.ReportAllocs()
	for b.Loop() {
		x.reopen()
		if err := x.state.RewriteDamaged(); err != nil {
			b.Fatal(err)
		}
		if _, err := x.state.Refresh(b.Context(), f, w.clock()); err != nil {
			b.Fatal(err)
		}
	}
}

package trust_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// TestAttacks changes one thing each in a mirror that a box, which has seen list 2, would follow to
// list 3.
func TestAttacks(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, w *world, old, f *files)
		want   error
	}{
		{"nothing is changed", func(*testing.T, *world, *files, *files) {}, nil},
		{"older timestamp", func(t *testing.T, w *world, old, f *files) {
			f.data = old.data
		}, trust.ErrRollback},
		{"newer timestamp names an older snapshot", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{timestamp: replace(t, `"version":3}`, `"version":1}`)}.of(t, w).data
		}, trust.ErrRollback},
		{"newer snapshot names an older list", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{snapshot: replace(t, `"version":3}`, `"version":1}`)}.of(t, w).data
		}, trust.ErrRollback},
		{"another list under the accepted number", func(t *testing.T, w *world, old, f *files) {
			g := forgery{
				targets:  replace(t, `"version":3}`, `"version":2}`),
				snapshot: replace(t, `"version":3}`, `"version":2}`),
			}.of(t, w)
			g.data["2.targets.json"] = g.data["3.targets.json"]
			f.data = g.data
		}, trust.ErrFork},
		{"list with another number than the snapshot says", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{targets: replace(t, `"version":3}`, `"version":4}`)}.of(t, w).data
		}, trust.ErrMismatch},
		{"snapshot with another number than the timestamp says", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{snapshot: func(s string) string {
				i := strings.LastIndex(s, `"version":3`)
				return s[:i] + `"version":4}`
			}}.of(t, w).data
		}, trust.ErrMismatch},
		{"snapshot of another time", func(t *testing.T, w *world, old, f *files) {
			f.data["3.snapshot.json"] = old.data["2.snapshot.json"]
		}, trust.ErrMismatch},
		{"list of another time", func(t *testing.T, w *world, old, f *files) {
			f.data["3.targets.json"] = old.data["2.targets.json"]
		}, trust.ErrMismatch},
		{"another list that was signed with this number", func(t *testing.T, w *world, old, f *files) {
			other := replace(t, `"issued":"2026-03-01T13`, `"issued":"2026-03-01T12`)(signedPart(t, w.repo.Raw(trust.RoleTargets)))
			f.data["3.targets.json"] = resigned(other, w.releases[0])
		}, trust.ErrMismatch},
		{"timestamp signed by the release key", func(t *testing.T, w *world, old, f *files) {
			f.data[trust.TimestampName] = resigned(signedPart(t, f.data[trust.TimestampName]), w.releases[0])
		}, trust.ErrThreshold},
		{"list signed by the online key", func(t *testing.T, w *world, old, f *files) {
			w.releases = w.online
			f.data = forgery{}.of(t, w).data
		}, trust.ErrThreshold},
		{"next root signed by a stranger", func(t *testing.T, w *world, old, f *files) {
			root := replace(t, `"version":1}`, `"version":2}`)(signedPart(t, w.repo.Raw(trust.RoleRoot)))
			f.data["2.root.json"] = resigned(root, testworld.NewSigner("stranger"))
		}, trust.ErrThreshold},
		{"next root skips a number", func(t *testing.T, w *world, old, f *files) {
			root := replace(t, `"version":1}`, `"version":3}`)(signedPart(t, w.repo.Raw(trust.RoleRoot)))
			f.data["2.root.json"] = resigned(root, w.roots[0])
		}, trust.ErrFork},
		{"no snapshot", func(t *testing.T, w *world, old, f *files) {
			delete(f.data, "3.snapshot.json")
		}, trust.ErrNotFound},
		{"no list", func(t *testing.T, w *world, old, f *files) {
			delete(f.data, "3.targets.json")
		}, trust.ErrNotFound},
		{"expired timestamp", func(t *testing.T, w *world, old, f *files) {
			w.at = w.at.Add(trust.TimestampLife + time.Second)
		}, trust.ErrExpired},
		{"expired snapshot", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{snapshot: expired(t, w)}.of(t, w).data
		}, trust.ErrExpired},
		{"expired list", func(t *testing.T, w *world, old, f *files) {
			f.data = forgery{targets: expired(t, w)}.of(t, w).data
		}, trust.ErrExpired},
		{"second digest", func(t *testing.T, w *world, old, f *files) {
			rel, _ := w.repo.Release(name(t, one))
			other := addition(t, one, []byte("another archive of just as many bytes"))
			f.data = forgery{targets: func(s string) string {
				s = replace(t, rel.Digest().String(), other.Digest.String())(s)
				return replace(t, rel.Blocks().String(), other.Blocks.String())(s)
			}}.of(t, w).data
		}, trust.ErrSecondDigest},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.add(one)
			b := newBox(t, w.repo.Root())
			b.must(w.dir, w.clock())
			w.at = w.at.Add(time.Hour)
			old := copyOf(t, w.dir)
			delete(old.data, "1.snapshot.json")
			w.publish(trust.Change{})
			b.must(w.dir, w.clock()) // so that the old timestamp is older
			w.add(two)
			f := copyOf(t, w.dir)
			c.change(t, w, old, f)
			err := b.refresh(f, w.clock())
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantErr(t, err, c.want)
			b.reopen()
			r, err := b.state.Current()
			if err != nil {
				t.Fatal(err)
			}
			wantListed(t, r, one)
		})
	}
}

// expired gives a file an expiry that is over.
func expired(t *testing.T, w *world) func(string) string {
	return func(s string) string {
		i := strings.Index(s, `"expires":"`) + len(`"expires":"`)
		s = s[:i] + w.at.Add(-time.Minute).Format(time.RFC3339) + s[i+20:]
		i = strings.Index(s, `"issued":"`) + len(`"issued":"`)
		return s[:i] + w.at.Add(-time.Hour).Format(time.RFC3339) + s[i+20:]
	}
}

// TestEveryByteCounts flips each byte of each file, and cuts each file at each length.
func TestEveryByteCounts(t *testing.T) {
	testworld.Unraced(t)
	t.Parallel()
	w := newWorld(t)
	w.add(one)
	good := copyOf(t, w.dir)
	newBox(t, w.repo.Root()).must(good, w.clock())
	for _, file := range []string{"timestamp.json", "2.snapshot.json", "2.targets.json"} {
		raw := good.data[file]
		b := newBox(t, w.repo.Root())
		for i := range raw {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			good.data[file] = changed
			if err := b.refresh(good, w.clock()); err == nil {
				t.Fatalf("%s: byte %d changed and accepted", file, i)
			}
			good.data[file] = raw[:i]
			if err := b.refresh(good, w.clock()); err == nil {
				t.Fatalf("%s: cut at %d and accepted", file, i)
			}
		}
		good.data[file] = raw
	}
	root := w.repo.Raw(trust.RoleRoot)
	for i := range root {
		changed := bytes.Clone(root)
		changed[i] ^= 1
		if _, err := trust.ParseRoot(changed); err == nil {
			t.Fatalf("root: byte %d changed and accepted", i)
		}
		if _, err := trust.ParseRoot(root[:i]); err == nil {
			t.Fatalf("root: cut at %d and accepted", i)
		}
	}
}

func TestNothingNewCostsOneRequest(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	b := newBox(t, w.repo.Root())
	first := b.must(w.dir, w.clock())
	f := copyOf(t, w.dir)
	again, err := b.state.Refresh(t.Context(), f, w.clock())
	if err != nil {
		t.Fatal(err)
	}
	if again != first || !slices.Equal(f.asked, []string{trust.TimestampName}) {
		t.Errorf("expected the same repository after one request, got %p for %p after %v", again, first, f.asked)
	}
	// A day later the next root is asked for too, and after that it is one request again. So it is where the
	// clock is behind signed time, which can't tell a day.
	for _, c := range []struct {
		now   time.Time
		asked int
	}{{w.at.Add(hours24 - 1), 1}, {w.at.Add(hours24), 2}, {w.at.Add(hours24), 1}, {w.at.Add(-1), 2}} {
		f.asked = nil
		again, err := b.state.Refresh(t.Context(), f, trust.Clock{Now: c.now})
		if err != nil || again != first || len(f.asked) != c.asked {
			t.Errorf("at %v: expected the same repository after %d requests, got %p for %p after %v, %v", c.now, c.asked, again, first, f.asked, err)
		}
	}
	// Past expiry the roots are asked for, even where the timestamp is the same.
	_, err = b.state.Refresh(t.Context(), f, trust.Clock{Now: w.at.Add(8 * hours24)})
	wantErr(t, err, trust.ErrExpired)
	if !slices.Contains(f.asked, "2.root.json") {
		t.Errorf("expected the next root to be asked for, got %v", f.asked)
	}
}

func TestEndlessData(t *testing.T) {
	w := newWorld(t)
	b := newBox(t, w.repo.Root())
	f := copyOf(t, w.dir)
	f.data[trust.TimestampName] = make([]byte, trust.MaxLength(trust.RoleTimestamp)+1)
	if err := b.refresh(f, w.clock()); err == nil {
		t.Error("expected a timestamp over its limit to be refused")
	}
	// A Fetcher that ignores the limit doesn't help either.
	_, err := trust.ParseRoot(make([]byte, trust.MaxLength(trust.RoleRoot)+1))
	wantErr(t, err, trust.ErrMalformed)
}

// A box that was off for long follows every root there is, and keeps those that came where it is cut.
func TestManyRoots(t *testing.T) {
	w := newWorld(t)
	b := newBox(t, w.repo.Root())
	f := copyOf(t, w.dir)
	signed := signedPart(t, w.repo.Raw(trust.RoleRoot))
	for v := 2; v <= 300; v++ {
		f.data[fmt.Sprintf("%d.root.json", v)] = resigned(replace(t, `"version":1}`, fmt.Sprintf(`"version":%d}`, v))(signed), w.roots[0])
	}
	last := f.data["300.root.json"]
	f.data["300.root.json"] = []byte("cut")
	wantErr(t, b.refresh(f, w.clock()), trust.ErrMalformed)
	b.reopen()
	if got := b.state.Root().Version(); got != 299 {
		t.Errorf("expected root 299 to be kept, got %d", got)
	}
	f.data["300.root.json"] = last
	b.must(f, w.clock())
	if got := b.state.Root().Version(); got != 300 {
		t.Errorf("expected root 300, got %d", got)
	}
}

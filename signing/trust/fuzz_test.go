package trust_test

import (
	"bytes"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// fuzzWorld is made once: fuzzing calls for it often.
func fuzzWorld(f *testing.F) *world {
	f.Helper()
	w := newWorldOf(f, 2, 1)
	w.releases = w.releases[:1]
	p := w.propose(w.releases, one, two)
	w.publish(trust.Change{Targets: p})
	return w
}

func FuzzParseRoot(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(w.repo.Raw(trust.RoleRoot))
	f.Add([]byte(`{"signatures":[],"signed":{}}`))
	f.Add([]byte(`{"signatures":[],"signed":{"roles":{"a":null}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := trust.ParseRoot(raw); err == nil && !bytes.Equal(r.Raw(), raw) {
			t.Error("expected the bytes as signed")
		}
	})
}

// FuzzSignedRoot changes what a root key signs.
func FuzzSignedRoot(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(signedPart(f, w.repo.Raw(trust.RoleRoot)))
	f.Fuzz(func(t *testing.T, signed string) {
		r, err := trust.ParseRoot(resigned(signed, w.roots[0]))
		if err == nil && (r.Threshold(trust.RoleRoot) < 1 || len(r.Keys(trust.RoleTargets)) < r.Threshold(trust.RoleTargets)) {
			t.Error("a root without keys")
		}
	})
}

// FuzzSignedTargets changes what a release key signs. What is accepted, go-tuf accepts too.
func FuzzSignedTargets(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(signedPart(f, w.repo.Raw(trust.RoleTargets)))
	f.Add(`{"targets":{"a":null}}`)
	for _, change := range hostile(f, w) {
		if s := change(signedPart(f, w.repo.Raw(trust.RoleTargets))); len(s) < 1<<15 {
			f.Add(s)
		}
	}
	roots := [][]byte{w.repo.Raw(trust.RoleRoot)}
	f.Fuzz(func(t *testing.T, signed string) {
		m := forgery{targets: func(string) string { return signed }}.of(t, w)
		b := newBox(t, w.repo.Root())
		if _, err := b.state.Refresh(t.Context(), m, w.clock()); err != nil {
			return
		}
		if err := agree(t, roots, m, w.at); err != nil {
			t.Errorf("accepted, and the peer says %v", err)
		}
	})
}

// FuzzOnline changes what an online key signs.
func FuzzOnline(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(signedPart(f, w.repo.Raw(trust.RoleTimestamp)), signedPart(f, w.repo.Raw(trust.RoleSnapshot)))
	f.Add(`{"meta":{"snapshot.json":null}}`, `{"meta":{"targets.json":null}}`)
	roots := [][]byte{w.repo.Raw(trust.RoleRoot)}
	f.Fuzz(func(t *testing.T, timestamp, snapshot string) {
		m := served(w.repo)
		m.data[trust.TimestampName] = resigned(timestamp, w.online[0])
		m.data["2.snapshot.json"] = resigned(snapshot, w.online[0])
		b := newBox(t, w.repo.Root())
		if _, err := b.state.Refresh(t.Context(), m, w.clock()); err != nil {
			return
		}
		if err := agree(t, roots, m, w.at); err != nil {
			t.Errorf("accepted, and the peer says %v", err)
		}
	})
}

func FuzzParseLedger(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(w.state.Ledger().Bytes())
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l, err := trust.ParseLedger(raw); err == nil && !bytes.Equal(l.Bytes(), raw) {
			t.Errorf("expected %q, got %q", raw, l.Bytes())
		}
	})
}

func FuzzParseFileName(f *testing.F) {
	for _, seed := range []string{"1.root.json", "timestamp.json", "5.timestamp.json", "05.targets.json", "2147483648.targets.json", "../1.root.json"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if role, version, ok := trust.ParseFileName(s); ok && trust.FileName(role, version) != s {
			t.Errorf("%q is read as %s %d", s, role, version)
		}
	})
}

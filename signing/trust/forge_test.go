package trust_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// signedPart returns what the signatures of a file are over.
func signedPart(t testing.TB, raw []byte) string {
	t.Helper()
	_, signed, ok := strings.Cut(string(raw), `],"signed":`)
	if !ok {
		t.Fatalf("not a metadata file: %.80q", raw)
	}
	return strings.TrimSuffix(signed, "}")
}

// resigned returns a file with other content, signed by keys that the forger has.
func resigned(signed string, by ...*testworld.Signer) []byte {
	var sigs []string
	for _, s := range by {
		sig := ed25519.Sign(s.Private(), []byte(signed))
		sigs = append(sigs, fmt.Sprintf(`{"keyid":"%s","sig":"%s"}`, s.Public().ID(), hex.EncodeToString(sig)))
	}
	return []byte(`{"signatures":[` + strings.Join(sigs, ",") + `],"signed":` + signed + `}`)
}

// replace returns a change of one thing, which must be there.
func replace(t testing.TB, old, new string) func(string) string {
	return func(s string) string {
		t.Helper()
		if !strings.Contains(s, old) {
			t.Fatalf("nothing to change: no %q in %.300q", old, s)
		}
		return strings.Replace(s, old, new, 1)
	}
}

// forgery is a repository that somebody with all keys below the root makes of another one, with one
// change. Links are adjusted to the change.
type forgery struct {
	targets, snapshot, timestamp func(string) string
}

func (f forgery) of(t testing.TB, w *world) *files {
	t.Helper()
	r := w.repo
	change := func(s string, by func(string) string) string {
		if by == nil {
			return s
		}
		return by(s)
	}
	relink := func(s string, old, new []byte) string {
		s = replace(t, update.Sum(old).String(), update.Sum(new).String())(s)
		return replace(t, `"length":`+strconv.Itoa(len(old)), `"length":`+strconv.Itoa(len(new)))(s)
	}
	out := served(r)
	rawT, rawS, rawTS := r.Raw(trust.RoleTargets), r.Raw(trust.RoleSnapshot), r.Raw(trust.RoleTimestamp)
	newT := resigned(change(signedPart(t, rawT), f.targets), w.releases[:w.releaseNeed]...)
	newS := resigned(change(relink(signedPart(t, rawS), rawT, newT), f.snapshot), w.online[0])
	newTS := resigned(change(relink(signedPart(t, rawTS), rawS, newS), f.timestamp), w.online[0])
	out.data[trust.FileName(trust.RoleTargets, r.Version(trust.RoleTargets))] = newT
	out.data[trust.FileName(trust.RoleSnapshot, r.Version(trust.RoleSnapshot))] = newS
	out.data[trust.TimestampName] = newTS
	return out
}

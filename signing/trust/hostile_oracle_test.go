package trust_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Why another client accepts what we refuse.
const (
	anyJSON   = "it reads any JSON and judges its canonical form, so that one content has many spellings and digests"
	lastWins  = "of two members of one name its JSON reader takes the last"
	optional  = "lengths and hashes below the timestamp are optional in the standard; here each file names the next one's digest"
	noBound   = "the standard sets no bound"
	atOnce    = "it looks at a target when it is asked for; we judge the whole list, since names become file names"
	ownField  = "the field is ours"
	ownRule   = "the rule is ours: a name keeps its digest"
	forked    = "it compares versions alone"
	looseTime = "it takes a time in any spelling"
	looseSpec = "it compares the major version, or nothing"
	delegated = "it supports delegations, which no one here needs"
	ignores   = "it ignores what it does not need to know"
)

// A hostileCase is one change to a repository that boxes have followed until then.
type hostileCase struct {
	name   string
	change func(t *testing.T, w *world, old, f *files)
	want   error

	goTUF, tufJS string // why that client accepts it all the same; "": it refuses, too
}

// signedTimestamp replaces the timestamp: what was signed is changed, and signed again.
func signedTimestamp(change func(string) string) func(*testing.T, *world, *files, *files) {
	return func(t *testing.T, w *world, _, f *files) {
		f.data[trust.TimestampName] = resigned(change(signedPart(t, f.data[trust.TimestampName])), w.online[0])
	}
}

// spelledTimestamp replaces the timestamp: the signature is that of the canonical form, and the file is spelled otherwise.
func spelledTimestamp(change func(string) string) func(*testing.T, *world, *files, *files) {
	return func(t *testing.T, w *world, _, f *files) {
		f.data[trust.TimestampName] = []byte(change(string(f.data[trust.TimestampName])))
	}
}

// forged is as forgery says.
func forged(f func(t *testing.T) forgery) func(*testing.T, *world, *files, *files) {
	return func(t *testing.T, w *world, _, to *files) { to.data = f(t).of(t, w).data }
}

func forgedList(old, new string) func(*testing.T, *world, *files, *files) {
	return forged(func(t *testing.T) forgery { return forgery{targets: replace(t, old, new)} })
}

// nextRoot offers a root 2 with one change, signed by enough keys of root 1.
func nextRoot(change func(w *world) func(string) string) func(*testing.T, *world, *files, *files) {
	return func(t *testing.T, w *world, _, f *files) {
		s := replace(t, `"version":1}`, `"version":2}`)(signedPart(t, w.repo.Raw(trust.RoleRoot)))
		f.data["2.root.json"] = resigned(change(w)(s), w.roots[:w.rootNeed]...)
	}
}

func nextRootWith(old, new string) func(*testing.T, *world, *files, *files) {
	return nextRoot(func(w *world) func(string) string { return replace(w.t, old, new) })
}

// padded adds a field of that many bytes.
func padded(n int) func(string) string {
	return func(s string) string {
		return strings.Replace(s, `"expires"`, `"a":"`+strings.Repeat("a", n)+`","expires"`, 1)
	}
}

func hostileCases() []hostileCase {
	inOrder := func(s string) string { return s }
	return []hostileCase{
		{"nothing is changed", func(*testing.T, *world, *files, *files) {}, nil, "", ""},

		// Signatures.
		{"timestamp without signatures", func(t *testing.T, w *world, _, f *files) {
			f.data[trust.TimestampName] = resigned(signedPart(t, f.data[trust.TimestampName]))
		}, trust.ErrThreshold, "", ""},
		{"timestamp signed by the release key", func(t *testing.T, w *world, _, f *files) {
			f.data[trust.TimestampName] = resigned(signedPart(t, f.data[trust.TimestampName]), w.releases[0])
		}, trust.ErrThreshold, "", ""},
		{"signature of another content", func(t *testing.T, w *world, old, f *files) {
			f.data[trust.TimestampName] = []byte(strings.Replace(string(f.data[trust.TimestampName]), signedPart(t, f.data[trust.TimestampName]), signedPart(t, old.data[trust.TimestampName]), 1))
		}, trust.ErrThreshold, "", ""},
		{"signature cut", spelledTimestamp(func(s string) string {
			i := strings.Index(s, `"}],`)
			return s[:i-2] + s[i:]
		}), trust.ErrMalformed, "", ""},
		{"signature is no hex", spelledTimestamp(func(s string) string {
			i := strings.Index(s, `"}],`)
			return s[:i-2] + "zz" + s[i:]
		}), trust.ErrMalformed, "", ""},
		{"signature in upper case", spelledTimestamp(func(s string) string {
			i, j := strings.Index(s, `"sig":"`)+7, strings.Index(s, `"}],`)
			return s[:i] + strings.ToUpper(s[i:j]) + s[j:]
		}), trust.ErrMalformed, anyJSON, anyJSON},
		{"key ID in upper case", spelledTimestamp(func(s string) string {
			i := strings.Index(s, `"keyid":"`) + 9
			return s[:i] + strings.ToUpper(s[i:i+64]) + s[i+64:]
		}), trust.ErrMalformed, "", ""},
		{"one signature twice", spelledTimestamp(func(s string) string {
			i := strings.Index(s, `],"signed"`)
			return s[:i] + "," + s[len(`{"signatures":[`):i] + s[i:]
		}), trust.ErrMalformed, "", ""},
		{"list signed by one of two", func(t *testing.T, w *world, _, f *files) {
			w.releaseNeed = 1
			f.data = forgery{}.of(t, w).data
		}, trust.ErrThreshold, "", ""},
		{"list signed by one key twice", func(t *testing.T, w *world, _, f *files) {
			w.releases = []*testworld.Signer{w.releases[0], w.releases[0]}
			f.data = forgery{}.of(t, w).data
		}, trust.ErrMalformed, "", ""},
		{"list signed by a release key and a stranger", func(t *testing.T, w *world, _, f *files) {
			w.releases = []*testworld.Signer{w.releases[0], testworld.NewSigner("stranger")}
			f.data = forgery{}.of(t, w).data
		}, trust.ErrThreshold, "", ""},
		{"list signed by the online key", func(t *testing.T, w *world, _, f *files) {
			w.releases = []*testworld.Signer{w.online[0], w.releases[0]}
			f.data = forgery{}.of(t, w).data
		}, trust.ErrThreshold, "", ""},
		{"list signed by one key under two IDs", func(t *testing.T, w *world, _, f *files) {
			id := w.releases[1].Public().ID()
			w.releases = []*testworld.Signer{w.releases[0], testworld.NewSigner("stranger")}
			stranger := w.releases[1].Public().ID()
			f.data = forgery{}.of(t, w).data
			f.data["3.targets.json"] = []byte(strings.Replace(string(f.data["3.targets.json"]), string(stranger), string(id), 1))
			w.relink(f)
		}, trust.ErrThreshold, "", ""},

		// Roots.
		{"next root signed by one of two", func(t *testing.T, w *world, old, f *files) {
			w.rootNeed = 1
			nextRoot(func(*world) func(string) string { return inOrder })(t, w, old, f)
		}, trust.ErrThreshold, "", ""},
		{"next root signed by a stranger", func(t *testing.T, w *world, old, f *files) {
			w.roots = []*testworld.Signer{testworld.NewSigner("stranger"), testworld.NewSigner("another")}
			nextRoot(func(*world) func(string) string { return inOrder })(t, w, old, f)
		}, trust.ErrThreshold, "", ""},
		{"next root that its own keys did not sign", nextRoot(func(w *world) func(string) string {
			return func(s string) string {
				return replace(w.t, `"threshold":2},"snapshot"`, `"threshold":3},"snapshot"`)(s)
			}
		}), trust.ErrThreshold, "", ""},
		{"next root skips a number", nextRootWith(`"version":2}`, `"version":3}`), trust.ErrFork, "", ""},
		{"next root is the present one", func(t *testing.T, w *world, _, f *files) { f.data["2.root.json"] = f.data["1.root.json"] }, trust.ErrFork, "", ""},
		{"next root expired", nextRoot(func(w *world) func(string) string {
			return func(s string) string {
				return replace(w.t, `"expires":"2027`, `"expires":"2026`)(replace(w.t, `"issued":"2026`, `"issued":"2025`)(s))
			}
		}), trust.ErrExpired, "", ""},
		{"root key of an unknown type", nextRootWith(`"keytype":"ed25519"`, `"keytype":"ed25520"`), trust.ErrMalformed, "", ignores},
		{"root key of an unknown scheme", nextRootWith(`"scheme":"ed25519"`, `"scheme":"ed25520"`), trust.ErrMalformed, ignores, ignores},
		{"root key with more fields", nextRootWith(`"scheme":"ed25519"}`, `"scheme":"ed25519","x":1}`), trust.ErrMalformed, ignores, ignores},
		{"root key that is no point", nextRoot(func(w *world) func(string) string {
			return replace(w.t, w.roots[2].Public().Hex(), strings.Repeat("0", 63)+"2")
		}), trust.ErrMalformed, ignores, ignores},
		{"root role without a threshold", nextRootWith(`,"threshold":1},"targets"`, `},"targets"`), trust.ErrMalformed, "", ""},
		{"root role with threshold 0", nextRootWith(`"threshold":1`, `"threshold":0`), trust.ErrMalformed, "", ""},
		{"root role with fewer keys than its threshold", nextRootWith(`"threshold":1`, `"threshold":2`), trust.ErrMalformed, "", ""},
		{"root role has a key twice", nextRoot(func(w *world) func(string) string {
			id := string(w.online[0].Public().ID())
			return replace(w.t, `"keyids":["`+id+`"]`, `"keyids":["`+id+`","`+id+`"]`)
		}), trust.ErrMalformed, ignores, ""},
		{"root role has a key that is not listed", nextRoot(func(w *world) func(string) string {
			id := string(w.online[0].Public().ID())
			return replace(w.t, `"keyids":["`+id+`"]`, `"keyids":["`+id+`","`+strings.Repeat("0", 64)+`"]`)
		}), trust.ErrMalformed, "", ignores},
		{"root role is missing", nextRootWith(`"timestamp":{`, `"timestamped":{`), trust.ErrMalformed, "", ""},
		{"root with a role too many", nextRootWith(`"timestamp":{`, `"spare":{"keyids":[],"threshold":1},"timestamp":{`), trust.ErrMalformed, "", ""},
		{"root without consistent snapshots", nextRootWith(`"consistent_snapshot":true`, `"consistent_snapshot":false`), trust.ErrMalformed, "", ""},
		{"root too large", nextRoot(func(*world) func(string) string { return padded(512_001) }), trust.ErrMalformed, "", ""},

		// Old, mixed and expired files.
		{"older timestamp", func(t *testing.T, w *world, old, f *files) { f.data = old.data }, trust.ErrRollback, "", ""},
		{"newer timestamp names an older snapshot", forged(func(t *testing.T) forgery {
			return forgery{timestamp: replace(t, `"version":3}`, `"version":1}`)}
		}), trust.ErrRollback, "", ""},
		{"newer snapshot names an older list", forged(func(t *testing.T) forgery {
			return forgery{snapshot: replace(t, `"version":3}`, `"version":1}`)}
		}), trust.ErrRollback, "", ""},
		{"snapshot of another time", func(t *testing.T, w *world, old, f *files) { f.data["3.snapshot.json"] = old.data["2.snapshot.json"] }, trust.ErrMismatch, "", ""},
		{"list of another time", func(t *testing.T, w *world, old, f *files) { f.data["3.targets.json"] = old.data["2.targets.json"] }, trust.ErrMismatch, "", ""},
		{"another list under the accepted number", func(t *testing.T, w *world, _, f *files) {
			f.data = forgery{targets: replace(t, `"version":3}`, `"version":2}`), snapshot: replace(t, `"version":3}`, `"version":2}`)}.of(t, w).data
			f.data["2.targets.json"] = f.data["3.targets.json"]
		}, trust.ErrFork, forked, forked},
		{"list with another number than the snapshot says", forged(func(t *testing.T) forgery {
			return forgery{targets: replace(t, `"version":3}`, `"version":4}`)}
		}), trust.ErrMismatch, "", ""},
		{"snapshot with another number than the timestamp says", forged(func(t *testing.T) forgery {
			return forgery{snapshot: func(s string) string {
				i := strings.LastIndex(s, `"version":3`)
				return s[:i] + `"version":4}`
			}}
		}), trust.ErrMismatch, "", ""},
		{"expired timestamp", func(t *testing.T, w *world, _, f *files) { w.at = w.at.Add(trust.TimestampLife + time.Second) }, trust.ErrExpired, "", ""},
		{"expired snapshot", func(t *testing.T, w *world, _, f *files) { f.data = forgery{snapshot: expired(t, w)}.of(t, w).data }, trust.ErrExpired, "", ""},
		{"expired list", func(t *testing.T, w *world, _, f *files) { f.data = forgery{targets: expired(t, w)}.of(t, w).data }, trust.ErrExpired, "", ""},
		{"no snapshot", func(t *testing.T, w *world, _, f *files) { delete(f.data, "3.snapshot.json") }, trust.ErrNotFound, "", ""},
		{"no list", func(t *testing.T, w *world, _, f *files) { delete(f.data, "3.targets.json") }, trust.ErrNotFound, "", ""},
		{"no timestamp", func(t *testing.T, w *world, _, f *files) { delete(f.data, trust.TimestampName) }, trust.ErrNotFound, "", ""},
		{"second digest", func(t *testing.T, w *world, _, f *files) {
			rel, _ := w.repo.Release(name(t, one))
			other := addition(t, one, []byte("another archive of just as many bytes"))
			f.data = forgery{targets: func(s string) string {
				s = replace(t, rel.Digest().String(), other.Digest.String())(s)
				return replace(t, rel.Blocks().String(), other.Blocks.String())(s)
			}}.of(t, w).data
		}, trust.ErrSecondDigest, ownRule, ownRule},

		// Links.
		{"length of the snapshot too small", forged(func(t *testing.T) forgery { return forgery{timestamp: oneLess(t)} }), trust.ErrMismatch, "", ""},
		{"length of the list too small", forged(func(t *testing.T) forgery { return forgery{snapshot: oneLess(t)} }), trust.ErrMismatch, "", ""},
		{"digest of the snapshot wrong", forged(func(t *testing.T) forgery { return forgery{timestamp: otherDigest} }), trust.ErrMismatch, "", ""},
		{"digest of the list wrong", forged(func(t *testing.T) forgery { return forgery{snapshot: otherDigest} }), trust.ErrMismatch, "", ""},
		{"no length of the snapshot", signedTimestamp(func(s string) string {
			i := strings.Index(s, `,"length":`)
			return s[:i] + s[i+strings.Index(s[i:], `,"version"`):]
		}), trust.ErrMalformed, optional, optional},
		{"no digest of the snapshot", signedTimestamp(func(s string) string {
			i := strings.Index(s, `"hashes":`)
			return s[:i] + s[i+strings.Index(s[i:], `"length"`):]
		}), trust.ErrMalformed, optional, optional},
		{"timestamp names two files", signedTimestamp(func(s string) string { return strings.Replace(s, `"meta":{`, `"meta":{"a.json":{"version":1},`, 1) }), trust.ErrMalformed, ignores, ""},
		{"timestamp names no snapshot", signedTimestamp(func(s string) string { return strings.Replace(s, `snapshot.json`, `snapshoo.json`, 1) }), trust.ErrMalformed, "", ""},

		// What all roles have in common.
		{"timestamp is a snapshot", func(t *testing.T, w *world, _, f *files) { f.data[trust.TimestampName] = f.data["3.snapshot.json"] }, trust.ErrMalformed, "", ""},
		{"another type", forgedList(`"_type":"targets"`, `"_type":"snapshot"`), trust.ErrMalformed, "", ""},
		{"specification 2.0", signedTimestamp(func(s string) string { return strings.Replace(s, `"spec_version":"1`, `"spec_version":"2`, 1) }), trust.ErrMalformed, looseSpec, ""},
		{"specification 1.9", signedTimestamp(func(s string) string { return strings.Replace(s, `"spec_version":"1.0.31`, `"spec_version":"1.9.0`, 1) }), trust.ErrMalformed, looseSpec, looseSpec},
		{"version 0", forgedList(`"version":3}`, `"version":0}`), trust.ErrMalformed, "", ""},
		{"version -3", forgedList(`"version":3}`, `"version":-3}`), trust.ErrMalformed, "", ""},
		{"version as text", forgedList(`"version":3}`, `"version":"3"}`), trust.ErrMalformed, "", ""},
		{"expires with a zone", signedTimestamp(func(s string) string { return strings.Replace(s, `:00Z","issued"`, `:00+00:00","issued"`, 1) }), trust.ErrMalformed, "", looseTime},
		{"expires with a fraction", signedTimestamp(func(s string) string { return strings.Replace(s, `:00Z","issued"`, `:00.500Z","issued"`, 1) }), trust.ErrMalformed, "", looseTime},
		{"expires is a day", signedTimestamp(func(s string) string { return strings.Replace(s, `T13:00:00Z","issued"`, `","issued"`, 1) }), trust.ErrMalformed, "", looseTime},
		{"no expires", signedTimestamp(func(s string) string { return strings.Replace(s, `"expires"`, `"expired"`, 1) }), trust.ErrMalformed, "", ""},
		{"no issued", signedTimestamp(func(s string) string { return strings.Replace(s, `"issued"`, `"issues"`, 1) }), trust.ErrMalformed, ownField, ownField},
		{"timestamp too large", signedTimestamp(padded(16_384)), trust.ErrMalformed, "", ""},
		{"snapshot too large", forged(func(*testing.T) forgery { return forgery{snapshot: padded(16_384)} }), trust.ErrMalformed, noBound, noBound},
		{"list too large", forged(func(*testing.T) forgery { return forgery{targets: padded(5_000_001)} }), trust.ErrMalformed, noBound, noBound},
		{"list over 2,000 updates", forged(func(*testing.T) forgery {
			return forgery{targets: func(s string) string {
				i := strings.Index(s, `{"custom"`)
				entry := s[i : i+strings.Index(s[i:], `},"`+two)+1]
				var more strings.Builder
				for n := range 2000 {
					fmt.Fprintf(&more, `"a-%04d.tar.gz":%s,`, n, entry)
				}
				return strings.Replace(s, `"targets":{`, `"targets":{`+more.String(), 1)
			}}
		}), trust.ErrMalformed, noBound, noBound},
		{"nested 7,000 deep", signedTimestamp(func(s string) string {
			return strings.Replace(s, `"expires"`, `"deep":`+strings.Repeat("[", 7000)+strings.Repeat("]", 7000)+`,"expires"`, 1)
		}), trust.ErrMalformed, noBound, ""},

		// Spelling.
		{"white space", spelledTimestamp(func(s string) string { return strings.ReplaceAll(s, `,`, `, `) }), trust.ErrMalformed, anyJSON, anyJSON},
		{"newline at the end", spelledTimestamp(func(s string) string { return s + "\n" }), trust.ErrMalformed, anyJSON, anyJSON},
		{"fields out of order", spelledTimestamp(func(s string) string {
			i := strings.Index(s, `,"signed":`)
			return `{` + s[i+1:len(s)-1] + `,` + s[1:i] + `}`
		}), trust.ErrMalformed, anyJSON, anyJSON},
		{"escaped letter", spelledTimestamp(func(s string) string { return strings.Replace(s, `"timestamp"`, `"\u0074imestamp"`, 1) }), trust.ErrMalformed, anyJSON, anyJSON},
		{"version with a point", spelledTimestamp(func(s string) string { return strings.TrimSuffix(s, `}}`) + `.0}}` }), trust.ErrMalformed, "", anyJSON},
		{"member twice, the signed one last", spelledTimestamp(func(s string) string {
			return strings.Replace(s, `"expires"`, `"expires":"2030-01-01T00:00:00Z","expires"`, 1)
		}), trust.ErrMalformed, lastWins, lastWins},
		{"member twice, the signed one first", spelledTimestamp(func(s string) string {
			return strings.Replace(s, `"issued"`, `"expires":"2030-01-01T00:00:00Z","issued"`, 1)
		}), trust.ErrMalformed, "", ""},
		{"member in upper case besides", spelledTimestamp(func(s string) string { return strings.TrimSuffix(s, `}}`) + `,"Version":9}}` }), trust.ErrMalformed, "", ""},
		{"byte order mark", spelledTimestamp(func(s string) string { return "\ufeff" + s }), trust.ErrMalformed, "", ""},
		{"one byte after the end", spelledTimestamp(func(s string) string { return s + "}" }), trust.ErrMalformed, "", ""},
		{"another file after the end", spelledTimestamp(func(s string) string { return s + s }), trust.ErrMalformed, "", ""},
		{"a third member", spelledTimestamp(func(s string) string { return `{"a":1,` + s[1:] }), trust.ErrMalformed, ignores, ignores},
		{"empty", spelledTimestamp(func(string) string { return "" }), trust.ErrMalformed, "", ""},
		{"a page", spelledTimestamp(func(string) string { return "<!DOCTYPE html><title>Sign in</title>" }), trust.ErrMalformed, "", ""},
		{"a list", spelledTimestamp(func(string) string { return "[]" }), trust.ErrMalformed, "", ""},
		{"null", spelledTimestamp(func(string) string { return "null" }), trust.ErrMalformed, "", ""},

		// Targets.
		{"name above the directory", forgedList(`"`+one+`"`, `"../`+one+`"`), trust.ErrMalformed, atOnce, atOnce},
		{"name from the root of the file system", forgedList(`"`+one+`"`, `"/etc/`+one+`"`), trust.ErrMalformed, atOnce, atOnce},
		{"name with a backslash", forgedList(`"`+one+`"`, `"..\\`+one+`"`), trust.ErrMalformed, atOnce, atOnce},
		{"empty name", forgedList(`"`+one+`"`, `""`), trust.ErrMalformed, atOnce, atOnce},
		{"name of no update", forgedList(`"`+one+`"`, `"opq"`), trust.ErrMalformed, atOnce, atOnce},
		{"delegations", forgedList(`"expires"`, `"delegations":{"keys":{},"roles":[]},"expires"`), trust.ErrMalformed, delegated, delegated},
		{"target without length", forgedList(`,"length":36`, ``), trust.ErrMalformed, "", ""},
		{"target of negative length", forgedList(`"length":36`, `"length":-36`), trust.ErrMalformed, ignores, ""},
		{"target with a short digest", forgedList(`"sha256":"`, `"sha256":"","x":"`), trust.ErrMalformed, ignores, ignores},
		{"target with another hash", forgedList(`"sha256"`, `"sha512"`), trust.ErrMalformed, ignores, ignores},
		{"target without hashes", forgedList(`"hashes"`, `"hashed"`), trust.ErrMalformed, "", ""},
		{"target without custom", forgedList(`"custom"`, `"customs"`), trust.ErrMalformed, ownField, ownField},
		{"target is null", forged(func(t *testing.T) forgery {
			return forgery{targets: func(s string) string {
				i := strings.Index(s, `{"custom"`)
				return s[:i] + "null" + s[i+strings.Index(s[i:], `},"`+two)+1:]
			}}
		}), trust.ErrMalformed, "", ""},
		{"no targets", forgedList(`"targets":{`, `"targeted":{`), trust.ErrMalformed, "", ""},
	}
}

func otherDigest(s string) string {
	i := strings.Index(s, `"sha256":"`) + len(`"sha256":"`)
	return s[:i] + strings.Repeat("0", 63) + "1" + s[i+64:]
}

// oneLess takes one from the length that a file names.
func oneLess(t *testing.T) func(string) string {
	return func(s string) string {
		i := strings.Index(s, `"length":`) + len(`"length":`)
		var n int
		if _, err := fmt.Sscanf(s[i:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		return replace(t, fmt.Sprintf(`"length":%d`, n), fmt.Sprintf(`"length":%d`, n-1))(s)
	}
}

// relink signs a snapshot and a timestamp that lead to the list that is there.
func (w *world) relink(f *files) {
	w.t.Helper()
	link := func(of string, raw []byte) []byte {
		s := signedPart(w.t, f.data[of])
		i := strings.Index(s, `"sha256":"`) + len(`"sha256":"`)
		s = s[:i] + update.Sum(raw).String() + s[i+64:]
		i = strings.Index(s, `"length":`)
		return resigned(s[:i]+fmt.Sprintf(`"length":%d`, len(raw))+s[i+strings.Index(s[i:], `,"version"`):], w.online[0])
	}
	f.data["3.snapshot.json"] = link("3.snapshot.json", f.data["3.targets.json"])
	f.data[trust.TimestampName] = link(trust.TimestampName, f.data["3.snapshot.json"])
}

// TestHostileRepositories: what go-tuf or tuf-js refuses, we refuse; where we are stricter, the table says why.
func TestHostileRepositories(t *testing.T) {
	js := newTUFJS(t)
	w := newWorldOf(t, 3, 2)
	w.add(one)
	old := copyOf(t, w.dir)
	delete(old.data, "1.snapshot.json")
	w.at = w.at.Add(time.Hour)
	w.publish(trust.Change{}) // so that the old timestamp is older
	seen, root := copyOf(t, w.dir), w.repo.Root()
	w.add(two)
	newest := copyOf(t, w.dir)
	whole := t // tuf-js answers after the cases
	for _, c := range hostileCases() {
		t.Run(c.name, func(t *testing.T) {
			w, f := *w, &files{data: maps.Clone(newest.data)}
			w.t = t
			b, inGo, inJS := newBox(t, root), trusting(t, root.Raw()), trusting(whole, root.Raw())
			b.must(seen, w.clock())
			if err := goTUF(inGo, seen, w.at); err != nil {
				t.Fatal(err)
			}
			js.add(inJS, seen, w.at, func(refusal string) {
				if refusal != "" {
					whole.Errorf("%s: tuf-js refuses what was before: %s", c.name, refusal)
				}
			})
			c.change(t, &w, old, f)

			err := b.refresh(boundless{f}, w.clock())
			if c.want == nil && err != nil {
				t.Fatal(err)
			}
			if c.want != nil {
				wantErr(t, err, c.want)
			}
			err = goTUF(inGo, f, w.at)
			if accepts := c.want == nil || c.goTUF != ""; accepts != (err == nil) {
				t.Errorf("%s: go-tuf: accepts by the table: %v, and says %v", c.name, accepts, err)
			}
			js.add(inJS, f, w.at, func(refusal string) {
				if accepts := c.want == nil || c.tufJS != ""; accepts != (refusal == "") {
					whole.Errorf("%s: tuf-js: accepts by the table: %v, and says %q", c.name, accepts, refusal)
				}
			})
		})
	}
	js.run()
}

// boundless is a Fetcher that ignores the limit.
type boundless struct{ *files }

func (b boundless) Fetch(ctx context.Context, name string, _ int64, known update.Digest) ([]byte, error) {
	return b.files.Fetch(ctx, name, 1<<40, known)
}

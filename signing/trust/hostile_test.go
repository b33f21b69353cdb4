package trust_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// hostile are changes of one thing to a list that no key can make good.
func hostile(t testing.TB, w *world) map[string]func(string) string {
	rel, _ := w.repo.Release(name(t, one))
	digest := rel.Digest().String()
	entry := func(s string) string { // the whole entry of one
		i := strings.Index(s, `{"custom"`)
		return s[i:strings.Index(s, `},"version"`)]
	}
	return map[string]func(string) string{
		"null target":             func(s string) string { return replace(t, entry(s), "null")(s) },
		"empty target":            func(s string) string { return replace(t, entry(s), "{}")(s) },
		"target is a list":        func(s string) string { return replace(t, entry(s), "[]")(s) },
		"targets is null":         replace(t, `"targets":{`, `"targets":null,"targets_":{`),
		"name twice":              func(s string) string { return replace(t, entry(s), entry(s)+`,"`+one+`":`+entry(s))(s) },
		"name with a slash":       replace(t, `"`+one+`"`, `"../`+one+`"`),
		"name in upper case":      replace(t, `"`+one+`"`, `"OPQ-box-update-1.tar.bz2"`),
		"name of no update":       replace(t, `"`+one+`"`, `"passwd"`),
		"upper-case digest":       replace(t, digest, strings.ToUpper(digest)),
		"short digest":            replace(t, digest, digest[2:]),
		"zero digest":             replace(t, digest, strings.Repeat("0", 64)),
		"sha512":                  replace(t, `"sha256"`, `"sha512"`),
		"two hashes":              replace(t, `"sha256"`, `"md5":"00","sha256"`),
		"no hashes":               replace(t, `{"sha256":"`+digest+`"}`, `{}`),
		"no length":               replace(t, `,"length":36`, ``),
		"negative length":         replace(t, `"length":36`, `"length":-36`),
		"huge length":             replace(t, `"length":36`, `"length":9007199254740993`),
		"over the longest":        replace(t, `"length":36`, `"length":1099511627777`),
		"length with a point":     replace(t, `"length":36`, `"length":36.0`),
		"length as text":          replace(t, `"length":36`, `"length":"37"`),
		"version of another name": replace(t, `"version":"1"`, `"version":"2"`),
		"version as a number":     replace(t, `"version":"1"`, `"version":1`),
		"time with a fraction":    replace(t, `"time":"2026-03-01T12:00:00Z"`, `"time":"2026-03-01T12:00:00.5Z"`),
		"time with a zone":        replace(t, `"time":"2026-03-01T12:00:00Z"`, `"time":"2026-03-01T12:00:00+01:00"`),
		"expires with a zone":     replace(t, `"expires":"2027-03-01T12:00:00Z"`, `"expires":"2027-03-01T12:00:00+00:00"`),
		"no issued":               replace(t, `"issued":"2026-03-01T12:00:00Z",`, ``),
		"issued after expires":    replace(t, `"issued":"2026`, `"issued":"2036`),
		"another type":            replace(t, `"_type":"targets"`, `"_type":"snapshot"`),
		"another specification":   replace(t, `"spec_version":"1`, `"spec_version":"2`),
		"version 0":               replace(t, `"version":2}`, `"version":0}`),
		"version over 2^31":       replace(t, `"version":2}`, `"version":2147483648}`),
		"delegations":             replace(t, `"expires"`, `"delegations":{"keys":{},"roles":[]},"expires"`),
		"no blocks":               replace(t, `"blocks"`, `"blockz"`),
		"negative unpacked":       replace(t, `"unpacked":`, `"unpacked":-`),
		"detached sig is null":    replace(t, `"sigs":{`, `"sigs":null,"sigs_":{`),
		"detached sig is short":   replace(t, `"sigs":{"`, `"sigs":{"`+strings.Repeat("0", 64)+`":"00","`),
		"rollout without steps":   replace(t, `"sigs"`, `"rollout":{"steps":[]},"sigs"`),
		"rollout goes down":       replace(t, `"sigs"`, `"rollout":{"steps":[{"after":0,"percent":5},{"after":9,"percent":4}]},"sigs"`),
		"rollout overflows":       replace(t, `"sigs"`, `"rollout":{"steps":[{"after":9007199254740992,"percent":5}]},"sigs"`),
		"rollout paused at -1":    replace(t, `"sigs"`, `"rollout":{"paused_at":-1,"steps":[{"after":0,"percent":5}]},"sigs"`),
		"hardware twice":          replace(t, `"sigs"`, `"hardware":["a","a"],"sigs"`),
		"min_version is a word":   replace(t, `"sigs"`, `"min_version":"new","sigs"`),
		"white space":             replace(t, `,`, `, `),
		"carriage return":         replace(t, `,`, ",\r\n"),
		"not ASCII":               replace(t, `"sigs"`, `"hardware":["ö"],"sigs"`),
		"escaped letter":          replace(t, `"sigs"`, `"hardware":["\u0061"],"sigs"`),
		"keys out of order":       replace(t, `"expires"`, `"zz":1,"expires"`),
		"deep":                    replace(t, `"expires"`, `"deep":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+`,"expires"`),
		"field in another case":   replace(t, `{"_type"`, `{"Version":9,"_type"`),
		"data at the end":         func(s string) string { return s + "}" },
	}
}

func TestHostileLists(t *testing.T) {
	w := newWorld(t)
	w.add(one)
	if raw := resigned(signedPart(t, w.repo.Raw(trust.RoleTargets)), w.releases[0]); string(raw) != string(w.repo.Raw(trust.RoleTargets)) {
		t.Fatal("the forger of this test does not make what the signer makes")
	}
	b := newBox(t, w.repo.Root())
	for what, change := range hostile(t, w) {
		t.Run(what, func(t *testing.T) {
			wantErr(t, b.refresh(forgery{targets: change}.of(t, w), w.clock()), trust.ErrMalformed)
		})
	}
}

func TestHostileRoots(t *testing.T) {
	w := newWorld(t)
	id, hexKey := string(w.roots[0].Public().ID()), w.roots[0].Public().Hex()
	cases := map[string]func(string) string{
		"unknown key type":        replace(t, `"keytype":"ed25519"`, `"keytype":"rsa"`),
		"unknown scheme":          replace(t, `"scheme":"ed25519"`, `"scheme":"rsassa-pss-sha256"`),
		"key under another ID":    func(s string) string { return strings.ReplaceAll(s, id, strings.Repeat("0", 64)) },
		"expires spelled anew":    replace(t, `12:00:00Z","issued"`, `12:00:00+00:00","issued"`),
		"key of small order":      replace(t, hexKey, "01"+strings.Repeat("0", 62)),
		"key in upper case":       replace(t, hexKey, strings.ToUpper(hexKey)),
		"key is null":             replace(t, `"keyval":{"public":"`+hexKey+`"}`, `"keyval":null`),
		"key twice in a role":     replace(t, `"keyids":["`+id+`"]`, `"keyids":["`+id+`","`+id+`"]`),
		"threshold 0":             replace(t, `"threshold":1`, `"threshold":0`),
		"threshold over the keys": replace(t, `"threshold":1`, `"threshold":2`),
		"role is missing":         replace(t, `"timestamp":{`, `"timestamped":{`),
		"role too many":           replace(t, `"timestamp":{`, `"spare":{"keyids":[],"threshold":1},"timestamp":{`),
		"role is null":            replace(t, `"roles":{`, `"roles":{"a":null,`),
		"inconsistent snapshot":   replace(t, `"consistent_snapshot":true`, `"consistent_snapshot":false`),
		"expires with a fraction": replace(t, `12:00:00Z","issued"`, `12:00:00.500Z","issued"`),
		"expires with a zone":     replace(t, `12:00:00Z","issued"`, `12:00:00+01:00","issued"`),
		"no issued":               replace(t, `"issued":"2026-03-01T12:00:00Z",`, ``),
	}
	for what, change := range cases {
		t.Run(what, func(t *testing.T) {
			_, err := trust.ParseRoot(resigned(change(signedPart(t, w.repo.Raw(trust.RoleRoot))), w.roots[0]))
			wantErr(t, err, trust.ErrMalformed)
		})
	}
	envelopes := map[string]func(string) string{
		"upper-case signature": func(s string) string { return strings.ToUpper(s[:80]) + s[80:] },
		"third field":          replace(t, `{"signatures"`, `{"a":1,"signatures"`),
		"extra in a signature": replace(t, `{"keyid"`, `{"a":1,"keyid"`),
		"same signature twice": func(s string) string {
			i := strings.Index(s, `],"signed"`)
			return s[:i] + "," + s[len(`{"signatures":[`):i] + s[i:]
		},
		"signatures are null":   func(s string) string { return `{"signatures":null` + s[strings.Index(s, `,"signed"`):] },
		"signed is null":        func(s string) string { return s[:strings.Index(s, `"signed":`)] + `"signed":null}` },
		"empty":                 func(string) string { return "" },
		"a list":                func(string) string { return "[]" },
		"byte order mark first": func(s string) string { return "\ufeff" + s },
		"newline at the end":    func(s string) string { return s + "\n" },
	}
	for what, change := range envelopes {
		t.Run(what, func(t *testing.T) {
			_, err := trust.ParseRoot([]byte(change(string(w.repo.Raw(trust.RoleRoot)))))
			wantErr(t, err, trust.ErrMalformed)
		})
	}
}

// TestMemoryIsBounded reads files of the greatest length that are made to cost memory.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 64 << 20
	w := newWorld(t)
	most := int(trust.MaxLength(trust.RoleTargets)) - 200
	for what, unit := range map[string]string{"objects": "{},", "lists": "[],", "numbers": "1,", "words": `"",`} {
		for where, around := range map[string][2]string{
			"signatures": {`{"signatures":[`, `1],"signed":{}}`},
			"signed":     {`{"signatures":[],"signed":{"a":[`, `1]}}`},
			"targets":    {`{"signatures":[],"signed":{"targets":{"a":{"a":[`, `1]}}}}`},
		} {
			raw := []byte(around[0] + strings.Repeat(unit, most/len(unit)) + around[1])
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := w.repo.CheckTargets(w.state.Ledger(), 0, raw, w.at)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, trust.ErrMalformed) && !errors.Is(err, trust.ErrThreshold) {
				t.Errorf("expected %v, got %v", trust.ErrMalformed, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > limit {
				t.Errorf("%s in %s: allocated %d MiB for %d MiB of junk", what, where, got>>20, len(raw)>>20)
			}
		}
	}
}

// TestMembersAreBounded reads a file of the greatest length that holds as many targets, or detached
// signatures, as fit.
func TestMembersAreBounded(t *testing.T) {
	const limit = 100 << 20
	w := newWorld(t)
	var members strings.Builder
	for i := 1000000; members.Len() < int(trust.MaxLength(trust.RoleTargets))-200; i++ {
		fmt.Fprintf(&members, `,"k%d":{}`, i)
	}
	for where, around := range map[string][2]string{
		"signed":  {`{"signatures":[],"signed":{`, `}}`},
		"targets": {`{"signatures":[],"signed":{"targets":{`, `}}}`},
		"updates": {`{"signatures":[{"updates":{`, `}}],"signed":{}}`},
	} {
		raw := []byte(around[0] + members.String()[1:] + around[1])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := w.repo.CheckTargets(w.state.Ledger(), 0, raw, w.at)
		runtime.ReadMemStats(&after)
		wantErr(t, err, trust.ErrMalformed)
		if got := after.TotalAlloc - before.TotalAlloc; got > limit {
			t.Errorf("%s: allocated %d MiB for %d MiB of junk", where, got>>20, len(raw)>>20)
		}
	}
}

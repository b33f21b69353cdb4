package publish

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const digest1 = `"0000000000000000000000000000000000000000000000000000000000000001"`

// FuzzAnswers feeds every parser of answers: what one accepts is within its bounds, and means the same
// when it is written and parsed again.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"root":3,"targets":17,"snapshot":40,"timestamp":90,"reserved":18,"staged":[18],"pending":[{"role":"targets","version":18,"sha256":` + digest1 +
			`,"since":"2026-03-01T12:00:00Z","needs":[{"root":3,"role":"targets","threshold":2,"have":[` + digest1 + `],"missing":[]}]}]}`,
		`{"status":"committed","id":` + digest1 + `,"current":{"root":1,"targets":2,"snapshot":3,"timestamp":4}}`,
		`{"name":"opq-box-update-1.tar.gz","sha256":` + digest1 + `,"length":33554432,"blocks":true,"missing":[[0,3],[5,8]]}`,
		`{"length":33554432,"missing":[[0,3],[2,8]]}`,
		`{"length":33554432,"missing":[[0,9]]}`,
		`{"length":33554432,"missing":[[0,3]],"begun":[{"block":0,"have":65536},{"block":2,"have":1}]}`,
		`{"length":33554432,"missing":[[0,3]],"begun":[{"block":0,"have":-1}]}`,
		`{"length":33554432,"missing":[[0,3]],"begun":[{"block":4,"have":1}]}`,
		`{"length":33554432,"missing":[[0,3]],"begun":[{"block":1,"have":4194304}]}`,
		`{"error":"e","code":"conflict","hint":"h","current":{"root":1,"targets":2,"snapshot":3,"timestamp":4},"staged":5}`,
		`{"error":"\u001b","code":"x"}`, `null`, `[]`, `{}`, `{"root":1e99}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := parseVersions(raw); err == nil {
			same(t, v, func(b []byte) (status.Versions, error) { return parseVersions(b) })
			if min(v.Root, v.Targets, v.Snapshot, v.Timestamp) < 1 {
				t.Fatalf("accepted %+v", v)
			}
		}
		if s, err := parseState(raw); err == nil {
			if s.Reserved < 0 || len(s.Pending) > maxPending {
				t.Fatalf("accepted %+v", s)
			}
			same(t, s, parseState)
		}
		if o, err := parseOutcome(raw, nil); err == nil {
			same(t, o, func(b []byte) (origin.Outcome, error) { return parseOutcome(b, nil) })
		}
		const length = 8 * update.BlockSize
		if a, err := parseArchive(raw, length); err == nil {
			seen := map[int]bool{}
			for _, m := range a.Missing {
				for i := m[0]; i < m[1]; i++ {
					if i < 0 || i > 7 || seen[i] {
						t.Fatalf("accepted %v", a.Missing)
					}
					seen[i] = true
				}
			}
			for _, b := range a.Begun {
				if !seen[b.Block] || b.Have < 0 || b.Have >= update.BlockLength(length, b.Block) {
					t.Fatalf("accepted %v of %v", a.Begun, a.Missing)
				}
			}
		}
		if e, ok := parseFailure(raw); ok {
			if e.Err() == nil || len(e.Message) > maxMessage+3 || strings.ContainsFunc(e.Message+e.Hint, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Fatalf("accepted %+v", e)
			}
		}
	})
}

func same[T any](t *testing.T, v T, parse func([]byte) (T, error)) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		return // a time that JSON can't write
	}
	again, err := parse(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if twice, err := json.Marshal(again); err != nil || !reflect.DeepEqual(raw, twice) {
		t.Fatalf("%s became %s, %v", raw, twice, err)
	}
}

package trust

import (
	"encoding/json"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
)

// FuzzCheckCanonical compares what is accepted with what the library prints.
func FuzzCheckCanonical(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":[true,false,"\\\"~"],"b":{"c":-12}}`, `{"b":1,"a":2}`, `{"a":-0}`, `{"a":01}`, `{"a":1e9}`, `{"a":null}`, `{"a":9007199254740992}`, `{"a":9007199254740993}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkCanonical(raw) != nil {
			return
		}
		var v map[string]any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("%q is accepted, and no JSON: %v", raw, err)
		}
		if again, err := cjson.EncodeCanonical(json.RawMessage(raw)); err != nil || string(again) != string(raw) {
			t.Errorf("%q is accepted, and printed as %q, %v", raw, again, err)
		}
	})
}

func TestCheckCanonical(t *testing.T) {
	for s, good := range map[string]bool{
		`{}`: true, `{"a":{"b":[1,-2,"x\"\\"]}}`: true, `{"a":9007199254740992}`: true,
		`{"b":1,"a":2}`: false, `{"a":1,"a":2}`: false, `{"a":-0}`: false, `{"a":01}`: false, `{"a":1.0}`: false,
		`{"a":9007199254740993}`: false, `{"a":null}`: false, `{"A":1}`: false, `{"":1}`: false, `{"a": 1}`: false,
		`{"a":"\n"}`: false, "{\"a\":\"\n\"}": false, `{"a":"ä"}`: false, `{"a":[1,]}`: false, `{"a":1,}`: false, `{} `: false, `[]`: false, ``: false,
		`{"a":"`: false, `{"a":"\`: false, `{"a`: false, `{"a":-}`: false, `{"a":tru}`: false,
	} {
		if err := checkCanonical([]byte(s)); (err == nil) != good {
			t.Errorf("%q: expected to be accepted: %v, got %v", s, good, err)
		}
	}
}

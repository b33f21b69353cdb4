package explain

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"
)

// TestJSON: what encoding/json says becomes a place, what was expected, and what came.
func TestJSON(t *testing.T) {
	for given, want := range map[string]string{
		"":                         "expected JSON, got nothing",
		" \n":                      "expected JSON, got nothing",
		`{"n":`:                    "line 1, column 6: expected more, got the end",
		"{\n  \"n\": 1,\n}":        `line 3, column 1: expected a key in double quotes, got "}"`,
		"{\"s\": \"ä\"\n\"n\": 1}": `line 2, column 1: expected "," or "}", got "\""`,
		`{"s": "ä" ö}`:             `line 1, column 11: expected "," or "}", got "ö"`,
		`{"n" 5}`:                  `line 1, column 6: expected ":" after the key, got "5"`,
		`{"l":["a" "b"]}`:          `line 1, column 11: expected "," or "]", got "\""`,
		"\xff":                     `line 1, column 1: expected a value, got "\xff"`,
		`{} {}`:                    `line 1, column 4: expected nothing more, got "{"`,
		`{"n":tru}`:                `line 1, column 9: expected JSON, got "}"`,
		`{"n":"x"}`:                "n: expected a whole number, got a text",
		`{"n":1.5}`:                "n: expected a whole number, got 1.5",
		`{"u":-1}`:                 "u: expected a whole number from 0 on, got -1",
		`{"b":5}`:                  "b: expected true or false, got a number",
		`{"l":{}}`:                 "l: expected a list, got an object",
		`{"o":[]}`:                 "o: expected an object, got a list",
		`{"m":true}`:               "m: expected an object, got true or false",
		`{"s":5}`:                  "s: expected a text, got a number",
		`{"o":{"s":5}}`:            "o.s: expected a text, got a number",
		`{"e":"x"}`:                "e: expected a whole number, got a text",
		`{"t":"x"}`:                `expected a time such as "2006-01-02T15:04:05Z", got "x"`,
		`[]`:                       "expected an object, got a list",
	} {
		var v struct {
			N int      `json:"n"`
			U uint8    `json:"u"`
			B bool     `json:"b"`
			L []string `json:"l"`
			O struct {
				S string `json:"s"`
			} `json:"o"`
			M map[string]int `json:"m"`
			S string         `json:"s"`
			T time.Time      `json:"t"`
			Embedded
		}
		err := json.Unmarshal([]byte(given), &v)
		if got := JSON([]byte(given), err); got == nil || got.Error() != want || !errors.Is(got, err) {
			t.Errorf("%q: expected %q, got %v", given, want, got)
		}
	}
	if own := errors.New("own"); JSON(nil, own) != own || JSON(nil, nil) != nil {
		t.Error("other errors are changed")
	}
}

// Embedded has a name that no message must have.
type Embedded struct {
	E int `json:"e"`
}

// FuzzJSON: the place of an error is in the text, whatever that is, and a message is one line.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("{\"a\":\n\"\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v map[string]int
		if err := JSON(text, json.Unmarshal(text, &v)); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("two lines: %q", err)
		}
	})
}

func TestClip(t *testing.T) {
	for given, want := range map[string]string{"": "", "äöü": "äöü", "äöü🙂": "äöü…", "\xff\xff\xff\xff": "\xff\xff\xff…"} {
		if got := Clip(given, 3); got != want {
			t.Errorf("%q: expected %q, got %q", given, want, got)
		}
	}
}

func TestAt(t *testing.T) {
	named := &fs.PathError{Op: "open", Path: "a/b", Err: fs.ErrNotExist}
	if At("a/b", named) != error(named) || At("a", nil) != nil {
		t.Error("a path that is named is named again")
	}
	if got := At("a/b", io.EOF); got.Error() != "a/b: EOF" || !errors.Is(got, io.EOF) {
		t.Errorf("got %v", got)
	}
}

func TestNetwork(t *testing.T) {
	for _, same := range []error{context.Canceled, errors.New("own")} {
		if got := Network(same); got != same {
			t.Errorf("%v became %v", same, got)
		}
	}
	if got := Network(io.ErrUnexpectedEOF); got.Error() != "the connection was cut" || !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", got)
	}
}

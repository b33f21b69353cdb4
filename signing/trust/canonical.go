package trust

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

const (
	maxDepth = 12      // the deepest of ours, a rollout step, is at 8
	maxInt   = 1 << 53 // greater numbers are not the same in every reader of JSON
	maxKey   = 200     // the longest name of an update is 142 bytes
	maxItems = 64      // of an array; the longest of ours holds signatures
)

// checkCanonical checks that b is one object in canonical JSON, which every reader of JSON reads alike. It requires:
// no white space; object keys of the letters "a-z0-9_.-" in ascending order, so that none occurs twice; strings of
// printable ASCII in which only '"' and '\' are escaped; whole numbers up to 2^53; no null; at most maxDepth levels,
// maxItems elements in an array and MaxUpdates members in an object. It reads every byte once. encoding/json spends
// at most about ten times the length on what passes.
func checkCanonical(b []byte) error {
	w := walker{b: b}
	if w.peek() != '{' {
		return w.fail("an object")
	}
	if err := w.value(); err != nil {
		return err
	}
	if w.at != len(b) {
		return w.fail("the end")
	}
	return nil
}

// canonical returns v in canonical JSON. The fields of structs in v must stand in ascending order.
func canonical(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // '<' has one spelling
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	b := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	return b, checkCanonical(b)
}

// mergeInto returns the object old without the fields of was and with those of ours, in canonical JSON.
func mergeInto(old []byte, was, ours any) (json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(old, &all); err != nil {
		return nil, err
	}
	b, err := canonical(was)
	if err != nil {
		return nil, err
	}
	var dropped map[string]json.RawMessage
	if err := json.Unmarshal(b, &dropped); err != nil {
		return nil, err
	}
	for field := range dropped {
		delete(all, field)
	}
	b, err = canonical(ours)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return canonical(all)
}

type walker struct {
	b     []byte
	at    int
	depth int
}

// peek returns the next byte, 0 at the end; 0 is accepted nowhere.
func (w *walker) peek() byte {
	if w.at >= len(w.b) {
		return 0
	}
	return w.b[w.at]
}

func (w *walker) fail(want string) error {
	if w.at >= len(w.b) {
		return fmt.Errorf("%w: byte %d: expected %s, got the end", ErrMalformed, w.at, want)
	}
	return fmt.Errorf("%w: byte %d: expected %s in canonical JSON, got %s", ErrMalformed, w.at, want, explain.Character(w.b[w.at:]))
}

func (w *walker) skip(s string) bool {
	if len(w.b)-w.at < len(s) || string(w.b[w.at:w.at+len(s)]) != s {
		return false
	}
	w.at += len(s)
	return true
}

func (w *walker) value() error {
	switch c := w.peek(); {
	case c == '{':
		return w.object()
	case c == '[':
		return w.items("[", "]", maxItems, w.value)
	case c == '"':
		return w.text()
	case c == '-' || '0' <= c && c <= '9':
		return w.number()
	case w.skip("true"), w.skip("false"):
		return nil
	}
	return w.fail("a value other than null")
}

func (w *walker) object() error {
	var last []byte
	return w.items("{", "}", MaxUpdates, func() error {
		start := w.at
		key, err := w.key()
		if err != nil {
			return err
		}
		if last != nil && bytes.Compare(key, last) <= 0 {
			w.at = start
			return w.fail(fmt.Sprintf("a key after %q", last))
		}
		if last = key; !w.skip(":") {
			return w.fail("':'")
		}
		return w.value()
	})
}

// items reads what stands between begin, which is next, and end: at most most items with commas between them.
func (w *walker) items(begin, end string, most int, item func() error) error {
	if w.depth++; w.depth > maxDepth {
		return fmt.Errorf("%w: byte %d: more than %d levels", ErrMalformed, w.at, maxDepth)
	}
	defer func() { w.depth-- }()
	if w.at += len(begin); w.skip(end) {
		return nil
	}
	for range most {
		if err := item(); err != nil {
			return err
		}
		if w.skip(end) {
			return nil
		}
		if !w.skip(",") {
			return w.fail(fmt.Sprintf("',' or '%s'", end))
		}
	}
	return fmt.Errorf("%w: byte %d: more than %d items before '%s'", ErrMalformed, w.at, most, end)
}

// key reads an object key. Upper case is refused because encoding/json ignores case when it matches field names.
func (w *walker) key() ([]byte, error) {
	if w.peek() != '"' {
		return nil, w.fail("a key")
	}
	start := w.at + 1
	for w.at = start; isKeyByte(w.peek()); {
		w.at++
	}
	if w.at == start || w.at-start > maxKey || w.peek() != '"' {
		return nil, w.fail("a key of 1 to 200 letters a-z0-9_.-")
	}
	w.at++
	return w.b[start : w.at-1], nil
}

func isKeyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

func (w *walker) text() error {
	for w.at++; ; w.at++ {
		switch c := w.peek(); {
		case c == '"':
			w.at++
			return nil
		case c == '\\':
			if w.at++; w.peek() != '"' && w.peek() != '\\' {
				return w.fail(`'"' or '\'`)
			}
		case c < ' ' || c > '~':
			return w.fail("printable ASCII")
		}
	}
}

func (w *walker) number() error {
	negative := w.skip("-")
	start, n := w.at, int64(0)
	for c := w.peek(); '0' <= c && c <= '9'; c = w.peek() {
		if n = n*10 + int64(c-'0'); n > maxInt {
			return w.fail("a whole number up to 2^53")
		}
		w.at++
	}
	digits := w.at - start
	if digits == 0 || digits > 1 && w.b[start] == '0' || negative && n == 0 {
		return w.fail("a whole number in its one spelling")
	}
	return nil
}

package explain

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// JSON rewords an error of encoding/json about a text: at which line and column, what was expected, what it got. Other
// errors are returned as they are.
func JSON(text []byte, err error) error {
	var syntax *json.SyntaxError
	var other *json.UnmarshalTypeError
	var at *time.ParseError
	switch {
	case errors.As(err, &syntax):
		return Reword(err, syntaxError(text, syntax))
	case errors.As(err, &other):
		return Reword(err, fmt.Sprintf("%sexpected %s, got %s", inField(other.Field), kindOf(other.Type), gotValue(other.Value)))
	case errors.As(err, &at):
		return Reword(err, fmt.Sprintf("expected a time such as %q, got %q", time.RFC3339[:19]+"Z", Clip(strings.Trim(at.Value, `"`), 40)))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Reword(err, end(text))
	}
	return err
}

func end(text []byte) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "expected JSON, got nothing"
	}
	return position(text, int64(len(text))) + ": expected more, got the end"
}

// expectations are what encoding/json expected, by the end of its message.
var expectations = []struct{ message, want string }{
	{"looking for beginning of value", "a value"},
	{"looking for beginning of object key string", "a key in double quotes"},
	{"after object key", `":" after the key`},
	{"after object key:value pair", `"," or "}"`},
	{"after array element", `"," or "]"`},
	{"after top-level value", "nothing more"},
	{"in string literal", "a text without control characters"},
}

func syntaxError(text []byte, err *json.SyntaxError) string {
	if strings.Contains(err.Error(), "unexpected end") {
		return end(text)
	}
	want := "JSON"
	for _, l := range expectations {
		if strings.HasSuffix(err.Error(), l.message) {
			want = l.want
		}
	}
	i := min(max(err.Offset-1, 0), int64(len(text)))
	return fmt.Sprintf("%s: expected %s, got %s", position(text, i), want, Character(text[i:]))
}

// Character describes the beginning of a text in a message: one whole character, a byte that is part of none, or the end.
func Character(text []byte) string {
	if len(text) == 0 {
		return "the end"
	}
	_, size := utf8.DecodeRune(text)
	return fmt.Sprintf("%q", text[:size])
}

// position describes the place of a byte in a text: the line and the column, in characters, both from 1 on.
func position(text []byte, offset int64) string {
	before := text[:min(offset, int64(len(text)))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(line)+1)
}

func inField(name string) string {
	// An embedded struct has a name in Go and none in JSON.
	parts := slices.DeleteFunc(strings.Split(name, "."), func(p string) bool { return p == "" || p[0] >= 'A' && p[0] <= 'Z' })
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ".") + ": "
}

func kindOf(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "a text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 on"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Array, reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a text"
}

// gotValue describes a value that encoding/json describes in its own words, such as "number 1.5".
func gotValue(value string) string {
	kind, number, _ := strings.Cut(value, " ")
	switch kind {
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "number":
		if number != "" {
			return number
		}
		return "a number"
	}
	return value
}

package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/message"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

// TestSchemas compares the JSON Schemas of the configurations with the declarations: the same keys and defaults, and of many
// values for each key, at every bound and of every kind, the schema accepts those that the program accepts.
func TestSchemas(t *testing.T) {
	for name, all := range map[string][]Setting{"box-update-server.json": NewServer().Settings(), "boxup.json": new(Box).Settings()} {
		t.Run(name, func(t *testing.T) {
			schema, declared := compileSchema(t, name)
			properties := declared["properties"].(map[string]any)
			for key := range properties {
				if !slices.Contains(Keys(all), key) {
					t.Errorf("%s is no setting", key)
				}
			}
			Reset(all)
			for _, s := range all {
				property, ok := properties[s.Key].(map[string]any)
				if !ok {
					t.Errorf("%s is missing", s.Key)
					continue
				}
				first, err := json.Marshal(s.show())
				check(t, err)
				said, err := json.Marshal(property["default"])
				check(t, err)
				if s.hasDefault && !bytes.Equal(first, said) || !s.hasDefault && property["default"] != nil {
					t.Errorf("%s: its default is %s, the schema says %s", s.Key, first, said)
				}
				if s.Retired() != (property["deprecated"] == true) {
					t.Errorf("%s: deprecated is %v", s.Key, property["deprecated"])
				}
				taken := 0
				for _, sample := range samples(s, property) {
					s.reset()
					taking := s.set(json.RawMessage(sample)) == nil && s.check() == nil
					if taking {
						taken++
					}
					value, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"` + s.Key + `": ` + sample + `}`))
					check(t, err)
					if err := schema.Validate(value); (err == nil) != taking {
						t.Errorf("%s: %s: the program accepts it: %v, the schema says %v", s.Key, sample, taking, err)
					}
				}
				if taken == 0 {
					t.Errorf("%s: no sample is accepted", s.Key)
				}
				s.reset()
			}
			unknown := schema.Validate(map[string]any{"no_such_key": true}) == nil
			if tolerated := name == "box-update-server.json"; unknown != tolerated {
				t.Errorf("an unknown key is accepted: %v", unknown)
			}
			if schema.Validate([]any{}) == nil || schema.Validate(nil) == nil {
				t.Error("something else than an object is accepted")
			}
		})
	}
}

// common are values of all kinds, good and bad.
var common = []string{
	`null`, `true`, `false`, `0`, `1`, `-1`, `1.5`, `7`, `[]`, `{}`, `""`, `"x"`, `" "`, `"a b"`, `"ä"`, `"\u0000"`, `"a\u0000b"`, `"a\nb"`, `["x"]`, `[""]`, `[1]`,
	`"0s"`, `"1s"`, `"1"`, `"1h30m"`, `"-1s"`, `"1.5h"`, `"1µs"`, `"1d"`, `"s"`, `"0"`, `"500k"`, `"1Ki"`, `"1KiB"`, `"5GB"`, `"1.5M"`, `"-1k"`, `"1m"`, `"8388608Ti"`, `"4Mi"`,
	`":80"`, `"h:80"`, `"[::1]:80"`, `"h:65536"`, `"h:65535"`, `"h:0"`, `"h:http"`, `"h:"`, `"::1:80"`, `"h"`, `"h:+1"`,
	`"opq-box-update"`, `"p"`, `"p.q"`, `"p..q"`, `"p-"`, `"p."`, `"p_"`, `"P"`, `"1p"`, `"p/q"`, `"-p"`, `"` + strings.Repeat("p", 100) + `"`, `"` + strings.Repeat("p", 101) + `"`,
	`"2026-01-31"`, `"2026-01-32"`, `"2026-01-31T12:00:00Z"`, `"2026-01-31T12:00:00.5+02:00"`, `"2026-01-31 12:00"`, `"20260131"`, `"2026-13-01"`,
	`"http://a.example"`, `"https://a.example/x/"`, `"HTTP://a.example"`, `"http://u:p@a.example:81"`, `"http://a.example?q"`, `"http://a.example#f"`, `"ftp://a.example"`, `"http://"`, `"http:a"`,
	`"a.example:80"`, `["http://a.example"]`, `["http://a.example", "https://b.example"]`, `["http://a.example", "http://a.example"]`, `["http://a.example", 5]`, `["http://[::1]:80"]`,
	`["http://` + strings.Repeat("a", 4090) + `"]`, `"updates.example"`, `"localhost"`, `"*.example.org"`, `"A.example"`, `"a-.example"`, `"a..example"`, `["a.example", "b.example"]`, `"1.example"`,
	`"` + strings.Repeat("a", 64) + `.example"`, `"` + strings.Repeat("a", 63) + `.example"`, `"` + strings.Repeat("a.", 126) + `aa"`,
	`"10.0.0.0/8"`, `"10.0.0.1"`, `"10.0.0.1/8"`, `"fd00::/8"`, `"::1"`, `"10.0.0.0/33"`, `["10.0.0.0/8", "::1"]`, `"fe80::1%eth0"`,
	`"02:00-04:00"`, `"22:00-04:30"`, `"04:00-04:00"`, `"2:00-04:00"`, `"24:00-01:00"`, `"02:60-04:00"`, `"02:00 - 04:00"`,
	`"text"`, `"json"`, `"xml"`, `"Text"`, `"fetch"`, `"redirect"`, `"none"`, `"always"`, `"asked"`, `"never"`,
	`"` + strings.Repeat("x", 64) + `"`, `"` + strings.Repeat("x", 65) + `"`, `"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("x", 129) + `"`,
	`"` + strings.Repeat("x", maxText) + `"`, `"` + strings.Repeat("x", maxText+1) + `"`, `9223372036854775807`, `9223372036854775808`, `1e400`,
}

// samples returns the common values, and for each bound that the program or the schema names, the bound and what is next to it.
func samples(s Setting, property map[string]any) []string {
	out := slices.Clone(common)
	text, _ := json.Marshal(property)
	for _, n := range regexp.MustCompile(`\d+`).FindAllString(s.Want+" "+string(text), -1) {
		bound, _ := new(big.Int).SetString(n, 10)
		for d := range int64(3) {
			next := new(big.Int).Add(bound, big.NewInt(d-1)).String()
			out = append(out, next, `"`+next+`"`)
		}
		if bound.IsInt64() && bound.Int64() <= 1000 { // of the elements of a list
			for d := range bound.Int64() + 2 {
				var list []string
				for i := range d {
					list = append(list, fmt.Sprintf("http://%d.example", i))
				}
				b, _ := json.Marshal(list)
				out = append(out, string(b))
			}
		}
	}
	for _, d := range regexp.MustCompile(`"([0-9hms]+)"`).FindAllStringSubmatch(s.Want+" "+string(text), -1) {
		if bound, err := time.ParseDuration(d[1]); err == nil {
			for _, next := range []time.Duration{bound - 1, bound, bound + 1} {
				out = append(out, `"`+next.String()+`"`)
			}
		}
	}
	return out
}

// compileSchema returns a schema of docs/schema, and its text. Formats that have no standard, and bounds of values that are
// texts, are checked as well.
func compileSchema(t *testing.T, name string) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "schema", name))
	check(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	check(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for format, valid := range formats {
		c.RegisterFormat(&jsonschema.Format{Name: format, Validate: func(v any) error {
			if s, ok := v.(string); ok {
				return valid(s)
			}
			return nil
		}})
	}
	meta, err := jsonschema.NewCompiler().Compile("https://json-schema.org/draft/2020-12/schema")
	check(t, err)
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "https://example.org/bounds", Schema: meta, Compile: compileBounds})
	c.AssertVocabs()
	check(t, c.AddResource(name, doc))
	schema, err := c.Compile(name)
	check(t, err)
	return schema, doc.(map[string]any)
}

// formats are what patterns can't say.
var formats = map[string]func(string) error{
	"duration-go": func(s string) error { _, err := time.ParseDuration(s); return err },
	"size":        func(s string) error { _, err := ParseSize(s); return err },
	"day-or-time": func(s string) error { _, err := ParseTime(s); return err },
	"window":      func(s string) error { _, err := ParseWindow(s); return err },
	"base-url":    fetch.CheckURL,
	"https-url":   func(s string) error { _, err := httpsURL(s); return err },
	"ip-prefix":   func(s string) error { _, err := prefix(s); return err },
	"host-port": func(s string) error {
		var listen string
		v := address(&listen)
		if listen = s; !v.inBounds() {
			return errValue
		}
		return nil
	},
}

// bounds are formatMinimum and formatMaximum: the bounds of durations and sizes that are texts.
type bounds struct {
	least, most string
	size        bool
}

func compileBounds(_ *jsonschema.CompilerContext, schema map[string]any) (jsonschema.SchemaExt, error) {
	least, _ := schema["formatMinimum"].(string)
	most, _ := schema["formatMaximum"].(string)
	if least == "" && most == "" {
		return nil, nil
	}
	return bounds{least, most, schema["format"] == "size"}, nil
}

// Validate adds an error for a text that is out of bounds. What is no duration or size is left to its format.
func (b bounds) Validate(ctx *jsonschema.ValidatorContext, v any) {
	text, ok := v.(string)
	value := func(s string) (int64, error) {
		if b.size {
			return ParseSize(s)
		}
		d, err := time.ParseDuration(s)
		return int64(d), err
	}
	n, err := value(text)
	if !ok || err != nil {
		return
	}
	if least, err := value(b.least); b.least != "" && (err != nil || n < least) {
		ctx.AddError(outOfBounds{})
	}
	if most, err := value(b.most); b.most != "" && (err != nil || n > most) {
		ctx.AddError(outOfBounds{})
	}
}

type outOfBounds struct{}

func (outOfBounds) KeywordPath() []string                   { return []string{"formatMinimum"} }
func (outOfBounds) LocalizedString(*message.Printer) string { return "out of bounds" }

// TestExamplesFitTheirSchemas: editors that know the schemas find nothing wrong with the examples.
func TestExamplesFitTheirSchemas(t *testing.T) {
	for example, name := range map[string]string{"plain.json": "box-update-server.json", "origin.json": "box-update-server.json", "mirror.json": "box-update-server.json", "boxup.json": "boxup.json"} {
		schema, _ := compileSchema(t, name)
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "examples", example))
		check(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(Plain(text)))
		check(t, err)
		if err := schema.Validate(value); err != nil || reflect.ValueOf(value).Len() < 2 {
			t.Errorf("%s: %v", example, err)
		}
	}
}

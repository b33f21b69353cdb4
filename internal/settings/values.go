package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/update"
)

// A Value is the variable of a setting, and what may be in it.
type Value struct {
	Want   string // what the value should be, for messages
	Expand bool   // its flag also accepts @FILE and env:NAME in place of URLs

	IsTruth bool // it is true or false, and its flag alone means true

	set        func(json.RawMessage) error
	inBounds   func() bool
	show       func() any
	reset      func()
	isSet      func() bool // it is not the zero value
	hasDefault bool
	isShown    func() bool
	instead    string  // what is used instead of a setting that has no effect any more
	path       *string // the variable, if it is the path of a file or directory
}

// expanded lets the flag accept @FILE and env:NAME in place of URLs.
func (v Value) expanded() Value { v.Expand = true; return v }

// hidden keeps Show from showing the setting.
func (v Value) hidden() Value { v.isShown = func() bool { return false }; return v }

// shownWith lets Show show the setting only if list has elements.
func (v Value) shownWith(list *[]string) Value {
	v.isShown = func() bool { return len(*list) > 0 }
	return v
}

// retired marks a setting that is accepted and has no effect any more. instead says what to use.
func (v Value) retired(instead string) Value { v.instead = instead; return v.hidden() }

// errValue is the error for a value of another type. The caller says what the value should be.
var errValue = errors.New("another value")

// keep returns the Value of the variable p. inBounds, if it is not nil, must accept every value but the default. At most
// one default may be given. Without it, the default is the zero value, which means that nothing is set.
func keep[T any](p *T, want string, parse func(json.RawMessage) (T, error), inBounds func(T) bool, def ...T) Value {
	var first T
	if len(def) > 0 {
		first = def[0]
	}
	isZero := func(v T) bool { return reflect.ValueOf(&v).Elem().IsZero() }
	return Value{
		Want: want,
		set: func(b json.RawMessage) error {
			v, err := parse(b)
			if err == nil && inBounds != nil && isZero(v) && isZero(first) && !inBounds(v) {
				err = errValue // it would read as if nothing were set
			}
			if err == nil {
				*p = v
			}
			return err
		},
		inBounds:   func() bool { return inBounds == nil || inBounds(*p) || reflect.DeepEqual(*p, first) },
		show:       func() any { return show(*p) },
		reset:      func() { *p = first },
		isSet:      func() bool { return !isZero(*p) },
		hasDefault: !isZero(first),
		isShown:    func() bool { return true },
	}
}

// show returns a value as JSON has it.
func show(value any) any {
	switch v := value.(type) {
	case time.Duration:
		return v.String()
	case time.Time:
		return v.Format(time.RFC3339)
	case Window:
		return v.String()
	}
	return value
}

// decode parses one JSON value, null excepted.
func decode[T any](b json.RawMessage) (v T, err error) {
	if string(b) == "null" || json.Unmarshal(b, &v) != nil {
		return v, errValue
	}
	return v, nil
}

// fromText returns a parser of JSON strings that parse accepts. The error of parse is dropped.
func fromText[T any](parse func(string) (T, error)) func(json.RawMessage) (T, error) {
	return func(b json.RawMessage) (v T, err error) {
		s, err := decode[string](b)
		if err != nil {
			return v, err
		}
		if v, err = parse(s); err != nil {
			return v, errValue
		}
		return v, nil
	}
}

// maxText bounds a path or URL, in bytes.
const maxText = 4096

func text(p *string, want string) Value { return keep(p, want, fromText(parseText), nil) }

func parseText(s string) (string, error) {
	if s == "" || len(s) > maxText || strings.ContainsRune(s, 0) {
		return "", errValue
	}
	return s, nil
}

// path is the path of a file or directory, as of says.
func path(p *string, of string, def ...string) Value {
	v := keep(p, "the path of "+of, fromText(parseText), nil, def...)
	v.path = p
	return v
}

// word is one of the words that want lists. def is the default, or "" if there is none.
func word(p *string, want, def string, words ...string) Value {
	return keep(p, want, fromText(parseText), func(s string) bool { return slices.Contains(words, s) }, def)
}

// address is host:port.
func address(p *string) Value {
	return keep(p, `"host:port" with a port from 0 to 65535`, fromText(parseText), func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		_, notPort := strconv.ParseUint(port, 10, 16)
		return err == nil && notPort == nil
	})
}

// identifier is one line of printable ASCII.
func identifier(p *string, most int) Value {
	return keep(p, fmt.Sprintf("1 to %d bytes of printable ASCII", most), fromText(parseText), func(s string) bool {
		return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	})
}

func truth(p *bool, def ...bool) Value {
	v := keep(p, "true or false", decode[bool], nil, def...)
	v.IsTruth = true
	return v
}

// number is a whole number from least to most. what is "a number", and of what.
func number[T int | int64](p *T, what string, least, most T, def ...T) Value {
	want := fmt.Sprintf("%s from %d to %d", what, least, most)
	if int64(most) == math.MaxInt64 {
		want = fmt.Sprintf("%s from %d on", what, least)
	}
	return keep(p, want, decode[T], func(n T) bool { return n >= least && n <= most }, def...)
}

// size is a number of bytes from least to most, also as a text with a suffix.
func size(p *int64, what string, least, most int64, def ...int64) Value {
	v := number(p, what, least, most, def...)
	set := v.set
	v.set = func(b json.RawMessage) error {
		if text, err := decode[string](b); err == nil {
			n, err := ParseSize(text)
			if err != nil {
				return errValue
			}
			b = strconv.AppendInt(nil, n, 10)
		}
		return set(b)
	}
	v.Want += ", such as 500000 or 500k"
	return v
}

// ParseSize parses a number of bytes: digits and a suffix, k, M, G or T for powers of 1000, Ki, Mi, Gi or Ti for powers of
// 1024, with or without a B at the end.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "BikKMGT")
	n, err := strconv.ParseUint(number, 10, 63)
	factor := uint64(1)
	switch strings.TrimSuffix(text[len(number):], "B") {
	case "":
	case "k", "K":
		factor = 1e3
	case "M":
		factor = 1e6
	case "G":
		factor = 1e9
	case "T":
		factor = 1e12
	case "Ki":
		factor = 1 << 10
	case "Mi":
		factor = 1 << 20
	case "Gi":
		factor = 1 << 30
	case "Ti":
		factor = 1 << 40
	default:
		err = errValue
	}
	if err != nil || n > math.MaxInt64/factor {
		return 0, errors.New(`expected a number of bytes such as 500000, 500k or 512Ki`)
	}
	return int64(n * factor), nil
}

// forever is the upper bound of a duration that has none.
const forever = time.Duration(math.MaxInt64)

// duration is a duration from least to most.
func duration(p *time.Duration, least, most time.Duration, def ...time.Duration) Value {
	want := fmt.Sprintf(`a duration from "%v" to "%v"`, least, most)
	if most == forever {
		want = fmt.Sprintf(`a duration from "%v" on`, least)
	}
	return keep(p, want, fromText(time.ParseDuration), func(d time.Duration) bool { return d >= least && d <= most }, def...)
}

// durationOrNever is a duration from least to most, or 0, which means never.
func durationOrNever(p *time.Duration, least, most, def time.Duration) Value {
	want := fmt.Sprintf(`"0s", or a duration from "%v" to "%v"`, least, most)
	return keep(p, want, fromText(time.ParseDuration), func(d time.Duration) bool { return d == 0 || d >= least && d <= most }, def)
}

// moment is a time, or a day, which begins at midnight UTC.
func moment(p *time.Time) Value {
	return keep(p, `a day such as "2026-01-31" or a time such as "2026-01-31T12:00:00Z"`, fromText(ParseTime), nil)
}

// ParseTime parses a day, which begins at midnight UTC, or a time.
func ParseTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, text)
}

func product(p *update.Product) Value {
	return keep(p, `a product such as "opq-box-update"`, fromText(update.ParseProduct), nil, update.DefaultProduct)
}

// list is one text or a list of texts, each of which parse accepts. of says what one is.
func list[T any](p *[]T, of string, parse func(string) (T, error)) Value {
	return keep(p, of+", or a list of them", func(b json.RawMessage) (out []T, err error) {
		texts, err := decode[[]string](b)
		if err != nil {
			one, err := decode[string](b)
			if err != nil {
				return nil, err
			}
			texts = []string{one}
		}
		for _, s := range texts {
			v, err := parse(s)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}, nil)
}

// serverURL accepts what can be an upstream.
func serverURL(text string) (string, error) {
	switch meant := fetch.AddScheme(text); {
	case meant != "":
		return "", fmt.Errorf("got %q; did you mean %s?", text, meant)
	case fetch.CheckURL(text) != nil:
		return "", errValue
	}
	return text, nil
}

func httpsURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", errValue
	}
	return text, nil
}

// domain accepts the name of a host that an authority can check over HTTP or TLS: at least two labels, in lower case and
// ASCII.
func domain(text string) (string, error) {
	labels := strings.Split(text, ".")
	for _, label := range labels {
		rest := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-")
		if label == "" || len(label) > 63 || rest != "" || strings.Trim(label, "-") != label {
			return "", errValue
		}
	}
	if len(labels) < 2 || len(text) > 253 {
		return "", errValue
	}
	return text, nil
}

// prefix accepts an address, or a prefix without bits beyond its length.
func prefix(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Prefix(ip.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return netip.Prefix{}, errValue
	}
	return p, nil
}

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// A Value is the variable in which a setting is kept, and how it stands in JSON.
type Value struct {
	set        func(json.RawMessage) error
	show       func() any
	reset      func()
	isDefault  func() bool
	isEmpty    func() bool
	hasDefault bool
}

// errValue says that a value is of another type, or out of bounds. Set says what it should be.
var errValue = errors.New("another value")

// keep returns a variable as a Value. At most one default may be given; without one it is the zero value.
func keep[T any](p *T, parse func(json.RawMessage) (T, error), show func(T) any, def ...T) Value {
	var first T
	if len(def) > 0 {
		first = def[0]
	}
	isEmpty := func(v T) bool {
		r := reflect.ValueOf(&v).Elem()
		return r.IsZero() || r.Kind() == reflect.Slice && r.Len() == 0
	}
	return Value{
		set: func(b json.RawMessage) error {
			v, err := parse(b)
			if err == nil {
				*p = v
			}
			return err
		},
		show:       func() any { return show(*p) },
		reset:      func() { *p = first },
		isDefault:  func() bool { return reflect.DeepEqual(*p, first) },
		isEmpty:    func() bool { return isEmpty(*p) },
		hasDefault: !isEmpty(first),
	}
}

// decode parses one JSON value, null excepted.
func decode[T any](b json.RawMessage) (v T, err error) {
	if string(b) == "null" || json.Unmarshal(b, &v) != nil {
		return v, errValue
	}
	return v, nil
}

func same[T any](v T) any { return v }

// fromText returns a parser of JSON strings that parse takes. The error says no more than that it doesn't.
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

// text is a path, an address or the like.
func text(p *string, def ...string) Value { return keep(p, fromText(parseText), same, def...) }

func parseText(s string) (string, error) {
	if s == "" || len(s) > maxText || strings.ContainsRune(s, 0) {
		return "", errValue
	}
	return s, nil
}

// oneOf returns a parser of one of some words.
func oneOf(known ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(known, s) {
			return "", errValue
		}
		return s, nil
	}
}

func truth(p *bool, def ...bool) Value { return keep(p, decode[bool], same, def...) }

func number[T int | int64](p *T, def ...T) Value { return keep(p, decode[T], same, def...) }

// numberIn is a number that lies between two others.
func numberIn[T int | int64](p *T, least, most T) Value {
	return keep(p, func(b json.RawMessage) (T, error) {
		n, err := decode[T](b)
		if err == nil && (n < least || n > most) {
			err = errValue
		}
		return n, err
	}, same)
}

func duration(p *time.Duration, def ...time.Duration) Value {
	return keep(p, fromText(time.ParseDuration), func(d time.Duration) any { return d.String() }, def...)
}

// durationTo is a duration from nothing to most.
func durationTo(p *time.Duration, most time.Duration, def ...time.Duration) Value {
	return keep(p, fromText(func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err == nil && (d < 0 || d > most) {
			err = errValue
		}
		return d, err
	}), func(d time.Duration) any { return d.String() }, def...)
}

// moment is a time, or a day, which begins at midnight UTC.
func moment(p *time.Time) Value {
	return keep(p, fromText(ParseTime), func(t time.Time) any { return t.Format(time.RFC3339) })
}

// ParseTime parses a day, which begins at midnight UTC, or a time.
func ParseTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, text)
}

func product(p *update.Product) Value {
	return keep(p, fromText(update.ParseProduct), same, update.DefaultProduct)
}

// list is one text or a list of them, each of which parse takes.
func list[T any](p *[]T, parse func(string) (T, error)) Value {
	return keep(p, func(b json.RawMessage) ([]T, error) {
		texts, err := decode[[]string](b)
		if err != nil {
			one, err := decode[string](b)
			if err != nil {
				return nil, err
			}
			texts = []string{one}
		}
		out := []T{}
		for _, s := range texts {
			v, err := parse(s)
			if err != nil {
				return nil, errValue
			}
			out = append(out, v)
		}
		return out, nil
	}, same)
}

// ParseURL takes the URL of a server.
func ParseURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", errors.New("not a URL") // the error quotes what may be a password
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("neither http:// nor https://")
	}
	return text, nil
}

func parseHTTPS(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", errValue
	}
	return text, nil
}

// parseDomain takes the name of a host that an authority can check over HTTP or TLS: at least two labels, in lower case and
// ASCII.
func parseDomain(text string) (string, error) {
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

// parsePrefix takes an address or a prefix.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if ip, e := netip.ParseAddr(text); e == nil {
		prefix, err = ip.Prefix(ip.BitLen())
	}
	if err == nil && prefix != prefix.Masked() {
		err = errValue
	}
	return prefix, err
}

// within returns a check that a value lies between two others; text is the rule.
func within[T int | int64 | time.Duration](p *T, least, most T, text string) func() error {
	return func() error {
		if *p < least || *p > most {
			return errors.New(text)
		}
		return nil
	}
}

// address returns a check that a text, unless it is empty, is a host:port.
func address(key string, p *string) func() error {
	return func() error {
		if *p == "" {
			return nil
		}
		if err := checkAddress(*p); err != nil {
			return fmt.Errorf("%s %q: expected host:port: %w", key, *p, err)
		}
		return nil
	}
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if wrong, ok := errors.AsType[*net.AddrError](err); ok {
		return errors.New(wrong.Err) // without the address, which the caller names
	}
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is no number from 0 to 65535", port)
	}
	return nil
}

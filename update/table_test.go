package update_test

import (
	"strings"
	"testing"
)

// A refusal is a bad input, which differs in one thing from a good one, and the error that says so.
type refusal[T any] struct {
	name string
	in   T
	want string
}

// refuses parses each bad input and expects its error beside a zero value.
func refuses[T any, V comparable](t *testing.T, parse func(T) (V, error), cases []refusal[T]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v, err := parse(c.in)
			if err == nil {
				t.Fatalf("%v is accepted, want error %q", c.in, c.want)
			}
			if err.Error() != c.want {
				t.Errorf("error is\n\t%v\nwant\n\t%s", err, c.want)
			}
			var zero V
			if v != zero {
				t.Errorf("value beside the error is %v, want the zero value", v)
			}
		})
	}
}

// must returns a parsed value of a test's own input.
func must[T any, V any](t testing.TB, parse func(T) (V, error), in T) V {
	t.Helper()
	v, err := parse(in)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// replaceAt returns s with one byte changed.
func replaceAt(s string, i int, c byte) string { return s[:i] + string([]byte{c}) + s[i+1:] }

const (
	goodDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	goodName   = "opq-box-update-1550190683.tar.bz2"
	goodLine   = goodDigest + "  " + goodName + "\n"
)

// longest returns the longest name.
func longest() string {
	return strings.Repeat("p", 100) + "-" + strings.Repeat("9", 32) + ".tar.bz2"
}

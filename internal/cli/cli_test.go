package cli

import (
	"bytes"
	"testing"
)

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := (Streams{Out: &b}).JSON(map[string]string{"name": "<x>"}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "{\n  \"name\": \"<x>\"\n}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

package fetch_test

import (
	"testing"

	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

func TestCheckURL(t *testing.T) {
	for _, s := range []string{"http://h", "https://h:8151/", "HTTP://H.example/updates", "http://u:p@[::1]:8151/a%2Fb"} {
		if err := fetch.CheckURL(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	const want = "expected http://host or https://host"
	for s, text := range map[string]string{
		"updates.example:8151":   `"updates.example:8151": ` + want + "; did you mean http://updates.example:8151?",
		"127.0.0.1:8151/updates": `"127.0.0.1:8151/updates": ` + want + "; did you mean http://127.0.0.1:8151/updates?",
		"[::1]:8151":             `"[::1]:8151": ` + want + "; did you mean http://[::1]:8151?",
		"updates.example":        `"updates.example": ` + want,
		"ftp://h:21":             `"ftp://h:21": ` + want,
		"u:secret@h:80":          "not a URL: " + want,
		"h:80000":                `"h:80000": ` + want,
		":8151":                  "not a URL: " + want,
		"":                       `"": ` + want,
		"http://h?q":             `"http://h?q": expected no query and no fragment`,
		"http://u:secret@h/#f":   `"http://h/#f": expected no query and no fragment`,
	} {
		if err := fetch.CheckURL(s); err == nil || err.Error() != text {
			t.Errorf("%s: got %v, want %s", s, err, text)
		}
	}
}

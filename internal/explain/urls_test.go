package explain

import "testing"

func TestMaskURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nothing here: a@b":                              "nothing here: a@b",
		"http://host/path":                               "http://host/path",
		"http://host:8080/@scope/x":                      "http://host:8080/@scope/x",
		"http://[::1]:8080/@scope":                       "http://[::1]:8080/@scope",
		"see http://u:p@host/x, and https://t@other":     "see http://***@host/x, and https://***@other",
		`["http://u:p@a","http://u:p@b"]`:                `["http://***@a","http://***@b"]`,
		`parse "http://u:p@[::1": missing`:               `parse "http://***@[::1": missing`,
		"http://u:p@ss@host":                             "http://***@host",
		"http://u:p/w@host":                              "http://***@host",
		"http://u:p%2Fw@host/a?b#c":                      "http://***@host/a?b#c",
		"get http://token@host: no route; http://u:@h/y": "get http://***@host: no route; http://***@h/y",
		"://": "://",
	} {
		if got := MaskURLs(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

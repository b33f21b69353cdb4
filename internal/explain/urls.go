package explain

import (
	"log/slog"
	"strings"
)

// masked stands for the user and the password of a URL.
const masked = "***"

// MaskURLs returns text without the users and passwords of the URLs in it: a token may stand in place of
// either. It takes rather too much than too little for one.
func MaskURLs(text string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "://")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("://")
		end := strings.IndexAny(rest, " \t\r\n\"'<>")
		if end < 0 {
			end = len(rest)
		}
		if at := userEnd(rest[:end]); at >= 0 {
			b.WriteString(masked)
			rest = rest[at:]
		}
		text = rest
	}
}

// MaskAttr masks the URLs in an attribute that a log is to hold.
func MaskAttr(a slog.Attr) slog.Attr {
	switch err, isErr := a.Value.Any().(error); {
	case isErr:
		a.Value = slog.StringValue(MaskURLs(err.Error()))
	case a.Value.Kind() == slog.KindString:
		a.Value = slog.StringValue(MaskURLs(a.Value.String()))
	}
	return a
}

// userEnd returns where in a URL, of which what stands before the host is cut off, the @ stands behind user and
// password; -1: they are not there.
func userEnd(s string) int {
	host := s
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		host = s[:i]
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return at
	}
	// A password with a slash in it, which is a mistake, looks like a port that is none.
	_, port, found := strings.Cut(host[strings.LastIndexByte(host, ']')+1:], ":")
	if found && strings.Trim(port, "0123456789") != "" {
		return strings.LastIndexByte(s, '@')
	}
	return -1
}

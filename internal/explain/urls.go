package explain

import (
	"log/slog"
	"strings"
)

// masked replaces the user and the password of a URL.
const masked = "***"

// MaskURLs returns text with the users and passwords of its URLs masked, and with tokens in their place. In doubt it masks
// too much.
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

// MaskAttr masks the URLs in an attribute of a log record.
func MaskAttr(a slog.Attr) slog.Attr {
	switch err, isErr := a.Value.Any().(error); {
	case isErr:
		a.Value = slog.StringValue(MaskURLs(err.Error()))
	case a.Value.Kind() == slog.KindString:
		a.Value = slog.StringValue(MaskURLs(a.Value.String()))
	}
	return a
}

// userEnd returns the index of the @ after user and password in a URL without its scheme, -1 if there is none.
func userEnd(s string) int {
	host := s
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		host = s[:i]
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return at
	}
	// A password with an unescaped slash, which is a mistake, looks like a malformed port.
	_, port, found := strings.Cut(host[strings.LastIndexByte(host, ']')+1:], ":")
	if found && strings.Trim(port, "0123456789") != "" {
		return strings.LastIndexByte(s, '@')
	}
	return -1
}

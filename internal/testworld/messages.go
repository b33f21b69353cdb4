package testworld

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nobodyReads lists what a message must not contain, each with the reason.
var nobodyReads = []struct {
	what *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`\b(archive|asn1|bufio|bytes|bzip2|elf|flate|fs|gzip|hex|http|io|json|keys|metadata|net|os|pem|pkix|pflag|secret|signing|strconv|store|syscall|tar|time|tls|trust|update|url|x509|zlib|zstd)\.[A-Z]\w*`), "a name of Go"},
	{regexp.MustCompile(`\bGo (struct|value|type)\b|(^|: )(strconv|json|asn1|x509|tls|pem|zlib|flate|hex|time|net/http|http|url): |parsing "|parse "|looking for beginning of`), "words of Go's library"},
	{regexp.MustCompile(`%!|map\[|&\{|\b0x[0-9a-f]|<nil>|goroutine|\[\]byte|\[\]string|int64|uint\d`), "a value as Go prints it"},
	{regexp.MustCompile(`: :|[^\[]::|:\s*$|^: `), "a stray colon"},
	{regexp.MustCompile(`\S  +\S|^ | $`), "stray spaces"},
	{regexp.MustCompile(`\bEOF\b|context deadline exceeded|context canceled|use of closed|(?i)^(invalid argument|invalid syntax|short write|file does not exist)$`), "a sentinel of Go's library"},
	{regexp.MustCompile(`^[A-Z][a-z]+ |[^.…]\.$`), "a capital at its beginning, or a full stop at its end"},
	{regexp.MustCompile(`arg\(s\)`), "plurals in parentheses"},
}

// Unreadable returns the faults of said, the messages that a program wrote to standard error: words that only a Go
// programmer understands, control characters, repetitions. It returns none if the messages are plain. prog is the name
// of the program before each line.
func Unreadable(prog, said string) (faults []string) {
	if said == "" {
		return []string{"no message at all"}
	}
	for line := range strings.Lines(said) {
		line = strings.TrimSuffix(line, "\n")
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s: in %q", fmt.Sprintf(format, args...), line))
		}
		if !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
			fault("control characters or bytes that are no UTF-8")
		}
		if split := splitCharacter(line); split != "" {
			fault("a character in single bytes, %s", split)
		}
		// Log lines, and lines before a question, have no such prefix.
		text := strings.TrimPrefix(line, prog+": ")
		text = strings.TrimPrefix(strings.TrimPrefix(text, "hint: "), "warning: ")
		for _, n := range nobodyReads {
			if found := n.what.FindString(quoted.ReplaceAllString(text, `"…"`)); found != "" {
				fault("%s, %q", n.why, found)
			}
		}
		if twice := saidTwice(text); twice != "" {
			fault("%q stands twice", twice)
		}
	}
	return faults
}

// quoted matches untrusted text in a message, whose words are not the program's.
var quoted = regexp.MustCompile(`"([^"\\]|\\.)*"`)

var escapes = regexp.MustCompile(`(\\x[0-9a-f]{2})+`)

// splitCharacter returns the first run of escaped bytes that contains a whole UTF-8 character or the beginning of one:
// Printable should have left it whole. It returns "" if there is none.
func splitCharacter(line string) string {
	for _, run := range escapes.FindAllString(line, -1) {
		var raw []byte
		for part := range strings.SplitSeq(run[2:], `\x`) {
			var b byte
			fmt.Sscanf(part, "%x", &b)
			raw = append(raw, b)
		}
		for len(raw) > 0 {
			if r, size := utf8.DecodeRune(raw); size > 1 && r != utf8.RuneError || !utf8.FullRune(raw) {
				return run
			}
			raw = raw[1:]
		}
	}
	return ""
}

// commands matches shell commands for people to copy, which may repeat a path of the message.
var commands = regexp.MustCompile(`\b(chmod|cp|rm) \S+( \S+)?`)

var place = regexp.MustCompile(`(https?://[^\s"'<>,;()]+)|(\.{0,2}/?[\w.@+,-]+(/[\w.@+*,-]+)+)`)

// saidTwice returns a path, a URL or a clause that a message has more than once, "" for none. A URL counts as repeated if
// it is the beginning of another one.
func saidTwice(text string) string {
	var before []string
	text = commands.ReplaceAllString(text, "")
	for _, at := range place.FindAllStringIndex(text, -1) {
		p := strings.TrimRight(text[at[0]:at[1]], ":.,")
		for _, b := range before {
			if p == b || strings.Contains(p, "://") && (strings.HasPrefix(p, b+"/") || strings.HasPrefix(b, p+"/")) {
				return p
			}
		}
		before = append(before, p)
	}
	seen := map[string]bool{}
	for clause := range strings.SplitSeq(text, ": ") {
		if len(clause) > 3 && seen[clause] {
			return clause
		}
		seen[clause] = true
	}
	return ""
}

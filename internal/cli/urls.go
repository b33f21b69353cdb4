package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// maxURLs bounds a file of URLs, in bytes.
const maxURLs = 64 << 10

// URLs returns the URLs that arguments name. An argument is a URL, @FILE for the URLs in a file, one per line, or
// env:NAME for those in an environment variable. The last two are for URLs with a password, because all users of a
// machine can see the arguments of a program.
func (s Streams) URLs(args []string) ([]string, error) {
	var urls []string
	for _, arg := range args {
		lines := []byte(arg)
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			b, err := disk.ReadFile(file, maxURLs)
			if err != nil {
				return nil, err
			}
			lines = b
		} else if name, ok := strings.CutPrefix(arg, "env:"); ok {
			lines = []byte(s.Getenv(name))
		}
		found := false
		for line := range bytes.Lines(lines) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				urls, found = append(urls, string(line)), true
			}
		}
		if !found && arg != "" {
			return nil, fmt.Errorf("%s: expected URLs, one on a line, got none", arg)
		}
	}
	return urls, nil
}

package cli

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads a file of at most so many bytes; a longer one is refused.
func ReadFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: expected at most %d bytes, got more", path, most)
	}
	return b, nil
}

package router

import (
	"fmt"
	"strings"

	"github.com/openpowerquality/box-update-server/update"
)

// A part says which resource of an update a request asks for. Its text is the suffix of the path.
type part string

const (
	archive   part = ""
	checksum  part = ".sha256"
	signature part = ".sig"
	blocks    part = ".blocks"
)

func cutPart(s string) (string, part) {
	for _, p := range []part{checksum, signature, blocks} {
		if stem, ok := strings.CutSuffix(s, string(p)); ok {
			return stem, p
		}
	}
	return s, archive
}

// parseNameTarget parses what follows /update/: a name alone, or with ".sha256" or ".sig".
func parseNameTarget(s string) (update.Name, part, error) {
	stem, p := cutPart(s)
	if p == blocks {
		return update.Name{}, "", fmt.Errorf("%w: a block list has no name", errNotFound)
	}
	n, err := update.ParseName(stem)
	if err != nil {
		return update.Name{}, "", fmt.Errorf("%w: %w", errNotFound, err)
	}
	return n, p, nil
}

// parseDigestTarget parses what follows /sha256/: a digest alone, or with ".sha256", ".sig" or
// ".blocks".
func parseDigestTarget(s string) (update.Digest, part, error) {
	stem, p := cutPart(s)
	d, err := update.ParseDigest(stem)
	if err != nil {
		return update.Digest{}, "", fmt.Errorf("%w: %w", errNotFound, err)
	}
	return d, p, nil
}

// parsePathTarget parses what follows /targets/: a digest, a dot and a name.
func parsePathTarget(s string) (update.Digest, update.Name, error) {
	digest, name, _ := strings.Cut(s, ".")
	d, err := update.ParseDigest(digest)
	if err != nil {
		return update.Digest{}, update.Name{}, fmt.Errorf("%w: %w", errNotFound, err)
	}
	n, err := update.ParseName(name)
	if err != nil {
		return update.Digest{}, update.Name{}, fmt.Errorf("%w: %w", errNotFound, err)
	}
	return d, n, nil
}

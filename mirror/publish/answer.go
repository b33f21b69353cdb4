package publish

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// The bounds of answers.
const (
	maxAnswer  = 16 << 20 // bytes: the block ranges of 2,000 archives
	maxIgnored = 64 << 10 // bytes of an answer that is not used
	maxMessage = 1000     // bytes
	maxPending = 256      // proposals that wait
	maxAhead   = 1000     // versions that a list may be ahead of the published one
	maxVersion = 1<<31 - 1
)

// The parts of paths.
const (
	statePath    = "publish"
	pendingPath  = "pending"
	commitPath   = "commit"
	metadataPath = "metadata"
	targetsPath  = "targets"
	blobsPath    = "sha256"
	updatePath   = "update"
	blocksSuffix = ".blocks"
)

// decode parses one JSON value. It ignores unknown fields, which are for newer clients.
func decode[T any](raw []byte) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: %w", errAnswer, explain.JSON(raw, err))
	}
	return v, nil
}

func parseVersions(raw []byte) (status.Versions, error) {
	v, err := decode[status.Versions](raw)
	if err != nil {
		return status.Versions{}, err
	}
	return v, checkVersions(v)
}

func checkVersions(v status.Versions) error {
	for _, n := range []int64{v.Root, v.Targets, v.Snapshot, v.Timestamp} {
		if n < 1 || n > maxVersion {
			return fmt.Errorf("%w: version %d", errAnswer, n)
		}
	}
	return nil
}

func parseState(raw []byte) (origin.State, error) {
	s, err := decode[origin.State](raw)
	if err != nil {
		return origin.State{}, err
	}
	if err := checkVersions(s.Versions); err != nil {
		return origin.State{}, err
	}
	if s.Reserved < 0 || s.Reserved > maxVersion || len(s.Pending) > maxPending {
		return origin.State{}, fmt.Errorf("%w: %d reserved, %d pending", errAnswer, s.Reserved, len(s.Pending))
	}
	for _, p := range s.Pending {
		if p.Role != trust.RoleRoot && p.Role != trust.RoleTargets || p.Version < 1 || p.Version > maxVersion || p.ID.IsZero() {
			return origin.State{}, fmt.Errorf("%w: pending %.20q %d", errAnswer, p.Role, p.Version)
		}
	}
	return s, nil
}

// parseOutcome parses the answer to a proposal. Its archives must be among those of the releases.
func parseOutcome(raw []byte, of []trust.Release) (origin.Outcome, error) {
	o, err := decode[origin.Outcome](raw)
	if err != nil {
		return origin.Outcome{}, err
	}
	switch o.Status {
	case origin.StatusPending, origin.StatusStaged, origin.StatusCommitted:
	default:
		return origin.Outcome{}, fmt.Errorf("%w: status %.20q", errAnswer, o.Status)
	}
	if o.ID.IsZero() {
		return origin.Outcome{}, fmt.Errorf("%w: no ID", errAnswer)
	}
	if err := checkArchives(o.Archives, of); err != nil {
		return origin.Outcome{}, err
	}
	return o, nil
}

func checkArchives(as []origin.Archive, of []trust.Release) error {
	lengths := map[update.Digest]int64{}
	for _, r := range of {
		lengths[r.Digest()] = r.Length()
	}
	for _, a := range as {
		length, ok := lengths[a.Digest]
		if !ok {
			return fmt.Errorf("%w: archive %v is not in the list, or is there twice", errAnswer, a.Digest)
		}
		delete(lengths, a.Digest)
		if err := checkArchive(a, length); err != nil {
			return err
		}
	}
	return nil
}

func parseArchive(raw []byte, length int64) (origin.Archive, error) {
	a, err := decode[origin.Archive](raw)
	if err != nil {
		return origin.Archive{}, err
	}
	if err := checkArchive(a, length); err != nil {
		return origin.Archive{}, err
	}
	return a, nil
}

// checkArchive refuses ranges that are not ascending or not disjoint, and begun blocks that are not missing or too long.
func checkArchive(a origin.Archive, length int64) error {
	if a.Length != length {
		return fmt.Errorf("%w: archive %v: expected %d bytes, got %d", errAnswer, a.Digest, length, a.Length)
	}
	next := 0
	for _, m := range a.Missing {
		if m[0] < next || m[1] <= m[0] || m[1] > update.BlockCount(length) {
			return fmt.Errorf("%w: archive %v: blocks %d to %d", errAnswer, a.Digest, m[0], m[1])
		}
		next = m[1]
	}
	last := -1
	for _, b := range a.Begun {
		missing := slices.ContainsFunc(a.Missing, func(m origin.Range) bool { return m[0] <= b.Block && b.Block < m[1] })
		if b.Block <= last || !missing || b.Have < 0 || b.Have >= update.BlockLength(length, b.Block) {
			return fmt.Errorf("%w: archive %v: %d bytes of block %d", errAnswer, a.Digest, b.Have, b.Block)
		}
		last = b.Block
	}
	return nil
}

// parseFailure parses the answer that explains a refusal, and reports whether it is one. Its texts are safe to print.
func parseFailure(raw []byte) (origin.Failure, bool) {
	f, err := decode[origin.Failure](raw)
	if err != nil || f.Message == "" || f.Code == "" {
		return origin.Failure{}, false
	}
	if f.Current != nil && checkVersions(*f.Current) != nil || f.Staged < 0 || f.Staged > maxVersion {
		return origin.Failure{}, false
	}
	f.Message, f.Hint = printable(f.Message), printable(f.Hint)
	return f, true
}

// printable bounds a text, and replaces what a terminal would act on.
func printable(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "…"
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

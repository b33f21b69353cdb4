package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Suffixes of the files that SignFile writes beside an archive.
const (
	lineSuffix      = ".sha256"
	signatureSuffix = ".sig"
)

// Detached describes an archive and its detached signature.
type Detached struct {
	Name   update.Name   `json:"name"`
	Digest update.Digest `json:"digest"`
	Length int64         `json:"length"`
	Key    keys.ID       `json:"key"`
}

// Text returns the description for people.
func (d Detached) Text() string {
	return lines("name", d.Name, "digest", d.Digest, "length", d.Length, "key", d.Key)
}

// SignFile writes the checksum line and the detached signature of an archive beside it, without a repository. force
// signs an archive that is not a proper update too. Files that exist with another content are refused; after an error,
// what SignFile wrote is removed.
func (s *Signer) SignFile(ctx context.Context, path string, force bool) (_ Detached, err error) {
	defer func() { err = withHint(err) }()
	read, err := s.readProper(ctx, force, path)
	if err != nil {
		return Detached{}, err
	}
	what := read[0]
	ring, err := s.ring()
	if err != nil {
		return Detached{}, err
	}
	by, err := ring.signers(ctx, releasePart)
	if err != nil {
		return Detached{}, err
	}
	if len(by) != 1 {
		return Detached{}, status.Usagef("release key: expected one for a detached signature, got %d", len(by))
	}
	sig, err := signing.Sign(ctx, by[0], what.Digest, what.Name)
	if err != nil {
		return Detached{}, err
	}
	if err := writeDetached(path, update.ChecksumLine(what.Digest, what.Name), sig[:]); err != nil {
		return Detached{}, err
	}
	return Detached{what.Name, what.Digest, what.Length, by[0].Public().ID()}, nil
}

// writeDetached writes both files, or neither if there is an error.
func writeDetached(path string, line, sig []byte) error {
	made, err := writeNewFile(path+lineSuffix, line)
	if err != nil {
		return err
	}
	if _, err := writeNewFile(path+signatureSuffix, sig); err != nil {
		if made {
			err = errors.Join(err, disk.FS{}.Remove(path+lineSuffix))
		}
		return err
	}
	return nil
}

// writeNewFile writes a new file and reports whether it did. A file that has the same bytes already is left alone; one
// with other bytes is fs.ErrExist.
func writeNewFile(path string, data []byte) (made bool, err error) {
	err = disk.FS{}.CreateFile(path, data, 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	if old, readErr := disk.ReadFile(path, int64(len(data))); readErr == nil && bytes.Equal(old, data) {
		return false, nil
	}
	return false, status.WithHint(fmt.Errorf("%s: %w with another content", path, fs.ErrExist),
		"it belongs to another archive or another key: check it, and remove it if nobody needs it")
}

// Verify verifies an archive by the detached signature in sigFile, "" for the one beside the archive, and the public
// keys in keyFiles. One of the keys must have made the signature.
func Verify(ctx context.Context, path, sigFile string, keyFiles ...string) (_ Detached, err error) {
	defer func() { err = withHint(err) }()
	name, err := parseArchivePath(filepath.Base(path))
	if err != nil {
		return Detached{}, err
	}
	if len(keyFiles) == 0 {
		return Detached{}, status.WithHint(status.Usagef("no public key"), "name the file with the public key of the release signer with --key release.pub")
	}
	var ks []keys.Public
	for _, file := range keyFiles {
		k, err := readPublic(file)
		if err != nil {
			return Detached{}, err
		}
		ks = append(ks, k)
	}
	if sigFile == "" {
		sigFile = path + signatureSuffix
	}
	raw, err := disk.ReadFile(sigFile, int64(len(signing.Signature{})))
	if err != nil {
		return Detached{}, fmt.Errorf("signature: %w", err)
	}
	sig, err := signing.ParseSignature(raw)
	if err != nil {
		return Detached{}, fmt.Errorf("%s: %w", sigFile, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return Detached{}, err
	}
	defer file.Close() // opened for reading
	v, err := signing.Verify(ctx, file, name, sig, ks...)
	if err != nil {
		return Detached{}, err
	}
	return Detached{v.Name(), v.Digest(), v.Length(), v.Key().ID()}, nil
}

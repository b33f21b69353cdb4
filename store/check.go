package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Problem is one thing that is wrong with a store.
type Problem struct {
	Name   update.Name   // zero where no update that is listed is concerned
	Digest update.Digest // of the archive
	Err    error
}

// String says what is wrong in one line.
func (p Problem) String() string {
	if p.Name.IsZero() {
		return p.Err.Error()
	}
	return fmt.Sprintf("%v: %v", p.Name, p.Err)
}

// Check says how thorough a check is.
type Check struct {
	// Hash, if set, reads every listed archive and compares its digest and block list; otherwise only
	// presence and length are looked at.
	Hash bool

	// Checked, if not nil, is called after each archive with its length in bytes.
	Checked func(trust.Release)
}

// Check looks whether what the current repository lists is in place, and returns what isn't. The
// metadata themselves were verified when the store was opened.
func (s *Store) Check(ctx context.Context, c Check) ([]Problem, error) {
	repo := s.Repository()
	if repo == nil {
		_, err := s.state.Current()
		return nil, err
	}
	var out []Problem
	for _, rel := range repo.Releases() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.checkArchive(ctx, rel, c.Hash); err != nil {
			out = append(out, Problem{rel.Name(), rel.Digest(), err})
		}
		if c.Checked != nil {
			c.Checked(rel)
		}
	}
	return out, ctx.Err()
}

func (s *Store) checkArchive(ctx context.Context, rel trust.Release, deep bool) error {
	f, err := s.Open(rel.Update())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("archive %v is not there", rel.Digest())
	}
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	if !deep {
		return nil
	}
	_, err = hashArchive(ctx, f, rel)
	return err
}

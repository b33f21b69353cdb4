package signer

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// place is where a repository is: a directory or an origin. Its answers are untrusted; callers verify them.
type place interface {
	// Fetch reads published metadata.
	trust.Fetcher

	// Archive opens the archive of an update. The error is fs.ErrNotExist if the repository lacks it. The caller
	// closes it.
	Archive(ctx context.Context, r trust.Release) (io.ReadCloser, error)

	// Pending returns the proposals that wait for more signatures and follow base, lists before roots. It also
	// returns the highest reserved version of the list, 0 for none.
	Pending(ctx context.Context, base *trust.Repository, known *trust.Ledger, at time.Time) ([]*trust.Proposal, int64, error)

	// Hold keeps a proposal until more keys have signed it. Drop removes one.
	Hold(ctx context.Context, p *trust.Proposal, files publish.Files) error
	Drop(ctx context.Context, p *trust.Proposal) error

	// Publish makes a repository with that change the current one, and stores those of the files that it
	// lists. After an error the old repository is current or, if only the last step failed, the new one.
	Publish(ctx context.Context, c trust.Change, files publish.Files) error

	Close() error
}

// openPlace opens the repository of a signer, at its URL or in its directory. Publishing into a directory takes the online
// key from ring; at a URL, the origin has that key. ring may be nil for reading only.
func openPlace(ctx context.Context, s *Signer, write bool, ring *keyring) (place, error) {
	if IsURL(s.Repository) {
		return s.openRemote()
	}
	d := directory{path: s.Repository, disk: s.Disk, now: s.Now}
	if ring != nil {
		d.online = func(ctx context.Context) ([]signing.Signer, error) { return ring.signers(ctx, onlinePart) }
		d.kept = ring.path(trustedDir)
	}
	opened, err := openDirectory(ctx, d, write)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (s *Signer) openRemote() (place, error) {
	r, err := publish.New(publish.Config{
		URL:       s.Repository,
		UserAgent: s.UserAgent,
		Progress:  s.Sending,
		Waiting: func(err error, pause time.Duration) {
			s.Warn(fmt.Sprintf("%v; trying again in %v", err, pause.Round(time.Second/10)))
		},
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// checkPlace refuses an empty repository, and a URL that is neither http nor https.
func checkPlace(where string) error {
	switch {
	case where == "":
		return status.WithHint(status.Usagef("which repository?"), "name its directory or URL with --repo or $BOXSIGN_REPO")
	case strings.Contains(where, "://") && !IsURL(where):
		return status.Usagef("%s: expected a directory, or a URL with http:// or https://", where)
	}
	return nil
}

// IsURL reports whether a repository is at a URL rather than in a directory.
func IsURL(where string) bool {
	return strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://")
}

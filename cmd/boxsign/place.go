package main

import (
	"context"
	"io"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// place is where a repository is. What it says is verified by whoever asks it.
type place interface {
	// Fetch reads the metadata that are published.
	trust.Fetcher

	// Archive opens the archive of an update, fs.ErrNotExist where it is not there.
	Archive(ctx context.Context, r trust.Release) (io.ReadCloser, error)

	// Pending returns the proposals that wait for more signatures and that follow base, lists before
	// roots, and the highest version of all lists that wait, 0 for none.
	Pending(ctx context.Context, base *trust.Repository, known *trust.Ledger, at time.Time) ([]*trust.Proposal, int64, error)

	// Hold keeps a proposal until more keys have signed it; Drop forgets one.
	Hold(ctx context.Context, p *trust.Proposal, a archives) error
	Drop(ctx context.Context, p *trust.Proposal) error

	// Publish makes a repository with that change the current one, and keeps those of the archives
	// that it lists. After an error the old repository is current or, where only the last step failed,
	// the new one.
	Publish(ctx context.Context, c trust.Change, a archives) error

	Close() error
}

// archives are files that may be needed, by digest.
type archives map[update.Digest]archiveFile

// archiveFile is an archive on this computer.
type archiveFile struct {
	path   string
	blocks update.Blocks
}

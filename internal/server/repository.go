package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/store/dropdir"
	"github.com/openpowerquality/box-update-server/update"
)

// reserve is how many bytes archives leave free for metadata: with a full disk, too, an update can be withdrawn and the
// timestamp renewed.
const reserve = 4 << 20

// dataDir is the data directory. This process holds it from start to end.
type dataDir struct {
	repository  *repository // nil: there is none
	unlock      func() error
	credentials credentials // nil: there is no TLS
}

// openDataDir opens the data directory, if there is one. out is called with the progress of a mirror.
func (p *Program) openDataDir(ctx context.Context, s settings.Server, out sinks, logger *slog.Logger) (dataDir, error) {
	if len(s.Upstream) > 0 {
		r, err := p.openMirror(ctx, s, out, logger)
		if err != nil {
			return dataDir{}, err
		}
		return dataDir{repository: r, unlock: r.close}, nil
	}
	if !hasRepository(s.DataDir) {
		unlock, err := lockData(s.DataDir)
		return dataDir{unlock: unlock}, err
	}
	r, err := p.openRepository(ctx, s, logger)
	if errors.Is(err, disk.ErrLocked) {
		err = status.WithHint(err, "only one program at a time can use a data_dir: is another server or boxsign running?")
	}
	if err != nil {
		return dataDir{}, fmt.Errorf("data_dir: %w", err)
	}
	if err := saveKeeping(s); err != nil {
		return dataDir{}, errors.Join(fmt.Errorf("data_dir: %w", err), r.close())
	}
	return dataDir{repository: r, unlock: r.close}, nil
}

// start renews or syncs, reads the archives again, and inspects them, in the background. stop ends that and waits for it.
func (d dataDir) start(ctx context.Context) (stop func()) {
	r := d.repository
	if r == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	begin := func(failed string, run func(context.Context) error) {
		all.Go(func() {
			if err := run(ctx); ctx.Err() == nil {
				r.logger.Error(failed, "err", err)
			}
		})
	}
	switch {
	case r.copy != nil:
		begin("repository is not renewed any more", r.copy.Run)
	case r.renews:
		r.origin.Begin(ctx)
		begin("repository is not renewed any more", r.renew)
	}
	if r.scrubEvery > 0 {
		begin("archives are not read again any more", r.scrub)
	}
	if r.inspector != nil {
		all.Go(func() { r.inspector.run(ctx) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// scrub reads the archives again and again. A mirror fetches a damaged one again; at an origin a person must publish it.
func (r *repository) scrub(ctx context.Context) error {
	return r.store.Scrub(ctx, r.scrubEvery, func(p store.Problem) {
		if r.copy != nil {
			r.logger.Error("archive is damaged, and fetched anew", "problem", p.String())
			r.copy.Trigger()
			return
		}
		r.logger.Error("archive is damaged, and not served: publish it again with boxsign, or import it from a mirror's export", "problem", p.String())
	})
}

// repository is a data directory with signed metadata, and the origin or mirror that changes it.
type repository struct {
	store      *store.Store
	origin     *origin.Origin // nil: this is a mirror
	copy       *mirrored      // nil: this is an origin
	inspector  *inspector     // nil: this is a mirror; its origin inspects
	elsewhere  *elsewhere
	renews     bool // there is an online key
	scrubEvery time.Duration
	now        func() time.Time
	logger     *slog.Logger
}

func (p *Program) openRepository(ctx context.Context, s settings.Server, logger *slog.Logger) (*repository, error) {
	online, err := onlineKeys(ctx, s.OnlineKey)
	if err != nil {
		return nil, err
	}
	r := &repository{elsewhere: &elsewhere{}, renews: len(online) > 0, scrubEvery: s.ScrubEvery, now: p.Now, logger: logger}
	if r.store, err = store.Open(ctx, store.Config{
		Dir:        s.DataDir,
		Logger:     logger,
		Now:        p.Now,
		Reserve:    reserve,
		Superseded: s.KeepSuperseded,
		Elsewhere:  r.elsewhere.OpenDigest,
	}); err != nil {
		return nil, err
	}
	r.origin, err = origin.Open(ctx, origin.Config{Store: r.store, Online: online, Logger: logger, Now: p.Now, Built: p.Built, ClockChecked: s.ClockChecked})
	if err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	r.inspector = newInspector(r.store, logger)
	if !r.renews {
		logger.Warn("nothing can be published or renewed without online_key", "data_dir", s.DataDir)
	}
	return r, nil
}

// onlineKeys loads the online key: one file, or two during a rotation.
func onlineKeys(ctx context.Context, paths string) ([]signing.Signer, error) {
	var out []signing.Signer
	for _, path := range filepath.SplitList(paths) {
		key, err := secret.Loader{}.Load(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("online_key: %w", err)
		}
		out = append(out, key)
	}
	return out, nil
}

func (r *repository) renew(ctx context.Context) error { return r.origin.Run(ctx) }

func (r *repository) close() error {
	if r.copy != nil {
		r.copy.client.Close()
		return r.store.Close()
	}
	return errors.Join(r.origin.Close(), r.store.Close())
}

// release returns the release of an update that the newest list has.
func (r *repository) release(u update.Update) (rel trust.Release, ok bool) {
	if repo := r.store.Repository(); repo != nil && !u.Unsigned {
		rel, ok = repo.Release(u.Name)
	}
	return rel, ok && rel.Digest() == u.Digest
}

// Signatures returns the detached signatures of a signed update.
func (r *repository) Signatures(u update.Update) []trust.KeySignature {
	if rel, ok := r.release(u); ok {
		return rel.Signatures()
	}
	return nil
}

// component returns how the repository is, for anyone to see.
func (r *repository) component() status.Component {
	at := r.now()
	f, warnings := r.health(at)
	c := status.Component{Name: "repository", Warnings: warnings}
	if r.copy == nil {
		c.Versions = r.store.Repository().Versions()
	} else {
		c.Versions = f.Own
		c.Freshness, c.Unready, c.Note = f.Public(), !f.Ready(), DescribeFreshness(f)
	}
	return c
}

// health returns how new a copy is, and the problems of the repository. readStanding does the same without a server.
func (r *repository) health(at time.Time) (status.Freshness, []status.Warning) {
	if r.copy != nil {
		return r.copy.Health(at)
	}
	return status.Freshness{}, append(r.origin.Health(at), r.inspector.warnings()...)
}

// elsewhere is the updates directory as a place of archives. A reload may replace it.
type elsewhere struct{ dir atomic.Pointer[dropdir.Dir] }

// OpenDigest opens an archive of the updates directory in use, if there is one.
func (e *elsewhere) OpenDigest(d update.Digest) (*os.File, bool) {
	dir := e.dir.Load()
	if dir == nil {
		return nil, false
	}
	return dir.OpenDigest(d)
}

package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// codeStale is the exit code of a single sync whose copy is complete but expired, which accept_stale allows.
const codeStale = 6

// mirrored is the copy that a repository is, as the router and health show it.
type mirrored struct {
	*mirror.Mirror
	store  *store.Store
	client *fetch.Client
	wrong  *refusals
	now    func() time.Time
}

// sinks are called with the progress of transfers. Each may be nil.
type sinks struct {
	planned  func([]trust.Release)
	progress func(trust.Release, int64)
	ended    func()
}

// openMirror opens the data directory of a mirror for this process alone.
func (p *Program) openMirror(ctx context.Context, s settings.Server, out sinks, logger *slog.Logger) (_ *repository, err error) {
	r := &repository{elsewhere: &elsewhere{}, scrubEvery: s.ScrubEvery, now: p.Now, logger: logger}
	if r.store, err = openStore(ctx, s, r.elsewhere, logger, p.Now); err != nil {
		return nil, err
	}
	if r.copy, err = p.newMirrored(s, r.store, out, logger); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	if err := saveSettings(s); err != nil {
		return nil, errors.Join(fmt.Errorf("data_dir: %w", err), r.close())
	}
	return r, nil
}

// newClient returns a client for the upstreams of the settings. more sets what the settings don't say.
func (p *Program) newClient(s settings.Server, more func(*fetch.Config)) (*fetch.Client, error) {
	roots, err := certificates("ca_file", s.CAFile)
	if err != nil {
		return nil, err
	}
	patience := s.Patience
	if patience == 0 {
		patience = -1 // each upstream is asked once
	}
	c := fetch.Config{
		Upstreams: s.Upstream,
		Redirects: s.Redirects,
		Roots:     roots,
		UserAgent: "box-update-server/" + p.Version,
		Rate:      s.Bandwidth,
		Patience:  patience,
	}
	more(&c)
	return fetch.New(c)
}

func (p *Program) newMirrored(s settings.Server, st *store.Store, out sinks, logger *slog.Logger) (*mirrored, error) {
	wrong := &refusals{}
	client, err := p.newClient(s, func(c *fetch.Config) { c.Progress, c.Refused, c.Logger = out.progress, wrong.add, logger })
	if err != nil {
		return nil, err
	}
	m, err := mirror.New(mirror.Config{
		Store:       st,
		Client:      client,
		Logger:      logger,
		Now:         p.Now,
		Built:       p.Built,
		AcceptStale: s.AcceptStale,
		Interval:    s.Interval,
		MaxBytes:    s.MaxBytes,
		OnDemand:    mirror.OnDemand(s.OnDemand),
		Planned:     out.planned,
		Ended:       out.ended,
	})
	if err != nil {
		client.Close()
		return nil, err
	}
	return &mirrored{m, st, client, wrong, p.Now}, nil
}

// openStore opens a data directory for this process alone, without the keys of an origin.
func openStore(ctx context.Context, s settings.Server, e *elsewhere, logger *slog.Logger, now func() time.Time) (*store.Store, error) {
	c, err := storeConfig(s, logger, now)
	if err != nil {
		return nil, err
	}
	if e != nil {
		c.Elsewhere = e.OpenDigest
	}
	st, err := store.Open(ctx, c)
	if errors.Is(err, disk.ErrLocked) {
		err = status.WithHint(err, "one program at a time writes to a data_dir: is a server running?")
	}
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return st, nil
}

// storeConfig returns the configuration of the store in data_dir.
func storeConfig(s settings.Server, logger *slog.Logger, now func() time.Time) (store.Config, error) {
	c := store.Config{Dir: s.DataDir, Logger: logger, Now: now, Superseded: s.KeepSuperseded}
	if s.KeepNewest > 0 || !s.KeepSince.IsZero() {
		c.Kept = mirror.Retention{Newest: s.KeepNewest, Since: s.KeepSince}.Kept
	}
	if s.Root == "" {
		return c, nil
	}
	root, err := disk.ReadFile(s.Root, trust.MaxLength(trust.RoleRoot))
	if err != nil {
		if begun(s.DataDir) == nil && errors.Is(err, os.ErrNotExist) {
			return c, nil // the directory has its first trusted root
		}
		if errors.Is(err, os.ErrNotExist) {
			err = status.WithHint(err, "get it from the person who made the repository: metadata/1.root.json there")
		}
		return store.Config{}, fmt.Errorf("root: %w", err)
	}
	c.Root = root
	return c, nil
}

// certificates returns the authorities in the file that a setting names; nil, for those of the system, without one.
func certificates(key, path string) (*x509.CertPool, error) {
	pool, err := fetch.Authorities(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return pool, nil
}

// Synced reports whether there is a repository to serve.
func (m *mirrored) Synced() bool { return m.store.Repository() != nil }

// Freshness returns how new the copy is, as anyone may see it.
func (m *mirrored) Freshness() *status.Freshness { return m.Mirror.Freshness(m.now()).Public() }

// Want returns the answer for an update that is not in place, as mirror.Mirror.Want does.
func (m *mirrored) Want(u update.Update) (time.Duration, string) {
	if u.Unsigned {
		return 0, ""
	}
	return m.Mirror.Want(u)
}

// DescribeFreshness returns how new a copy is, in one line.
func DescribeFreshness(f status.Freshness) string {
	if !f.Synced {
		return "not synced"
	}
	text := fmt.Sprintf("snapshot %d of %d, %d updates and %v behind, %s expires at %s", f.Own.Snapshot, max(f.Upstream.Snapshot, f.Own.Snapshot),
		f.UpdatesBehind, time.Duration(f.SecondsBehind)*time.Second, f.Expiring, f.Expires.Format(time.RFC3339))
	if f.Error != "" {
		text += ", no sync went well since " + f.Since.Format(time.RFC3339)
	}
	return text
}

// Synced is what a single sync did, and how new the copy is then.
type Synced struct {
	Archives  int              `json:"archives"` // that were fetched
	Bytes     int64            `json:"bytes"`    // of them
	Freshness status.Freshness `json:"freshness"`
}

// SyncOnce syncs once. An error beside a result says that the copy is expired.
func (p *Program) SyncOnce(ctx context.Context) (_ *Synced, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go paceCollector(ctx)
	debug.SetMemoryLimit(onceMemory)
	s, unknown, err := p.load(settings.NewServer(), checkDirs)
	if err != nil {
		return nil, err
	}
	meter := newMeter(p.Streams)
	defer meter.End()
	ctx = pace.ObserveWaits(ctx, meter.Wait)
	logger := p.newLogger(meter, s)
	warnIgnored(logger, s, unknown)
	r, err := p.openMirror(ctx, s, meter.sinks(), logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	result, err := r.copy.Sync(ctx)
	meter.End()
	if err != nil {
		return nil, status.Coded(err)
	}
	f := r.copy.Mirror.Freshness(p.Now())
	out := &Synced{result.Archives, result.Bytes, f}
	if f.Expired {
		return out, status.WithCode(fmt.Errorf("%s expired at %s", f.Expiring, f.Expires.Format(time.RFC3339)), codeStale)
	}
	return out, nil
}

// refusals counts what the upstreams sent and this process refused, by reason.
type refusals struct {
	mu     sync.Mutex
	counts map[status.Refusal]int64
}

// add counts an error of an upstream, if it is a refusal.
func (r *refusals) add(err error) {
	reason := status.RefusalOf(err)
	if reason == "" && errors.Is(err, fetch.ErrRefused) {
		reason = status.RefusedMismatch
	}
	if reason == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[status.Refusal]int64{}
	}
	r.counts[reason]++
}

// now returns the counts.
func (r *refusals) now() map[status.Refusal]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

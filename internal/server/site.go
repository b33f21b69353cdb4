package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/router/front"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store/dropdir"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// site is what is served under one set of settings.
type site struct {
	settings settings.Server
	logger   *slog.Logger
	dir      *dropdir.Dir // nil: there is only a repository
	selector *selector    // nil: everything is served
	stats    *stats
	router   router.Config
	stop     func() // ends the work in the background that start began, and waits for it
}

// openSite opens everything that the settings name, except the data directory, which is open already. Nothing runs in
// the background until start.
func (p *Program) openSite(ctx context.Context, s settings.Server, d dataDir, log *logBuffer) (*site, error) {
	logger := p.newLogger(log, s)
	out := &site{settings: s, logger: logger, stop: func() {}, router: router.Config{
		Product: s.Product,
		Logger:  logger,
		Front: front.Config{
			StallWindow: s.StallWindow, MinRate: s.MinRate, IdleTimeout: s.IdleTimeout, MaxIdle: s.MaxIdle, TrustedProxies: s.TrustedProxies,
		},
		Version:   p.Version,
		Now:       p.Now,
		NoMetrics: !s.Metrics,

		MaxDownloads: s.MaxDownloads,
		MaxBandwidth: s.MaxBandwidth,
		Plain:        plainHandler(s, d.credentials),
		HSTS:         s.HSTS,
	}}
	if s.LogRequests {
		out.router.Requests = newLoggerWith(log.requests(), s, nil) // these hold no URL of ours
	}
	if err := out.openDir(ctx); err != nil {
		return nil, err
	}
	if err := out.setSource(d.repository); err != nil {
		return nil, err
	}
	out.router.Components = health{out.dir, d.repository, out.selector, d.credentials, p.Now}.components
	out.stats = &stats{dir: out.dir, repository: d.repository, credentials: d.credentials, now: p.Now, logger: logger}
	out.router.Standing, out.router.Conditions = out.stats.standing, out.stats.conditions
	return out, nil
}

func (s *site) openDir(ctx context.Context) (err error) {
	if s.settings.UpdatesDir == "" {
		return nil
	}
	cache := ""
	if s.settings.DataDir != "" {
		cache = filepath.Join(s.settings.DataDir, "dropdir")
	}
	s.dir, err = dropdir.Open(ctx, dropdir.Config{
		Dir:     s.settings.UpdatesDir,
		Product: s.settings.Product,
		Cache:   cache,
		Logger:  s.logger,
		Check:   checkArchive,
	})
	return err
}

// setSource makes the router serve the directory, the repository, or both. Either may be missing.
func (s *site) setSource(r *repository) error {
	c := &s.router
	if r == nil {
		return s.setDirSource()
	}
	if s.settings.ReleaseKey != "" {
		s.logger.Warn("release_key is not used: the repository in data_dir names its own keys")
	}
	c.Metadata = r.store.Metadata
	if r.copy != nil {
		c.Mirror = r.copy
	} else {
		c.Publisher = r.origin
	}
	c.Source, c.Signatures = r.store, r.Signatures
	r.elsewhere.dir.Store(s.dir)
	if s.dir != nil {
		b := newRepositoryWithDir(r, s.dir, s.settings.ServeUnsigned, s.logger)
		c.Source, c.Signatures, s.selector = b, b.Signatures, b.selector
	}
	return nil
}

func (s *site) setDirSource() error {
	c := &s.router
	if s.settings.ReleaseKey == "" {
		plain := plainDir{Dir: s.dir}
		c.Source, c.Signatures = plain, plain.Signatures
		return nil
	}
	key, err := readPublicKey(s.settings.ReleaseKey)
	if err != nil {
		return fmt.Errorf("release_key: %w", err)
	}
	d := newSignedDir(s.dir, key, s.logger)
	c.Source, c.Signatures, s.selector = d, d.Signatures, d.selector
	return nil
}

func readPublicKey(path string) (keys.Public, error) {
	const most = 4 << 10
	b, err := disk.ReadFile(path, most)
	if err != nil {
		return keys.Public{}, err
	}
	key, err := keys.ParsePEM(b)
	if err != nil {
		return keys.Public{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// start watches and hashes the directory in the background until stop.
func (s *site) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if s.dir != nil {
		running.Go(func() {
			if err := s.dir.Run(ctx); err != nil && ctx.Err() == nil {
				s.logger.Error("updates directory is not watched any more", "err", err)
			}
		})
	}
	if s.selector != nil {
		running.Go(func() { s.watchOmissions(ctx) })
	}
	running.Go(func() { s.stats.run(ctx) })
	s.stop = func() {
		cancel()
		running.Wait()
	}
}

// watchOmissions selects again and again, so that new omissions are logged even if no request comes.
func (s *site) watchOmissions(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.selector.selection()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkArchive returns the problems of an archive that is no proper update.
func checkArchive(ctx context.Context, f *os.File, n update.Name) ([]string, error) {
	report, err := archive.Inspect(ctx, f, n, archive.InspectOptions{})
	return report.Problems, err
}

// health describes directory, repository and certificates, some of which may be missing.
type health struct {
	dir         *dropdir.Dir
	repository  *repository
	selector    *selector
	credentials credentials
	now         func() time.Time
}

// components returns a component for each part that there is.
func (h health) components() []status.Component {
	var out []status.Component
	if h.dir != nil {
		out = append(out, h.directory())
	}
	if h.repository != nil {
		out = append(out, h.repository.component())
	}
	if h.credentials != nil {
		at := h.now()
		out = append(out, component(h.credentials.Standing(at), at))
	}
	return out
}

// maxOmissions bounds the omissions that health names.
const maxOmissions = 50

// directory describes the updates directory. It is in order if it can be read and something of it is served: a problem
// with single files doesn't keep the others from being served.
func (h health) directory() status.Component {
	d := h.dir.Health()
	c := status.Component{Name: "updates directory", Unready: !d.Readable}
	warn := func(urgent bool, text string) {
		c.Warnings = append(c.Warnings, status.Warning{Urgent: urgent, Text: text})
	}
	if d.Error != "" {
		warn(true, d.Error)
	}
	if d.Nothing {
		warn(true, "no archive is left to serve: all that is there is ignored")
	}
	for _, text := range d.Warnings {
		warn(false, text)
	}
	if d.More > 0 {
		warn(false, fmt.Sprintf("and %d more warnings", d.More))
	}
	if d.Pending > 0 {
		warn(false, fmt.Sprintf("%d archives have still to be hashed", d.Pending))
	}
	if h.selector != nil {
		for _, text := range describeOmissions(h.selector.selection().omitted) {
			warn(false, text)
		}
	}
	return c
}

func describeOmissions(all []omission) (out []string) {
	for i, o := range all {
		if i == maxOmissions {
			return append(out, fmt.Sprintf("and %d more updates are left out", len(all)-maxOmissions))
		}
		out = append(out, fmt.Sprintf("%v is left out: %s", o.name, o.reason))
	}
	return out
}

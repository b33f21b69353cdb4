package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/durable"
	"github.com/openpowerquality/box-update-server/router"
)

// server is one run of the program: its settings as they were at the start, and where new ones come
// from.
type server struct {
	settings settings
	unknown  []string // keys of the settings that are not known
	log      io.Writer
	now      func() time.Time
	reload   <-chan os.Signal
	load     func() (settings, []string, error)
}

// serve serves until ctx ends, then lets running downloads end.
func serve(ctx context.Context, s server) (err error) {
	paceCollector()
	logger := newLogger(s.log, s.settings)
	unlock, err := lockData(s.settings.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	site, err := openSite(ctx, s.settings, logger, s.now)
	if err != nil {
		return err
	}
	site.start(ctx)
	defer func() { site.stop() }() // the site as it is then
	listener, err := net.Listen("tcp", s.settings.address())
	if err != nil {
		return cli.WithHint(err, "is another server running? choose another port or --listen host:port")
	}
	srv, err := router.NewServer(site.router)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	warnUnknown(logger, s.unknown)
	logger.Info("listening", "addr", listener.Addr().String(), "updates_dir", s.settings.UpdatesDir, "version", version)

	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		case <-s.reload:
			site = s.renew(ctx, site, logger)
			if err := srv.Reload(site.router); err != nil {
				logger.Error("settings not reloaded", "err", err)
			}
		case <-ctx.Done():
			return drain(srv, site.settings.Drain, site.logger)
		}
	}
}

// renew reads the settings again and returns the site to serve from then on, which is the old one
// where the new settings can't be used.
func (s *server) renew(ctx context.Context, old *site, logger *slog.Logger) *site {
	next, unknown, err := s.load()
	if err != nil {
		logger.Error("settings not reloaded, the old ones stay in force", "err", err)
		return old
	}
	warnUnknown(logger, unknown)
	if next.address() != old.settings.address() {
		logger.Warn("a new address needs a restart", "in force", old.settings.address(), "ignored", next.address())
		next.Listen, next.Port = old.settings.Listen, old.settings.Port
	}
	if next.DataDir != old.settings.DataDir {
		logger.Warn("a new data_dir needs a restart", "in force", old.settings.DataDir, "ignored", next.DataDir)
		next.DataDir = old.settings.DataDir
	}
	// The digest cache has one writer: the old site ends before the new one begins. Until then it
	// goes on answering from what it knows.
	old.stop()
	site, err := openSite(ctx, next, newLogger(s.log, next), s.now)
	if err != nil {
		logger.Error("settings not reloaded, the old ones stay in force", "err", err)
		return s.reopen(ctx, old)
	}
	site.start(ctx)
	site.logger.Info("settings reloaded")
	return site
}

// reopen watches the directory of a site that was stopped again.
func (s *server) reopen(ctx context.Context, old *site) *site {
	site, err := openSite(ctx, old.settings, old.logger, s.now)
	if err != nil {
		old.logger.Error("updates directory is not watched any more", "err", err)
		return old
	}
	site.start(ctx)
	return site
}

// drain stops listening and waits up to limit for running answers, then cuts them.
func drain(srv *router.Server, limit time.Duration, logger *slog.Logger) error {
	logger.Info("stopping: running downloads may end", "limit", limit)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("downloads that were still running are cut", "limit", limit)
		return srv.Close()
	}
	return err
}

func warnUnknown(logger *slog.Logger, keys []string) {
	for _, key := range keys {
		logger.Warn("unknown setting is ignored", "key", key)
	}
}

func newLogger(w io.Writer, s settings) *slog.Logger {
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// lockData makes this the one process that writes to the data directory, if there is one.
func lockData(dir string) (unlock func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	lock, err := durable.TryLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("data_dir: %w", err), "one server at a time uses a data_dir; it must be writable")
	}
	return lock.Unlock, nil
}

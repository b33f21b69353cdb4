package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/status"
)

// server is a Program that serves.
type server struct {
	*Program
	settings settings.Server // at the start
	unknown  []string        // keys of the settings that are not known
	dir      dataDir
	log      meter
	lines    *logBuffer // the log
	reload   <-chan os.Signal
}

// serve serves until ctx ends, then lets running downloads end.
func serve(ctx context.Context, s server) (err error) {
	go paceCollector(ctx)
	defer s.log.End()
	s.lines = newLogBuffer(s.log)
	defer s.lines.close()
	logger := s.newLogger(s.lines, s.settings)
	if s.dir, err = s.openDataDir(ctx, s.settings, s.log.transfers(logger), logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.dir.unlock()) }()
	if s.dir.credentials, err = s.openCredentials(s.settings, logger); err != nil {
		return err
	}
	site, err := s.openSite(ctx, s.settings, s.dir, s.lines)
	if err != nil {
		return err
	}
	site.start(ctx)
	defer func() { site.stop() }() // a reload replaces site
	defer s.dir.start(ctx)()
	srv, err := router.NewServer(site.router)
	if err != nil {
		return err
	}
	defer s.startAdmin(ctx, s.dir, s.settings.DataDir, srv.Metrics(), logger)()
	listening, err := listen(&s.settings)
	if err != nil {
		return err
	}
	warnIgnored(logger, s.settings, s.unknown)
	listening.log(s.settings, s.Version, logger)

	served := listening.serve(srv, s.dir.credentials)
	obtain(ctx, s.dir.credentials)
	address, secure := listening.asked()
	manager := newServiceManager(address, secure, logger)
	defer manager.guard(ctx)()
	manager.ready()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		case <-s.reload:
			manager.reloading()
			site = s.renew(ctx, site, logger)
			if err := srv.Reload(site.router); err != nil {
				logger.Error("settings not reloaded", "err", err)
			}
			manager.ready()
		case <-ctx.Done():
			manager.stopping(site.settings.Drain)
			return drain(srv, site.settings.Drain, site.logger)
		}
	}
}

// renew reads the settings again and returns the site to serve from then on: old, if the new settings can't be used.
func (s *server) renew(ctx context.Context, old *site, logger *slog.Logger) *site {
	next, unknown, err := s.serving()
	if err != nil {
		logger.Error("settings not reloaded, the old ones stay in force", "err", err)
		return old
	}
	warnIgnored(logger, next, unknown)
	if next.Address() != old.settings.Address() {
		logger.Warn("a new address needs a restart", "in force", old.settings.Address(), "ignored", next.Address())
		next.Listen, next.Port = old.settings.Listen, old.settings.Port
	}
	if next.DataDir != old.settings.DataDir {
		logger.Warn("a new data_dir needs a restart", "in force", old.settings.DataDir, "ignored", next.DataDir)
		next.DataDir = old.settings.DataDir
	}
	if !reflect.DeepEqual(next.TLS, old.settings.TLS) {
		logger.Warn("new settings of TLS need a restart")
		next.TLS = old.settings.TLS
	}
	if !reflect.DeepEqual(next.Mirror, old.settings.Mirror) || next.Keeping != old.settings.Keeping {
		logger.Warn("new settings of a mirror or of what is kept need a restart")
		next.Mirror, next.Keeping = old.settings.Mirror, old.settings.Keeping
	}
	if s.dir.repository != nil && s.dir.repository.copy != nil {
		s.dir.repository.copy.Trigger()
	} else if hasRepository(next.DataDir) != (s.dir.repository != nil) {
		logger.Warn("a repository that came into data_dir or went needs a restart")
	}
	if next.OnlineKey != old.settings.OnlineKey {
		logger.Warn("a new online_key needs a restart")
		next.OnlineKey = old.settings.OnlineKey
	}
	if next.UpdatesDir == "" && s.dir.repository == nil {
		logger.Error("settings not reloaded, the old ones stay in force", "err", "updates_dir is not set")
		return old
	}
	// The digest cache has one writer, so the old site stops before the new one starts. Meanwhile it still answers
	// from memory.
	old.stop()
	site, err := s.openSite(ctx, next, s.dir, s.lines)
	if err != nil {
		logger.Error("settings not reloaded, the old ones stay in force", "err", err)
		old.start(ctx)
		return old
	}
	site.start(ctx)
	site.logger.Info("settings reloaded")
	return site
}

// drain stops listening and waits up to limit for running answers, then cuts them. A second signal cuts them at once.
func drain(srv *router.Server, limit time.Duration, logger *slog.Logger) error {
	logger.Info("stopping: running downloads may end; another signal cuts them", "limit", limit)
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	go func() {
		select {
		case <-again:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := srv.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		logger.Warn("downloads that were still running are cut", "limit", limit)
		return srv.Close()
	}
	return err
}

func warnIgnored(logger *slog.Logger, s settings.Server, unknown []string) {
	for _, key := range unknown {
		logger.Warn("unknown setting is ignored", "key", key)
	}
	for _, text := range settings.Ignored(s.Settings()) {
		logger.Warn(text)
	}
}

// newLogger returns a logger, which with --quiet logs warnings and errors only.
func (p *Program) newLogger(w io.Writer, s settings.Server) *slog.Logger {
	o := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return explain.MaskAttr(a) }}
	if p.Silenced() {
		o.Level = slog.LevelWarn
	}
	return newLoggerWith(w, s, o)
}

func newLoggerWith(w io.Writer, s settings.Server, o *slog.HandlerOptions) *slog.Logger {
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// lockData locks the data directory, if there is one, for this process alone.
func lockData(dir string) (unlock func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	lock, err := disk.TryLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("data_dir: %w", err), "only one server at a time can use a data_dir, and it must be writable")
	}
	return lock.Unlock, nil
}

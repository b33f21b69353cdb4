package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/router"
	"github.com/openpowerquality/box-update-server/store/dropdir"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/archive"
)

// site is what is served under one set of settings.
type site struct {
	settings settings
	logger   *slog.Logger
	dir      *dropdir.Dir
	router   router.Config
	stop     func() // ends what start began and waits for it
}

// openSite opens what the settings name. Nothing runs in the background until start.
func openSite(ctx context.Context, s settings, logger *slog.Logger, now func() time.Time) (*site, error) {
	cache := ""
	if s.DataDir != "" {
		cache = filepath.Join(s.DataDir, "dropdir")
	}
	dir, err := dropdir.Open(ctx, dropdir.Config{
		Dir:     s.UpdatesDir,
		Product: s.Product,
		Cache:   cache,
		Logger:  logger,
		Check:   checkArchive,
	})
	if err != nil {
		return nil, err
	}
	return &site{settings: s, logger: logger, dir: dir, stop: func() {}, router: router.Config{
		Source:      dir,
		Product:     s.Product,
		Health:      health{dir},
		Logger:      logger,
		LogRequests: s.LogRequests,
		StallWindow: s.StallWindow,
		MinRate:     s.MinRate,
		Version:     version,
		Now:         now,
	}}, nil
}

// start watches and hashes the directory in the background until stop.
func (s *site) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.dir.Run(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("updates directory is not watched any more", "err", err)
		}
	}()
	s.stop = func() {
		cancel()
		<-ended
	}
}

// checkArchive looks whether an archive is a proper update.
func checkArchive(ctx context.Context, f *os.File, n update.Name) ([]string, error) {
	report, err := archive.Inspect(ctx, f, n, archive.InspectOptions{})
	return report.Problems, err
}

// health shows the directory to those who poll the server.
type health struct{ dir *dropdir.Dir }

// Components returns the directory, which is in order when it can be read: warnings about single
// files don't keep the others from being served.
func (h health) Components() []router.Component {
	d := h.dir.Health()
	warnings := d.Warnings
	if d.Error != "" {
		warnings = append([]string{d.Error}, warnings...)
	}
	if d.More > 0 {
		warnings = append(warnings[:len(warnings):len(warnings)], fmt.Sprintf("and %d more warnings", d.More))
	}
	if d.Pending > 0 {
		warnings = append(warnings[:len(warnings):len(warnings)], fmt.Sprintf("%d archives have still to be hashed", d.Pending))
	}
	return []router.Component{{Name: "updates directory", OK: d.Readable, Warnings: warnings}}
}

// Checks returns what must hold before the server should get requests: a directory that can be read.
func (h health) Checks() []router.Check {
	return []router.Check{{Name: "updates directory", Problem: h.dir.Health().Error}}
}

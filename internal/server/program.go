// Package server has the commands of box-update-server, each a method of Program: they serve updates from a repository,
// a plain directory or a mirror's copy, and maintain the data directory.
package server

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

// A Program is one run of box-update-server: its streams, and the settings that were given.
type Program struct {
	cli.Streams
	Version string
	Built   time.Time // when the source was committed; zero: not known

	Config     string              // file of the settings; "": those of the environment, or none
	Flags      map[string][]string // settings that override them, as texts, by their keys
	OtherFlags bool                // other flags were given
	Mirrors    bool                // upstreams are required
}

// CheckConfig returns the settings in force as a JSON object, and a text for each given setting that is ignored.
func (p *Program) CheckConfig() (shown map[string]any, ignored []string, err error) {
	s, unknown, err := p.serving()
	if err != nil {
		return nil, nil, err
	}
	for _, key := range unknown {
		ignored = append(ignored, fmt.Sprintf("unknown setting %q is ignored", key))
	}
	return s.Show(), append(ignored, settings.Ignored(s.Settings())...), nil
}

// Serve serves until ctx ends, then lets running downloads end. On SIGHUP it reads the settings again.
func (p *Program) Serve(ctx context.Context) error {
	s, unknown, err := p.serving()
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return serve(ctx, server{
		Program:  p,
		settings: s,
		unknown:  unknown,
		log:      newMeter(p.Streams),
		reload:   reload,
	})
}

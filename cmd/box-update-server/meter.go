package main

import (
	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// meter shows how archives go from here to there.
type meter struct{ *cli.Meter }

func newMeter(s cli.Streams) meter { return meter{s.NewMeter()} }

func (m meter) sinks() sinks { return sinks{m.plan, m.progress} }

// plan takes in what is to come.
func (m meter) plan(releases []trust.Release) {
	var bytes int64
	for _, r := range releases {
		bytes += r.Length()
	}
	m.Plan(bytes)
}

// progress takes in how many bytes of an archive are there.
func (m meter) progress(r trust.Release, done int64) { m.Show(r.Name().String(), r.Length(), done) }

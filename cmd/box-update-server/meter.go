package main

import (
	"maps"
	"slices"

	"github.com/openpowerquality/box-update-server/cmd/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
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

// reading shows how the archives that a store lists are read, and has next told of each piece as well.
func (m meter) reading(st *store.Store, next func(update.Digest, int)) func(update.Digest, int) {
	listed, done := map[update.Digest]trust.Release{}, map[update.Digest]int64{}
	if repo := st.Repository(); repo != nil {
		for _, r := range st.Kept(repo) {
			listed[r.Digest()] = r
		}
	}
	m.plan(slices.Collect(maps.Values(listed)))
	return func(d update.Digest, n int) {
		done[d] += int64(n)
		if r, ok := listed[d]; ok {
			m.Show("reading "+r.Name().String(), r.Length(), done[d])
		}
		next(d, n)
	}
}

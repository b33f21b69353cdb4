package server

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// meter shows how archives go from here to there.
type meter struct {
	*cli.Meter
	terminal bool
}

func newMeter(s cli.Streams) meter { return meter{s.NewMeter(), isTerminal(s.Err)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (m meter) sinks() sinks { return sinks{m.plan, m.progress, m.End} }

// transfers returns what a server tells of its transfers: it shows them on a terminal, and logs elsewhere.
func (m meter) transfers(logger *slog.Logger) sinks {
	if m.terminal {
		return m.sinks()
	}
	l := &transferLog{logger: logger, done: map[string]int64{}}
	return sinks{
		func(releases []trust.Release) {
			_, bytes := sizeOf(releases)
			l.begin(bytes)
		},
		func(r trust.Release, done int64) { l.show(r.Name().String(), done) },
		func() { l.begin(0) },
	}
}

// plan takes in what is to come.
func (m meter) plan(releases []trust.Release) { m.Plan(sizeOf(releases)) }

// progress takes in how many bytes of an archive are there.
func (m meter) progress(r trust.Release, done int64) { m.Show(r.Name().String(), r.Length(), done) }

// reading takes in how many bytes of an archive were read again.
func (m meter) reading(name string, length, done int64) { m.Show("reading "+name, length, done) }

// pieces shows how the archives of a store are read again, and has next told of each piece.
func (m meter) pieces(st *store.Store, next func(update.Digest, int)) func(update.Digest, int) {
	m.plan(kept(st))
	return pieces(kept(st), m.reading, next)
}

// sizeOf returns how many archives releases have, and their bytes. Each archive counts once.
func sizeOf(releases []trust.Release) (archives int, bytes int64) {
	seen := map[update.Digest]bool{}
	for _, r := range releases {
		if !seen[r.Digest()] {
			bytes += r.Length()
		}
		seen[r.Digest()] = true
	}
	return len(seen), bytes
}

// kept returns the archives that a check reads, as far as they are there.
func kept(st *store.Store) []trust.Release {
	repo := st.Repository()
	if repo == nil {
		return nil
	}
	return st.Kept(repo)
}

// pieces has show told of the archives of a store that are read piece by piece, and next of each piece.
func pieces(of []trust.Release, show func(name string, length, done int64), next func(update.Digest, int)) func(update.Digest, int) {
	listed, done := map[update.Digest]trust.Release{}, map[update.Digest]int64{}
	for _, r := range of {
		listed[r.Digest()] = r
	}
	return func(d update.Digest, n int) {
		done[d] += int64(n)
		if r, ok := listed[d]; ok {
			show(r.Name().String(), r.Length(), min(done[d], r.Length()))
		}
		next(d, n)
	}
}

// logEvery is how often a transfer that takes long is logged.
const logEvery = 30 * time.Second

// transferLog logs how a transfer goes on, where there is no terminal to show it.
type transferLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	want int64            // bytes of all archives that were planned; 0: none is
	done map[string]int64 // bytes of each that are there
	last time.Time        // when the transfer began, or was logged
}

// begin takes in that so many bytes are to come, or with 0 that nothing more does.
func (l *transferLog) begin(want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want, l.last = want, time.Now()
	clear(l.done)
}

// show takes in how many bytes of an archive are there.
func (l *transferLog) show(name string, done int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want == 0 {
		return // somebody asked for that one alone
	}
	l.done[name] = done
	if time.Since(l.last) < logEvery {
		return
	}
	l.last = time.Now()
	var bytes int64
	for _, n := range l.done {
		bytes += n
	}
	l.logger.Info("fetching", "bytes", bytes, "of", l.want, "archive", name)
}

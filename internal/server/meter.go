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

// meter shows the progress of archives that are transferred or read.
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

// transfers returns the sinks of a server: on a terminal they show its transfers, else they log them.
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

// plan sets which archives will come.
func (m meter) plan(releases []trust.Release) { m.Plan(sizeOf(releases)) }

// progress shows how many bytes of an archive have arrived.
func (m meter) progress(r trust.Release, done int64) { m.Show(r.Name().String(), r.Length(), done) }

// reading shows how many bytes of an archive were read again.
func (m meter) reading(name string, length, done int64) { m.Show("reading "+name, length, done) }

// pieces returns a function that shows each piece of an archive that is read again, and then calls next.
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

// kept returns the releases whose archives a check reads.
func kept(st *store.Store) []trust.Release {
	repo := st.Repository()
	if repo == nil {
		return nil
	}
	return st.Kept(repo)
}

// pieces returns a function that adds up the pieces of each archive, calls show with the sum, and then next.
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

// logEvery is the time between two log lines about a transfer.
const logEvery = 30 * time.Second

// transferLog logs the progress of a transfer.
type transferLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	want int64            // bytes of all planned archives; 0: none is planned
	done map[string]int64 // bytes of each that have arrived
	last time.Time        // when the transfer began, or was logged
}

// begin starts a transfer of so many bytes; 0 ends it.
func (l *transferLog) begin(want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want, l.last = want, time.Now()
	clear(l.done)
}

// show notes how many bytes of an archive have arrived, and logs the sum now and then.
func (l *transferLog) show(name string, done int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want == 0 {
		return // it is fetched on demand
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

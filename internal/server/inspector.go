package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// An inspector looks whether the archives that an origin lists are proper updates: whoever signed one may have
// forced it. It reads each archive once, in the background, the newest first, and remembers what it found:
//
//	<data_dir>/inspected.json  {"<digest>": ["problem", …], …}, of a proper archive []
//
// The file is of use to nobody else; without it, all archives are read again.
type inspector struct {
	store  *store.Store
	logger *slog.Logger
	quick  time.Duration // how long one archive may keep the others waiting

	saving sync.Mutex // held while the file is written

	mu     sync.Mutex
	found  map[update.Digest][]string // what is improper about each archive; empty for a proper one
	slow   map[update.Digest]bool     // those that take long
	unread map[update.Digest]bool     // those that could not be read; they are tried again after a restart
}

const (
	inspectedName = "inspected.json"
	maxInspected  = 16 << 20 // bytes
	maxTold       = 8        // problems of one archive

	// quickInspection is how long an archive is inspected before it gives way: a few hundred bytes of bzip2
	// unpack to gigabytes.
	quickInspection = time.Minute

	// inspectEvery is how soon a new archive is found.
	inspectEvery = 2 * time.Second
)

func newInspector(s *store.Store, logger *slog.Logger) *inspector {
	i := &inspector{store: s, logger: logger, quick: quickInspection, found: map[update.Digest][]string{}, slow: map[update.Digest]bool{}, unread: map[update.Digest]bool{}}
	found, damage, err := disk.ReadJSON[map[update.Digest][]string](i.path(), maxInspected)
	if err = errors.Join(err, damage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("the disk damaged a file, which is written again", "err", err)
	}
	maps.Copy(i.found, found)
	return i
}

func (i *inspector) path() string { return filepath.Join(i.store.Dir(), inspectedName) }

// run inspects what is listed until ctx ends. Archives that take long have a lane of their own.
func (i *inspector) run(ctx context.Context) {
	var lanes sync.WaitGroup
	for _, slow := range []bool{false, true} {
		lanes.Go(func() {
			tick := time.NewTicker(inspectEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				for u, ok := i.next(slow); ok && ctx.Err() == nil; u, ok = i.next(slow) {
					i.inspect(ctx, u, slow)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	lanes.Wait()
}

// next returns the newest update that was not inspected, of those that take long or of the others.
func (i *inspector) next(slow bool) (update.Update, bool) {
	updates := i.store.Catalog().Updates()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, u := range slices.Backward(updates) {
		if _, done := i.found[u.Digest]; !done && !i.unread[u.Digest] && i.slow[u.Digest] == slow {
			return u, true
		}
	}
	return update.Update{}, false
}

func (i *inspector) inspect(ctx context.Context, u update.Update, slow bool) {
	within := ctx
	if !slow {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, i.quick)
		defer cancel()
	}
	problems, err := i.read(within, u)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && within.Err() != nil:
		i.logger.Info("archive takes long to inspect, others go first", "name", u.Name)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.slow[u.Digest] = true
		return
	case err != nil:
		// That an archive is lost or can't be read is for the store to tell.
		i.mu.Lock()
		defer i.mu.Unlock()
		i.unread[u.Digest] = true
		return
	case len(problems) > 0:
		for _, problem := range problems {
			i.logger.Warn("archive is not a proper update; it is served all the same", "name", u.Name, "problem", problem)
		}
	}
	i.note(u.Digest, problems)
	if err := i.save(); err != nil {
		i.logger.Warn("what archives were inspected is not remembered", "err", err)
	}
}

func (i *inspector) read(ctx context.Context, u update.Update) ([]string, error) {
	f, err := i.store.Open(u)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	problems, err := checkArchive(ctx, f, u.Name)
	if len(problems) > maxTold {
		problems = append(problems[:maxTold:maxTold], fmt.Sprintf("and %d more", len(problems)-maxTold))
	}
	return problems, err
}

func (i *inspector) note(d update.Digest, problems []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.found[d] = append([]string{}, problems...)
}

// save remembers what is known of the archives that are listed.
func (i *inspector) save() error {
	i.saving.Lock()
	defer i.saving.Unlock()
	listed := map[update.Digest][]string{}
	updates := i.store.Catalog().Updates()
	i.mu.Lock()
	for _, u := range updates {
		if problems, ok := i.found[u.Digest]; ok {
			listed[u.Digest] = problems
		}
	}
	i.found = maps.Clone(listed)
	i.mu.Unlock()
	return disk.FS{}.WriteJSON(i.path(), listed, 0o644)
}

// warnings names the improper archives that are listed, the newest first.
func (i *inspector) warnings() (out []status.Warning) {
	updates := i.store.Catalog().Updates()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, u := range slices.Backward(updates) {
		problems := i.found[u.Digest]
		if len(problems) == 0 {
			continue
		}
		if len(out) >= maxOmissions {
			return append(out, status.Warning{Subject: "archives", Text: "more of them are not proper updates"})
		}
		for _, problem := range problems {
			out = append(out, status.Warning{Text: fmt.Sprintf("%v is not a proper update: %s", u.Name, problem)})
		}
	}
	return out
}

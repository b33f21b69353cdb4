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
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// An inspector finds archives that an origin lists and that are not proper updates: a signer may force one. It reads
// each archive once, in the background, the newest first, and keeps what it found:
//
//	<data_dir>/inspected.json  {"<digest>": ["problem", …], …}, of a proper archive []
//
// Nothing else uses this file. Without it, all archives are read again.
type inspector struct {
	store  *store.Store
	logger *slog.Logger
	quick  time.Duration // limit of the quick lane

	saving sync.Mutex // held while the file is written

	mu    sync.Mutex
	found map[update.Digest][]string  // what is improper about each archive; empty for a proper one
	lanes map[update.Digest]pace.Lane // of those that are not inspected in the quick lane; after a restart all begin there
}

const (
	inspectedName = "inspected.json"
	maxInspected  = 16 << 20 // bytes
	maxNamed      = 8        // problems of one archive

	// quickInspection is how long one archive may delay the others: a few hundred bytes of bzip2 unpack to gigabytes.
	quickInspection = time.Minute

	// inspectEvery is how soon a new archive is found.
	inspectEvery = 2 * time.Second
)

func newInspector(s *store.Store, logger *slog.Logger) *inspector {
	i := &inspector{store: s, logger: logger, quick: quickInspection, found: map[update.Digest][]string{}, lanes: map[update.Digest]pace.Lane{}}
	found, damage, err := disk.ReadJSON[map[update.Digest][]string](i.path(), maxInspected)
	if err = errors.Join(err, damage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("the disk damaged a file, which is written again", "err", err)
	}
	maps.Copy(i.found, found)
	return i
}

func (i *inspector) path() string { return filepath.Join(i.store.Dir(), inspectedName) }

// run inspects what is listed until ctx ends.
func (i *inspector) run(ctx context.Context) {
	var running sync.WaitGroup
	for _, lane := range []pace.Lane{pace.QuickLane, pace.SlowLane} {
		running.Go(func() {
			for ctx.Err() == nil {
				if u, ok := i.next(lane); ok {
					i.inspect(ctx, u, lane)
				} else {
					_ = pace.Sleep(ctx, inspectEvery) // the loop ends with ctx
				}
			}
		})
	}
	running.Wait()
}

// next returns the newest update in a lane that was not inspected.
func (i *inspector) next(lane pace.Lane) (update.Update, bool) {
	updates := i.store.Catalog().Updates()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, u := range slices.Backward(updates) {
		if _, done := i.found[u.Digest]; !done && i.lanes[u.Digest] == lane {
			return u, true
		}
	}
	return update.Update{}, false
}

func (i *inspector) inspect(ctx context.Context, u update.Update, lane pace.Lane) {
	var problems []string
	err := lane.Run(ctx, i.quick, func(ctx context.Context) (err error) {
		problems, err = i.read(ctx, u)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil { // the store reports an archive that is lost or can't be read
		next := lane.After(err)
		if next == pace.SlowLane {
			i.logger.Info("archive takes long to inspect, others go first", "name", u.Name)
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.lanes[u.Digest] = next
		return
	}
	for _, problem := range problems {
		i.logger.Warn("archive is not a proper update; it is served all the same", "name", u.Name, "problem", problem)
	}
	i.mu.Lock()
	i.found[u.Digest] = append([]string{}, problems...) // [] in JSON for a proper one
	i.mu.Unlock()
	if err := i.save(); err != nil {
		i.logger.Warn("the results of inspecting archives are not kept", "err", err)
	}
}

func (i *inspector) read(ctx context.Context, u update.Update) ([]string, error) {
	f, err := i.store.Open(u)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	problems, err := checkArchive(ctx, f, u.Name)
	if len(problems) > maxNamed {
		problems = append(problems[:maxNamed:maxNamed], fmt.Sprintf("and %d more", len(problems)-maxNamed))
	}
	return problems, err
}

// save keeps what is known of the archives that are listed, and forgets the others.
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
			return append(out, status.Warning{Subject: "archives", Text: "more of them are not proper updates", Advice: "see the log"})
		}
		for _, problem := range problems {
			out = append(out, status.Warning{
				Text: fmt.Sprintf("%v is not a proper update: %s", u.Name, problem), Advice: "withdraw it with boxsign, and publish a proper one"})
		}
	}
	return out
}

package dropdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// cacheFile is the name of the cache in Config.Cache.
const cacheFile = "digests.cache"

// How often the cache is saved while digests arrive: a large one less often, so that saving takes
// saveRate bytes per second in the mean.
const (
	saveEvery = 5 * time.Second
	saveLast  = 5 * time.Minute
	saveRate  = 200 << 10
)

func (d *Dir) cachePath() string { return filepath.Join(d.c.Cache, cacheFile) }

// loadCache takes over the cache, where there is one that can be read. An error says that there is
// no directory to keep one in.
func (d *Dir) loadCache() error {
	if d.c.Cache == "" {
		return nil
	}
	if err := d.files.MkdirAll(d.c.Cache, 0o700); err != nil {
		return fmt.Errorf("digest cache: %w", err)
	}
	if err := d.files.RemoveTemps(d.c.Cache); err != nil {
		return fmt.Errorf("digest cache: %w", err)
	}
	entries, err := readCache(d.cachePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		d.c.Logger.Warn("digest cache dropped: every archive is hashed again", "file", d.cachePath(), "err", err)
		return nil
	}
	d.state.restore(entries)
	return nil
}

func readCache(path string) (map[update.Name]*entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCache {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errCorrupt, info.Size(), maxCache)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return parseCache(b)
}

// saveCache writes the cache where it is not up to date. After an error the old one is still there
// and the next call tries again.
func (d *Dir) saveCache() error {
	b := d.unsavedCache()
	if b == nil {
		return nil
	}
	err := fmt.Errorf("%d bytes, at most %d", len(b), maxCache)
	if len(b) <= maxCache {
		err = d.files.WriteFile(d.cachePath(), b, 0o600)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.report()
	d.state.note("digest cache not saved", err)
	if err != nil {
		d.state.unsaved = true
		return fmt.Errorf("digest cache: %w", err)
	}
	return nil
}

// unsavedCache returns the cache to be written, nil where the one on the disk is up to date.
func (d *Dir) unsavedCache() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.state.unsaved || d.c.Cache == "" {
		return nil
	}
	d.state.unsaved = false
	b := encodeCache(d.state.entries)
	d.saveGap = min(max(saveEvery, time.Duration(len(b))*time.Second/saveRate), saveLast)
	return b
}

package router

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Metadata is the source of a repository's signed metadata.
type Metadata interface {
	// Metadata returns the file of a name that trust.FileName made, byte for byte as it was signed, or
	// fs.ErrNotExist. The slice must not be changed. As long as timestamp.json is the same, Metadata returns the same
	// slice for it, at no cost.
	Metadata(name string) ([]byte, error)
}

// Signatures is the source of the detached signatures of updates.
type Signatures interface {
	// Signatures returns the signatures of an update of the catalog, beginning with that of the first key that
	// signed. An empty key ID means that the key is not known.
	Signatures(u update.Update) []trust.KeySignature
}

func (c Config) signatures(u update.Update) []trust.KeySignature {
	if c.Signatures == nil {
		return nil
	}
	return c.Signatures.Signatures(u)
}

// signature answers with the detached signature of an update, by the key of the query or else by the first key.
func (rt *router) signature(w *reply, r *http.Request, u update.Update) error {
	query := r.URL.Query()
	wanted, first := keys.ID(query.Get("key")), !query.Has("key")
	for _, s := range rt.config.signatures(u) {
		if first || wanted != "" && s.Key == wanted {
			cachedAnswer("application/octet-stream", s.Signature[:], cacheRevalidate).serve(w, r)
			return nil
		}
	}
	return errNotFound
}

// maxMetadata bounds all cached metadata files together, in bytes before compression.
const maxMetadata = 12 << 20

// metadataFiles caches answers for metadata files, by file name. A file with a number never changes.
type metadataFiles struct {
	mu     sync.Mutex
	byName map[string]metadataFile
	bytes  int
}

type metadataFile struct {
	raw []byte
	coded
}

func newMetadataFile(raw []byte, cache string) metadataFile {
	f := metadataFile{raw: raw}
	f.plain = sync.OnceValue(func() *answer {
		return cachedAnswer("application/json", raw, cache, one("Vary", "Accept-Encoding"))
	})
	f.gzipped = sync.OnceValue(func() *answer { return gzipAnswer(f.plain(), cache) })
	return f
}

func (rt *router) metadataFile(w *reply, r *http.Request, target string) error {
	role, _, ok := trust.ParseFileName(target)
	if !ok || rt.config.Metadata == nil {
		return errNotFound
	}
	cache := cacheForever
	if role == trust.RoleTimestamp {
		cache = cacheRevalidate
		if m := rt.config.Mirror; m != nil {
			field, value := m.Via()
			w.Header().Set(field, value)
		}
	} else if f, ok := rt.metadata.find(target); ok {
		f.serve(rt, w, r)
		return nil
	}
	raw, err := rt.config.Metadata.Metadata(target)
	if err != nil {
		return fmt.Errorf("metadata %s: %w", target, err)
	}
	rt.metadata.keep(target, raw, cache).serve(rt, w, r)
	return nil
}

func (m *metadataFiles) find(name string) (metadataFile, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.byName[name]
	return f, ok
}

// keep returns the answers for a file: the cached ones if raw is the same slice, otherwise new ones, which it caches.
// If the cache is full, keep empties it first.
func (m *metadataFiles) keep(name string, raw []byte, cache string) metadataFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, had := m.byName[name]
	if had && same(old.raw, raw) {
		return old
	}
	if m.bytes += len(raw) - len(old.raw); m.bytes > maxMetadata || m.byName == nil {
		m.byName, m.bytes = map[string]metadataFile{}, len(raw)
	}
	f := newMetadataFile(raw, cache)
	m.byName[name] = f
	return f
}

// same reports whether a and b are the same memory, without comparing their bytes.
func same(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

package router

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Metadata is where the signed metadata of a repository come from.
type Metadata interface {
	// Metadata returns the file of that name, which trust.FileName made, as it was signed. Nobody
	// changes the slice, and while the file is the same, timestamp.json is the same slice and costs
	// nothing. What is not there is fs.ErrNotExist.
	Metadata(name string) ([]byte, error)
}

// Signatures is where the detached signatures of updates come from.
type Signatures interface {
	// Signatures returns those of an update of the catalog, that of the first key first. An empty key
	// ID says that the key is not known.
	Signatures(u update.Update) []trust.KeySignature
}

func (c Config) signatures(u update.Update) []trust.KeySignature {
	if c.Signatures == nil {
		return nil
	}
	return c.Signatures.Signatures(u)
}

// signature answers for the detached signature of an update, by the first key or the one asked for.
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

// maxMetadata bounds the metadata files that are kept at hand, in bytes before compression.
const maxMetadata = 12 << 20

// metadataFiles are answers for metadata files. What has a number never changes.
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

// keep returns the answers for a file, those that are kept where it is the same slice.
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

func same(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

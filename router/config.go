package router

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/openpowerquality/box-update-server/router/front"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// A Source says which updates there are and opens them. Its methods are called concurrently.
type Source interface {
	// Catalog returns the current catalog, never nil. It is called on each request and must be cheap. It returns the
	// same pointer until something changes.
	Catalog() *update.Catalog

	// Open opens an update of the catalog. The file holds exactly u's bytes. The caller reads it by offset only, and
	// closes it. If the update is gone, Open returns fs.ErrNotExist.
	Open(u update.Update) (*os.File, error)

	// Blocks returns the block list of an update whose digest is known. If the update is gone, it returns
	// fs.ErrNotExist.
	Blocks(u update.Update) (update.Blocks, error)

	// Replaced reports whether the name had other bytes before.
	Replaced(n update.Name) bool
}

// Config says what a router serves and how. Source must be set; all else may be zero.
type Config struct {
	Source    Source
	Publisher Publisher      // no /publish/ if nil
	Mirror    Mirror         // this server is no mirror if nil
	Product   update.Product // update.DefaultProduct if empty

	// Metadata returns the signed metadata file of a name that trust.FileName made, byte for byte as it was signed, or
	// fs.ErrNotExist. The slice must not be changed. As long as timestamp.json is the same, Metadata returns the same
	// slice for it, at no cost. No /metadata/ if nil.
	Metadata func(name string) ([]byte, error)

	// Signatures returns the detached signatures of an update of the catalog, beginning with that of the first key
	// that signed. An empty key ID means that the key is not known. No .sig if nil.
	Signatures func(u update.Update) []trust.KeySignature

	// Components returns the state of the server's components; nil: there is nothing to report. It is called at most
	// once a second, and must not block.
	Components func() []status.Component

	// Standing returns how the server stands, apart from its catalog; nil: nothing is known. It is called
	// concurrently, for the status page and for metrics, and must not block. The router does not change the result.
	Standing func() status.Standing

	// Conditions returns which boxes an update of the catalog is for, and from which time. A nil function and the zero
	// value mean every box. Like Standing, it is called concurrently and must not block.
	Conditions func(u update.Update) trust.Conditions

	// NoMetrics leaves out /metrics.
	NoMetrics bool

	Logger   *slog.Logger // logs nothing if nil
	Requests *slog.Logger // has one line for each request; none if nil

	// MaxDownloads is how many archives are sent at once; further requests are answered 503 with Retry-After.
	// MaxBandwidth bounds the bytes per second of all archives together. Zero means no limit.
	MaxDownloads int64
	MaxBandwidth int64

	// Plain, if not nil, returns the handler for requests without TLS. The handler may call routes, with the
	// ResponseWriter and the request that it got.
	Plain func(routes http.Handler) http.Handler

	// HSTS is the max-age of the Strict-Transport-Security field in answers over TLS. Zero means no such field.
	HSTS time.Duration

	// Front is what clients may do with connections. Logger is the one above if nil; the other zeros mean an
	// IdleTimeout of two minutes, a StallWindow of one minute and a MinRate of 64 bytes per second.
	Front front.Config

	// A body is cut when fewer than BodyRate bytes per second of it arrive, averaged over BodyWindow. Zero means 4 kB
	// per second and 20 seconds. Meanwhile the body holds memory that all bodies share.
	BodyWindow time.Duration
	BodyRate   int64

	Version string           // of the program, as /healthz tells it
	Now     func() time.Time // time.Now if nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Source == nil {
		return Config{}, errors.New("router: a source is required")
	}
	if c.MaxDownloads < 0 || c.MaxBandwidth < 0 || c.Front.MaxIdle < 0 || c.HSTS < 0 {
		return Config{}, errors.New("router: limits must not be negative")
	}
	if c.Front.StallWindow < 0 || c.Front.MinRate < 0 || c.BodyWindow < 0 || c.BodyRate < 0 {
		return Config{}, errors.New("router: windows and least rates must not be negative")
	}
	c.Product = cmp.Or(c.Product, update.DefaultProduct)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	f := &c.Front
	f.Logger, f.IdleTimeout = cmp.Or(f.Logger, c.Logger), cmp.Or(max(f.IdleTimeout, 0), 2*time.Minute)
	f.StallWindow, f.MinRate = cmp.Or(f.StallWindow, time.Minute), cmp.Or(f.MinRate, 64)
	c.BodyWindow, c.BodyRate = cmp.Or(c.BodyWindow, 20*time.Second), cmp.Or(c.BodyRate, 4000)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Signatures == nil {
		c.Signatures = func(update.Update) []trust.KeySignature { return nil }
	}
	if c.Components == nil {
		c.Components = func() []status.Component { return nil }
	}
	if c.Standing == nil {
		c.Standing = func() status.Standing { return status.Standing{} }
	}
	if c.Conditions == nil {
		c.Conditions = func(update.Update) trust.Conditions { return trust.Conditions{} }
	}
	return c, nil
}

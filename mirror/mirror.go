package mirror

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// OnDemand says what a mirror does when somebody asks for an update that it lists and does not keep.
type OnDemand string

// What it does.
const (
	OnDemandNone     OnDemand = ""         // it answers that it does not have the update
	OnDemandFetch    OnDemand = "fetch"    // it fetches the update, and asks the client to come back
	OnDemandRedirect OnDemand = "redirect" // it sends the client to an upstream
)

// Config is the configuration of a mirror. Store and Client are required.
type Config struct {
	// Store is open for writing, with the pinned root. Its Config.Kept decides what is kept. The caller closes it after
	// Run has returned.
	Store *store.Store

	// Client asks the upstreams. The caller closes it.
	Client *fetch.Client

	FS     disk.FS
	Logger *slog.Logger     // nil: no log
	Now    func() time.Time // nil: time.Now

	Built       time.Time     // see trust.Clock
	AcceptStale time.Duration // see trust.Clock

	Interval time.Duration // from one sync to the next; 0: 5 min. It is up to a fifth shorter, at random.
	Retry    time.Duration // the first pause after a sync that failed, doubled up to Interval; 0: 5 s
	Parallel int           // archives that are fetched at once; 0: 4
	MaxBytes int64         // that the store may hold; 0: as many as fit on the disk
	GCEvery  time.Duration // how often archives are removed that are not kept any more; 0: 24 h
	OnDemand OnDemand

	// Planned, if not nil, is called before archives are fetched, with all of them, the biggest first.
	// fetch.Config.Progress reports the progress of each.
	Planned func([]trust.Release)

	// Ended, if not nil, is called when a sync or a repair has ended, and no more of what was planned comes.
	Ended func()

	// Jitter returns numbers from 0 to below 1 that spread pauses; nil: at random.
	Jitter func() float64
}

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil || c.Client == nil {
		return Config{}, errors.New("mirror: a store and a client are needed")
	}
	switch c.OnDemand {
	case OnDemandNone, OnDemandFetch, OnDemandRedirect:
	default:
		return Config{}, errors.New(`mirror: on demand: expected "", "fetch" or "redirect"`)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Planned == nil {
		c.Planned = func([]trust.Release) {}
	}
	if c.Ended == nil {
		c.Ended = func() {}
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	c.Interval = orDefault(c.Interval, defaultInterval)
	c.Retry = orDefault(c.Retry, 5*time.Second)
	c.Parallel = orDefault(c.Parallel, 4)
	c.GCEvery = orDefault(c.GCEvery, 24*time.Hour)
	return c, nil
}

// defaultInterval is from one sync to the next.
const defaultInterval = 5 * time.Minute

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Mirror keeps a copy up to date. Its methods are safe for concurrent use.
type Mirror struct {
	c  Config
	id string // see newID

	lock      *storeLock
	demanding sync.Mutex     // held while a fetch on demand begins, and while none may begin; locked before mu
	demanded  sync.WaitGroup // the fetches on demand; added to with demanding held

	trigger chan struct{}      // has room for one
	wanted  chan trust.Release // what Run is to fetch on demand

	mu                sync.Mutex
	record            record
	succeeded, failed int64         // syncs
	history           []status.Sync // the newest first
	flights           map[update.Digest]*flight
	wants             map[update.Digest]*want
	rate              float64 // bytes per second, averaged over the last archives; 0: not known
	kept              keptSet
	planned           []trust.Release                      // what a sync or a repair is fetching
	demands           map[update.Digest]context.CancelFunc // end the fetches on demand
}

// New returns a mirror. It sends and writes nothing before Sync or Run.
func New(c Config) (*Mirror, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Mirror{
		c: c, id: newID(), lock: newStoreLock(),
		trigger: make(chan struct{}, 1), wanted: make(chan trust.Release, maxWanted),
		flights: map[update.Digest]*flight{}, wants: map[update.Digest]*want{},
		demands: map[update.Digest]context.CancelFunc{},
	}
	if m.record, err = openRecord(c.Store.Dir()); err != nil {
		c.Logger.Warn("the record of earlier syncs is lost", "err", err)
	} else if m.record.damage != nil {
		c.Logger.Warn("the disk damaged a file, which is written again", "err", m.record.damage)
	}
	return m, nil
}

func (m *Mirror) clock() trust.Clock {
	return trust.Clock{Now: m.c.Now(), Built: m.c.Built, AcceptStale: m.c.AcceptStale}
}

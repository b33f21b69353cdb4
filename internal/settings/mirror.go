package settings

import (
	"math"
	"time"
)

// Mirror is the settings of a mirror.
type Mirror struct {
	Upstream    []string // base URLs, in the order in which they are asked; none: this is no mirror
	Root        string   // file of the pinned root; needed only before the first sync
	Redirects   []string // origins to which an upstream may redirect, besides itself
	CAFile      string   // PEM; "": the authorities of the system
	Interval    time.Duration
	Patience    time.Duration // how long a sync waits while nothing arrives; 0: each upstream is asked once
	KeepNewest  int           // 0: all
	KeepSince   time.Time     // zero: all
	OnDemand    string        // "fetch", "redirect", or "" for none
	AcceptStale time.Duration // how long after its expiry a timestamp or snapshot is accepted
	MaxBytes    int64         // 0: as many as fit
	Bandwidth   int64         // bytes per second; 0: no cap
}

func (m *Mirror) settings() []Setting {
	return []Setting{
		{"upstream", "`URL` of the server to mirror, @FILE or env:NAME", list(&m.Upstream, "the URL of a server", serverURL).expanded()},
		{"root", "`FILE` of the root to trust before the first sync", path(&m.Root, "a root file such as 1.root.json")},
		{"redirects", "`URL` of a host that an upstream may redirect to", list(&m.Redirects, "the URL of a host", serverURL)},
		{"ca_file", "`FILE` of the authorities to trust at upstreams", path(&m.CAFile, "a file of certificates")},
		{"interval", "Sync every `DURATION`", duration(&m.Interval, time.Second, forever, 5*time.Minute).shownWith(&m.Upstream)},
		{"patience", "Give up a sync when nothing arrived for this `DURATION`", duration(&m.Patience, 0, forever, 2*time.Minute).shownWith(&m.Upstream)},
		{"keep_newest", "Keep the `N` newest versions of each product", number(&m.KeepNewest, "a number of versions", 0, math.MaxInt)},
		{"keep_since", "Keep updates that were published since this `DAY`", moment(&m.KeepSince)},
		{"on_demand", "For requests of updates that are not kept: `fetch|redirect|none`",
			keep(&m.OnDemand, `"fetch", "redirect" or "none"`, fromText(parseOnDemand), nil)},
		{"accept_stale", "Accept timestamps up to `DURATION` after they expire", duration(&m.AcceptStale, 0, forever)},
		{"max_bytes", "Store at most `BYTES`", size(&m.MaxBytes, "a number of bytes", 0, math.MaxInt64)},
		{"bandwidth", "Fetch at most `BYTES` per second from all upstreams",
			size(&m.Bandwidth, "a number of bytes per second", 0, math.MaxInt64)},
	}
}

// parseOnDemand parses "none" as "".
func parseOnDemand(text string) (string, error) {
	switch text {
	case "none":
		return "", nil
	case "fetch", "redirect":
		return text, nil
	}
	return "", errValue
}

package router

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// gauges are the series that are read on each scrape: those of the catalog, and those of how the server stands.
type gauges struct {
	metrics *metrics
	current func() *router
	series  map[string]*prometheus.Desc
}

// A series describes one series of gauges.
type series struct {
	name, help string
	labels     []string
}

func gaugeSeries() []series {
	return []series{
		{"build_info", "Always 1; the labels say what runs.", []string{"version", "goversion"}},
		{"healthy", "1 where all parts of the server are in order, else 0.", nil},
		{"catalog_updates", "Updates that are served.", nil},
		{"newest_version", "Version of the newest update that every box may install, 0 where there is none.", nil},
		{"hashing_backlog", "Archives of which the digest is not known yet.", nil},
		{"store_bytes", "Bytes that archives take.", nil},
		{"store_free_bytes", "Bytes that the disk has left for archives.", nil},
		{"scrub_complete_timestamp_seconds", "When all archives had been read again the last time; 0: not yet.", nil},
		{"scrub_damaged", "Archives that were found damaged by that so far.", nil},
		{"metadata_version", "Version of a metadata file, 0 where there is none.", []string{"role"}},
		{"metadata_expiry_timestamp_seconds", "When a metadata file expires, in Unix time; 0 where there is none.", []string{"role"}},
		{"certificate_expiry_timestamp_seconds", "When the first of the server's own certificates expires, in Unix time; 0 where there is none.", nil},
		{"clock_off", "1 where an origin signs nothing because its clock, or the one it signed by last, is off, else 0.", nil},
		{"mirror", "1 where this is a copy of an upstream, else 0.", nil},
		{"synced", "0 where a mirror has nothing to serve yet, else 1.", nil},
		{"sync_attempts_total", "Syncs that ended, by outcome.", []string{"outcome"}},
		{"sync_failing", "1 where the last sync failed, else 0.", nil},
		{"sync_last_success_timestamp_seconds", "When the copy last was the newest of all upstreams, in Unix time; 0 for never.", nil},
		{"sync_last_heard_timestamp_seconds", "When an upstream last showed what was accepted, in Unix time; 0 for never.", nil},
		{"sync_behind_seconds", "How long there has been something newer upstream.", nil},
		{"sync_behind_updates", "Updates that upstream lists and the copy doesn't.", nil},
		{"upstream_received_bytes_total", "Bytes that came from an upstream.", []string{"upstream"}},
		{"upstream_failing", "1 where an upstream is not used for what it did last, else 0.", []string{"upstream"}},
		{"verification_failures_total", "What was sent here and did not verify, by reason.", []string{"reason"}},
	}
}

func newGauges(m *metrics, current func() *router) *gauges {
	g := &gauges{metrics: m, current: current, series: map[string]*prometheus.Desc{}}
	for _, one := range gaugeSeries() {
		g.series[one.name] = prometheus.NewDesc(namespace+"_"+one.name, one.help, one.labels, nil)
	}
	return g
}

// Describe sends the descriptions of all series.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range g.series {
		ch <- d
	}
}

// Collect sends the series as they are now.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	rt := g.current()
	out := sender{g.series, ch}
	out.gauge("build_info", 1, rt.config.Version, runtime.Version())
	out.gauge("healthy", truth(rt.healthNow().ok))
	v := rt.current()
	out.gauge("catalog_updates", float64(len(v.catalog.Updates())))
	out.gauge("newest_version", versionNumber(v.newest))
	now := rt.config.Standing()
	out.gauge("hashing_backlog", float64(now.Unhashed))
	out.gauge("store_bytes", float64(now.StoreBytes))
	out.gauge("store_free_bytes", float64(now.FreeBytes))
	out.gauge("scrub_complete_timestamp_seconds", unixTime(now.Scrubbed))
	out.gauge("scrub_damaged", float64(now.Damaged))
	out.gauge("certificate_expiry_timestamp_seconds", unixTime(now.CertificateExpires))
	out.gauge("clock_off", truth(now.ClockOff))
	out.roles(now.Files)
	out.sync(now.Copy)
	for reason, n := range g.metrics.refused {
		out.counter("verification_failures_total", n.Load()+now.Refusals[reason], string(reason))
	}
}

// versionNumber returns a version as a number. Those over 2⁵³ are rounded.
func versionNumber(newest *update.Update) float64 {
	if newest == nil {
		return 0
	}
	n, err := strconv.ParseFloat(newest.Name.Version().String(), 64)
	if err != nil {
		return 0
	}
	return n
}

// A sender sends series of gauges.
type sender struct {
	series map[string]*prometheus.Desc
	ch     chan<- prometheus.Metric
}

func (s sender) gauge(name string, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.series[name], prometheus.GaugeValue, v, labels...)
}

func (s sender) counter(name string, n int64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.series[name], prometheus.CounterValue, float64(n), labels...)
}

func (s sender) roles(known []status.File) {
	byRole := map[trust.Role]status.File{}
	for _, r := range known {
		byRole[trust.Role(r.Role)] = r
	}
	for _, role := range trust.Roles() {
		s.gauge("metadata_version", float64(byRole[role].Version), string(role))
		s.gauge("metadata_expiry_timestamp_seconds", unixTime(byRole[role].Expires), string(role))
	}
}

// sync sends the series of a copy, and zeros if this server is no mirror.
func (s sender) sync(c *status.Freshness) {
	s.gauge("mirror", truth(c != nil))
	if c == nil {
		c = &status.Freshness{Synced: true}
	}
	s.gauge("synced", truth(c.Synced))
	s.counter("sync_attempts_total", c.Succeeded, "success")
	s.counter("sync_attempts_total", c.Failed, "failure")
	s.gauge("sync_failing", truth(c.Reason != ""))
	s.gauge("sync_last_success_timestamp_seconds", unixTime(c.Complete))
	s.gauge("sync_last_heard_timestamp_seconds", unixTime(c.Checked))
	s.gauge("sync_behind_seconds", float64(c.SecondsBehind))
	s.gauge("sync_behind_updates", float64(c.UpdatesBehind))
	seen := map[string]bool{}
	for _, u := range c.Upstreams {
		if !seen[u.URL] { // a second series with the same labels would be an error
			s.counter("upstream_received_bytes_total", u.Received, u.URL)
			s.gauge("upstream_failing", truth(u.Problem() != ""), u.URL)
		}
		seen[u.URL] = true
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixTime returns a time in Unix seconds, 0 for none.
func unixTime(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

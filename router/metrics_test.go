package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/store"
)

// A scrape is what /metrics says: values by series, as they are spelled.
type scrape map[string]float64

func scraped(t testing.TB, addr string) scrape {
	t.Helper()
	g := get(t, addr, "/metrics")
	g.hold(t, 200, map[string]string{"Cache-Control": "no-store"})
	out := scrape{}
	for line := range strings.Lines(g.body) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(line[:i], namespace+"_")] = v
	}
	return out
}

// is fails the test unless a series is there with this value.
func (s scrape) is(t testing.TB, name string, want float64) {
	t.Helper()
	if got, ok := s[name]; !ok || got != want {
		t.Errorf("%s: got %v, there: %v, want %v", name, got, ok, want)
	}
}

// Before anything has happened every series is there, at 0.
func TestMetricsFromTheStart(t *testing.T) {
	addr := start(t, Config{Source: newFake(t), Version: "1.4.0"})
	s := scraped(t, addr)
	want := []string{
		"healthy 1", "catalog_updates", "newest_version", "hashing_backlog", "store_bytes", "store_free_bytes", "downloads_running",
		"resumed_ranges_total", "certificate_expiry_timestamp_seconds", "mirror", "synced 1", "sync_failing", "sync_last_success_timestamp_seconds", "sync_last_heard_timestamp_seconds",
		"sync_behind_seconds", "sync_behind_updates", `sync_attempts_total{outcome="success"}`, `sync_attempts_total{outcome="failure"}`,
	}
	for _, role := range trust.Roles() {
		want = append(want, fmt.Sprintf(`metadata_version{role="%s"}`, role), fmt.Sprintf(`metadata_expiry_timestamp_seconds{role="%s"}`, role))
	}
	for _, outcome := range []string{"pending", "staged", "committed", "refused", "failed"} {
		want = append(want, `publish_attempts_total{outcome="`+outcome+`"}`)
	}
	for _, reason := range []string{"malformed", "threshold", "expired", "rollback", "fork", "mismatch", "second_digest", "corrupt"} {
		want = append(want, `verification_failures_total{reason="`+reason+`"}`)
	}
	for _, route := range []string{"/", "/ls", "/version", "/latest", "/updates.json", "/update/:target", "/sha256/:target", "/targets/:target",
		"/metadata/:target", "/publish/*target", "/livez", "/readyz", "/healthz", "/metrics", "/page.css", "/page.js", "other"} {
		want = append(want, `http_sent_bytes_total{route="`+route+`"}`, `http_request_duration_seconds_count{route="`+route+`"}`)
	}
	for _, code := range []string{"200", "206", "304", "307", "404", "405", "412", "416", "500", "503"} {
		want = append(want, `http_requests_total{code="`+code+`",route="/update/:target"}`)
	}
	for _, one := range want {
		name, one, ok := strings.Cut(one, " ")
		value := 0.0
		if ok && one == "1" {
			value = 1
		}
		s.is(t, name, value)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if s[name] == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(s)), func(k string) bool {
		return strings.HasPrefix(k, `build_info{goversion="go1`) && strings.HasSuffix(k, `version="1.4.0"}`)
	}) {
		t.Error("no build_info")
	}
}

// Requests are counted by route and status, never by what a client makes up.
func TestMetricsOfRequests(t *testing.T) {
	f := newFake(t)
	f.add(t, newName, bytes.Repeat([]byte("0123456789"), 10), true)
	var requests count
	addr := start(t, Config{Source: f, Requests: requests.logger()})
	get(t, addr, "/version").hold(t, 200, nil)
	get(t, addr, "//version").hold(t, 200, nil)
	get(t, addr, "/update/"+newName).hold(t, 200, nil)
	ask(t, addr, "HEAD /update/"+newName+" HTTP/1.1").hold(t, 200, nil)
	get(t, addr, "/update/"+newName, "Range: bytes=40-").hold(t, 206, nil)
	get(t, addr, "/update/"+newName, "Range: bytes=0-9").hold(t, 206, nil)
	get(t, addr, "/update/"+newName, "Range: bytes=-5").hold(t, 206, nil)
	get(t, addr, "/update/"+newName, "Range: bytes=100-").hold(t, 416, nil)
	get(t, addr, "/update/made-up").hold(t, 404, nil)
	get(t, addr, "/made/up").hold(t, 404, nil)
	ask(t, addr, "MADEUP /ls HTTP/1.1").hold(t, 405, nil)
	requests.await(t, 11)
	s := scraped(t, addr)
	for series, want := range map[string]float64{
		`http_requests_total{code="200",route="/version"}`:                 2,
		`http_requests_total{code="200",route="/update/:target"}`:          2,
		`http_requests_total{code="206",route="/update/:target"}`:          3,
		`http_requests_total{code="416",route="/update/:target"}`:          1,
		`http_requests_total{code="404",route="/update/:target"}`:          1,
		`http_requests_total{code="404",route="other"}`:                    1,
		`http_requests_total{code="405",route="/ls"}`:                      1,
		`http_requests_total{code="200",route="/metrics"}`:                 0,
		`http_sent_bytes_total{route="/version"}`:                          20,
		`http_sent_bytes_total{route="/update/:target"}`:                   100 + 60 + 10 + 5 + 19 + 33,
		`http_request_duration_seconds_count{route="/update/:target"}`:     7,
		`http_request_duration_seconds_bucket{route="/version",le="+Inf"}`: 2,
		"resumed_ranges_total":                                             1,
		"downloads_running":                                                0,
		"catalog_updates":                                                  1,
		"newest_version":                                                   1550190683,
	} {
		s.is(t, series, want)
	}
	for series := range s {
		if strings.Contains(strings.ToLower(series), "made") {
			t.Errorf("a client made up %s", series)
		}
	}
	requests.await(t, 12)
	scraped(t, addr).is(t, `http_requests_total{code="200",route="/metrics"}`, 1)
}

// A status that nobody expected is counted all the same.
func TestMetricsOfOtherStatuses(t *testing.T) {
	rt, err := newRouter(Config{Source: newFake(t)}, newBodies(), newMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	m := newMetrics(func() *router { return rt })
	for _, status := range []int{299, 0, 1000} {
		m.routes["/ls"].answered(status, time.Second)
	}
	rec := httptest.NewRecorder()
	m.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`http_requests_total{code="299",route="/ls"} 1`, `http_requests_total{code="000",route="/ls"} 2`} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// Downloads count while they run, and what was sent of them counts at once.
func TestMetricsOfDownloads(t *testing.T) {
	f := newFake(t)
	const length = 64 << 20
	f.add(t, newName, make([]byte, length), true)
	addr := start(t, Config{Source: f})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET /update/%s HTTP/1.1\r\nHost: test\r\n\r\n", newName); err != nil {
		t.Fatal(err)
	}
	testworld.Await(t, "a download runs", func() bool {
		s := scraped(t, addr)
		sent := s[`http_sent_bytes_total{route="/update/:target"}`]
		return s["downloads_running"] == 1 && sent > 0 && sent < length
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	testworld.Await(t, "the download has ended", func() bool { return scraped(t, addr)["downloads_running"] == 0 })
}

// What publishers do is counted by what becomes of it.
func TestMetricsOfPublishing(t *testing.T) {
	p := newFakePublisher()
	var requests count
	addr := start(t, Config{Source: newFake(t), Publisher: p, Requests: requests.logger()})
	propose := func(status origin.Status, err error) {
		p.with(func() { p.outcome, p.fails = origin.Outcome{Status: status}, err })
		put(t, addr, "/publish/targets/3", []byte(`{"signed":{"version":3}}`))
	}
	propose(origin.StatusPending, nil)
	propose(origin.StatusStaged, nil)
	propose("", fmt.Errorf("list: %w", trust.ErrThreshold))
	propose("", fmt.Errorf("list: %w", trust.ErrConflict))
	propose("", errors.New("disk"))
	p.with(func() { p.fails = nil })
	at := "/publish/" + p.id.String()
	put(t, addr, at+"/commit", nil).hold(t, 200, nil)
	block := at + "/" + p.digest.String() + "/0"
	put(t, addr, block, p.block).hold(t, 204, nil)
	put(t, addr, block, []byte("other")).hold(t, 422, nil)
	put(t, addr, block+"/0", []byte("other")).hold(t, 422, nil)
	put(t, addr, block, nil).hold(t, 422, nil) // sends nothing that could verify
	requests.await(t, 10)
	s := scraped(t, addr)
	for series, want := range map[string]float64{
		`publish_attempts_total{outcome="pending"}`:                1,
		`publish_attempts_total{outcome="staged"}`:                 1,
		`publish_attempts_total{outcome="committed"}`:              1,
		`publish_attempts_total{outcome="refused"}`:                2,
		`publish_attempts_total{outcome="failed"}`:                 1,
		`verification_failures_total{reason="threshold"}`:          1,
		`verification_failures_total{reason="corrupt"}`:            2,
		`http_requests_total{code="204",route="/publish/*target"}`: 1,
	} {
		s.is(t, series, want)
	}
}

// What a mirror knows is told, and stays told when the settings change.
func TestMetricsOfAMirror(t *testing.T) {
	w := staleWorld(t)
	w.standing.Refusals = map[status.Refusal]int64{status.RefusedFork: 2}
	w.standing.Unhashed = 7
	w.standing.CertificateExpires = noon()
	w.standing.Copy.Upstreams = append(w.standing.Copy.Upstreams, w.standing.Copy.Upstreams[0]) // named twice in the settings
	var requests count
	c := w.config(t)
	c.Requests = requests.logger()
	server, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	addr := serveOn(t, server)
	get(t, addr, "/version")
	requests.await(t, 1)
	for range 2 {
		s := scraped(t, addr)
		for series, want := range map[string]float64{
			"mirror": 1, "synced": 1, "sync_failing": 1, "sync_behind_seconds": 9000, "sync_behind_updates": 3, "hashing_backlog": 7,
			"certificate_expiry_timestamp_seconds":                              float64(noon().Unix()),
			"sync_last_success_timestamp_seconds":                               float64(noon().Add(-150 * time.Minute).Unix()),
			"sync_last_heard_timestamp_seconds":                                 float64(noon().Add(-145 * time.Minute).Unix()),
			`sync_attempts_total{outcome="success"}`:                            3,
			`sync_attempts_total{outcome="failure"}`:                            1,
			`upstream_received_bytes_total{upstream="https://updates.example"}`: 734_003_200,
			`upstream_failing{upstream="https://updates.example"}`:              1,
			`verification_failures_total{reason="fork"}`:                        2,
			`metadata_version{role="timestamp"}`:                                412,
			`metadata_expiry_timestamp_seconds{role="timestamp"}`:               float64(noon().Add(trust.TimestampLife - 31*time.Hour).Unix()),
			"store_bytes": 734_003_200, "store_free_bytes": 41_875_931_136, "healthy": 1, "catalog_updates": 12,
			`http_requests_total{code="200",route="/version"}`: 1,
		} {
			s.is(t, series, want)
		}
		if err := server.Reload(w.config(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoMetrics(t *testing.T) {
	addr := start(t, Config{Source: newFake(t), NoMetrics: true})
	get(t, addr, "/metrics").hold(t, 404, nil)
	get(t, addr, "/ls").hold(t, 200, nil)
}

// Counting a request takes no memory.
func TestMetricsAllocateNothing(t *testing.T) {
	m := newMetrics(nil)
	route := m.routes["/version"]
	if n := testing.AllocsPerRun(100, func() {
		route.answered(http.StatusOK, time.Millisecond)
		route.bytes.Add(10)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestResumes(t *testing.T) {
	for field, want := range map[string]bool{
		"bytes=1-": true, "bytes=10-20": true, "bytes=0-": false, "bytes=00-": false, "bytes=-5": false, "bytes=": false, "lines=1-": false, "bytes=5": false,
	} {
		if resumes([]string{field}) != want {
			t.Errorf("%s: want %v", field, want)
		}
	}
	if resumes(nil) {
		t.Error("nothing resumes")
	}
}

func TestRefusals(t *testing.T) {
	for err, want := range map[error]status.Refusal{
		trust.ErrMalformed: status.RefusedMalformed, trust.ErrThreshold: status.RefusedThreshold, trust.ErrKey: status.RefusedThreshold, trust.ErrExpired: status.RefusedExpired,
		trust.ErrRollback: status.RefusedRollback, trust.ErrFork: status.RefusedFork, trust.ErrMismatch: status.RefusedMismatch,
		trust.ErrSecondDigest: status.RefusedSecondDigest, store.ErrCorrupt: status.RefusedCorrupt,
		trust.ErrConflict: "", disk.ErrNoSpace: "", context.Canceled: "",
	} {
		if got := status.RefusalOf(fmt.Errorf("of something: %w", err)); got != want {
			t.Errorf("%v: got %q", err, got)
		}
	}
	if status.RefusalOf(nil) != "" {
		t.Error("nothing was refused")
	}
}

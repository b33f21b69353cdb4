package router

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/status"
)

// OPQ Health polls with a clock of its own. It gets the right answer whichever way the clocks differ.
func TestHealthPoller(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Second, -time.Second, 19 * time.Second, -19 * time.Second} {
		for _, fraction := range []time.Duration{0, 500 * time.Millisecond, 999 * time.Millisecond} {
			for _, well := range []bool{true, false} {
				w := newWorld(t, 1)
				w.components[0].Warnings = []status.Warning{{Urgent: !well, Text: "it is"}}
				w.later(fraction)
				p := poller{clock: func() time.Time { return w.clock().Add(skew) }, client: http.Client{Timeout: testworld.Patience}}
				if up, err := p.poll("http://" + start(t, w.config(t)) + "/"); err != nil || up != well {
					t.Errorf("clock off by %v, %v into the second: up %v, %v, want %v", skew, fraction, up, err, well)
				}
			}
		}
	}
	w := newWorld(t, 1)
	p := poller{clock: func() time.Time { return noon().Add(20 * time.Second) }}
	if up, err := p.poll("http://" + start(t, w.config(t)) + "/"); err != nil || up {
		t.Errorf("up %v, %v for an answer of 20 s ago: this poller can't fail", up, err)
	}
}

// A poller asks as OPQ Health does: a component is up when it says so itself, less than 20 seconds ago.
type poller struct {
	clock  func() time.Time
	client http.Client
}

type healthAnswer struct {
	Name          string
	OK            bool
	Timestamp     int64
	Subcomponents []healthAnswer
}

func (p *poller) poll(url string) (bool, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "*/*")
	resp, err := p.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	var c healthAnswer
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return false, err
	}
	return p.up(c), nil
}

func (p *poller) up(c healthAnswer) bool {
	for _, part := range c.Subcomponents {
		if !p.up(part) {
			return false
		}
	}
	return c.OK && c.Timestamp > 0 && p.clock().Sub(time.Unix(c.Timestamp, 0)) < 20*time.Second
}

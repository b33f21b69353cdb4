package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const wrkOutput = `Running 1s test @ http://127.0.0.1:8151/version
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.00ms    1.00ms  20.00ms   90.00%
    Req/Sec    44.00k     2.00k   50.00k    75.00%
  Latency Distribution
     50%  700.00us
     75%    1.10ms
     90%    2.00ms
     99%    7.25ms
  88263 requests in 1.00s, 13.80MB read
Requests/sec:  88263.12
Transfer/sec:     13.80MB
`

func TestParseWrk(t *testing.T) {
	for text, p99 := range map[string]time.Duration{
		"  7.25ms\n":   7250 * time.Microsecond,
		"  1.04s \n":   1040 * time.Millisecond, // wrk pads the shorter unit
		"700.00us\n":   700 * time.Microsecond,
		"  1.00m \n":   time.Minute,
		"    0.00us\n": 0,
	} {
		got, err := parseWrk(strings.Replace(wrkOutput, "  7.25ms\n", text, 1))
		if want := (wrkResult{rate: 88263.12, p99: p99}); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseWrkRefuses(t *testing.T) {
	for name, change := range map[string][2]string{
		"socket errors": {"Requests/sec:", "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec:"},
		"bad answers":   {"Requests/sec:", "  Non-2xx or 3xx responses: 1\nRequests/sec:"},
		"no rate":       {"Requests/sec:", "Requests:"},
		"no latency":    {"     99%", "     98%"},
		"a bad rate":    {"88263.12", "many"},
		"a bad latency": {"7.25ms", "7.25"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseWrk(strings.Replace(wrkOutput, change[0], change[1], 1)); !errors.Is(err, errWrk) {
				t.Errorf("got %v, %v; want %v", got, err, errWrk)
			}
		})
	}
}

func TestRatioIsThatOfPairs(t *testing.T) {
	// The machine was slow during the second pair: both sides fell and the ratio did not.
	f := figure{ours: sample{8, 2, 8.2}, theirs: sample{10, 2.5, 10}, goal: goal{ratioAtLeast, 0.8}}
	if got := f.ratio(); got < 0.7999 || got > 0.8001 {
		t.Errorf("got %v, want 0.8", got)
	}
	if !f.met() {
		t.Error("0.8 of 0.8 is not met")
	}
	f.goal.value = 0.81
	if f.met() {
		t.Error("0.8 of 0.81 is met")
	}
}

func TestRatioAtMost(t *testing.T) {
	f := figure{ours: sample{13, 26, 12}, theirs: sample{10, 20, 10}, goal: goal{ratioAtMost, 1.3}}
	if !f.met() || f.goalText() != "≤ 1.30" {
		t.Errorf("met %v, %s; want true and ≤ 1.30", f.met(), f.goalText())
	}
	f.goal.value = 1.29
	if f.met() {
		t.Errorf("a ratio of %v is within 1.29", f.ratio())
	}
}

func TestLimit(t *testing.T) {
	f := figure{ours: sample{39, 41, 40}, goal: goal{valueAtMost, 40}}
	if !f.met() || f.ratio() != 0 {
		t.Errorf("met %v, ratio %v; want true and none", f.met(), f.ratio())
	}
	f.ours = append(f.ours, 50)
	if f.met() {
		t.Errorf("a median of %v is within 40", f.ours.median())
	}
}

func TestChoose(t *testing.T) {
	got, err := choose([]string{"hash", "small"})
	if err != nil || len(got) != 2 || got[0].name != "small" || got[1].name != "hash" {
		t.Errorf("got %v, %v; want small and hash", got, err)
	}
	if _, err := choose([]string{"tiny"}); !errors.Is(err, errUsage) {
		t.Errorf("got %v, want %v", err, errUsage)
	}
}

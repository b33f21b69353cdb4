package server

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/mirror/export"
	"github.com/openpowerquality/box-update-server/status"
)

// said is what a program wrote so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newProgram returns a program without an environment, with these settings, and what it says.
func newProgram(flags map[string]string) (*Program, *said) {
	var out said
	texts := map[string][]string{}
	for key, text := range flags {
		texts[key] = []string{text}
	}
	return &Program{
		Streams: cli.Streams{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }, Now: time.Now},
		Flags:   texts, Version: "v1",
	}, &out
}

// A program serves, and is asked how it is, without a process.
func TestServe(t *testing.T) {
	updates := t.TempDir()
	if err := os.WriteFile(filepath.Join(updates, "opq-box-update-1550190683.tar.gz"), []byte("archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, log := newProgram(map[string]string{"updates_dir": updates, "data_dir": t.TempDir(), "listen": "127.0.0.1:0"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx) }()
	listening := regexp.MustCompile(`msg=listening addr=(\S+)`)
	deadline := time.After(testworld.Patience)
	for !listening.MatchString(log.String()) {
		select {
		case err := <-ended:
			t.Fatal(err, log)
		case <-deadline:
			t.Fatal(log)
		case <-time.After(time.Millisecond):
		}
	}
	base := "http://" + listening.FindStringSubmatch(log.String())[1]
	report, err := p.Health(ctx, HealthOptions{URL: base, Timeout: testworld.Patience})
	if err != nil || !report.OK || !strings.Contains(strings.Join(report.Checks, "\n"), "[+] updates directory") {
		t.Errorf("health: %+v, %v", report, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := p.Health(t.Context(), HealthOptions{URL: base, Timeout: testworld.Patience}); status.ExitCode(err) != codeNoAnswer {
		t.Errorf("health after its end: %v", err)
	}
}

// Each command without settings, and on a directory that is nobody's, says what it lacks.
func TestLacking(t *testing.T) {
	empty := t.TempDir()
	for name, run := range map[string]func(*Program) error{
		"serve":  func(p *Program) error { return p.Serve(t.Context()) },
		"status": func(p *Program) error { _, err := p.Status(t.Context()); return err },
		"fsck":   func(p *Program) error { _, err := p.Fsck(t.Context(), 0); return err },
		"gc":     func(p *Program) error { _, err := p.GC(t.Context(), false); return err },
		"export": func(p *Program) error { _, err := p.Export(t.Context(), export.Since{}, "-"); return err },
		"import": func(p *Program) error { _, err := p.Import(t.Context(), "-"); return err },
		"config": func(p *Program) error { _, _, err := p.CheckConfig(); return err },
		"mirror": func(p *Program) error { p.Mirrors = true; _, err := p.SyncOnce(t.Context()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newProgram(nil)
			if err := run(p); err == nil || !strings.Contains(err.Error(), "no settings") || len(status.Hints(err)) == 0 {
				t.Errorf("without settings: %v", err)
			}
			p, _ = newProgram(map[string]string{"data_dir": empty})
			if err := run(p); err == nil && name != "status" {
				t.Error("an empty directory is enough")
			} else if (name == "status" || name == "export") && len(status.Hints(err)) == 0 {
				t.Errorf("an empty directory: %v, without a hint", err)
			}
			left, err := os.ReadDir(empty)
			if err != nil || len(left) > 0 {
				t.Errorf("it made %v, %v", left, err)
			}
		})
	}
}

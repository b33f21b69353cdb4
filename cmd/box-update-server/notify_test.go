package main_test

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// A manager is what a service manager hears of a server.
type manager struct {
	path string
	mu   sync.Mutex
	said []string // each line of each message
}

// listenAsManager listens where NOTIFY_SOCKET of a server points to.
func listenAsManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	go func() {
		defer close(ended)
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, strings.Split(string(b[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	return m
}

// heard returns what the server said so far.
func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

func (m *manager) count(line string) (n int) {
	for _, said := range m.heard() {
		if said == line {
			n++
		}
	}
	return n
}

// A service manager hears of the start, of the watchdog's rhythm, of a reload and of the end, in this
// order, and what goes wrong with new settings changes nothing of that.
func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	m := listenAsManager(t)
	dir := dropped(t, newest)
	s := launch{
		settings: map[string]any{"updates_dir": dir, "drain": "7s"},
		wrap:     []string{"env", "NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=300000"},
	}.start(t)
	testworld.Await(t, "three answers to the watchdog", func() bool { return m.count("WATCHDOG=1") >= 3 })
	if said := m.heard(); said[0] != "READY=1" && said[0] != "WATCHDOG=1" || m.count("READY=1") != 1 {
		t.Errorf("heard %q", said)
	}
	s.signal(t, syscall.SIGHUP)
	testworld.Await(t, "the end of the reload", func() bool { return m.count("READY=1") == 2 })
	said := m.heard()
	i := slices.Index(said, "RELOADING=1")
	if i < 0 || !strings.HasPrefix(said[i+1], "MONOTONIC_USEC=") || !slices.Contains(said[i:], "READY=1") {
		t.Errorf("heard %q", said)
	}
	s.stop(t)
	testworld.Await(t, "the end", func() bool { return m.count("STOPPING=1") == 1 })
	testworld.Await(t, "the time that downloads have", func() bool { return m.count("EXTEND_TIMEOUT_USEC=17000000") == 1 })
}

// Where no service manager listens, its socket being gone, the server serves all the same.
func TestServiceManagerIsGone(t *testing.T) {
	t.Parallel()
	s := launch{
		settings: map[string]any{"updates_dir": dropped(t, newest)},
		wrap:     []string{"env", "NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")},
	}.start(t)
	s.awaitLog(t, "level=WARN", "service manager")
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
}

// A watchdog that is told nothing would end the server: here it is told by no one but the process whose
// it is.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	t.Parallel()
	m := listenAsManager(t)
	s := launch{
		settings: map[string]any{"updates_dir": dropped(t, newest)},
		wrap:     []string{"env", "NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=30000", "WATCHDOG_PID=1"},
	}.start(t)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	s.stop(t)
	testworld.Await(t, "the end", func() bool { return m.count("STOPPING=1") == 1 })
	if n := m.count("WATCHDOG=1"); n != 0 {
		t.Errorf("told %d times", n)
	}
}

package main_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

const (
	program  = "box-update-server"
	variable = "BOX_UPDATE_SERVER_SETTINGS"
	patience = testworld.Patience
	nobody   = 65534 // an account that may write nowhere
)

// TestMain runs the tests with the programs in PATH; the server is raced where they are.
func TestMain(m *testing.M) {
	if err := os.Unsetenv(variable); err != nil {
		panic(err)
	}
	// Most tests wait for the server: for a file to be still, for a timeout. They can do so together.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(testworld.RunWithPrograms(m, program))
}

// A launch says how a server is started.
type launch struct {
	args     []string       // after the name of the program
	settings map[string]any // the variable, beside a free port of 127.0.0.1 to listen on
	wrap     []string       // a command line that runs the server as its own process
	asNobody bool           // without the rights of root
	terminal bool           // stderr is one
}

// A server is a running program of this package.
type server struct {
	cmd  *exec.Cmd
	log  *logged
	addr string // host:port
	base string // http://host:port
	done chan struct{}
	err  error // of Wait; read after done is closed

	failed bool // the test has checked that it ended with an error, by fails
}

// serve starts a server of a directory.
func serve(t *testing.T, dir string) *server {
	t.Helper()
	return launch{settings: map[string]any{"updates_dir": dir}}.start(t)
}

// start starts a server and waits until it listens. When the test ends, the server is told to end, and the test fails
// unless it exits with status 0, or the test has called fails.
func (l launch) start(t *testing.T) *server {
	t.Helper()
	s := l.run(t)
	t.Cleanup(func() {
		if !s.failed {
			s.stop(t)
		}
	})
	listening := regexp.MustCompile(`(?m)^.*\bmsg"?[=:]"?listening"?.*\baddr"?[=:]"?([^"\s]+)`)
	testworld.Await(t, "listening", func() bool {
		if m := listening.FindStringSubmatch(s.log.String()); m != nil {
			s.addr = m[1]
		}
		return s.addr != "" || s.exited()
	})
	if s.addr == "" {
		t.Fatalf("server ended at once: %v\n%s", s.err, s.log)
	}
	s.base = "http://" + s.addr
	return s
}

// run starts the program with the settings of l.
func (l launch) run(t *testing.T) *server {
	t.Helper()
	cmdline := append(slices.Clone(l.wrap), program)
	cmdline = append(cmdline, l.args...)
	cmd := exec.Command(cmdline[0], cmdline[1:]...)
	s := &server{cmd: cmd, log: &logged{}, done: make(chan struct{})}
	cmd.Stderr, cmd.Env = s.log, os.Environ()
	if l.terminal {
		tty := terminal(t, s.log)
		defer tty.Close() // the program has it
		cmd.Stderr = tty
	}
	if l.settings != nil {
		cmd.Env = append(cmd.Env, variable+"="+asJSON(t, withAddress(l.settings)))
	}
	if l.asNobody && os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	return s
}

func withAddress(settings map[string]any) map[string]any {
	all := map[string]any{"listen": "127.0.0.1:0"}
	for k, v := range settings {
		all[k] = v
	}
	if all["port"] != nil {
		delete(all, "listen")
	}
	return all
}

// exited reports whether the server has ended.
func (s *server) exited() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to the server.
func (s *server) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// stop ends the server as an operator does, and fails the test unless that goes well.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if !s.exited() {
		s.signal(t, syscall.SIGTERM)
	}
	s.ends(t)
}

// fails fails the test unless the server ends by itself, with status 1 and a message on stderr that
// holds this text.
func (s *server) fails(t *testing.T, text string) {
	t.Helper()
	s.wait(t)
	s.failed = true
	if s.cmd.ProcessState.ExitCode() != 1 || s.log.line(program+": ", text) == "" {
		t.Errorf("got %v: %s", s.err, s.log)
	}
}

// wait waits until the server has ended, and ends it where it takes too long. The test fails if the server panicked or raced.
func (s *server) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Errorf("server did not end: %v", s.cmd.Process.Kill())
		<-s.done
	}
	if log := s.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
		t.Errorf("server panicked or raced")
	}
}

// ends waits until the server has ended, and fails the test unless that went well.
func (s *server) ends(t *testing.T) {
	t.Helper()
	s.wait(t)
	if s.err != nil {
		t.Errorf("server ended with %v", s.err)
	}
	if t.Failed() {
		t.Logf("log of the server:\n%s", s.log.tail())
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// freePort returns a port that nobody listens on, below those that the kernel gives to clients.
func freePort(t *testing.T) (port int) {
	t.Helper()
	testworld.Await(t, "a free port", func() bool {
		port = 20_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil && l.Close() == nil
	})
	return port
}

// need returns the path of a program of a Debian package; without it the test fails.
func need(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: apt-get install %s", name, pkg)
	return ""
}

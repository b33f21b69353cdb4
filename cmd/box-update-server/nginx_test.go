package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// The proxy of the fleet: it strips a prefix, rewrites redirections and caps bodies.
const proxyConfig = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 2048; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen 127.0.0.1:%d;
		client_max_body_size 10m;
		location /box-update-server/ {
			proxy_pass http://%s/;
			proxy_redirect / /box-update-server/;
		}
	}
}
`

// behindNginx starts nginx in front of a server and returns the address that clients are given.
func behindNginx(t *testing.T, s *server) (base string) {
	t.Helper()
	prefix, port := t.TempDir(), freePort(t)
	config := filepath.Join(prefix, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, proxyConfig, port, s.addr), 0o644); err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	cmd := exec.Command(need(t, "nginx", "nginx-light"), "-p", prefix, "-c", config, "-e", "stderr")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails where it has ended already, which Wait tells
		if err := cmd.Wait(); err != nil {
			t.Errorf("nginx: %v\n%s", err, log)
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	testworld.Await(t, "nginx", func() bool { return accepts(addr) })
	return "http://" + addr + "/box-update-server"
}

// accepts reports whether somebody listens.
func accepts(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// proxyStripsThePrefix holds everything that a client sees, once more behind the proxy.
func proxyStripsThePrefix(t *testing.T) {
	s := fleetSite(t)
	s.base = behindNginx(t, s.server)
	for _, c := range contract() {
		if c.client != nil {
			t.Run(c.id, func(t *testing.T) { c.client(t, s) })
		}
	}
	t.Run("location", func(t *testing.T) {
		a := get(t, get(t, s.base+"/latest").header.Get("Location"))
		a.isArchive(t, newest, read(t, s.dir, newest))
	})
	t.Run("wget", func(t *testing.T) {
		wgetLatest(t, s.base, read(t, s.dir, newest))
	})
}

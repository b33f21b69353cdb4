package main_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// pebble is an authority for tests, by the people who write Let's Encrypt's, at a version that is known.
const pebble = "github.com/letsencrypt/pebble/v2/cmd/%s@v2.10.1"

// installPebble builds the authority and its name server, which are no part of this module.
func installPebble(t *testing.T) (bin string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds pebble")
	}
	bin = t.TempDir()
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		cmd := exec.Command("go", "install", fmt.Sprintf(pebble, name))
		cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	return bin
}

// An acmeAuthority is a pebble that runs.
type acmeAuthority struct {
	directory string // URL
	roots     string // file of the authorities of that URL
	admin     string // URL of its management
	client    *http.Client
	stop      func()
}

// startPebble starts an authority that looks for its clients on these ports of 127.0.0.1, whatever the name.
func startPebble(t *testing.T, bin string, httpPort, tlsPort int) acmeAuthority {
	t.Helper()
	a, d := newAuthority(t), pairDir(t.TempDir())
	d.put(t, a.issue(time.Hour))
	port, admin, dns := freePort(t), freePort(t), freePort(t)
	config := write(t, string(d), "config.json", []byte(asJSON(t, map[string]any{"pebble": map[string]any{
		"listenAddress":           fmt.Sprintf("127.0.0.1:%d", port),
		"managementListenAddress": fmt.Sprintf("127.0.0.1:%d", admin),
		"certificate":             d.certificate(), "privateKey": d.key(),
		"httpPort": httpPort, "tlsPort": tlsPort,
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 90 * 24 * 60 * 60}},
	}})))
	background(t, nil, filepath.Join(bin, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
		"-management", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	stop := background(t, []string{"PEBBLE_VA_NOSLEEP=1"}, filepath.Join(bin, "pebble"), "-config", config,
		"-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns))
	out := acmeAuthority{
		directory: fmt.Sprintf("https://127.0.0.1:%d/dir", port),
		roots:     write(t, string(d), "ca.pem", inPEM("CERTIFICATE", a.certificate.Raw)),
		admin:     fmt.Sprintf("https://127.0.0.1:%d", admin),
		client:    a.clientTLS(true),
		stop:      stop,
	}
	testworld.Await(t, "pebble", func() bool {
		_, _, err := askTLS(out.client, out.directory)
		return err == nil && accepts(fmt.Sprintf("127.0.0.1:%d", dns))
	})
	return out
}

// background runs a program until the test ends, or stop is called.
func background(t *testing.T, env []string, name string, args ...string) (stop func()) {
	t.Helper()
	log := &logged{}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Kill() // fails where it has ended already
		_ = cmd.Wait()         // says that it was killed
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), log.tail())
		}
	}
	t.Cleanup(stop)
	return stop
}

// clientOf returns a client of a server at addr that trusts what the authority issues, whatever name it asks
// for.
func (a acmeAuthority) clientOf(t *testing.T, name string) *http.Client {
	t.Helper()
	root, _, err := askTLS(a.client, a.admin+"/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(root.body)) {
		t.Fatalf("no root: %s", root.body)
	}
	c := newAuthority(t).clientTLS(true)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: name}
	return c
}

const (
	acmeName  = "updates.example.test"
	otherName = "www.updates.example.test"
)

// acmeSettings are those of a server that obtains certificates, on these ports.
func acmeSettings(t *testing.T, a acmeAuthority, dataDir string, httpPort, tlsPort int) map[string]any {
	return map[string]any{
		"updates_dir": dropped(t, newest), "data_dir": dataDir,
		"listen": fmt.Sprintf("127.0.0.1:%d", httpPort), "tls_listen": fmt.Sprintf("127.0.0.1:%d", tlsPort),
		"acme_domains": []string{acmeName, otherName}, "acme_directory": a.directory, "acme_ca_file": a.roots,
		"acme_email": "ops@example.test",
	}
}

// Certificates are obtained by TLS-ALPN, before anybody asks for them, and are still there after a restart
// when the authority isn't.
func TestACME(t *testing.T) {
	t.Parallel()
	bin, dataDir, tlsPort := installPebble(t), t.TempDir(), freePort(t)
	a := startPebble(t, bin, freePort(t), tlsPort)
	settings := acmeSettings(t, a, dataDir, freePort(t), tlsPort)
	s := launch{settings: settings}.start(t)
	for _, name := range []string{acmeName, otherName} {
		s.awaitLog(t, "certificate in place", "domain="+name)
	}
	url := fmt.Sprintf("https://127.0.0.1:%d/update/%s", tlsPort, newest)
	c := a.clientOf(t, acmeName)
	got, serial, err := askTLS(c, url)
	if err != nil {
		t.Fatal(err)
	}
	got.isArchive(t, newest, body(newest))
	if _, other, err := askTLS(a.clientOf(t, otherName), url); err != nil || other == serial {
		t.Errorf("another name: serial %d and %d, %v", serial, other, err)
	}
	if _, _, err := askTLS(a.clientOf(t, "others.example.test"), url); err == nil {
		t.Error("a certificate is shown for a name that is not ours")
	}
	if ok, warnings := s.certificateHealth(t); !ok || warnings != "" {
		t.Errorf("health: %v, %q", ok, warnings)
	}
	if code, stdout, stderr := asked(t, s.base); code != 0 {
		t.Errorf("health: %d, %s%s", code, stdout, stderr)
	}
	info, err := os.Stat(filepath.Join(dataDir, "acme"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	s.stop(t)
	a.stop()
	again := launch{settings: settings}.start(t)
	again.awaitLog(t, "certificate in place", "domain="+otherName)
	if _, later, err := askTLS(c, url); err != nil || later != serial {
		t.Errorf("after a restart: serial %d, was %d, %v", later, serial, err)
	}
}

// Where port 443 leads elsewhere certificates are obtained by HTTP, beside a redirect of all the rest.
func TestACMEOverHTTP(t *testing.T) {
	t.Parallel()
	bin, httpPort, tlsPort := installPebble(t), freePort(t), freePort(t)
	a := startPebble(t, bin, httpPort, freePort(t))
	settings := acmeSettings(t, a, t.TempDir(), httpPort, tlsPort)
	settings["tls_redirect"] = true
	s := launch{settings: settings}.start(t)
	s.awaitLog(t, "certificate in place", "domain="+acmeName)
	if got, _, err := askTLS(a.clientOf(t, acmeName), fmt.Sprintf("https://127.0.0.1:%d/version", tlsPort)); err != nil || got.status != 200 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := get(t, s.base+"/.well-known/acme-challenge/none"); got.status != 403 {
		t.Errorf("a challenge for a name that is not ours: %d", got.status)
	}
	if got := get(t, s.base+"/version"); got.status != 301 {
		t.Errorf("without TLS: %d", got.status)
	}
}

// Without its authority a server serves all the same, without TLS, and says what is wrong.
func TestACMEWithoutAuthority(t *testing.T) {
	t.Parallel()
	d, tlsPort := t.TempDir(), freePort(t)
	nobody := acmeAuthority{directory: fmt.Sprintf("https://127.0.0.1:%d/dir", freePort(t))}
	nobody.roots = write(t, d, "ca.pem", inPEM("CERTIFICATE", newAuthority(t).certificate.Raw))
	s := launch{settings: acmeSettings(t, nobody, d, freePort(t), tlsPort)}.start(t)
	s.awaitLog(t, "level=ERROR", "certificate", "domain="+acmeName, "connection refused")
	testworld.Await(t, "the problem in health", func() bool {
		ok, warnings := s.certificateHealth(t)
		return !ok && bytes.Contains([]byte(warnings), []byte("connection refused"))
	})
	get(t, s.base+"/version").is(t, 200, "text/plain", "1550190683")
	resp, err := newAuthority(t).clientTLS(true).Get(fmt.Sprintf("https://127.0.0.1:%d/", tlsPort))
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		t.Error("there is TLS")
	}
}

// A server that waits for its first certificate lives, whether its authority is down or says nothing. A watchdog that
// ended it would have it ask again and again.
func TestWatchdogBeforeTheFirstCertificate(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	d := t.TempDir()
	roots := write(t, d, "ca.pem", inPEM("CERTIFICATE", newAuthority(t).certificate.Raw))
	for name, change := range map[string]func(map[string]any){
		"without TLS all are sent to TLS": func(settings map[string]any) { settings["tls_redirect"] = true },
		"TLS alone":                       func(settings map[string]any) { delete(settings, "listen") },
	} {
		for what, authority := range map[string]string{"down": fmt.Sprintf("127.0.0.1:%d", freePort(t)), "silent": silent.Addr().String()} {
			t.Run(name+", authority "+what, func(t *testing.T) {
				t.Parallel()
				m := listenAsManager(t)
				settings := acmeSettings(t, acmeAuthority{directory: "https://" + authority + "/dir", roots: roots}, t.TempDir(), freePort(t), freePort(t))
				change(settings)
				config := write(t, t.TempDir(), "config.json", []byte(asJSON(t, settings)))
				launch{args: []string{"serve", "--config", config}, wrap: []string{"env", "NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=900000"}}.start(t)
				testworld.Await(t, "answers to the watchdog", func() bool { return m.count("WATCHDOG=1") >= 6 })
			})
		}
	}
}

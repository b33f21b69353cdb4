package main_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// The nginx of docs/SERVING.md lets those in who have a certificate, and limits each of them.
func TestDocumentedNginx(t *testing.T) {
	t.Parallel()
	_, config, found := strings.Cut(string(read(t, "../../docs/SERVING.md")), "```nginx\n")
	config, _, closed := strings.Cut(config, "```")
	if !found || !closed {
		t.Fatal("docs/SERVING.md shows no nginx")
	}
	a, d := newAuthority(t), pairDir(t.TempDir())
	d.put(t, a.issue(time.Hour))
	dir := t.TempDir()
	write(t, dir, newest, pattern(6<<20))
	still(t, filepath.Join(dir, newest))
	s, port := serve(t, dir), freePort(t)
	config = strings.NewReplacer(
		"/etc/tls/fullchain.pem", d.certificate(), "/etc/tls/privkey.pem", d.key(),
		"/etc/tls/boxes-ca.pem", write(t, dir, "ca.pem", inPEM("CERTIFICATE", a.certificate.Raw)),
		"listen 443", fmt.Sprintf("listen 127.0.0.1:%d", port), "127.0.0.1:8151", s.addr,
	).Replace(config)
	prefix := t.TempDir()
	whole := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n" +
		"client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n" + config + "}\n"
	background(t, nil, need(t, "nginx", "nginx-light"), "-p", prefix, "-c", write(t, prefix, "nginx.conf", []byte(whole)), "-e", "stderr")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	testworld.Await(t, "nginx", func() bool { return accepts(addr) })

	stranger := a.clientTLS(true)
	if got, _, err := askTLS(stranger, "https://"+addr+"/version"); err != nil || got.status != http.StatusBadRequest {
		t.Errorf("without a certificate: %d, %v", got.status, err)
	}
	box := a.clientTLS(true)
	mine, err := tls.LoadX509KeyPair(d.certificate(), d.key())
	if err != nil {
		t.Fatal(err)
	}
	box.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{mine}
	if got, _, err := askTLS(box, "https://"+addr+"/version"); err != nil || got.body != "1550190683" {
		t.Errorf("with a certificate: %q, %v", got.body, err)
	}
	for range 2 {
		resp, err := box.Get("https://" + addr + "/update/" + newest)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		defer resp.Body.Close()
	}
	if got, _, err := askTLS(box, "https://"+addr+"/update/"+newest); err != nil || got.status != 503 {
		t.Errorf("a third download: %d, %v", got.status, err)
	}
}

// The commands of docs/SERVING.md do what it says, and its settings can be used.
func TestServingPage(t *testing.T) {
	t.Parallel()
	page := string(read(t, "../../docs/SERVING.md"))
	w := newSigner(t)
	m := w.mirror(w.serve().base).synced(t)
	a, d := newAuthority(t), pairDir(t.TempDir())
	d.put(t, a.issue(90*24*time.Hour))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(d.key(), 0o600))
	settings := regexp.MustCompile(`(?m)^    (\{"port"(?s:.*?)\})\n`).FindStringSubmatch(page)
	if settings == nil {
		t.Fatal("no settings")
	}
	config := write(t, t.TempDir(), "box-update-server.json", []byte(strings.NewReplacer(
		"8151", fmt.Sprint(freePort(t)), "/srv/updates", dropped(t, newest), ":443", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"/etc/tls/fullchain.pem", d.certificate(), "/etc/tls/privkey.pem", d.key()).Replace(settings[1])))
	commands := regexp.MustCompile(`(?m)^    \$ (.*)$`).FindAllStringSubmatch(page, -1)
	said := map[string]string{"box-update-server doctor": "[+] settings: can be used\n", "curl": "inuse_space"}
	if len(commands) != len(said) {
		t.Fatalf("got %q", commands)
	}
	for _, c := range commands {
		line := strings.NewReplacer("/etc/box-update-server.json", config, "M/admin.sock", m.dir+"/admin.sock", "go tool pprof heap", "go tool pprof -top heap").Replace(c[1])
		out := command(t, t.TempDir(), "sh", "-c", line)
		for start, text := range said {
			if strings.HasPrefix(c[1], start) && !strings.Contains(out, text) {
				t.Errorf("%s: got %s", line, out)
			}
		}
	}
}

package main_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	eventually(t, "nginx", func() bool { return accepts(addr) })

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

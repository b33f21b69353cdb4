package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// What our server is told: not to log requests, not to measure, and limits that nothing reaches.
const (
	quiet         = "--log-requests=false"
	unmeasured    = "--metrics=false"
	manyDownloads = "--max-downloads=1000000"
	muchBandwidth = "--max-bandwidth=1000000000000"
)

// launch starts our server, which is not ready yet.
func (b *bench) launch(args ...string) *process {
	addr := b.freeAddress()
	return b.start(addr, b.server, append([]string{"serve", "--listen", addr}, args...)...)
}

// serve starts our server and waits until it is ready and knows the digest of every archive in names.
func (b *bench) serve(names []string, args ...string) *process {
	p := b.launch(args...)
	b.wait(p, 10*time.Millisecond, func() bool { return answers(p.url("/readyz")) })
	b.waitHashed(p, names)
	return p
}

// waitHashed waits until a server answers the checksum line of each archive.
func (b *bench) waitHashed(p *process, names []string) {
	b.wait(p, 5*time.Millisecond, func() bool {
		for len(names) > 0 && answers(p.url("/update/"+names[0]+".sha256")) {
			names = names[1:]
		}
		return len(names) == 0
	})
}

// firstAnswer returns a side that starts our server and measures the seconds until it answers the checksum
// line of the newest archive, for which it needs the listing and the digest.
func (b *bench) firstAnswer(data *drop, args ...string) side {
	return func() (took float64) {
		b.scope(func() {
			begin := time.Now()
			p := b.launch(args...)
			b.wait(p, time.Millisecond, func() bool { return answers(p.url(data.url() + ".sha256")) })
			took = time.Since(begin).Seconds()
		})
		return took
	}
}

// A duel is our server and nginx on the same archives.
type duel struct{ ours, nginx *process }

// duel starts both. Our server logs no request, and keeps all connections of the one client. same are the
// paths, besides the archives, that nginx serves with the bytes and the Content-Type of our server.
func (b *bench) duel(data *drop, same ...string) duel {
	ours := b.serve(data.names, "--updates-dir", data.dir, quiet, "--max-idle=0")
	return duel{ours, b.nginx(nginxSite{Updates: data.dir}, ours, same...)}
}

// same fails unless both servers give the same answer to a request for a range of path, or for all of it
// where that is "", and returns its length.
func (b *bench) same(d duel, path, byteRange string) int {
	var answers [2]string
	var length int
	for i, p := range []*process{d.ours, d.nginx} {
		resp, body := b.get(p.url(path), "Range", byteRange)
		answers[i] = fmt.Sprintf("%s, %q, %d bytes, %x", resp.Status, resp.Header.Get("Content-Type"), len(body), sumOf(body))
		length = len(body)
	}
	if answers[0] != answers[1] {
		b.fatalf("%s: not the same: ours %s, nginx %s", path, answers[0], answers[1])
	}
	return length
}

// An nginxSite is what nginx serves.
type nginxSite struct {
	Updates   string // directory of archives, under /update/; "" for none
	AccessLog bool   // a line for each request
	Uploads   bool   // PUT below /put/
	Dir, Addr string
	Root      bool
	Types     map[string]string // the Content-Type of each file that is not an archive
}

// nginxConf is nginx at its best for this work: open files are cached, nothing is logged, connections
// are kept. tcp_nopush stays off: on, it stalls ranges on kept connections.
var nginxConf = template.Must(template.New("nginx.conf").Parse(`
daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid {{.Dir}}/pid;
error_log stderr;
{{if .Root}}user root;{{end}}
events { worker_connections 12000; }
http {
	access_log {{if .AccessLog}}{{.Dir}}/access.log{{else}}off{{end}};
	sendfile on;
	tcp_nopush off;
	open_file_cache max=12000 inactive=10m;
	open_file_cache_valid 10m;
	keepalive_timeout 10m;
	keepalive_requests 1000000000;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	server {
		listen {{.Addr}} backlog=4096;
		root {{.Dir}}/root;
		types {}
		default_type application/octet-stream;
{{if .Updates}}		location /update/ { alias {{.Updates}}/; autoindex on; }
{{end}}{{if .Uploads}}		location /put/ { root {{.Dir}}; dav_methods PUT; create_full_put_path on; client_max_body_size 0; }
{{end}}{{range $path, $type := .Types}}		location = {{$path}} { default_type "{{$type}}"; }
{{end}}	}
}
`))

// nginx starts nginx and waits until it answers. The answers of the server like to the paths in same it
// serves as files.
func (b *bench) nginx(site nginxSite, like *process, same ...string) *process {
	site.Dir, site.Addr, site.Root = b.newDir("nginx"), b.freeAddress(), os.Geteuid() == 0
	site.Types = make(map[string]string)
	b.check(os.Mkdir(filepath.Join(site.Dir, "root"), 0o755))
	for _, path := range same {
		resp, body := b.get(like.url(path))
		b.check(os.WriteFile(filepath.Join(site.Dir, "root", path), body, 0o644))
		site.Types[path] = resp.Header.Get("Content-Type")
	}
	var text strings.Builder
	b.check(nginxConf.Execute(&text, site))
	p := b.start(site.Addr, "nginx", "-e", "stderr", "-p", site.Dir, "-c", b.write("nginx.conf", text.String()))
	b.wait(p, 10*time.Millisecond, p.listens)
	return p
}

// listens reports whether the process takes connections.
func (p *process) listens() bool {
	conn, err := net.DialTimeout("tcp", p.addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close() // nothing was written
	return true
}

// client returns an HTTP client that keeps nothing open, asks for no compression and follows no redirect.
func client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answers reports whether url is answered with 200 now.
func answers(url string) bool {
	resp, err := client(5 * time.Second).Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close() // nothing was written
	return resp.StatusCode == http.StatusOK
}

// get fetches url with the header fields, in pairs, whose value is not "". Any status but 200 and 206 is a failure.
func (b *bench) get(url string, header ...string) (*http.Response, []byte) {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, url, nil)
	b.check(err)
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := client(time.Minute).Do(req)
	b.check(err)
	defer resp.Body.Close() // only read from
	var body bytes.Buffer
	_, err = io.Copy(&body, resp.Body)
	b.check(err)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		b.fatalf("get %s: status %s", url, resp.Status)
	}
	return resp, body.Bytes()
}

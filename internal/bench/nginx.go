package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// An nginxSite is what nginx serves.
type nginxSite struct {
	updates   string   // directory of archives, under /update/; "" for none
	like      *process // the server whose answers to the paths in same are served as files
	same      []string
	accessLog bool // a line for each request
	uploads   bool // PUT below /put/
}

// nginxConf is nginx at its best for this work: open files are cached, nothing is logged, connections
// are kept. tcp_nopush stays off: on, it stalls ranges on kept connections.
const nginxConf = `
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
{{end}}{{range .Types}}		location = {{.Path}} { default_type "{{.ContentType}}"; }
{{end}}	}
}
`

// nginx starts nginx and waits until it answers. The caller calls stop.
func (l *lab) nginx(ctx context.Context, site nginxSite) (*process, error) {
	dir, err := os.MkdirTemp(l.dir, "nginx-*")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf, err := site.write(ctx, dir, addr)
	if err != nil {
		return nil, err
	}
	p, err := l.children.start(ctx, addr, filepath.Join(dir, "log"), "nginx", "-e", "stderr", "-p", dir, "-c", conf)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx, 10*time.Millisecond, func() bool { return listens(addr) }); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// typed is a path and the Content-Type of its answer.
type typed struct{ Path, ContentType string }

// write writes the files and the configuration and returns the path of the latter.
func (s nginxSite) write(ctx context.Context, dir, addr string) (string, error) {
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	var types []typed
	for _, path := range s.same {
		a, err := get(ctx, s.like.url(path), "")
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(root, path), a.body, 0o644); err != nil {
			return "", err
		}
		types = append(types, typed{path, a.contentType})
	}
	return s.writeConf(dir, addr, types)
}

func (s nginxSite) writeConf(dir, addr string, types []typed) (string, error) {
	var b strings.Builder
	err := template.Must(template.New("nginx.conf").Parse(nginxConf)).Execute(&b, struct {
		Dir, Addr, Updates string
		Root, AccessLog    bool
		Uploads            bool
		Types              []typed
	}{dir, addr, s.updates, os.Geteuid() == 0, s.accessLog, s.uploads, types})
	if err != nil {
		return "", fmt.Errorf("nginx.conf: %w", err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	return conf, os.WriteFile(conf, []byte(b.String()), 0o644)
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// client returns an HTTP client that keeps nothing open and follows no redirect.
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

// listens reports whether addr takes connections.
func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close() // nothing was written
	return true
}

// An answer is what a server says to a GET.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// get fetches url, only the range ("bytes=0-9") if it is not empty. Any status but 200 and 206 is
// refused.
func get(ctx context.Context, url, byteRange string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := client(time.Minute).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("get %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return answer{}, fmt.Errorf("get %s: status %s", url, resp.Status)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), body}, nil
}

// same fails unless both servers give the same answer, and returns its length.
func (d *duel) same(ctx context.Context, path, byteRange string) (int, error) {
	a, err := get(ctx, d.ours.url(path), byteRange)
	if err != nil {
		return 0, err
	}
	b, err := get(ctx, d.nginx.url(path), byteRange)
	if err != nil {
		return 0, err
	}
	if a.status != b.status || a.contentType != b.contentType || !bytes.Equal(a.body, b.body) {
		return 0, fmt.Errorf("%s: not the same: ours %d, %q, %d bytes, nginx %d, %q, %d bytes", path,
			a.status, a.contentType, len(a.body), b.status, b.contentType, len(b.body))
	}
	return len(a.body), nil
}

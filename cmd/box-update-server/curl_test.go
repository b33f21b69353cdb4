package main_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"path/filepath"
	"strings"
	"testing"
)

// hashed serves one archive of several blocks whose digest is known.
func hashed(t *testing.T) (s *server, archive []byte) {
	t.Helper()
	archive = pattern(9<<20 + 5)
	dir := t.TempDir()
	still(t, write(t, dir, newest, archive))
	s = serve(t, dir)
	s.awaitHashed(t, newest)
	return s, archive
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl, sum := need(t, "curl", "curl"), need(t, "sha256sum", "coreutils")
	s, archive := hashed(t)
	t.Run("by name", func(t *testing.T) {
		dir := t.TempDir()
		command(t, dir, curl, "-fsSO", s.base+"/update/"+newest)
		command(t, dir, curl, "-fsSO", s.base+"/update/"+newest+".sha256")
		command(t, dir, sum, "--strict", "-c", newest+".sha256")
	})
	t.Run("by digest", func(t *testing.T) {
		dir := t.TempDir()
		command(t, dir, curl, "-fsSOJ", s.base+"/sha256/"+digest(archive))
		if !bytes.Equal(read(t, dir, newest), archive) {
			t.Error("other bytes")
		}
		command(t, dir, curl, "-fsSO", s.base+"/sha256/"+digest(archive)+".sha256")
		command(t, dir, sum, "--strict", "-c", digest(archive)+".sha256")
	})
	t.Run("ranges", func(t *testing.T) {
		dir := t.TempDir()
		for _, r := range []string{"0-999", "1000-8388607", "8388608-"} {
			command(t, dir, curl, "-fsS", "-r", r, "-o", "part", s.base+"/update/"+newest)
			command(t, dir, "sh", "-c", "cat part >> whole")
		}
		command(t, dir, curl, "-fsS", "-r", "-5", "-o", "end", s.base+"/update/"+newest)
		if !bytes.Equal(read(t, dir, "whole"), archive) || !bytes.Equal(read(t, dir, "end"), archive[len(archive)-5:]) {
			t.Error("other bytes")
		}
	})
	t.Run("http 1.0 and several on one connection", func(t *testing.T) {
		dir := t.TempDir()
		command(t, dir, curl, "-fsS", "--http1.0", "-o", "a", s.base+"/update/"+newest, "-o", "b", s.base+"/update/"+newest)
		for _, f := range []string{"a", "b"} {
			if !bytes.Equal(read(t, dir, f), archive) {
				t.Error("other bytes in " + filepath.Join(dir, f))
			}
		}
	})
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	s, archive := hashed(t)
	tag := `"` + digest(archive) + `"`
	for _, path := range []string{"/update/" + newest, "/sha256/" + digest(archive)} {
		url := s.base + path
		get(t, url).has(t, "Etag", tag)
		get(t, url, "If-None-Match", tag).is(t, 304, "", "")
		get(t, url, "If-None-Match", `"other"`).isArchive(t, newest, archive)
		get(t, url, "Range", "bytes=5-9", "If-Range", tag).is(t, 206, "application/octet-stream", string(archive[5:10]))
		get(t, url, "Range", "bytes=5-9", "If-Range", `"other"`).isArchive(t, newest, archive)
		if a := get(t, url, "Range", "bytes=5-9"); a.header.Get("Content-Range") != fmt.Sprintf("bytes 5-9/%d", len(archive)) {
			t.Errorf("got %v", a.header)
		}
		a := get(t, url, "Range", fmt.Sprintf("bytes=%d-", len(archive)))
		if a.status != 416 || a.header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(archive)) {
			t.Errorf("got %d %v", a.status, a.header)
		}
		if a := do(t, "HEAD", url); a.status != 200 || a.length != int64(len(archive)) || a.body != "" {
			t.Errorf("HEAD: got %d, length %d, body %d", a.status, a.length, len(a.body))
		}
	}
}

func TestSeveralRanges(t *testing.T) {
	t.Parallel()
	s, archive := hashed(t)
	a := get(t, s.base+"/update/"+newest, "Range", "bytes=0-9,4194300-4194310,-7")
	mediaType, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.status != 206 || mediaType != "multipart/byteranges" || err != nil {
		t.Fatalf("got %d %s: %v", a.status, a.header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range [][]byte{archive[:10], archive[4194300:4194311], archive[len(archive)-7:]} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes: %v", part.Header.Get("Content-Range"), len(got), err)
		}
	}
}

func TestBlockList(t *testing.T) {
	t.Parallel()
	s, archive := hashed(t)
	var want []byte
	for rest := archive; len(rest) > 0; {
		block := rest[:min(4<<20, len(rest))]
		d := sha256.Sum256(block)
		want, rest = append(want, d[:]...), rest[len(block):]
	}
	get(t, s.base+"/sha256/"+digest(archive)+".blocks").is(t, 200, "application/octet-stream", string(want))
}

// While an archive is being hashed it is served by name, and what needs its digest says when to ask
// again.
func TestBeforeTheDigestIsKnown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sparse(t, dir, newest, 64<<30) // no machine hashes this while the test runs
	s := serve(t, dir)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
	get(t, s.base+"/update/"+newest, "Range", "bytes=0-0").is(t, 206, "application/octet-stream", "\x00")
	for _, path := range []string{"/update/" + newest + ".sha256", "/sha256/" + digest(nil)} {
		if a := get(t, s.base+path); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d, Retry-After %q", path, a.status, a.header.Get("Retry-After"))
		}
	}
}

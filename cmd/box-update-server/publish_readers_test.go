package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// A reader is a client that reads all that is served, again and again, and finds fault with it.
type reader struct {
	base   string
	state  *trust.State
	client *http.Client
	read   map[update.Digest]bool // archives of which it has read every byte
	list   int64                  // the version of the one that it saw last
	lists  int                    // how many it saw
}

// newReader makes a reader that keeps in dir what it trusts; if that is nothing yet, this root.
func newReader(t *testing.T, dir, base string, root []byte) *reader {
	t.Helper()
	state, err := trust.Open(trust.Config{Dir: dir, Pinned: root})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &reader{base: base, state: state, client: &http.Client{Transport: transport, Timeout: patience}, read: map[update.Digest]bool{}}
}

// follow refreshes again and again, and opens whatever is listed, until ctx ends.
func follow(ctx context.Context, r *reader) error {
	for ctx.Err() == nil {
		if err := errors.Join(r.metadata(), r.catalog()); err != nil {
			return err
		}
	}
	return nil
}

// Fetch fetches a metadata file for the TUF client.
func (r *reader) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	resp, err := r.client.Get(r.base + "/metadata/" + name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusNotFound:
		return nil, trust.ErrNotFound
	}
	return nil, errors.New(resp.Status)
}

// metadata refreshes as a TUF client does, which finds out whether the files fit together, and reads the
// archives of the list.
func (r *reader) metadata() error {
	repo, err := r.state.Refresh(context.Background(), r, trust.Clock{Now: time.Now()})
	if err != nil {
		return err
	}
	if v := repo.Version(trust.RoleTargets); v != r.list {
		r.list = v
		r.lists++
	}
	if err := r.state.Commit(repo); err != nil {
		return err
	}
	for _, rel := range repo.Releases() {
		if err := r.archive("/targets/"+rel.Digest().String()+"."+rel.Name().String(), rel.Digest()); err != nil {
			return fmt.Errorf("targets %d: %w", repo.Version(trust.RoleTargets), err)
		}
	}
	return nil
}

// catalog reads what clients without TUF read.
func (r *reader) catalog() error {
	var list struct {
		Newest  update.Name
		Updates []struct {
			Name   update.Name
			SHA256 update.Digest
		}
	}
	b, err := r.ok("/updates.json")
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil || len(list.Updates) == 0 {
		return err
	}
	for _, u := range list.Updates {
		if err := r.archive("/update/"+u.Name.String(), u.SHA256); err != nil {
			return err
		}
	}
	if last := list.Updates[len(list.Updates)-1].Name; last != list.Newest {
		return fmt.Errorf("the newest is said to be %v, and the list ends with %v", list.Newest, last)
	}
	_, err = r.ok("/latest") // which leads to an archive
	return err
}

// archive reads an archive the first time, and a byte of it later.
func (r *reader) archive(path string, want update.Digest) error {
	if r.read[want] {
		resp, err := r.client.Head(r.base + path)
		if err != nil {
			return err
		}
		if err := discard(resp); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Etag") != `"`+want.String()+`"` {
			return fmt.Errorf("HEAD %s: %s with ETag %s, %w", path, resp.Status, resp.Header.Get("Etag"), err)
		}
		return nil
	}
	b, err := r.ok(path)
	if err == nil && update.Sum(b) != want {
		err = fmt.Errorf("%s: %d bytes of another archive", path, len(b))
	}
	r.read[want] = err == nil
	return err
}

// ok returns what is served at a path.
func (r *reader) ok(path string) ([]byte, error) {
	resp, err := r.client.Get(r.base + path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return b, err
}

// While lists are committed, every list that a client sees fits together, and its archives are there.
func TestListsFitWhileTheyChange(t *testing.T) {
	t.Parallel()
	const clients, publishes = 50, 12
	w := newSigner(t)
	s := w.serve("--log-requests=false")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, clients)
	var readers []*reader
	for range clients {
		r := newReader(t, t.TempDir(), s.base, w.repo.Raw(trust.RoleRoot))
		readers = append(readers, r)
		go func() { done <- follow(ctx, r) }()
	}
	for i := range publishes {
		w.list(map[string][]byte{name(1600000000+i, "tar.gz"): pattern(100_000 + i)}).publish(t, s.base)
		w.refresh(s.base)
	}
	stop()
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	lists := 0
	for _, r := range readers {
		lists += r.lists
	}
	t.Logf("the %d clients saw %.1f lists each", clients, float64(lists)/clients)
	if lists < 2*clients {
		t.Errorf("the clients saw %d lists, of %d each", lists, publishes+1)
	}
}

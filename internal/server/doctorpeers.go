package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// peerTimeout bounds what each peer may take to answer.
const peerTimeout = 15 * time.Second

// How far two clocks may be apart. OPQ Health takes twenty seconds for an outage.
const (
	smallSkew = 5 * time.Second
	largeSkew = 20 * time.Second
)

// certificates checks the certificates of the server, and the authorities that it trusts.
func (c *checked) certificates(ctx context.Context) (found []Finding) {
	s := c.settings
	for _, f := range []struct{ key, path string }{{"ca_file", s.CAFile}, {"acme_ca_file", s.ACMECAFile}} {
		if _, err := certificates(f.key, f.path); err != nil {
			found = append(found, wrong("certificate", "it is a file of certificates in PEM", "%v", err))
		}
	}
	if s.TLSKey != "" {
		if info, err := os.Stat(s.TLSKey); err == nil && info.Mode().Perm()&0o077 != 0 {
			found = append(found, warning("certificate", "chmod 600 "+s.TLSKey, "others than its owner may read %s", s.TLSKey))
		}
		pair, err := readPair(s.TLSCertificate, s.TLSKey)
		found = append(found, judgeCertificate(s.TLSCertificate, pair, err, "get a new one from its authority; the server loads it by itself", c.Now()))
	}
	for _, domain := range s.ACMEDomains {
		pair, err := acmePair(ctx, &s, domain)
		if errors.Is(err, autocert.ErrCacheMiss) {
			found = append(found, warning("certificate", "make sure that the authority reaches this server as "+domain+" on port 443, or 80; the log has its answer",
				"none was obtained for %s yet", domain))
			continue
		}
		found = append(found, judgeCertificate(domain, pair, err, "the server renews it by itself: its log says why it does not", c.Now()))
	}
	if info, err := os.Stat(s.ACMEDir()); len(s.ACMEDomains) > 0 && err == nil && info.Mode().Perm()&0o077 != 0 {
		found = append(found, wrong("certificate", "chmod 700 "+s.ACMEDir(), "others may read the keys in %s", s.ACMEDir()))
	}
	return found
}

// acmePair reads a certificate that was obtained before. The error is autocert.ErrCacheMiss if there is none.
func acmePair(ctx context.Context, s *settings.Server, domain string) (*tls.Certificate, error) {
	b, err := autocert.DirCache(s.ACMEDir()).Get(ctx, domain)
	if errors.Is(err, autocert.ErrCacheMiss) || errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

func judgeCertificate(of string, pair *tls.Certificate, err error, advice string, at time.Time) Finding {
	if err != nil {
		return wrong("certificate", advice, "%s: %v", of, err)
	}
	is := standing{subject: of, begins: pair.Leaf.NotBefore, expires: pair.Leaf.NotAfter}
	switch left := is.expires.Sub(at); {
	case at.Before(is.begins):
		return wrong("certificate", advice, "%s: valid only from %s", of, stamped(is.begins))
	case left <= 0:
		return wrong("certificate", advice, "%s: expired at %s", of, stamped(is.expires))
	case left < is.warnOfExpiry():
		return warning("certificate", advice, "%s: expires at %s", of, stamped(is.expires))
	}
	return ok("certificate", "%s: until %s", of, stamped(is.expires))
}

// upstreams asks each upstream as a mirror does, and compares the clocks.
func (c *checked) upstreams(ctx context.Context) (found []Finding) {
	if len(c.settings.Upstream) == 0 {
		return nil
	}
	client, err := c.newClient(c.settings, func(f *fetch.Config) { f.Patience, f.Silence, f.StallWindow = -1, peerTimeout, peerTimeout })
	if err != nil {
		return []Finding{wrong("upstream", "correct ca_file, upstream and redirects", "%v", err)}
	}
	defer client.Close()
	shown := c.verifyUpstreams(ctx, client)
	for _, u := range client.Upstreams() {
		found = append(found, shown[u])
		found = append(found, c.skew(ctx, u)...)
	}
	return found
}

// verifyUpstreams checks that what each upstream serves verifies, and how new it is.
func (c *checked) verifyUpstreams(ctx context.Context, client *fetch.Client) map[*fetch.Upstream]Finding {
	found := map[*fetch.Upstream]Finding{}
	if c.store == nil {
		for _, u := range client.Upstreams() {
			found[u] = warning("upstream", "see what the other checks say of the repository", "%v: not asked, because its answer could not be verified", u)
		}
		return found
	}
	_, err := client.Newest(ctx, fetch.Search{
		Trusted: c.store, Clock: trust.Clock{Now: c.Now(), Built: c.Built, AcceptStale: c.settings.AcceptStale},
		Looked: func(u *fetch.Upstream, theirs *trust.Repository, err error) {
			found[u] = c.judgeUpstream(u, theirs, err)
		},
	})
	for _, u := range client.Upstreams() {
		if _, asked := found[u]; !asked {
			found[u] = warning("upstream", "run doctor again", "%v: not asked: %s", u, oneLine(errors.Join(err, ctx.Err())))
		}
	}
	return found
}

func (c *checked) judgeUpstream(u *fetch.Upstream, theirs *trust.Repository, err error) Finding {
	const check = "upstream"
	if err != nil {
		return wrong(check, adviceFor(err), "%s", oneLine(err))
	}
	ours := c.store.Repository()
	if ours == nil || ours.Version(trust.RoleSnapshot) < theirs.Version(trust.RoleSnapshot) {
		return warning(check, "is the mirror running? it syncs at every interval; box-update-server mirror --once syncs now",
			"%v: verifies, and has snapshot %d, which is not here yet", u, theirs.Version(trust.RoleSnapshot))
	}
	return ok(check, "%v: verifies, with snapshot %d", u, theirs.Version(trust.RoleSnapshot))
}

// skew compares the clock with the Date of an upstream.
func (c *checked) skew(ctx context.Context, u *fetch.Upstream) []Finding {
	before := c.Now()
	resp, err := u.Send(ctx, fetch.Request{Method: http.MethodHead, File: "metadata/timestamp.json", Wait: peerTimeout})
	if err != nil {
		return nil // another check reported it
	}
	defer resp.Body.Close() // only read from
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil
	}
	return []Finding{judgeSkew(u.String(), before, c.Now(), theirs)}
}

// judgeSkew judges a Date, which is in whole seconds, of an answer that came between two times.
func judgeSkew(name string, before, after, theirs time.Time) Finding {
	const advice = "one of the two clocks is off: set it, and keep it synchronized: timedatectl set-ntp true"
	skew := max(before.Truncate(time.Second).Sub(theirs), theirs.Sub(after), 0).Round(time.Second)
	switch {
	case skew >= largeSkew:
		return wrong("clock", advice, "%v apart from the clock of %s", skew, name)
	case skew >= smallSkew:
		return warning("clock", advice, "%v apart from the clock of %s", skew, name)
	}
	return ok("clock", "the same as that of %s", name)
}

// server asks the server that runs with these settings, if there is one.
func (c *checked) server(ctx context.Context) (found []Finding) {
	if checkAsked(&c.settings) != nil {
		return nil
	}
	client := ownClient()
	client.Timeout = peerTimeout
	url := serverURL(c.settings.Asked())
	text, err := probe(ctx, client, url+"/readyz?verbose")
	if _, silent := errors.AsType[noAnswer](err); silent {
		return []Finding{ok("server", "no server answers at %s", url)}
	}
	if err == nil {
		found = append(found, ok("server", "ready at %s", url))
	}
	for _, problem := range urgentLines(text) {
		found = append(found, wrong("server", "see the other checks, and its log", "%s: %s", url, problem))
	}
	if len(found) == 0 {
		found = append(found, wrong("server", "does another program listen there?", "%v", err))
	}
	return found
}

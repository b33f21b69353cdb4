package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// Upstream is a server that the client asks. It is a trust.Fetcher.
type Upstream struct {
	client *Client
	base   *url.URL // without a slash at its end

	received atomic.Int64 // bytes of bodies
	asks     atomic.Int64 // calls of Ask that are asking it

	mu         sync.Mutex
	state      State
	fails      int                    // in a row
	failed     time.Time              // the last time
	progressed time.Time              // when a part of an archive last came
	via        string                 // see Via
	spoilt     map[update.Digest]bool // archives that were wrong recently
	rate       float64                // bytes per second in the last trial, or when it was outpaced; see race
	rated      time.Time              // when rate was measured; zero: never
}

// State is what is known about an upstream. The zero State has nothing against it.
type State struct {
	Until   time.Time // it is not asked before this time; zero: it may be asked now
	Reason  string    // why not, on one line
	Refused bool      // it sent something wrong; otherwise it is down or busy
	Failing bool      // it was down or busy when last asked, and nothing has come since
	Behind  bool      // see SetBehind
	Slow    time.Time // asked last until then, because another one was much faster; zero: no
	Damaged time.Time // asked last until then, because several of its archives were wrong; zero: no
}

// String returns the base URL, without user and password: a token may stand in place of either.
func (u *Upstream) String() string {
	plain := *u.base
	plain.User = nil
	return plain.String()
}

// State returns what is known about the upstream now.
func (u *Upstream) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current()
}

// current returns the state without expired parts. The caller holds mu.
func (u *Upstream) current() State {
	s := u.state
	s.Failing = u.fails > 0 && !s.Refused && !u.progressed.After(u.failed)
	if !time.Now().Before(s.Slow) {
		s.Slow = time.Time{}
	}
	if !time.Now().Before(s.Damaged) {
		s.Damaged = time.Time{}
	}
	if !time.Now().Before(s.Until) {
		s.Until, s.Refused = time.Time{}, false
		if !s.Failing {
			s.Reason = ""
		}
	}
	return s
}

// noteProgress records that a part of an archive came.
func (u *Upstream) noteProgress() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.progressed = time.Now()
}

// SetBehind says whether the upstream has older metadata than another one. Such an upstream is asked
// last.
func (u *Upstream) SetBehind(behind bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Behind = behind
}

// SetSlow says until when the upstream is asked last, since another one was much faster.
func (u *Upstream) SetSlow(until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Slow = until
}

// setAside records that the upstream sent something wrong, as the caller found out. The upstream is not asked for
// Config.SetAside.
func (u *Upstream) setAside(reason error) {
	u.blame(reason)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Until = time.Now().Add(u.client.c.SetAside)
	u.state.Reason, u.state.Refused = oneLine(reason), true
}

// An upstream of which maxSpoilt archives were wrong is asked last for damagedFor.
const (
	maxSpoilt  = 3
	damagedFor = time.Hour
)

// damagedf reports that an archive of the upstream, or a part of it, is not the signed one, and returns an
// ErrDamaged. A bad disk does this to an honest upstream, whose other archives are right. So the upstream stays in
// use, but is asked last once maxSpoilt archives are wrong.
func (u *Upstream) damagedf(name update.Name, digest update.Digest, file, format string, args ...any) error {
	err := &damagedArchive{u.refusef(file, format, args...)}
	u.blame(err)
	u.client.c.Logger.Warn("damaged archive", "archive", name.String(), "upstream", u.String(), "err", oneLine(err))
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spoilt == nil {
		u.spoilt = map[update.Digest]bool{}
	}
	if u.spoilt[digest] = true; len(u.spoilt) == maxSpoilt {
		u.state.Damaged, u.spoilt = time.Now().Add(damagedFor), nil
		u.client.c.Logger.Warn("several archives are damaged", "upstream", u.String(), "asked last until", u.state.Damaged)
	}
	return err
}

// note records the result of a request that was sent at the time began. Failures at the same time count once: fifty
// connections that are cut at once are one failure.
func (u *Upstream) note(began time.Time, err error) {
	var away *unavailable
	switch {
	case errors.Is(err, ErrOutpaced): // tryOthers has made it asked last; it did what it could
	case errors.Is(err, ErrDamaged): // damagedf has logged and counted it
		u.recover()
	case errors.Is(err, ErrRefused):
		u.setAside(err)
	case errors.As(err, &away):
		u.pause(began, away)
	default:
		u.recover() // it answers
	}
}

func (u *Upstream) recover() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fails = 0
	if !u.current().Refused {
		u.state = State{Behind: u.state.Behind, Slow: u.state.Slow, Damaged: u.state.Damaged}
	}
}

func (u *Upstream) pause(began time.Time, away *unavailable) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, c := time.Now(), &u.client.c
	if u.current().Refused {
		return
	}
	if began.After(u.failed) || u.fails == 0 {
		if away.progress {
			u.fails = 0
		}
		u.fails++
	}
	u.failed = now
	wait := max(c.backoff().Spread(u.fails, c.Jitter()), min(away.after, c.MaxRetryAfter))
	if until := now.Add(wait); until.After(u.state.Until) {
		u.state.Until = until
	}
	u.state.Reason, u.state.Refused = oneLine(away), false
}

// unavailable is an ErrUnavailable.
type unavailable struct {
	err      error
	after    time.Duration // the pause that the upstream asks for; 0: none
	progress bool          // bytes that are kept came first
	by       *Upstream     // of ErrOutpaced: the faster one
}

func (e *unavailable) Error() string { return e.err.Error() }
func (e *unavailable) Unwrap() error { return e.err }

func (e *unavailable) Is(target error) bool { return target == ErrUnavailable }

// failf returns an error about a file of the upstream.
func (u *Upstream) failf(file, format string, args ...any) error {
	return fmt.Errorf("%v/%s: %w", u, file, fmt.Errorf(format, args...))
}

func (u *Upstream) refusef(file, format string, args ...any) error {
	return u.failf(file, "%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// damagedArchive is an ErrRefused that says which part of an archive is wrong, and is an ErrDamaged.
type damagedArchive struct{ error }

func (d *damagedArchive) Unwrap() error        { return d.error }
func (d *damagedArchive) Is(target error) bool { return target == ErrDamaged }

// url returns the URL of a file, whose name needs no escaping.
func (u *Upstream) url(file string) string { return u.base.String() + "/" + file }

// CheckURL returns an error if s can't be one of Config.Upstreams. The message shows no password.
func CheckURL(s string) error {
	_, err := parseBase(s)
	return err
}

func parseBase(s string) (*url.URL, error) {
	u, err := parseHTTP(s)
	if err != nil {
		return nil, err
	}
	// A %2F is no slash: the path keeps its spelling.
	for strings.HasSuffix(u.EscapedPath(), "/") {
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	}
	return u, nil
}

// parseOrigin returns an origin in its one spelling.
func parseOrigin(s string) (string, error) {
	u, err := parseHTTP(s)
	if err != nil {
		return "", err
	}
	if u.Path != "" && u.Path != "/" || u.User != nil {
		u.User = nil // it must not be shown
		return "", fmt.Errorf("%s: expected scheme://host[:port] and no more", u)
	}
	return originOf(u), nil
}

// AddScheme returns the URL that was probably meant by a host with a port that stands where a URL should be, such as
// updates.example:8151. It returns "" for everything else.
func AddScheme(s string) string {
	address, _, _ := strings.Cut(s, "/")
	host, port, err := net.SplitHostPort(address)
	if _, notPort := strconv.ParseUint(port, 10, 16); err != nil || notPort != nil || host == "" {
		return ""
	}
	if u, err := url.Parse("http://" + s); err != nil || u.User != nil {
		return "" // what it shows may be a password
	}
	return "http://" + s
}

func parseHTTP(s string) (*url.URL, error) {
	if meant := AddScheme(s); meant != "" {
		return nil, fmt.Errorf("%q: expected http://host or https://host; did you mean %s?", s, meant)
	}
	u, err := url.Parse(s)
	if err != nil || strings.Contains(u.Opaque, "@") {
		return nil, errors.New("not a URL: expected http://host or https://host") // what it quotes may be a password
	}
	shown := *u
	shown.User = nil
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q: expected http://host or https://host", shown.String())
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("%q: expected no query and no fragment", shown.String())
	}
	return u, nil
}

// originOf returns scheme, host and port; the port is never left out.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// oneLine returns the message of an error on one line of bounded length.
func oneLine(err error) string {
	return fmt.Sprintf("%.600s", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// Received returns how many bytes of bodies the upstream has sent.
func (u *Upstream) Received() int64 { return u.received.Load() }

// ViaHeader is a header field of answers with timestamp.json, in which a mirror names the mirrors through which its
// copy came; see mirror.Mirror.Via.
const ViaHeader = "Box-Update-Via"

// Via returns the ViaHeader of the last timestamp of the upstream, "" for an origin. Nothing verifies it.
func (u *Upstream) Via() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.via
}

// blame tells Config.Refused that the upstream sent something wrong, as the caller found out. The upstream stays in
// use.
func (u *Upstream) blame(reason error) {
	if told := u.client.c.Refused; told != nil {
		told(reason)
	}
}

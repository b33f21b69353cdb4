package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/openpowerquality/box-update-server/internal/explain"
)

// maxProbe is how many bytes of the answer to a probe are read; the rest is ignored.
const maxProbe = 64 << 10

// A serviceManager is told the state of the server, as sd_notify(3) says. Without one, nothing is sent.
type serviceManager struct {
	logger *slog.Logger
	send   func(state string) error
	alive  func(context.Context) error // whether the server answers
}

// newServiceManager returns the service manager of this process, for a server that listens at addr.
func newServiceManager(addr net.Addr, secure bool, logger *slog.Logger) *serviceManager {
	url := serverURL(addr.String(), secure) + "/livez"
	return &serviceManager{
		logger: logger,
		send: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		},
		alive: func(ctx context.Context) error { return answers(ctx, ownClient(), url) },
	}
}

// answers returns nil if a server answers anything, even a redirect to TLS or that it has no certificate yet: a restart
// would not help, and would ask an authority for certificates again and again.
func answers(ctx context.Context, client *http.Client, url string) error {
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	_, err := probe(ctx, client, url)
	if _, silent := errors.AsType[noAnswer](err); !silent {
		return nil
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert (RFC 8446, section 6)
		return nil
	}
	return err
}

// notify sends states. A failure is only logged: the server goes on.
func (s *serviceManager) notify(states ...string) {
	if err := s.send(strings.Join(states, "\n")); err != nil {
		s.logger.Warn("the state was not sent to the service manager", "state", states, "err", err)
	}
}

func (s *serviceManager) ready() { s.notify(daemon.SdNotifyReady, "STATUS=serving") }

// reloading is followed by ready.
func (s *serviceManager) reloading() {
	s.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec(), "STATUS=reading the settings again")
}

// stopping asks the service manager to wait until running downloads have ended.
func (s *serviceManager) stopping(limit time.Duration) {
	const spare = 10 * time.Second // to close what is open
	s.notify(daemon.SdNotifyStopping, "STATUS=waiting for running downloads to end",
		fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit+spare).Microseconds()))
}

// guard feeds the watchdog of the service manager, if it has one for this process. stop ends that and waits for it.
func (s *serviceManager) guard(ctx context.Context) (stop func()) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.logger.Warn("the watchdog of the service manager is not told", "err", err)
	}
	if err != nil || limit == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.watch(ctx, limit) })
	return func() {
		cancel()
		running.Wait()
	}
}

// watch feeds a watchdog that waits for limit, as long as the server answers.
func (s *serviceManager) watch(ctx context.Context, limit time.Duration) {
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, limit/3)
		err := s.alive(asked)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.logger.Error("the server does not answer itself: the watchdog is not told", "err", err)
		default:
			s.notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serverURL returns the URL of a server on this machine that listens at address, a host:port. If it listens on all
// interfaces, the URL names the loopback interface.
func serverURL(address string, secure bool) string {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + address
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// ownClient returns a client for a server on this machine. It uses a new connection for each request, and no proxy. It
// does not check the certificate, which is for the public name of the server: only the answer matters.
func ownClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
}

// A noAnswer says that a server could not be reached, or that its answer was cut.
type noAnswer struct{ err error }

func (e noAnswer) Error() string { return e.err.Error() }
func (e noAnswer) Unwrap() error { return e.err }

// probe returns the text at url. A status other than 200 is an error beside it.
func probe(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", noAnswer{fmt.Errorf("%s: %w", url, explain.Network(err))}
	}
	defer resp.Body.Close() // only read from
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProbe))
	if err != nil {
		return "", noAnswer{fmt.Errorf("%s: %w", url, err)}
	}
	if resp.StatusCode != http.StatusOK {
		return string(b), fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(b), nil
}

package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/status"
)

const (
	// maxPair bounds a certificate file and a key file, in bytes each.
	maxPair = 1 << 20

	// lookAgain is how long the files are taken to be what they were when they were looked at.
	lookAgain = time.Second
)

// certificateFiles are a certificate and its key in files, which somebody replaces now and then. A new pair
// that can't be used is told, and the old one stays.
type certificateFiles struct {
	certificate, key string // paths
	logger           *slog.Logger
	now              func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	was     [2]disk.Stamp // of the files that were read last
	looked  time.Time     // when
	problem string        // of what they hold
}

func openCertificateFiles(certificate, key string, logger *slog.Logger, now func() time.Time) (*certificateFiles, error) {
	f := &certificateFiles{certificate: certificate, key: key, logger: logger, now: now, looked: now()}
	var err error
	if f.was, err = f.stamps(); err == nil {
		f.pair, err = readPair(certificate, key)
	}
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("tls_certificate and tls_key: %w", err),
			"both are PEM files that the server may read: the certificate first, then those between it and its authority")
	}
	return f, nil
}

// readPair reads a certificate and its key.
func readPair(certificate, key string) (*tls.Certificate, error) {
	c, err := disk.ReadFile(certificate, maxPair)
	if err != nil {
		return nil, err
	}
	k, err := disk.ReadFile(key, maxPair)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certificate, key, err)
	}
	return &pair, nil
}

func (f *certificateFiles) stamps() (out [2]disk.Stamp, err error) {
	for i, path := range []string{f.certificate, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = disk.StampOf(info)
	}
	return out, nil
}

// Certificate returns the newest pair that can be used.
func (f *certificateFiles) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(f.now())
	return f.pair, nil
}

// Standing returns how the pair stands that is in use.
func (f *certificateFiles) Standing(at time.Time) []standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(at)
	return []standing{{f.certificate, f.pair.Leaf.NotBefore, f.pair.Leaf.NotAfter, f.problem}}
}

// look takes over what the files hold now, where that can be used. Files are replaced one after the other:
// as long as they don't fit each other, they are read each time.
func (f *certificateFiles) look(at time.Time) {
	if since := at.Sub(f.looked); since >= 0 && since < lookAgain {
		return
	}
	f.looked = at
	is, err := f.stamps()
	if err == nil && is == f.was && f.problem == "" {
		return
	}
	pair := f.pair
	if err == nil {
		pair, err = readPair(f.certificate, f.key)
	}
	if err == nil {
		err = f.worse(pair, at)
	}
	if err != nil {
		f.tell("the new certificate can't be used, the old one stays: " + err.Error())
		return
	}
	f.pair, f.was, f.problem = pair, is, ""
	f.logger.Info("certificate replaced", "file", f.certificate, "expires", pair.Leaf.NotAfter.UTC())
}

// worse refuses a pair that isn't valid at that time where the one in use is.
func (f *certificateFiles) worse(pair *tls.Certificate, at time.Time) error {
	valid := func(c *tls.Certificate) bool { return !at.Before(c.Leaf.NotBefore) && !at.After(c.Leaf.NotAfter) }
	if valid(pair) || !valid(f.pair) {
		return nil
	}
	return errors.New(f.certificate + ": it is valid from " + pair.Leaf.NotBefore.UTC().Format(time.RFC3339) +
		" to " + pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

func (f *certificateFiles) tell(problem string) {
	if problem != f.problem {
		f.logger.Error("certificate", "err", problem)
	}
	f.problem = problem
}

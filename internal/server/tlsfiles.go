package server

import (
	"crypto/tls"
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

	// filesCheck is the time between two checks whether the files have changed.
	filesCheck = time.Second
)

// certificateFiles is a certificate and its key in files, which are replaced now and then. A new pair that can't be used
// is reported, and the old one stays.
type certificateFiles struct {
	certificate, key string // paths
	logger           *slog.Logger
	now              func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	read    [2]disk.Stamp // of the files from which pair was read
	checked time.Time     // when the files were checked for changes
	problem string        // why the present files can't be used; "": pair is from them
}

func openCertificateFiles(certificate, key string, logger *slog.Logger, now func() time.Time) (*certificateFiles, error) {
	f := &certificateFiles{certificate: certificate, key: key, logger: logger, now: now, checked: now()}
	var err error
	if f.read, err = f.stamps(); err == nil {
		f.pair, err = readPair(certificate, key)
	}
	if err != nil {
		return nil, status.WithHint(fmt.Errorf("tls_certificate and tls_key: %w", err),
			"both are PEM files that the server may read: the certificate first, then the intermediate ones")
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

// Certificate returns the newest usable pair.
func (f *certificateFiles) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(f.now())
	return f.pair, nil
}

// Standing returns the state of the pair that is in use.
func (f *certificateFiles) Standing(at time.Time) []standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(at)
	return []standing{{f.certificate, f.pair.Leaf.NotBefore, f.pair.Leaf.NotAfter, f.problem}}
}

// refresh reads the files if they have changed. Files are replaced one after the other: while the two don't fit each other,
// each check reads them again.
func (f *certificateFiles) refresh(at time.Time) {
	if since := at.Sub(f.checked); since >= 0 && since < filesCheck {
		return
	}
	f.checked = at
	stamps, err := f.stamps()
	if err == nil && stamps == f.read && f.problem == "" {
		return
	}
	var pair *tls.Certificate
	if err == nil {
		pair, err = readPair(f.certificate, f.key)
	}
	if err == nil && !isValid(pair, at) && isValid(f.pair, at) {
		err = fmt.Errorf("%s: it is valid from %s to %s", f.certificate,
			pair.Leaf.NotBefore.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		problem := "the new certificate can't be used, the old one stays: " + err.Error()
		if problem != f.problem {
			f.logger.Error("certificate", "err", problem)
		}
		f.problem = problem
		return
	}
	f.pair, f.read, f.problem = pair, stamps, ""
	f.logger.Info("certificate replaced", "file", f.certificate, "expires", pair.Leaf.NotAfter.UTC())
}

func isValid(pair *tls.Certificate, at time.Time) bool {
	return !at.Before(pair.Leaf.NotBefore) && !at.After(pair.Leaf.NotAfter)
}

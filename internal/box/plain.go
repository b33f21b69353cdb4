package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// The plain mode is for boxes that have release.pub and no root. An update is verified when its detached
// signature fits the checksum line that the box makes itself, from the digest of the archive and the name that it
// asked for. The box never uses a checksum line of the server. A digest in /updates.json is a hint: if the signature
// does not fit it, the box downloads nothing, and a downloaded archive must have it.

// Bounds of files, in bytes.
const (
	maxKey = 4 << 10
	maxSig = 64
)

// readKey reads a public key file.
func readKey(path string) (keys.Public, error) {
	b, err := disk.ReadFile(path, maxKey)
	if err != nil {
		return keys.Public{}, fmt.Errorf("key: %w", err)
	}
	k, err := keys.ParsePEM(b)
	if err != nil {
		return keys.Public{}, fmt.Errorf("key: %s: %w", path, err)
	}
	return k, nil
}

// verifyPlain verifies a file as the update that the last element of path names. sigPath is the file of the detached
// signature, "" for the one beside path.
func verifyPlain(ctx context.Context, k keys.Public, f *os.File, path, sigPath string) (signing.Verified, error) {
	name, err := update.ParseName(filepath.Base(path))
	if err != nil {
		return signing.Verified{}, status.Usagef("%s: expected a file with the name of its update: %w", path, err)
	}
	if sigPath == "" {
		sigPath = path + ".sig"
	}
	b, err := disk.ReadFile(sigPath, maxSig)
	if err != nil {
		return signing.Verified{}, fmt.Errorf("signature: %w", err)
	}
	sig, err := signing.ParseSignature(b)
	if err != nil {
		return signing.Verified{}, refused(fmt.Errorf("%s: %w", sigPath, err))
	}
	v, err := signing.Verify(ctx, f, name, sig, k)
	return v, status.Coded(err)
}

// plainConfig returns the configuration, or the defaults if there is no file: the plain mode needs none.
func (b *Box) plainConfig() (config, error) {
	c, err := readConfig(b.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		c, err = parseConfig(b.ConfigPath, []byte("{}"))
	}
	if b.StateDir != "" {
		c.State = b.StateDir
	}
	return c, err
}

// plainSession is a session in the plain mode: it has a key instead of a root, and no trusted metadata.
type plainSession struct {
	*session
	opts      Options
	key       keys.Public
	installer *install.Installer
}

// changePlain locks the state directory, finishes an interrupted installation, and calls run.
func (b *Box) changePlain(ctx context.Context, opts Options, run func(*plainSession) error) error {
	c, err := b.plainConfig()
	if err != nil {
		return err
	}
	key, err := readKey(opts.Key)
	return b.withRecovered(ctx, c, nil, err, func(s *session, i *install.Installer) error {
		s.loadRecord()
		return run(&plainSession{session: s, opts: opts, key: key, installer: i})
	})
}

func (b *Box) plainInstall(ctx context.Context, path string, opts Options) error {
	if path == "" {
		return status.Usagef("--key needs a file to install")
	}
	return b.changePlain(ctx, opts, func(p *plainSession) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		v, err := verifyPlain(ctx, p.key, f, path, opts.Sig)
		if err != nil {
			return err
		}
		result, _, err := installVerified(ctx, p.installer, v, f, 0, opts)
		if err != nil {
			return err
		}
		return opts.Report(Outcome{Installed: []install.Result{result}, Status: statusOf(p.installer.Status())})
	})
}

func (b *Box) plainUpdate(ctx context.Context, url string, opts Options) error {
	if err := fetch.CheckURL(url); err != nil {
		return status.Usagef("%w", err)
	}
	url = strings.TrimRight(url, "/")
	return b.changePlain(ctx, opts, func(p *plainSession) error {
		if m, resting := p.record.paused(url, p.Now()); resting {
			return errPaused(url+" asked for a pause", m)
		}
		c, err := p.fetchConfig(p.config)
		if err != nil {
			return err
		}
		c.Upstreams = []string{url}
		if p.client, err = fetch.New(c); err != nil {
			return err
		}
		err = p.updateFrom(ctx, plainServer{p.client})
		m := Mirror{URL: url}
		m.Until, m.Reason = restOf(p.client.Upstreams()[0].State(), time.Now(), p.Now())
		p.record.notePause(m)
		return errors.Join(err, p.saveRecord())
	})
}

// updateFrom downloads and installs the newest update of a server, if the box takes it, and reports the outcome.
func (p *plainSession) updateFrom(ctx context.Context, s plainServer) error {
	newest, err := p.newest(ctx, s)
	if err != nil {
		return status.Coded(err)
	}
	out := p.offerPlain(newest)
	if out.Update == nil {
		err = p.removeDownloads(update.Name{})
	} else if err = p.installNewest(ctx, s, newest, &out); err != nil && len(out.Installed) == 0 {
		return err
	}
	out.Status = statusOf(p.installer.Status())
	return errors.Join(err, p.opts.Report(out))
}

// newest returns the newest update of a server, the zero Update if its version is not one to take. In that case it makes
// only one small request, unless nothing is installed.
func (p *plainSession) newest(ctx context.Context, s plainServer) (update.Update, error) {
	if p.installer.Status().Installed != nil {
		v, err := s.version(ctx)
		if err != nil && !errors.Is(err, fetch.ErrNotFound) {
			return update.Update{}, err
		}
		if err == nil && !p.takes(v) {
			return update.Update{}, nil
		}
	}
	return s.newest(ctx, p.Product)
}

// takes reports whether the box takes a version: a higher one than the installed one, or a lower one if that is allowed.
func (p *plainSession) takes(v update.Version) bool {
	installed := p.installer.Status()
	order := v.Compare(installed.Version)
	return installed.Installed == nil || order > 0 || order < 0 && p.opts.AllowDowngrade
}

// offerPlain returns whether the box takes the newest update of a server.
func (p *plainSession) offerPlain(newest update.Update) (out Outcome) {
	name := newest.Name
	if name.IsZero() {
		return out
	}
	if reason, aside := p.installer.Status().SetAside(name, newest.Digest); aside {
		out.Held = []Held{{Name: name, Hold: holdFailed, Reason: "it failed on this box: " + reason}}
	} else if p.takes(name.Version()) {
		out.Update = &name
	}
	return out
}

// installNewest downloads, verifies and installs an update, unless it has to wait for the maintenance window. It removes a
// download that does not verify, or that is not needed any more.
func (p *plainSession) installNewest(ctx context.Context, s plainServer, newest update.Update, out *Outcome) error {
	name := newest.Name
	sig, err := s.signature(ctx, name, p.key)
	if err != nil {
		return status.Coded(err)
	}
	if !newest.Digest.IsZero() {
		// If these don't fit, the digest or the signature is wrong: refuse before anything is downloaded.
		if _, err := signing.Open(newest.Digest, name, sig, p.key); err != nil {
			return refused(fmt.Errorf("%v: %w", s.Upstreams()[0], err))
		}
	}
	f, err := p.downloadPlain(ctx, s, newest)
	if err != nil {
		return status.Coded(err)
	}
	defer f.Close() // downloadPlain synced it, and Verify reads it back
	v, err := signing.Verify(ctx, io.NewSectionReader(f, 0, math.MaxInt64), name, sig, p.key)
	if errors.Is(err, signing.ErrSignature) {
		return errors.Join(refused(fmt.Errorf("%v: %w", s.Upstreams()[0], err)), p.FS.Remove(f.Name()))
	}
	if err != nil {
		return err
	}
	if out.Waits = p.waits(p.opts); out.Waits != "" {
		return nil
	}
	result, done, err := installVerified(ctx, p.installer, v, f, 0, p.opts)
	if err == nil {
		out.Update, out.Installed = nil, []install.Result{result}
	}
	if done {
		err = errors.Join(err, p.FS.Remove(f.Name()))
	}
	return err
}

// downloadPlain downloads an archive into a file of its name in the staging directory, and removes other archives there.
// If a part of the archive is there, the download continues it. The caller closes the file.
func (p *plainSession) downloadPlain(ctx context.Context, s plainServer, newest update.Update) (_ *os.File, err error) {
	dir := filepath.Join(p.State, stagingDir)
	if err := errors.Join(p.FS.MkdirAll(dir, 0o755), p.removeDownloads(newest.Name)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, newest.Name.String()), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	what := fetch.File{
		Name: newest.Name, Digest: newest.Digest, Length: newest.Length, Paths: []string{"update/" + newest.Name.String()},
		Begin: func(length int64) error {
			stamp, err := f.Stat()
			if err != nil {
				return err
			}
			return checkPlainRoom(dir, length, stamp.Size())
		},
	}
	if p.MaxBytesPerDay > 0 {
		what.Budget = budget{p.allowance(), newest.Name, newest.Digest}
	}
	if newest.Digest.IsZero() {
		what.Length = -1
	}
	_, _, err = s.WholeFile(ctx, what, f)
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(disk.AsNoSpace(err), f.Close())
	}
	return f, nil
}

// checkPlainRoom refuses an archive of length bytes, have of which are here, if the disk lacks room for the rest and for
// the installation.
func checkPlainRoom(dir string, length, have int64) error {
	after := install.Needs(length, 0)
	if err := disk.CheckSpace(dir, length-have+after, 0); err != nil {
		return fmt.Errorf("%w: the download needs %d bytes more, and its installation %d", err, length-have, after)
	}
	return nil
}

// removeDownloads removes all downloads except that of keep.
func (p *plainSession) removeDownloads(keep update.Name) error {
	paths, err := pathsIn(filepath.Join(p.State, stagingDir))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if n, err := update.ParseName(filepath.Base(path)); err != nil || n == keep {
			continue
		}
		if err := p.removeUnneeded(path); err != nil {
			return err
		}
	}
	return nil
}

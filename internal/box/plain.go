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

// openPlain verifies a file as the update that the last element of path names. sigPath is the file of the detached
// signature, "" for the one beside path.
func openPlain(ctx context.Context, k keys.Public, f *os.File, path, sigPath string) (signing.Verified, error) {
	name, err := update.ParseName(filepath.Base(path))
	if err != nil {
		return signing.Verified{}, status.Usagef("%s: expected a file under the name of its update: %w", path, err)
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

// plainBox is a box in the plain mode, whose state directory this process has locked.
type plainBox struct {
	*Box
	config
	Options
	by        keys.Public
	installer *install.Installer
	record    record
}

// withPlain locks the state directory, opens the installer and calls run. An interrupted installation is finished
// first, even if the key can't be read: services may be stopped.
func (b *Box) withPlain(ctx context.Context, w Options, run func(*plainBox) error) error {
	c, err := b.plainConfig()
	if err != nil {
		return err
	}
	k, lost := readKey(w.Key)
	if lost != nil && !c.interrupted() {
		return lost
	}
	lock, err := b.lockState(c)
	if err != nil {
		return err
	}
	err = b.withInstaller(ctx, c, func(i *install.Installer) error {
		if lost != nil {
			return lost
		}
		s := &plainBox{Box: b, config: c, Options: w, by: k, installer: i}
		if s.record, err = readRecord(c.State); err != nil {
			s.warn("%v", err)
		}
		return run(s)
	})
	return errors.Join(err, lock.Unlock())
}

func (b *plainBox) remember() error { return b.record.write(b.FS, b.State) }

func (b *plainBox) allowance() allowance {
	return allowance{b.MaxBytesPerDay, b.today, &b.record, b.remember}
}

// today returns the time that decides which day it is. The plain mode has no signed time; the time of the build is a
// lower bound.
func (b *plainBox) today() time.Time {
	if now := b.Now(); now.After(b.Built) {
		return now
	}
	return b.Built
}

func (b *Box) plainInstall(ctx context.Context, w Options, path string) error {
	if path == "" {
		return status.Usagef("--key needs a file to install")
	}
	return b.withPlain(ctx, w, func(s *plainBox) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		v, err := openPlain(ctx, s.by, f, path, w.Sig)
		if err != nil {
			return err
		}
		return s.install(ctx, v, f)
	})
}

// install installs a verified file.
func (b *plainBox) install(ctx context.Context, v signing.Verified, f *os.File) error {
	result, err := b.installer.Install(ctx, v, f, install.Options{AllowDowngrade: b.AllowDowngrade, Force: b.Force})
	if err != nil {
		return installError(b.installer, err)
	}
	return b.Report(Outcome{Installed: []install.Result{result}, Status: statusOf(b.installer.Status())})
}

func (b *Box) plainUpdate(ctx context.Context, w Options, server string) error {
	if err := fetch.CheckURL(server); err != nil {
		return status.Usagef("expected http://host or https://host: %w", err)
	}
	return b.withPlain(ctx, w, func(s *plainBox) error {
		c, err := b.fetchConfig(s.config)
		if err != nil {
			return err
		}
		server = strings.TrimRight(server, "/")
		c.Upstreams = []string{server}
		client, err := fetch.New(c)
		if err != nil {
			return err
		}
		defer client.Close()
		if m, resting := s.record.paused(server, s.Now()); resting {
			return status.WithCode(fmt.Errorf("%w: %s asked to be left alone until %s: %s",
				fetch.ErrUnavailable, server, m.Until.UTC().Format(time.RFC3339), m.Reason), status.ExitUnavailable)
		}
		err = s.update(ctx, plainServer{client})
		m := Mirror{URL: server}
		m.Until, m.Reason = restOf(client.Upstreams()[0].State(), time.Now(), s.Now())
		s.record.notePause(m)
		return errors.Join(err, s.remember())
	})
}

func (b *plainBox) update(ctx context.Context, s plainServer) error {
	newest, err := b.newer(ctx, s)
	if err != nil {
		return status.Coded(err)
	}
	o := Outcome{}
	if !newest.Name.IsZero() {
		o = b.offer(newest)
	}
	if o.Update != nil {
		if o.Waits, err = b.step(ctx, s, newest); err != nil || o.Waits == "" {
			return err
		}
	}
	o.Status = statusOf(b.installer.Status())
	return errors.Join(b.removeDownloadsBut(newest.Name, o.Update != nil), b.Report(o))
}

// newer returns the newest update of a server, the zero Update if the installed one is as new. In that case it makes only
// one small request.
func (b *plainBox) newer(ctx context.Context, s plainServer) (update.Update, error) {
	if in := b.installer.Status().Installed; in != nil {
		v, err := s.version(ctx)
		if err != nil && !errors.Is(err, fetch.ErrNotFound) {
			return update.Update{}, err
		}
		if order := v.Compare(in.Name.Version()); err == nil && (order == 0 || order < 0 && !b.AllowDowngrade) {
			return update.Update{}, nil
		}
	}
	return s.newest(ctx, b.Product)
}

// offer returns whether the box takes the newest update of a server.
func (b *plainBox) offer(newest update.Update) Outcome {
	status, name := b.installer.Status(), newest.Name
	var o Outcome
	if reason, aside := status.SetAside(name, newest.Digest); aside {
		o.Held = []Held{{Name: name, Hold: holdFailed, Reason: "it failed here: " + reason}}
		return o
	}
	order := name.Version().Compare(status.Version)
	if status.Installed != nil && (order == 0 || order < 0 && !b.AllowDowngrade) {
		return o
	}
	o.Update = &name
	return o
}

// step downloads, verifies and installs an update. If the update has to wait for the maintenance window, waits says so.
// A download that does not verify is removed.
func (b *plainBox) step(ctx context.Context, s plainServer, newest update.Update) (waits string, err error) {
	name := newest.Name
	sig, err := s.signature(ctx, name, b.by)
	if err != nil {
		return "", status.Coded(err)
	}
	if !newest.Digest.IsZero() {
		// If these don't fit, the digest or the signature is wrong: refuse before anything is downloaded.
		if _, err := signing.Open(newest.Digest, name, sig, b.by); err != nil {
			return "", refused(fmt.Errorf("%v: %w", s.Upstreams()[0], err))
		}
	}
	f, err := b.download(ctx, s, newest)
	if err != nil {
		return "", status.Coded(err)
	}
	defer f.Close() // download synced it, and Verify reads it back
	v, err := signing.Verify(ctx, io.NewSectionReader(f, 0, math.MaxInt64), name, sig, b.by)
	if errors.Is(err, signing.ErrSignature) {
		return "", errors.Join(refused(fmt.Errorf("%v: %w", s.Upstreams()[0], err)), b.FS.Remove(f.Name()))
	}
	if err != nil {
		return "", err
	}
	if !b.AnyTime && !b.Window.Open(b.Now()) {
		return "it is fetched, and installed between " + b.Window.String(), nil
	}
	err = b.install(ctx, v, f)
	if _, aside := b.installer.Status().SetAside(name, v.Digest()); err == nil || aside {
		err = errors.Join(err, b.FS.Remove(f.Name()))
	}
	return "", err
}

// download downloads an archive into a file of its name in the staging directory, and removes other archives there. If
// a part of the archive is there, the download continues it. The caller closes the file.
func (b *plainBox) download(ctx context.Context, s plainServer, newest update.Update) (_ *os.File, err error) {
	dir := filepath.Join(b.State, stagingDir)
	if err := errors.Join(b.FS.MkdirAll(dir, 0o755), b.removeDownloadsBut(newest.Name, true)); err != nil {
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
	if b.MaxBytesPerDay > 0 {
		what.Budget = budget{b.allowance(), newest.Name, newest.Digest}
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
		return fmt.Errorf("%w: %d bytes are to come, and %d are for installing it", err, length-have, after)
	}
	return nil
}

// removeDownloadsBut removes all downloads except, if it is wanted, that of name.
func (b *plainBox) removeDownloadsBut(name update.Name, wanted bool) error {
	dir := filepath.Join(b.State, stagingDir)
	old, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range old {
		if n, err := update.ParseName(e.Name()); err != nil || n == name && wanted {
			continue
		}
		if err := b.removeUnneeded(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

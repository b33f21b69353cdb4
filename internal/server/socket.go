package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/pace"
	"github.com/openpowerquality/box-update-server/status"
)

// maxReport bounds an answer of the admin listener, in bytes.
const maxReport = 16 << 20

// adminSocket returns the path of the socket of the process that holds a data directory.
func adminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// listenAdmin creates the socket of a data directory, which this process holds. A socket that is there already was left by
// a server that was killed.
func listenAdmin(dir string) (net.Listener, error) {
	if err := os.Remove(adminSocket(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Linux gives the file the mode that the socket has at bind(2), so that no other account can ever connect.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	var listener net.Listener
	err := atSocket(dir, func(path string) (err error) {
		listener, err = private.Listen(context.Background(), "unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", adminSocket(dir), err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)      // its path may go through a file descriptor
	if err := os.Chmod(adminSocket(dir), 0o600); err != nil { // for kernels that don't
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// atSocket calls use with a path of the admin socket of a data directory. The path of a socket has at most 107 bytes
// (unix(7)); a longer one is replaced by a path through the open directory.
func atSocket(dir string, use func(path string) error) error {
	const longest = 107
	path := adminSocket(dir)
	if len(path) <= longest {
		return use(path)
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close() // only held
	return use(adminSocket(fmt.Sprintf("/proc/self/fd/%d", f.Fd())))
}

// errNotAsked says that the process that holds a data directory has no socket: it does not serve, or is a server of an
// earlier version.
var errNotAsked = errors.New("the process that holds the data_dir can't be asked")

// ask sends a request to the process that holds a data directory, with a body unless that is nil, and reads the answer
// into out.
func ask(ctx context.Context, dir, path string, body io.Reader, out any) error {
	defer pace.Waiting(ctx, "waiting for the server of "+dir)()
	resp, err := request(ctx, dir, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read from
	return readReport(path, resp, out)
}

// request sends a request to the process that holds a data directory. The error is errNotAsked if there is no socket, or
// no process listens at it.
func request(ctx context.Context, dir, path string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin"+path, body)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		err = atSocket(dir, func(path string) (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
			return err
		})
		return conn, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}).Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, status.WithHint(fmt.Errorf("%w: nobody listens at %s", errNotAsked, adminSocket(dir)),
			"is boxsign or a single sync at work on it, or a server of an earlier version? wait for it, or stop it")
	case errors.Is(err, fs.ErrPermission):
		return nil, status.WithHint(fmt.Errorf("admin: %w", err), "run the command as the account that the server runs as")
	case err != nil:
		return nil, fmt.Errorf("admin: %w", err)
	}
	return resp, nil
}

func readReport(path string, resp *http.Response, out any) error {
	b, err := disk.ReadAll(resp.Body, maxReport)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, out); err != nil {
			return fmt.Errorf("admin: %s: %w", path, explain.JSON(b, err))
		}
		return nil
	}
	var failed refusal
	if json.Unmarshal(b, &failed) != nil || failed.Error == "" {
		failed.Error = resp.Status
	}
	return failed.error(path)
}

func (f refusal) error(path string) error {
	return status.WithCode(fmt.Errorf("admin: %s: %s", path, f.Error), f.Code)
}

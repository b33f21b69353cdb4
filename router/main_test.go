package router

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// serveEnv names the directory to serve, where this binary runs as a server under strace.
const serveEnv = "ROUTER_TEST_SERVE"

// bandwidthEnv is what that server limits bandwidth to.
const bandwidthEnv = "ROUTER_TEST_BANDWIDTH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serveUntilEOF(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Tests that run side by side wait for the kernel or for a browser.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, testworld.Lingering())
}

// serveUntilEOF serves newName in dir, logging each request, and prints its address.
func serveUntilEOF(dir string) error {
	n, err := update.ParseName(newName)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir + "/" + newName)
	if err != nil {
		return err
	}
	f := &fake{dir: dir}
	c, err := update.NewCatalog([]update.Update{{Name: n, Length: info.Size(), Digest: update.Digest{1}}}, false)
	if err != nil {
		return err
	}
	f.catalog.Store(c)
	bandwidth, err := strconv.ParseInt(os.Getenv(bandwidthEnv), 10, 64)
	if err != nil {
		return err
	}
	s, err := NewServer(Config{Source: f, MaxBandwidth: bandwidth, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Requests: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	fmt.Println(l.Addr())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if err := s.Shutdown(context.Background()); err != nil { // answers that have arrived are still logged
		return err
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

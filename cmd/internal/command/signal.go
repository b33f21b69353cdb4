package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/openpowerquality/box-update-server/status"
)

// UntilSignal returns a context that ends with the first SIGINT, for the cause status.ErrInterrupted, or SIGTERM. Both stay caught until stop is called, so that
// a second one does not end the process before it has cleaned up.
func UntilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			if s == os.Interrupt {
				cancel(status.ErrInterrupted)
			}
			cancel(nil)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

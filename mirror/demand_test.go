package mirror

import (
	"context"
	"runtime"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// TestWithoutDemands: what begins on demand just when a sync needs the room is ended, or begins afterwards.
func TestWithoutDemands(t *testing.T) {
	for range 200 {
		m := &Mirror{demands: map[update.Digest]context.CancelFunc{}}
		ctx, cancel := context.WithCancel(t.Context())
		alone, ended := make(chan error), make(chan error)
		m.mu.Lock() // so that both are on their way
		go func() { alone <- m.withoutDemands(func() error { return nil }) }()
		runtime.Gosched()
		go func() {
			ended <- m.runOnDemand(ctx, update.Digest{}, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}()
		runtime.Gosched()
		m.mu.Unlock()
		<-alone
		cancel()
		<-ended
	}
}

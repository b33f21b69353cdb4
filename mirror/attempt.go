package mirror

import (
	"context"
	"time"

	"github.com/openpowerquality/box-update-server/status"
)

// Attempt is how one sync went.
type Attempt struct {
	At     time.Time // its end
	Took   time.Duration
	Result               // what it did, also where it failed
	Reason status.Reason // why it failed; empty: it went well
}

// tell tells Config.Tried how a sync went that began then. One that was ended by its caller is none.
func (m *Mirror) tell(ctx context.Context, began time.Time, result Result, err error) {
	if m.c.Tried == nil || err != nil && ctx.Err() != nil {
		return
	}
	at := m.c.Now()
	a := Attempt{At: at, Took: at.Sub(began), Result: result, Reason: status.ReasonOf(err)}
	m.c.Tried(a)
}

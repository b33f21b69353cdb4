package store

import (
	"os"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
)

// Blocks are brought to the disk while others arrive: each time there are so many, or they are so old. A
// crash costs those of the settling under way and those that came since, twice as many at most.
const (
	settleBlocks = 8
	settleTime   = 2 * time.Second
)

// settleBehind begins a settling where one is due. Where the disk can't keep up, it waits for the one under
// way. It returns what went wrong with one before. The caller holds a.mu, which is let go while waiting.
func (a *arrival) settleBehind() error {
	if a.unsettled >= 2*settleBlocks {
		a.awaitSettling()
	}
	if err := a.failure(); err != nil {
		return err
	}
	due := a.unsettled >= settleBlocks || a.store.c.Now().Sub(a.since) >= settleTime
	if !due || a.settling != nil || a.file == nil || a.unsettled == 0 {
		return nil
	}
	a.settling, a.mapped = make(chan struct{}), true
	go a.settleNow(a.file, a.have.clone(), a.unsettled)
	return nil
}

// settleNow is a settling, of count blocks that are not settled yet.
func (a *arrival) settleNow(f *os.File, have bitmap, count int) {
	synced, err := a.bring(f, have)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conclude(have, count, synced, err)
	a.failed = err
	close(a.settling)
	a.settling = nil
}

// bring brings the blocks to the disk, and then the map that says that they are there.
func (a *arrival) bring(f *os.File, have bitmap) (synced bool, err error) {
	if err := a.store.c.FS.Sync(f); err != nil {
		return false, disk.AsNoSpace(err)
	}
	return true, disk.AsNoSpace(a.store.c.FS.WriteFile(a.mapPath(), have.encode(a.rel.Blocks()), 0o600))
}

// conclude takes over what a settling came to. Where the disk failed, the blocks since the last time have
// not arrived: a second fsync would not report them again. The caller holds a.mu.
func (a *arrival) conclude(have bitmap, count int, synced bool, err error) {
	switch {
	case !synced:
		a.forget(a.settled)
	case err == nil:
		a.settled, a.unsettled, a.since = have, a.unsettled-count, a.store.c.Now()
	}
}

// awaitSettling returns when no settling is under way. The caller holds a.mu, which is let go meanwhile.
func (a *arrival) awaitSettling() {
	for a.settling != nil {
		settling := a.settling
		a.mu.Unlock()
		<-settling
		a.mu.Lock()
	}
}

// failure returns, once, what went wrong with a settling. The caller holds a.mu.
func (a *arrival) failure() error {
	err := a.failed
	a.failed = nil
	return err
}

// settleLocked brings all that has arrived to the disk. The caller holds a.mu and has awaited the settling
// under way.
func (a *arrival) settleLocked() error {
	if a.unsettled == 0 || a.file == nil {
		return nil
	}
	have := a.have.clone()
	a.mapped = true
	synced, err := a.bring(a.file, have)
	a.conclude(have, a.unsettled, synced, err)
	return err
}

package box

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// A metered link may bring so many bytes of archives a day, max_bytes_per_day. What is over comes on the
// next days: an update that is longer than a day's share arrives in parts. Metadata don't count, and
// neither does what a mirror sent wrong. Days are those of UTC, by the reference time.

// errCap says that no more may come today.
var errCap = errors.New("the daily cap is reached")

// longestLag is by how much the clock of a box may go back without a new day: without a battery it begins
// after each power cut with the newest signed time, which is as old as a timestamp may get. A day further
// ahead was one of a clock that was wrong.
const longestLag = trust.TimestampLife

// bytesOn returns how many bytes came on a day.
func (r *record) bytesOn(today time.Time) int64 {
	on, err := time.Parse(time.DateOnly, r.Day)
	if err != nil || on.Before(today.UTC().Truncate(24*time.Hour)) || on.After(today.Add(longestLag)) {
		return 0
	}
	return r.Bytes
}

// addBytes counts bytes that came on a day.
func (r *record) addBytes(today time.Time, n int64) {
	if r.bytesOn(today) == 0 {
		r.Day, r.Bytes = today.UTC().Format(time.DateOnly), 0
	}
	r.Bytes += n
}

// part is so many bytes of an archive that are here.
type part struct {
	Digest update.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

// missing returns how many bytes of an update have to come still, as far as the part tells.
func (p part) missing(rel trust.Release) int64 {
	if p.Digest != rel.Digest() {
		return rel.Length()
	}
	return max(rel.Length()-p.Bytes, 0)
}

// allowance is what may come in a day.
type allowance struct {
	most   int64            // bytes; 0: any
	now    func() time.Time // by which days are told
	record *record
	save   func() error
}

func (s *session) allowance() allowance {
	return allowance{s.MaxBytesPerDay, s.today, &s.record, s.remember}
}

// today returns the time by which days are told.
func (s *session) today() time.Time {
	if repo, err := s.state.Current(); err == nil {
		return s.at(repo)
	}
	return s.Now()
}

// left returns how many bytes may come today.
func (a allowance) left() int64 {
	if a.most == 0 {
		return math.MaxInt64
	}
	return max(a.most-a.record.bytesOn(a.now()), 0)
}

// spend counts bytes that came.
func (a allowance) spend(n int64) error {
	if a.most == 0 || n == 0 {
		return nil
	}
	a.record.addBytes(a.now(), n)
	return a.save()
}

func (a allowance) over(name update.Name, need int64) error {
	return status.WithCode(fmt.Errorf("%v: %w: %d bytes have to come next, and max_bytes_per_day leaves %d today; the rest comes on the next days",
		name, errCap, need, a.left()), status.ExitHeld)
}

// budget is what may come in a day of an update.
type budget struct {
	allowance
	name   update.Name
	digest update.Digest
}

// Left returns how many bytes may come today.
func (b budget) Left() int64 { return b.left() }

// Spend counts bytes that came.
func (b budget) Spend(bytes, here int64) error {
	b.record.Part = part{b.digest, here}
	return b.spend(bytes)
}

// Over says that no more may come today.
func (b budget) Over(need int64) error { return b.over(b.name, need) }

// releaseBudget is the budget of an update of the signed list, of which no more than a block has to come at once, unless no mirror
// has a block list.
type releaseBudget struct{ budget }

// Over says that no more may come today, or ever.
func (b releaseBudget) Over(need int64) error {
	if need > b.most {
		return status.WithCode(fmt.Errorf("%v: no mirror has a block list, so that it has to come in one piece: expected max_bytes_per_day of %d and more, got %d",
			b.name, need, b.most), status.ExitHeld)
	}
	return b.budget.Over(need)
}

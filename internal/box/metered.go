package box

import (
	"errors"
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// On a metered link, a box downloads at most max_bytes_per_day bytes of archives a day. An update that is longer
// arrives over several days. Metadata don't count, and neither do wrong bytes that a mirror sent. A day is a day of UTC,
// by the reference time.

// errCap says that no more bytes may be downloaded today.
var errCap = errors.New("the daily cap is reached")

// longestLag is how far the clock of a box may go back without starting a new day. A clock without a battery starts
// after each power cut at the newest signed time, which is at most as old as a timestamp may get. A recorded day further
// in the future came from a wrong clock.
const longestLag = trust.TimestampLife

// bytesOn returns how many bytes came on the day of today.
func (r *record) bytesOn(today time.Time) int64 {
	on, err := time.Parse(time.DateOnly, r.Day)
	if err != nil || on.Before(today.UTC().Truncate(24*time.Hour)) || on.After(today.Add(longestLag)) {
		return 0
	}
	return r.Bytes
}

// addBytes adds n bytes to those that came on the day of today.
func (r *record) addBytes(today time.Time, n int64) {
	if r.bytesOn(today) == 0 {
		r.Day, r.Bytes = today.UTC().Format(time.DateOnly), 0
	}
	r.Bytes += n
}

// part says how many bytes of an archive are here.
type part struct {
	Digest update.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

// missing returns how many bytes of an update still have to come: all, unless p is a part of its archive.
func (p part) missing(rel trust.Release) int64 {
	if p.Digest != rel.Digest() {
		return rel.Length()
	}
	return max(rel.Length()-p.Bytes, 0)
}

// allowance counts the bytes that may come in a day.
type allowance struct {
	most   int64            // bytes a day
	now    func() time.Time // decides which day it is
	record *record
	save   func() error
}

func (s *session) allowance() allowance {
	return allowance{s.MaxBytesPerDay, s.today, &s.record, s.saveRecord}
}

// today returns the time that decides which day it is: the reference time if there is a repository, else the clock, or the
// time of the build if that is later.
func (s *session) today() time.Time {
	if s.state != nil {
		if repo, err := s.state.Current(); err == nil {
			return s.at(repo)
		}
	}
	if now := s.Now(); now.After(s.Built) {
		return now
	}
	return s.Built
}

// Left returns how many bytes may still come today.
func (a allowance) Left() int64 { return max(a.most-a.record.bytesOn(a.now()), 0) }

// budget is the allowance for the download of one update. It is a fetch.Budget.
type budget struct {
	allowance
	name   update.Name
	digest update.Digest
}

// Spend counts bytes that came, and records that here bytes of the archive are on the disk.
func (b budget) Spend(bytes, here int64) error {
	b.record.Part = part{b.digest, here}
	if bytes == 0 {
		return nil
	}
	b.record.addBytes(b.now(), bytes)
	return b.save()
}

// Over returns the error for need bytes that must come at once and are more than the cap leaves today.
func (b budget) Over(need int64) error {
	return status.WithCode(fmt.Errorf("%v: %w: the next part has %d bytes, and max_bytes_per_day leaves %d today; the download continues on the next days",
		b.name, errCap, need, b.Left()), status.ExitHeld)
}

// releaseBudget is the budget of an update of the signed list. It downloads block by block or, if no mirror has the block
// list, in one piece.
type releaseBudget struct{ budget }

// Over is like budget.Over, and says so if need is more than the cap of a whole day: then waiting does not help.
func (b releaseBudget) Over(need int64) error {
	if need > b.most {
		return status.WithCode(fmt.Errorf("%v: no mirror has its block list, so it must be downloaded in one piece: expected max_bytes_per_day of at least %d, got %d",
			b.name, need, b.most), status.ExitHeld)
	}
	return b.budget.Over(need)
}

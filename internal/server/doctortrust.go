package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/mirror"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// keys looks at the key files, without the repository that they are for.
func (c *checked) keys(ctx context.Context) (found []Finding) {
	if c.settings.OnlineKey != "" {
		if _, err := onlineKeys(ctx, c.settings.OnlineKey); err != nil {
			found = append(found, wrong("online_key", "the file must be there, belong to the account that the server runs as, and have mode 0600", "%v", err))
		}
	}
	if c.settings.ReleaseKey != "" {
		if _, err := readPublicKey(c.settings.ReleaseKey); err != nil {
			found = append(found, wrong("release_key", "it is release.pub, which boxsign init made", "%v", err))
		}
	}
	return found
}

// repository opens and verifies what the data directory holds.
func (c *checked) repository(ctx context.Context) []Finding {
	const (
		check = "repository"
		lost  = "bring data_dir back from a backup; a mirror may begin anew with an empty data_dir"
	)
	s := c.settings
	if len(s.Upstream) == 0 && !hasRepository(s.DataDir) {
		return nil
	}
	config, err := storeConfig(s, nil, c.now)
	if err != nil {
		return []Finding{wrong(check, "take N.root.json from the people who sign, not from the upstream", "%v", err)}
	}
	if c.store, err = store.OpenReadOnly(ctx, config); err != nil {
		c.store = nil
		return []Finding{wrong(check, lost, "%v", err)}
	}
	repo := c.store.Repository()
	if _, err := os.Stat(filepath.Join(s.DataDir, "metadata", "timestamp.json")); repo == nil && err == nil {
		_, err := c.store.Check(ctx, store.Check{})
		return []Finding{wrong(check, lost, "metadata/timestamp.json is there, and what it names does not verify: %v", err)}
	}
	if repo == nil {
		return []Finding{warning(check, "wait for the first sync, or see what is said of the upstreams", "nothing has been synced yet")}
	}
	var found []Finding
	for _, damage := range c.store.Damage() {
		found = append(found, warning(check, "restart the server, which writes it again; and have an eye on the disk", "the disk damaged a file: %v", damage))
	}
	found = append(found, ok(check, "targets %d with %d updates verifies", repo.Version(trust.RoleTargets), len(repo.Releases())))
	return append(found, c.contents(ctx, repo)...)
}

// contents looks whether what is listed is in place, and whether what is missing has room.
func (c *checked) contents(ctx context.Context, repo *trust.Repository) (found []Finding) {
	const check = "archives"
	problems, err := c.store.Check(ctx, store.Check{})
	if err != nil {
		return []Finding{wrong(check, "see the message", "%v", err)}
	}
	if len(problems) == 0 || c.settings.UpdatesDir != "" {
		return c.signer(repo)
	}
	advice := "box-update-server fsck says what is wrong; publish or withdraw with boxsign what is lost"
	if len(c.settings.Upstream) > 0 {
		advice = "box-update-server fsck, or the next sync, fetches it"
	}
	found = append(found, wrong(check, advice, "%d of those that are listed are not in place, the first: %v", len(problems), problems[0]))
	room, err := c.store.Room(ctx, c.store.Missing(repo))
	if err == nil && len(c.settings.Upstream) > 0 && room.Need > room.Free {
		found = append(found, wrong("disk", "make room, or keep fewer updates with keep_newest", "what is missing takes %d MB, and %d MB are free", room.Need>>20, room.Free>>20))
	}
	return append(found, c.signer(repo)...)
}

// signer looks whether the online key is one that the root names.
func (c *checked) signer(repo *trust.Repository) []Finding {
	if len(c.settings.Upstream) > 0 {
		return nil
	}
	if c.settings.OnlineKey == "" {
		return []Finding{warning("online_key", "set online_key to the file online.pem that boxsign init made", "it is not set: nothing can be published or renewed")}
	}
	signers, err := onlineKeys(context.Background(), c.settings.OnlineKey)
	if err != nil {
		return nil // another check reported it
	}
	for _, s := range signers {
		named := func(k keys.Public) bool { return k.ID() == s.Public().ID() }
		if slices.ContainsFunc(repo.Root().Keys(trust.RoleTimestamp), named) {
			return []Finding{ok("online_key", "the repository names it")}
		}
	}
	return []Finding{wrong("online_key", "use the key that the repository names, or have boxsign rotate the online key", "root %d does not name it", repo.Root().Version())}
}

// expiry tells of each role how long boxes will accept its file.
func (c *checked) expiry(context.Context) (found []Finding) {
	if c.store == nil || c.store.Repository() == nil {
		return nil
	}
	repo := c.store.Repository()
	for _, role := range trust.Roles() {
		found = append(found, c.judgeExpiry(repo, role))
	}
	if len(c.settings.Upstream) > 0 {
		f, _, err := mirror.ReadHealth(c.store, c.settings.Interval, c.now())
		if err == nil && f.Error != "" {
			found = append(found, wrong("sync", "see what is said of the upstreams", "no sync went well since %s: %s", f.Since.Format(time.RFC3339), f.Error))
		}
	}
	return found
}

// judgeExpiry judges the file of one role. People sign root and targets, and need time; the rest should be
// renewed by itself.
func (c *checked) judgeExpiry(repo *trust.Repository, role trust.Role) Finding {
	const (
		month = 30 * 24 * time.Hour
		spare = 6 * time.Hour // that a renewal, and a sync, may take
	)
	at, until := c.now(), repo.Expires(role)
	check, left := "expiry of "+string(role), until.Sub(at)
	text := fmt.Sprintf("version %d until %s", repo.Version(role), until.Format(time.RFC3339))
	advice := map[trust.Role]string{
		trust.RoleRoot:    "have the holders of the root key sign a new one: boxsign root renew",
		trust.RoleTargets: "publish something with boxsign, or sign the same list anew with boxsign renew --list",
	}[role]
	byItself := advice == ""
	switch {
	case !byItself:
	case len(c.settings.Upstream) > 0:
		advice = "the upstream must renew it and be reached: see what is said of the upstreams"
	default:
		advice = "the server must run, with online_key: its log says why it does not renew"
	}
	switch {
	case left <= 0:
		return wrong(check, advice, "expired: %s. Boxes refuse it", text)
	case byItself && left+spare < until.Sub(repo.Issued(role))/2:
		return wrong(check, advice, "more than half of its time is over, and it was not renewed: %s", text)
	case !byItself && left < month:
		return warning(check, advice, "%s", text)
	}
	return ok(check, "%s", text)
}

// clock compares the clock with signed times.
func (c *checked) clock(context.Context) []Finding {
	const check, advice = "clock", "set the clock, and have it kept right: timedatectl set-ntp true"
	at := c.now()
	if built := c.built; at.Before(built) {
		return []Finding{wrong(check, advice, "it says %s, and this program was built at %s", stamped(at), stamped(built))}
	}
	if c.store == nil || c.store.Repository() == nil {
		return nil
	}
	repo, signs := c.store.Repository(), len(c.settings.Upstream) == 0
	err := repo.CheckClock(at)
	switch {
	case err != nil && signs:
		return []Finding{wrong(check, origin.FailureOf(origin.ErrAhead).Hint, "%v", err)}
	case err != nil:
		return []Finding{wrong(check, advice, "%v", err)}
	case !signs:
		return []Finding{ok(check, "it is not behind the signed timestamp")}
	}
	if err := repo.CheckJump(at, trust.Change{}, c.built, c.settings.ClockChecked); err != nil {
		return []Finding{wrong(check, origin.FailureOf(origin.ErrJump).Hint, "%v", err)}
	}
	return []Finding{ok(check, "it is neither behind what was signed nor far ahead of it")}
}

func stamped(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// adviceFor returns what to do about an upstream that gave an error.
func adviceFor(err error) string {
	switch {
	case errors.Is(err, trust.ErrExpired):
		return "the upstream serves what is expired: tell its operator, and check the clock"
	case errors.Is(err, trust.ErrRollback):
		return "the upstream serves what is older than what is here: is it a mirror that is behind? ask another one"
	case errors.Is(err, trust.ErrThreshold), errors.Is(err, trust.ErrFork), errors.Is(err, trust.ErrMismatch), errors.Is(err, trust.ErrMalformed):
		return "what the upstream serves does not follow from the root here: is it the right URL, and the right root?"
	}
	return "is the URL right, and reached from here? try curl URL/metadata/timestamp.json"
}

package signer

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// renewal is what renew did, as JSON.
type renewal struct {
	Snapshot  int64     `json:"snapshot"`
	Timestamp int64     `json:"timestamp"`
	Expires   time.Time `json:"expires"` // of the timestamp
}

func newRenew(s cli.Streams) *cobra.Command {
	var o options
	list := false
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Sign what expires again",
		Long: `Sign a new timestamp and, when it is half over, a new snapshot, with the online key. A server on the
repository does that by itself; a directory behind another web server needs it at least every 7 days.
With --list the list is signed again with the release key, without a change, valid for another year.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return withHint(renewList(cmd.Context(), s, o))
			}
			return withHint(renew(cmd.Context(), s, o))
		},
	}
	o.repoFlags(cmd)
	cmd.Flags().BoolVar(&list, "list", false, "sign the list again too")
	return cmd
}

func renewList(ctx context.Context, s cli.Streams, o options) error {
	return inSession(ctx, s, o, !o.dryRun, func(x *session) error {
		e, err := x.editList(listOptions{}, nil)
		if err != nil {
			return err
		}
		return x.signList(ctx, e, listing{})
	})
}

func renew(ctx context.Context, s cli.Streams, o options) error {
	return inSession(ctx, s, o, !o.dryRun, func(x *session) error {
		if err := x.current(); err != nil {
			return err
		}
		if !o.dryRun {
			if err := x.publish(ctx, trust.Change{}, nil); err != nil {
				return err
			}
		}
		r := renewal{x.base.Version(trust.RoleSnapshot), x.base.Version(trust.RoleTimestamp), x.base.Expires(trust.RoleTimestamp).UTC()}
		if o.json {
			return s.JSON(r)
		}
		return printAll(s, "snapshot", r.Snapshot, "timestamp", r.Timestamp, "expires", stamp(r.Expires))
	})
}

package router

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Outcomes of an attempt to publish, besides the statuses of package origin.
const (
	publishRefused = "refused" // because of what the signer sent
	publishFailed  = "failed"  // because of an error of this server
)

func newPublishMetrics(r prometheus.Registerer) map[string]prometheus.Counter {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "publish_attempts_total",
		Help: "Lists and roots that were proposed, and commits, by what became of them."}, []string{"outcome"})
	r.MustRegister(attempts)
	out := map[string]prometheus.Counter{}
	for _, outcome := range []string{string(origin.StatusPending), string(origin.StatusStaged), string(origin.StatusCommitted), publishRefused, publishFailed} {
		out[outcome] = attempts.WithLabelValues(outcome)
	}
	return out
}

// measured returns a Publisher that counts what p does, or p itself if nothing is measured.
func (m *metrics) measured(p Publisher) Publisher {
	if m == nil || p == nil {
		return p
	}
	return measuredPublisher{p, m}
}

type measuredPublisher struct {
	Publisher
	metrics *metrics
}

// Propose counts the outcome of a proposal.
func (p measuredPublisher) Propose(ctx context.Context, role trust.Role, raw []byte) (origin.Outcome, error) {
	out, err := p.Publisher.Propose(ctx, role, raw)
	p.count(string(out.Status), err)
	return out, err
}

// Commit counts the outcome of a commit.
func (p measuredPublisher) Commit(ctx context.Context, id update.Digest) (status.Versions, error) {
	now, err := p.Publisher.Commit(ctx, id)
	p.count(string(origin.StatusCommitted), err)
	return now, err
}

// PutBlocks counts block lists that don't verify.
func (p measuredPublisher) PutBlocks(ctx context.Context, id, digest update.Digest, list []byte) error {
	err := p.Publisher.PutBlocks(ctx, id, digest, list)
	p.verified(list, err)
	return err
}

// PutBlock counts blocks that don't verify.
func (p measuredPublisher) PutBlock(ctx context.Context, id, digest update.Digest, i int, b []byte) error {
	err := p.Publisher.PutBlock(ctx, id, digest, i, b)
	p.verified(b, err)
	return err
}

// verified counts bytes that did not verify. An empty body is not counted: it only asks whether a block is wanted.
func (p measuredPublisher) verified(sent []byte, err error) {
	if len(sent) > 0 {
		p.refused(err)
	}
}

func (p measuredPublisher) count(outcome string, err error) {
	p.refused(err)
	if err != nil {
		outcome = publishRefused
		if wire, _ := status.WireOf(err); wire.Status >= http.StatusInternalServerError {
			outcome = publishFailed
		}
	}
	if c := p.metrics.publishes[outcome]; c != nil {
		c.Inc()
	}
}

func (p measuredPublisher) refused(err error) {
	if reason := status.RefusalOf(err); reason != "" {
		p.metrics.refused[reason].Add(1)
	}
}

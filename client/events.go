package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
)

// An Event is what a contract emitted or logged, verified: it is in a final receipt.
type Event struct {
	Cluster  proto.ClusterID  `json:"cluster"`
	Seq      uint64           `json:"seq"`
	Index    int              `json:"index"` // among the message's events
	Contract proto.ContractID `json:"contract"`
	Sealed   bool             `json:"sealed"` // to this client's key
	Log      bool             `json:"log"`
	Data     []byte           `json:"-"`
}

// ErrNoOutput: a node does not have the posted answer of a command that got one.
var ErrNoOutput = errors.New("client: the node does not have what was posted for the message: wait, or ask another node")

// Events returns what the cluster's messages from from up to to emitted: what is public,
// and what is sealed to this client's account. None is left out: the receipt binds all of
// a message's events together. Messages behind the final receipt are not looked at.
func (c *Client) Events(ctx context.Context, cluster proto.ClusterID, from, to uint64) ([]Event, error) {
	cl, err := c.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var key *commkey.SecretKey
	if c.key != nil {
		if key, err = commkey.New(c.key.Secret()[:32]); err != nil {
			return nil, err
		}
	}
	var out []Event
	for seq := max(from, 1); seq <= min(to, cl.FinalSeq); seq++ {
		o, err := c.posted(ctx, cluster, seq)
		if err != nil {
			return out, err
		}
		if o == nil {
			continue
		}
		for i, e := range o.Events {
			body := e.Body
			if e.Sealed {
				if key == nil {
					continue
				}
				if body, _, err = envelope.Open(proto.EventContext(c.net.Chain, cluster, seq, uint32(i)), key, e.Body); err != nil {
					continue // somebody else's
				}
			}
			ev, err := proto.ParseContractEvent(body)
			if err != nil {
				return out, fmt.Errorf("client: event %d of message %d: %w", i, seq, err)
			}
			out = append(out, Event{cluster, seq, i, ev.Contract, e.Sealed, ev.Log, ev.Data})
		}
	}
	return out, nil
}

// posted returns what was posted for a final message, checked against its receipt; nil
// for a message that has no answer.
func (c *Client) posted(ctx context.Context, cluster proto.ClusterID, seq uint64) (*proto.SealedOutput, error) {
	cmd, err := read(ctx, c, proto.StoreContracts, proto.KeyCommand(cluster, seq), proto.ParseCommandRecord)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, nil // not a command
	}
	if err != nil {
		return nil, err
	}
	rec, err := c.Receipt(ctx, cluster, cmd.Receipt)
	if err != nil {
		return nil, err
	}
	r, _ := agreed(rec)
	if r == nil || seq < r.FromSeq || seq > r.ToSeq {
		return nil, fmt.Errorf("%w: message %d of cluster %s", ErrReceipt, seq, cluster)
	}
	if !r.Items[seq-r.FromSeq].Answered {
		return nil, nil
	}
	outputs, err := c.node.Outputs(ctx, uint32(cluster), seq)
	if err != nil {
		return nil, err
	}
	for _, raw := range outputs {
		o, err := proto.ParseSealedOutput(raw)
		if err == nil && o.Seq == seq && uint64(o.Index) == seq-r.FromSeq && inTree(r, o, o.Commitment) {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%w: message %d of cluster %s", ErrNoOutput, seq, cluster)
}

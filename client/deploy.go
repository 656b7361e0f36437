package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/proto"
)

// A Deployment is a new contract.
type Deployment struct {
	Contract proto.ContractID `json:"contract"`
	Cluster  proto.ClusterID  `json:"cluster"`
	Code     proto.Hash       `json:"code"`
	Receipt  *Receipt         `json:"receipt"`
}

// Upload uploads a module, except for the chunks that the chain has. progress, which
// may be nil, is told how many chunks are done.
func (c *Client) Upload(ctx context.Context, module []byte, progress func(done, total int)) (proto.Hash, error) {
	if c.key == nil {
		return proto.Hash{}, ErrNoKey
	}
	if len(module) == 0 || len(module) > proto.MaxCode {
		return proto.Hash{}, fmt.Errorf("client: module of %d bytes, at least 1 and at most %d", len(module), proto.MaxCode)
	}
	m := proto.NewCodeManifest(module)
	hash, manifest := m.Hash(), m.Marshal()
	code, err := c.Code(ctx, hash)
	if err != nil && !errors.Is(err, rpc.ErrNotFound) {
		return hash, err
	}
	have := make([]bool, len(m.Chunks))
	if code != nil {
		if code.Missing() == 0 {
			return hash, nil
		}
		copy(have, code.Have)
	}
	var sent []string
	for i := range m.Chunks {
		if !have[i] {
			packed := proto.PackChunk(module[i*proto.ChunkSize:][:m.ChunkLen(uint32(i))])
			id, err := c.tx.Broadcast(ctx, 1_000_000+32*uint64(len(packed)), false, tx.UploadCode(c.Account(), manifest, uint32(i), packed))
			if err != nil {
				return hash, fmt.Errorf("chunk %d of %d: %w", i+1, len(have), err)
			}
			sent = append(sent, id)
		}
		if progress != nil {
			progress(i+1, len(have))
		}
	}
	for _, id := range sent {
		if _, err := c.tx.Wait(ctx, id); err != nil {
			return hash, err
		}
	}
	return hash, nil
}

// Deploy uploads a module and makes a contract of it in a cluster. arg is what its
// constructor takes. It returns when the constructor's receipt is final. With an error
// other than a *CallError there is a Deployment if it was sent and may take effect yet.
func (c *Client) Deploy(ctx context.Context, cluster proto.ClusterID, module, salt []byte, arg any, progress func(done, total int)) (*Deployment, error) {
	input, err := Input("Init", arg)
	if err == nil {
		err = checkInput(input)
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.Cluster(ctx, cluster); err != nil {
		return nil, err // before anything is paid
	}
	hash, err := c.Upload(ctx, module, progress)
	if err != nil {
		return nil, err
	}
	cl, err := c.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	id := proto.NewContractID(c.net.Chain, cluster, c.Account(), hash, salt)
	o := CallOptions{Expiry: 9_000}.filled()
	tier, _ := proto.TierFor(o.GasLimit)
	d := &Deployment{Contract: id, Cluster: cluster, Code: hash}
	var p *Pending
	open := false // sent, and not known to have come to nothing
	err = c.inEpoch(ctx, cl, func(cl *proto.Cluster) error {
		env := (&proto.Instantiated{Contract: id, Deployer: c.Account(), Code: hash,
			Command: proto.PushedCommand{Payer: c.Account(), Epoch: cl.Epoch, GasTier: tier, DepositLimit: o.DepositLimit}}).Context(c.net.Chain, cluster)
		if p, err = c.seal(ctx, cl, env, id, input, o); err != nil {
			return err
		}
		p.GasTier = tier
		code, err := c.Code(ctx, hash)
		if errors.Is(err, rpc.ErrNotFound) {
			// It came in the newest block, whose state the next header proves: nobody spoke of it yet.
			code, err = &proto.Code{Manifest: *proto.NewCodeManifest(module)}, nil
		}
		if err != nil {
			return err
		}
		res, err := c.tx.Send(ctx, proto.DeployGas(code, len(p.Envelope)), tx.Deploy(c.Account(), uint32(cluster), hash, salt, cl.Epoch, tier, o.DepositLimit, p.Envelope))
		open = err == nil || errors.Is(err, tx.ErrUnsure)
		if err != nil {
			return err
		}
		p.Tx = res.Hash
		return poll(ctx, 50*time.Millisecond, func() (bool, error) {
			ct, err := c.Contract(ctx, id)
			if errors.Is(err, ErrNoContract) || (err == nil && ct.Height < uint64(res.Height)) {
				return false, nil // in the newest block, whose state the next header proves
			}
			if err != nil {
				return false, err
			}
			switch ct.Phase {
			case proto.ContractRefused:
				open = false
				return false, fmt.Errorf("client: the cluster's workers refused the code %s: does it build with \"phala build\"?", hash)
			case proto.ContractExpired:
				open = false
				return false, errEpochEnded
			}
			p.Seq = ct.Seq
			return ct.Phase == proto.ContractStarted, nil
		})
	})
	if err != nil && !open {
		return nil, err
	}
	if err != nil {
		return d, err
	}
	d.Receipt, err = c.Wait(ctx, p)
	return d, err
}

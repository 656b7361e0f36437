package client

import (
	"crypto/rand"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
)

// SealReply seals what a seat that lies would answer: both ends of a channel have its key.
func (p *Pending) SealReply(plaintext []byte) ([]byte, error) {
	key, err := p.fresh.AsInitiator(p.epoch.EpochKey, commkey.Label{Purpose: p.ctx.Purpose, Chain: p.ctx.Chain, Epoch: p.ctx.Epoch, Direction: commkey.Reply})
	if err != nil {
		return nil, err
	}
	return envelope.NewReplier(p.ctx, p.fresh.Public(), p.epoch.EpochKey, key).Seal(rand.Reader, plaintext)
}

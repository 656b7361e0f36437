package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// ErrGrant: a grant that cannot be made, or is not this account's to revoke.
var ErrGrant = errors.New("client: no such grant")

// Grant makes a read grant: until term from now, the account reader may query the
// contracts, which are of one cluster, and they see this client's account as the caller.
// Nothing is sent; hand the grant to the reader (MarshalText), and keep a copy to
// [Client.Revoke] it.
func (c *Client) Grant(ctx context.Context, reader []byte, term time.Duration, contracts ...proto.ContractID) (*proto.Grant, error) {
	if c.key == nil {
		return nil, ErrNoKey
	}
	const longest = proto.MaxGrantTerm * time.Millisecond
	switch {
	case len(reader) != 20 && len(reader) != 32:
		return nil, fmt.Errorf("%w: the reader's account has %d bytes, not 20 or 32", ErrGrant, len(reader))
	case term < time.Millisecond || term > longest:
		return nil, fmt.Errorf("%w: a term of %s is not between a millisecond and %s", ErrGrant, term, longest)
	}
	contracts = slices.Clone(contracts)
	slices.SortFunc(contracts, func(a, b proto.ContractID) int { return bytes.Compare(a[:], b[:]) })
	contracts = slices.Compact(contracts)
	if len(contracts) == 0 || len(contracts) > proto.MaxGrantContracts {
		return nil, fmt.Errorf("%w: it names %d contracts, not 1 to %d", ErrGrant, len(contracts), proto.MaxGrantContracts)
	}
	g := &proto.Grant{Grantor: c.Account(), Reader: reader, Contracts: contracts, Scheme: uint8(identity.SchemeSr25519), PublicKey: c.Account()}
	for i, id := range contracts {
		ct, err := c.Contract(ctx, id)
		if err != nil {
			return nil, err
		}
		if i > 0 && ct.Cluster != g.Cluster {
			return nil, fmt.Errorf("%w: %s is in cluster %s, %s in cluster %s: make one for each cluster", ErrGrant, id, ct.Cluster, contracts[0], g.Cluster)
		}
		g.Cluster = ct.Cluster
	}
	// The chain's time and not this machine's: a revocation of all grants compares with the
	// time of its block.
	h, err := c.Sync(ctx)
	if err != nil {
		return nil, err
	}
	g.Issued = uint64(h.Time.UnixMilli())
	g.NotAfter = g.Issued + uint64(term.Milliseconds())
	if _, err := rand.Read(g.ID[:]); err != nil {
		return nil, err
	}
	sig, err := c.key.Sign(rand.Reader, g.SignedBytes(c.net.Chain))
	if err != nil {
		return nil, err
	}
	g.Signature = sig[:]
	return g, nil
}

// Revoke ends a grant of this account. When it returns the revocation is final: every
// worker that processed it refuses the grant.
func (c *Client) Revoke(ctx context.Context, g *proto.Grant, o CallOptions) (*Receipt, error) {
	if !bytes.Equal(g.Grantor, c.Account()) {
		return nil, fmt.Errorf("%w: another account gave it, and that account revokes it", ErrGrant)
	}
	return c.revoke(ctx, g.Cluster, &proto.Revocation{ID: g.ID, NotAfter: g.NotAfter}, o)
}

// RevokeAll ends every grant for contracts of a cluster that this account gave until now.
func (c *Client) RevokeAll(ctx context.Context, cluster proto.ClusterID, o CallOptions) (*Receipt, error) {
	return c.revoke(ctx, cluster, &proto.Revocation{All: true}, o)
}

func (c *Client) revoke(ctx context.Context, cluster proto.ClusterID, r *proto.Revocation, o CallOptions) (*Receipt, error) {
	if c.key == nil {
		return nil, ErrNoKey
	}
	p, err := c.push(ctx, cluster, proto.ClusterAddress, r.Marshal(), o)
	if err != nil {
		return nil, err
	}
	return c.Wait(ctx, p)
}

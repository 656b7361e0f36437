package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster/mtreap"
)

// The keys of revocations, and the index by the time at which each is forgotten.
var prefixForget = []byte("y/")

func grantHash(grantor []byte, id [16]byte) [32]byte {
	return transcript.Hash("phala/revoked-grant/v1", grantor, id[:])
}

func grantorHash(grantor []byte) [32]byte {
	return transcript.Hash("phala/revoked-grants/v1", grantor)
}

func keyRevoked(h [32]byte) []byte { return append([]byte("g/"), h[:]...) }

func keyForget(end uint64, h [32]byte) []byte {
	return append(binary.BigEndian.AppendUint64(bytes.Clone(prefixForget), end), h[:]...)
}

// revoke runs a command to the cluster itself.
func (o *overlay) revoke(a *answer, inv *proto.Invocation, r *proto.Revocation, now uint64) {
	gas := o.rules.Command.Open + o.rules.Command.Revoke
	if inv.GasLimit < gas {
		a.out.GasUsed = inv.GasLimit
		a.out.Status, a.out.Error = proto.StatusOutOfGas, fmt.Sprintf("a revocation takes %d gas: raise the gas limit", gas)
		return
	}
	a.out.GasUsed, a.out.Status = gas, proto.StatusOK
	if r.All {
		// No grant that this ends outlasts it, because none is longer than that.
		o.remember(grantorHash(inv.From), now, proto.MaxGrantTerm)
	} else {
		o.remember(grantHash(inv.From, r.ID), r.NotAfter, 0)
	}
}

// remember keeps a revocation until value+more. One that is there is only ever made
// longer.
func (o *overlay) remember(h [32]byte, value, more uint64) {
	if b, ok := o.m.Get(keyRevoked(h)); ok {
		old := binary.BigEndian.Uint64(b)
		if old >= value {
			return
		}
		o.m = o.m.Delete(keyForget(old+more, h))
	}
	o.m = o.m.Set(keyRevoked(h), binary.BigEndian.AppendUint64(nil, value)).Set(keyForget(value+more, h), nil)
}

// forget drops the revocations of grants that have ended by themselves.
func forget(m *mtreap.Map, now uint64) *mtreap.Map {
	for {
		k, _, ok := m.Next(prefixForget)
		if !ok || !bytes.HasPrefix(k, prefixForget) || binary.BigEndian.Uint64(k[2:]) >= now {
			return m
		}
		m = m.Delete(k).Delete(keyRevoked([32]byte(k[10:])))
	}
}

// revoked reports whether a grant that has not ended was revoked.
func (s *Snapshot) revoked(g *proto.Grant) bool {
	if _, one := s.m.Get(keyRevoked(grantHash(g.Grantor, g.ID))); one {
		return true
	}
	until, all := s.m.Get(keyRevoked(grantorHash(g.Grantor)))
	return all && g.Issued <= binary.BigEndian.Uint64(until)
}

// authorise checks the grant of a query, whose own signature was checked. It returns
// nil and why it does not hold: a word that stays the same, and what to do. now is the
// time of a header that is newer than the state.
func (c *Cluster) authorise(s *Snapshot, q *proto.Query, now uint64) (*proto.Grant, string) {
	g, err := proto.ParseGrant(q.Grant)
	if err != nil {
		return nil, fmt.Sprintf("malformed: %v: ask the grantor for the grant again", err)
	}
	switch {
	case len(q.From) == 0:
		return nil, fmt.Sprintf("reader: the query is not signed: a grant needs the signature of its reader, %s", named(g.Reader))
	case !bytes.Equal(q.From, g.Reader):
		return nil, fmt.Sprintf("reader: the grant is for %s, the query is signed by %s: ask as the former, or ask the grantor for a grant of your own", named(g.Reader), named(q.From))
	case g.Cluster != c.id:
		return nil, fmt.Sprintf("cluster: the grant is for cluster %s, this is cluster %s: ask a worker of the former", g.Cluster, c.id)
	case !g.Covers(q.To):
		return nil, fmt.Sprintf("contract: the grant does not name contract %s: ask the grantor for one that does", q.To)
	case now > g.NotAfter:
		return nil, fmt.Sprintf("expired: the grant ended at %s, the chain is at %s: ask the grantor for a new one", instant(g.NotAfter), instant(now))
	}
	signer, err := identity.VerifyScheme(identity.Scheme(g.Scheme), g.PublicKey, g.SignedBytes(c.chain), g.Signature)
	if err != nil || !bytes.Equal(signer, g.Grantor) {
		return nil, fmt.Sprintf("signature: the grant is not signed by %s for chain %s: ask the grantor to make it again", named(g.Grantor), c.chain)
	}
	// Last, so that only who has a grant learns that it was revoked.
	if s.revoked(g) {
		return nil, "revoked: the grantor has ended this grant: ask for a new one"
	}
	return g, ""
}

// named is an account as text, for people.
func named(b []byte) string {
	if s, err := address.Bech32(address.HRP, b); err == nil {
		return s
	}
	return hex.EncodeToString(b)
}

func instant(ms uint64) string {
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02 15:04:05 UTC")
}

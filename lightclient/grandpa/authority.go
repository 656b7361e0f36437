package grandpa

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// Key is an ed25519 public key, the identity of a GRANDPA voter.
type Key [32]byte

// String returns the key in hexadecimal with 0x in front.
func (k Key) String() string { return "0x" + hex.EncodeToString(k[:]) }

// An Authority is a voter and its weight.
type Authority struct {
	Key    Key
	Weight uint64
}

// An AuthoritySet is the list of voters that finalizes a range of blocks, with its id. The id is part of every
// signed vote and grows by one with each enacted change, also when the list stays the same. It is immutable.
type AuthoritySet struct {
	id    uint64
	list  []Authority
	index map[Key]int
	total uint64
}

// NewAuthoritySet makes a set. Unlike finality-grandpa's VoterSet, which adds up the weights of a repeated key and
// skips zero weights, it refuses both: no chain produces them, and a list in which each entry counts exactly once
// leaves no room for two readings of the total.
func NewAuthoritySet(id uint64, list []Authority) (*AuthoritySet, error) {
	if len(list) == 0 {
		return nil, fail(ErrSet, "set %d has no authorities", id)
	}
	if len(list) > MaxAuthorities {
		return nil, fail(ErrLimit, "set %d has %d authorities, limit %d", id, len(list), MaxAuthorities)
	}
	s := &AuthoritySet{id: id, list: slices.Clone(list), index: make(map[Key]int, len(list))}
	for i, a := range list {
		if a.Weight == 0 {
			return nil, fail(ErrSet, "set %d: authority %s has weight zero", id, a.Key)
		}
		if _, twice := s.index[a.Key]; twice {
			return nil, fail(ErrSet, "set %d: authority %s is listed twice", id, a.Key)
		}
		if s.total+a.Weight < s.total {
			return nil, fail(ErrSet, "set %d: total weight overflows 64 bits", id)
		}
		s.index[a.Key] = i
		s.total += a.Weight
	}
	return s, nil
}

// ID returns the set's id.
func (s *AuthoritySet) ID() uint64 { return s.id }

// Len returns the number of authorities.
func (s *AuthoritySet) Len() int { return len(s.list) }

// Authorities returns a copy of the list, in the chain's order.
func (s *AuthoritySet) Authorities() []Authority { return slices.Clone(s.list) }

// TotalWeight returns the sum of all weights.
func (s *AuthoritySet) TotalWeight() uint64 { return s.total }

// Threshold returns the weight that finalizes: total - (total-1)/3, the smallest weight whose owners cannot be
// contradicted by as many others while fewer than a third of the weight is faulty (finality-grandpa, VoterSet).
func (s *AuthoritySet) Threshold() uint64 { return s.total - (s.total-1)/3 }

// Next returns the set that follows s when change is enacted: its list, and the id plus one.
func (s *AuthoritySet) Next(change *ScheduledChange) (*AuthoritySet, error) {
	if s.id == ^uint64(0) {
		return nil, fail(ErrSet, "set id overflows")
	}
	return NewAuthoritySet(s.id+1, change.Next)
}

// DecodeAuthorities decodes the value of the storage item Grandpa::Authorities, a Vec of (key, weight). versioned
// says that the value is that of the older well-known key ":grandpa_authorities", which has the version byte 1 in
// front.
func DecodeAuthorities(value []byte, versioned bool) ([]Authority, error) {
	d := scale.NewDecoder(value)
	if versioned {
		if v := d.U8("version of :grandpa_authorities"); v != 1 {
			d.Fail(scale.ErrTag, "version of :grandpa_authorities")
		}
	}
	list := readAuthorities(d)
	if err := d.Finish(); err != nil {
		return nil, decodeError("authority list", err)
	}
	return list, nil
}

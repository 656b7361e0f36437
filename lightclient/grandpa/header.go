package grandpa

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// Limits on what is decoded. They are far above anything a real chain produces and bound memory and time.
const (
	MaxDigestItems   = 1024    // logs in one header (Kusama #7,472,481 has 27)
	MaxDigestBytes   = 1 << 20 // bytes in one log (a change to 10,000 authorities takes 400 kB)
	MaxAuthorities   = 10_000  // authorities in one set (Kusama has 1,000)
	MaxVotes         = MaxAuthorities
	MaxAncestries    = 8192     // headers in votes_ancestries
	MaxHeaders       = 16_384   // headers in one update (a Polkadot set lasts 2,400 blocks)
	MaxWarpFragments = 4096     // fragments in one warp-sync proof
	MaxProofBytes    = 16 << 20 // bytes of one finality or warp-sync proof (Substrate answers at most 8 MiB)
)

// Hash is a BLAKE2b-256 hash.
type Hash [32]byte

// String returns the hash in hexadecimal with 0x in front, as Substrate tools print it.
func (h Hash) String() string { return "0x" + hex.EncodeToString(h[:]) }

// A BlockID names a block by number and hash.
type BlockID struct {
	Number uint32
	Hash   Hash
}

// String returns "#number hash".
func (b BlockID) String() string { return fmt.Sprintf("#%d %s", b.Number, b.Hash) }

// EngineID is the four-byte name of a consensus engine in a digest.
type EngineID [4]byte

// The engines that this client reads.
var (
	EngineGRANDPA = EngineID{'F', 'R', 'N', 'K'}
	EngineBABE    = EngineID{'B', 'A', 'B', 'E'}
	EngineAura    = EngineID{'a', 'u', 'r', 'a'}
)

// DigestKind is the variant index of a digest item.
type DigestKind uint8

// The digest items of sp-runtime's DigestItem.
const (
	DigestOther              DigestKind = 0
	DigestConsensus          DigestKind = 4
	DigestSeal               DigestKind = 5
	DigestPreRuntime         DigestKind = 6
	DigestEnvironmentUpdated DigestKind = 8
)

// A DigestItem is one log of a header. Engine is set for consensus, seal and pre-runtime logs; Data for all but
// DigestEnvironmentUpdated.
type DigestItem struct {
	Kind   DigestKind
	Engine EngineID
	Data   []byte
}

// A Header is a Substrate block header with BLAKE2b-256 hashes and 32-bit block numbers, as all public relay chains
// and parachains have them.
type Header struct {
	ParentHash     Hash
	Number         uint32
	StateRoot      Hash
	ExtrinsicsRoot Hash
	Digest         []DigestItem
}

// headerMin is the size of the smallest header: three hashes, number and an empty digest.
const headerMin = 32 + 1 + 32 + 32 + 1

// DecodeHeader decodes a header and refuses trailing bytes.
func DecodeHeader(b []byte) (*Header, error) {
	d := scale.NewDecoder(b)
	h := readHeader(d)
	if err := d.Finish(); err != nil {
		return nil, decodeError("header", err)
	}
	return h, nil
}

func readHash(d *scale.Decoder, what string) (h Hash) {
	copy(h[:], d.Raw(32, what))
	return h
}

func readHeader(d *scale.Decoder) *Header {
	h := &Header{ParentHash: readHash(d, "parent hash")}
	h.Number = d.Compact32("block number")
	h.StateRoot = readHash(d, "state root")
	h.ExtrinsicsRoot = readHash(d, "extrinsics root")
	n := d.Len(1, MaxDigestItems, "digest")
	if n == 0 {
		return h
	}
	h.Digest = make([]DigestItem, 0, min(n, 32))
	for i := 0; i < n && d.Err() == nil; i++ {
		h.Digest = append(h.Digest, readDigestItem(d))
	}
	return h
}

func readDigestItem(d *scale.Decoder) (item DigestItem) {
	item.Kind = DigestKind(d.U8("digest item kind"))
	switch item.Kind {
	case DigestConsensus, DigestSeal, DigestPreRuntime:
		copy(item.Engine[:], d.Raw(4, "digest engine"))
		item.Data = clone(d.Bytes(MaxDigestBytes, "digest data"))
	case DigestOther:
		item.Data = clone(d.Bytes(MaxDigestBytes, "digest data"))
	case DigestEnvironmentUpdated:
	default:
		d.Fail(scale.ErrTag, fmt.Sprintf("digest item kind %d", item.Kind))
	}
	return item
}

// clone copies b, so that what is kept does not hold the whole input in memory.
func clone(b []byte) []byte { return append([]byte(nil), b...) }

// Append appends the SCALE encoding of h to b.
func (h *Header) Append(b []byte) []byte {
	b = append(b, h.ParentHash[:]...)
	b = scale.AppendCompact(b, uint64(h.Number))
	b = append(b, h.StateRoot[:]...)
	b = append(b, h.ExtrinsicsRoot[:]...)
	b = scale.AppendCompact(b, uint64(len(h.Digest)))
	for i := range h.Digest {
		b = h.Digest[i].Append(b)
	}
	return b
}

// Append appends the SCALE encoding of the log to b.
func (item *DigestItem) Append(b []byte) []byte {
	b = append(b, byte(item.Kind))
	switch item.Kind {
	case DigestEnvironmentUpdated:
		return b
	case DigestConsensus, DigestSeal, DigestPreRuntime:
		b = append(b, item.Engine[:]...)
	}
	return scale.AppendBytes(b, item.Data)
}

// DecodeDigestItem decodes a single log, as RPC answers carry them.
func DecodeDigestItem(b []byte) (DigestItem, error) {
	d := scale.NewDecoder(b)
	item := readDigestItem(d)
	if err := d.Finish(); err != nil {
		return DigestItem{}, decodeError("digest item", err)
	}
	return item, nil
}

// Hash returns the block hash: BLAKE2b-256 over the whole encoding, seal included.
func (h *Header) Hash() Hash { return blake2b.Sum256(h.Append(nil)) }

// ID returns number and hash.
func (h *Header) ID() BlockID { return BlockID{Number: h.Number, Hash: h.Hash()} }

// Slot returns the BABE or Aura slot in which the block was made. GRANDPA itself has no clock; the slot number
// times the chain's slot duration is the block's time since the Unix epoch. ok is false where the header has no
// well-formed pre-runtime digest of either engine, or several.
//
// BABE's pre-digest (sp-consensus-babe PreDigest) is the variant 1 primary, 2 secondary plain or 3 secondary VRF,
// then the authority index as u32 and the slot as u64; Aura's is the slot alone.
func (h *Header) Slot() (slot uint64, ok bool) {
	for i := range h.Digest {
		item := &h.Digest[i]
		if item.Kind != DigestPreRuntime || item.Engine != EngineBABE && item.Engine != EngineAura {
			continue
		}
		if ok {
			return 0, false
		}
		d := scale.NewDecoder(item.Data)
		vrf := 0
		if item.Engine == EngineBABE {
			switch d.U8("pre-digest kind") {
			case 1, 3:
				vrf = 32 + 64 // VRF output and proof
			case 2:
			default:
				return 0, false
			}
			d.U32("authority index")
		}
		slot = d.U64("slot")
		d.Raw(vrf, "VRF signature")
		if d.Finish() != nil {
			return 0, false
		}
		ok = true
	}
	return slot, ok
}

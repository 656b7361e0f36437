package grandpa

import (
	"fmt"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// The variants of sp-consensus-grandpa's ConsensusLog, the payload of a consensus digest of engine FRNK.
const (
	logScheduledChange = 1
	logForcedChange    = 2
	logOnDisabled      = 3
	logPause           = 4
	logResume          = 5
)

// A ScheduledChange announces the next authorities. It is enacted once the block Delay blocks after the announcing
// one is finalized, by the old set; the next set signs from the block after that.
type ScheduledChange struct {
	Next  []Authority
	Delay uint32
}

// ScheduledChange returns the authority change that the header announces, or nil. All FRNK logs are read: a real
// header carries OnDisabled logs in front of a change. It refuses, as kinds that need a new checkpoint, a forced change (enacted without
// finality, so no proof can follow it), a pause or resume, a log it cannot decode and more than one change.
func (h *Header) ScheduledChange() (*ScheduledChange, error) {
	var change *ScheduledChange
	for i := range h.Digest {
		item := &h.Digest[i]
		if item.Kind != DigestConsensus || item.Engine != EngineGRANDPA {
			continue
		}
		next, err := readGrandpaLog(item.Data)
		if err != nil {
			return nil, within(fmt.Sprintf("digest item %d of block #%d", i, h.Number), err)
		}
		if next == nil {
			continue
		}
		if change != nil {
			return nil, fail(ErrManyChanges, "block #%d announces two authority changes", h.Number)
		}
		change = next
	}
	return change, nil
}

func readGrandpaLog(data []byte) (*ScheduledChange, error) {
	d := scale.NewDecoder(data)
	switch tag := d.U8("GRANDPA log kind"); {
	case d.Err() != nil:
		return nil, &Error{Kind: ErrUnknownDigest, Detail: "empty GRANDPA log", Cause: d.Err()}
	case tag == logScheduledChange:
		change := &ScheduledChange{Next: readAuthorities(d), Delay: d.U32("delay")}
		if err := d.Finish(); err != nil {
			return nil, &Error{Kind: ErrUnknownDigest, Detail: "malformed scheduled change", Cause: err}
		}
		return change, nil
	case tag == logForcedChange:
		return nil, fail(ErrForcedChange, "authorities changed without finality")
	case tag == logOnDisabled:
		d.U64("disabled authority")
		if err := d.Finish(); err != nil {
			return nil, &Error{Kind: ErrUnknownDigest, Detail: "malformed OnDisabled log", Cause: err}
		}
		return nil, nil
	case tag == logPause:
		return nil, fail(ErrPause, "pause log")
	case tag == logResume:
		return nil, fail(ErrPause, "resume log")
	default:
		return nil, fail(ErrUnknownDigest, "GRANDPA log of kind %d", tag)
	}
}

func readAuthorities(d *scale.Decoder) []Authority {
	n := d.Len(40, MaxAuthorities, "authorities")
	list := make([]Authority, n)
	for i := range list {
		copy(list[i].Key[:], d.Raw(32, "authority key"))
		list[i].Weight = d.U64("authority weight")
	}
	return list
}

func appendAuthorities(b []byte, list []Authority) []byte {
	b = scale.AppendCompact(b, uint64(len(list)))
	for i := range list {
		b = append(b, list[i].Key[:]...)
		b = appendU64(b, list[i].Weight)
	}
	return b
}

// DigestItem returns the log that announces the change.
func (c *ScheduledChange) DigestItem() DigestItem {
	data := appendAuthorities([]byte{logScheduledChange}, c.Next)
	return DigestItem{Kind: DigestConsensus, Engine: EngineGRANDPA, Data: appendU32(data, c.Delay)}
}

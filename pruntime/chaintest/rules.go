package chaintest

import (
	"slices"

	"github.com/phala-go/phala/proto"
)

// WantRules is governance's word for the version of the rules under which clusters are to
// run.
func (c *Chain) WantRules(version uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = version
}

// holdBlocks is how long contracts wait to start while the seats agree on the codes.
const holdBlocks = 20

func (c *Chain) held(cl *proto.Cluster) bool {
	return cl.Held != 0 && uint64(c.C.Height())+1 < cl.Held+holdBlocks
}

func (c *Chain) rulesReady(cl *proto.Cluster, w proto.WorkerID, e proto.RulesReady) error {
	if e.Version != cl.Wanted {
		return nil
	}
	if e.Seq > cl.CodesSeq {
		return refuse("contracts", 2, "codes up to message %d, the newest that may have changed them is %d", e.Seq, cl.CodesSeq)
	}
	cl.Ready = slices.DeleteFunc(cl.Ready, func(o proto.RulesWord) bool { return o.Worker == w || !cl.HasSeat(o.Worker) })
	cl.Ready = append(cl.Ready, proto.RulesWord{Worker: w, Seq: e.Seq, Images: e.Images})
	c.putCluster(cl)
	return nil
}

// followRules asks a cluster's seats for the version that is wanted, and puts it into force
// when all agree.
func (c *Chain) followRules(cl *proto.Cluster) {
	topic, height, wanted := proto.TopicCluster(cl.ID), uint64(c.C.Height())+1, uint32(0)
	if c.rules > cl.Rules {
		wanted = c.rules
	}
	images, agreed := cl.RulesAgreed()
	late := slices.ContainsFunc(cl.Ready, func(w proto.RulesWord) bool { return cl.HasSeat(w.Worker) && w.Seq != cl.CodesSeq })
	switch {
	case wanted != cl.Wanted:
		cl.Wanted, cl.CodesSeq, cl.Ready, cl.Held = wanted, c.send(topic, proto.RulesWanted{Version: max(wanted, cl.Rules)}), nil, 0
	case wanted == 0 || len(cl.RulesMissing()) > 0:
		return
	case agreed:
		cl.Rules, cl.Wanted, cl.CodesSeq, cl.Ready, cl.Held = wanted, 0, 0, nil, 0
		c.send(topic, proto.RulesActivated{Version: wanted, EffectiveHeight: height + 1, Images: images})
		c.again = append(c.again, cl.ID)
	case late && (cl.Held == 0 || height >= cl.Held+2*holdBlocks):
		cl.Held = height
	default:
		return
	}
	c.putCluster(cl)
}

// announceAgain announces the codes for which contracts wait in clusters whose rules have
// changed.
func (c *Chain) announceAgain() {
	for _, id := range c.again {
		said := map[proto.Hash]bool{}
		for _, ct := range c.waiting {
			if ct.Cluster == id && !said[ct.Code] {
				said[ct.Code] = true
				c.send(proto.TopicCluster(id), proto.CodeAnnounced{Code: ct.Code, Size: c.codes[ct.Code].Manifest.Size})
			}
		}
	}
	c.again = nil
}

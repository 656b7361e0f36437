package proto

import (
	"bytes"
	"slices"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// A cluster runs under one version of the rules: what contracts may contain, how they are
// instrumented, and what everything costs. Versions count from 1, and a build that knows
// one knows those before it. The way to the next version is in package contracts.

// RulesWanted (topic cluster/<id>): the cluster is to run under a newer version. A seat
// whose build knows it prepares the cluster's codes under it and says RulesReady. A version
// that is not newer than the cluster's takes back what was wanted before.
type RulesWanted struct{ Version uint32 }

// RulesActivated (topic cluster/<id>): the cluster runs under the version from
// EffectiveHeight on, which is the height after the message's. The message is the last of
// its height: whatever follows it follows under the new rules.
type RulesActivated struct {
	Version         uint32
	EffectiveHeight uint64
	Images          Hash // ImagesDigest of the cluster's codes under the version, as all seats prepared them
}

// RulesReady is a seat's word that it can run the cluster under the version that is
// wanted: all codes that the cluster has after message Seq are prepared, or refused, to
// these images.
type RulesReady struct {
	Cluster ClusterID
	Version uint32
	Seq     uint64 // RulesWanted, or the newest constructor after it
	Images  Hash   // ImagesDigest
}

func (RulesActivated) eventKind() uint8 { return 1 }
func (RulesWanted) eventKind() uint8    { return 17 }
func (RulesReady) entryKind() uint8     { return 13 }

func (e RulesActivated) encode(w *wire.Writer) {
	w.U32(e.Version).U64(e.EffectiveHeight).Fixed(e.Images[:])
}
func (e RulesWanted) encode(w *wire.Writer) { w.U32(e.Version) }
func (e RulesReady) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U32(e.Version).U64(e.Seq).Fixed(e.Images[:])
}

// A CodeImage is what a code becomes under a version of the rules: the hash of its image,
// or zero where they refuse it.
type CodeImage struct{ Code, Image Hash }

// ImagesDigest commits to the images of a set of codes. It sorts the list.
func ImagesDigest(version uint32, images []CodeImage) Hash {
	slices.SortFunc(images, func(a, b CodeImage) int { return bytes.Compare(a.Code[:], b.Code[:]) })
	w := wire.NewWriter(64 * len(images))
	for i := range images {
		w.Fixed(images[i].Code[:]).Fixed(images[i].Image[:])
	}
	return transcript.Hash("phala/images/v1", transcript.U64(uint64(version)), w.Bytes())
}

// A RulesWord is what a seat said last about the version that is wanted.
type RulesWord struct {
	Worker WorkerID
	Seq    uint64
	Images Hash
}

// RulesAgreed returns the digest on which all seats agree for the version that is wanted. There
// must be as many seats as decide otherwise, so that the first ones to come do not answer
// for the rest.
func (c *Cluster) RulesAgreed() (images Hash, ok bool) {
	n := 0
	for _, w := range c.Ready {
		if !c.HasSeat(w.Worker) {
			continue
		}
		if w.Seq != c.CodesSeq || n > 0 && w.Images != images {
			return Hash{}, false
		}
		images, n = w.Images, n+1
	}
	return images, n == len(c.Seats) && n >= c.Majority()
}

// RulesMissing lists the seats that have not said that they can run under the version that is
// wanted, whatever the codes of the moment. It is empty where none is wanted.
func (c *Cluster) RulesMissing() (out []WorkerID) {
	if c.Wanted == 0 {
		return nil
	}
	for _, s := range c.Seats {
		if !slices.ContainsFunc(c.Ready, func(w RulesWord) bool { return w.Worker == s }) {
			out = append(out, s)
		}
	}
	return out
}

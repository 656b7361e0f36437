package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster/mtreap"
	"github.com/phala-go/phala/pruntime/engine"
)

// ErrRules: rules that this build does not know. It would compute other results.
var ErrRules = errors.New("cluster: unknown rules version")

// ErrImage: this replica prepared a code to another image than the cluster's seats agreed
// on. It would compute other results and must not run it.
var ErrImage = errors.New("cluster: code was prepared to another image than the cluster's seats agreed on")

// Programs finds prepared codes, and the rules under which they were.
type Programs interface {
	// Program returns a code as it is under a version of the rules: nil while it is not
	// prepared, and an error if the rules refuse it.
	Program(code proto.Hash, rules uint32) (*engine.Program, error)
	// Rules returns a version, nil for one that this build does not know.
	Rules(version uint32) *engine.Rules
}

// A NeedCode lists codes that Apply waits for, under which rules.
type NeedCode struct {
	Codes []proto.Hash
	Rules uint32
}

// Error says what is needed.
func (e *NeedCode) Error() string {
	return fmt.Sprintf("%s: %s and %d more, under version %d of the rules", ErrNeedCode, e.Codes[0], len(e.Codes)-1, e.Rules)
}

// Is reports whether target is ErrNeedCode.
func (e *NeedCode) Is(target error) bool { return target == ErrNeedCode }

// unknown is the error for rules that this build does not know.
func unknown(version uint32) error {
	return fmt.Errorf("%w: %d: install a release that knows it", ErrRules, version)
}

// keyWanted holds the version that is wanted and the message after which the seats' words
// must be, while one is.
var keyWanted = []byte("w")

func rulesOf(m *mtreap.Map) uint32 {
	b, _ := m.Get(keyRules)
	return binary.BigEndian.Uint32(b)
}

// rules returns the rules in force. A replica never has a state under others than it knows.
func (c *Cluster) rules(m *mtreap.Map) *engine.Rules {
	r := c.programs.Rules(rulesOf(m))
	if r == nil {
		panic(fmt.Sprintf("cluster: broken invariant: state under version %d of the rules", rulesOf(m)))
	}
	return r
}

// Rules is the rules version in force.
func (s *Snapshot) Rules() uint32 { return rulesOf(s.m) }

// Wanted is the version to which the cluster is to change, and the message that its codes
// are to be prepared after: the question, or the newest constructor since.
func (s *Snapshot) Wanted() (version uint32, seq uint64, ok bool) {
	b, ok := s.m.Get(keyWanted)
	if !ok {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:]), true
}

func setWanted(m *mtreap.Map, version uint32, seq uint64) *mtreap.Map {
	return m.Set(keyWanted, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, version), seq))
}

// want notes which version is wanted, or that none is.
func want(m *mtreap.Map, version uint32, seq uint64) *mtreap.Map {
	if version <= rulesOf(m) {
		return m.Delete(keyWanted)
	}
	return setWanted(m, version, seq)
}

// constructed notes a constructor, whose code may be one that the cluster did not have.
func constructed(m *mtreap.Map, seq uint64) *mtreap.Map {
	if version, _, ok := (&Snapshot{m: m}).Wanted(); ok {
		return setWanted(m, version, seq)
	}
	return m
}

// images returns what codes are under a version of the rules. The error is a *NeedCode
// while some are not prepared.
func images(p Programs, codes []proto.Hash, version uint32) ([]proto.CodeImage, error) {
	need := &NeedCode{Rules: version}
	list := make([]proto.CodeImage, 0, len(codes))
	for _, code := range codes {
		program, err := p.Program(code, version)
		switch {
		case err != nil:
			list = append(list, proto.CodeImage{Code: code})
		case program == nil:
			need.Codes = append(need.Codes, code)
		default:
			list = append(list, proto.CodeImage{Code: code, Image: program.ImageHash()})
		}
	}
	if len(need.Codes) > 0 {
		return nil, need
	}
	return list, nil
}

// ReadyFor returns the digest of what codes are under a version of the rules, a *NeedCode
// while some are not prepared, and ErrRules where this build does not know it.
func (c *Cluster) ReadyFor(version uint32, codes []proto.Hash) (proto.Hash, error) {
	if c.programs.Rules(version) == nil {
		return proto.Hash{}, unknown(version)
	}
	list, err := images(c.programs, codes, version)
	return proto.ImagesDigest(version, list), err
}

// activate puts a version into force: each contract is from here on what its code is under
// it. That takes time in proportion to the number of contracts, once for a version.
func (c *Cluster) activate(m *mtreap.Map, e *proto.RulesActivated, height uint64) (*mtreap.Map, error) {
	if c.programs.Rules(e.Version) == nil {
		return nil, unknown(e.Version)
	}
	if old := rulesOf(m); e.Version <= old || e.EffectiveHeight != height+1 {
		return nil, fmt.Errorf("cluster: version %d of the rules for height %d, after version %d at height %d: this is not the chain's", e.Version, e.EffectiveHeight, old, height)
	}
	list, err := images(c.programs, (&Snapshot{m: m}).Codes(), e.Version)
	if err != nil {
		return nil, err
	}
	if got := proto.ImagesDigest(e.Version, list); got != e.Images {
		return nil, fmt.Errorf("%w: under version %d of the rules, %s here, agreed %s", ErrImage, e.Version, got, e.Images)
	}
	became := make(map[proto.Hash]proto.Hash, len(list))
	for _, i := range list {
		became[i.Code] = i.Image
	}
	eachContract(m, func(key []byte, r *contractRecord) {
		r.Image = became[r.Code]
		m = m.Set(key, r.Marshal())
	})
	return m.Set(keyRules, binary.BigEndian.AppendUint32(nil, e.Version)).Delete(keyWanted), nil
}

// eachContract calls f with the contracts of a state, in order.
func eachContract(m *mtreap.Map, f func(key []byte, r *contractRecord)) {
	prefix := []byte("k/")
	for at := prefix; ; {
		k, v, ok := m.Next(at)
		if !ok || !bytes.HasPrefix(k, prefix) {
			return
		}
		f(k, parseContract(v))
		at = append(bytes.Clone(k), 0)
	}
}

// program returns a contract's code as it runs under the rules in force.
func (x *exec) program(r *contractRecord) (*engine.Program, error) {
	version := x.o.rules.Version()
	if r.Image == (proto.Hash{}) {
		return nil, &engine.Error{Kind: engine.ErrModule, Detail: fmt.Sprintf("version %d of the rules refuses this contract's code: build it anew and deploy that", version)}
	}
	p, err := x.c.programs.Program(r.Code, version)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: code %s is refused here: %w", ErrImage, r.Code, err)
	case p == nil:
		return nil, &NeedCode{[]proto.Hash{r.Code}, version}
	case proto.Hash(p.ImageHash()) != r.Image:
		return nil, fmt.Errorf("%w: code %s, here %x, agreed %s", ErrImage, r.Code, p.ImageHash(), r.Image)
	}
	return p, nil
}

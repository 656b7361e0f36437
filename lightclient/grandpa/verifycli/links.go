package verifycli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/reads"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// apply advances the light client.
func (s *session) apply(link string, u *grandpa.Update) error {
	if s.state == nil {
		return misused("%s links need --checkpoint", link)
	}
	next, err := s.state.Apply(u, s.now)
	if err != nil {
		return err
	}
	s.advanced(link, next, fmt.Sprintf("%d %s, %d votes", len(u.Headers), plural(len(u.Headers), "header"), len(u.Justification.Commit.Votes)))
	return nil
}

func (s *session) advanced(link string, next *grandpa.State, detail string) {
	change := ""
	if next.Set.ID() != s.state.Set.ID() {
		change = fmt.Sprintf("; set %d of %d authorities follows", next.Set.ID(), next.Set.Len())
	}
	s.state = next
	s.ok(link, "%s is final (%s)%s", next.Block, detail, change)
	s.follow("final block")
}

func (s *session) update(raw []byte) error {
	u, err := grandpa.DecodeUpdate(scaleBytes(raw))
	if err != nil {
		return err
	}
	return s.apply("update", u)
}

// addHeaders holds headers for a later link: they prove nothing by themselves.
func (s *session) addHeaders(raw []byte) error {
	list, err := decodeHeaders(raw)
	if err != nil {
		return err
	}
	for i, h := range list {
		var before *grandpa.Header
		if i > 0 {
			before = list[i-1]
		} else if n := len(s.headers); n > 0 {
			before = s.headers[n-1]
		}
		if before != nil && (h.ParentHash != before.Hash() || h.Number != before.Number+1) {
			return fmt.Errorf("header #%d does not extend header #%d", h.Number, before.Number)
		}
	}
	s.headers = append(s.headers, list...)
	if len(list) > 0 {
		s.ok("headers", "#%d to #%d hang together; not proven final yet", list[0].Number, list[len(list)-1].Number)
	}
	return nil
}

func (s *session) takeHeaders() []*grandpa.Header {
	h := s.headers
	s.headers = nil
	return h
}

func (s *session) justification(raw []byte) error {
	j, err := grandpa.DecodeJustification(scaleBytes(raw))
	if err != nil {
		return err
	}
	headers := s.takeHeaders()
	if s.state != nil && s.set == nil && !s.signatures && len(headers) > 0 {
		return s.apply("justification", &grandpa.Update{Headers: headers, Justification: j})
	}
	if n := len(headers); n > 0 {
		if last := headers[n-1].ID(); last != j.Commit.Target {
			return fmt.Errorf("justification of %s, but the last header is %s", j.Commit.Target, last)
		}
	}
	if err := s.single("justification", j, nil); err != nil {
		return err
	}
	if n := len(headers); n > 0 && !s.signatures {
		root := headers[n-1].StateRoot
		s.root, s.rootFrom, s.view = &root, "final block "+j.Commit.Target.String(), nil
	}
	return nil
}

func (s *session) commit(raw []byte) error {
	m, err := grandpa.DecodeCommitMessage(scaleBytes(raw))
	if err != nil {
		return err
	}
	return s.single("commit", &grandpa.Justification{Round: m.Round, Commit: m.Commit}, &m.SetID)
}

// single checks a justification by itself, under the given set, the light client's present one, or, if asked to, by
// its signatures alone. named is the set id that the message names, if it does.
func (s *session) single(link string, j *grandpa.Justification, named *uint64) error {
	set := s.set
	if set == nil && s.state != nil && !s.signatures {
		set = s.state.Set
	}
	var setID uint64
	switch {
	case s.signatures && s.set == nil:
		if named != nil {
			setID = *named
		} else if setID = s.setID; !s.setIDGiven {
			return misused("--signatures-only needs --set-id for a justification, which does not name its set")
		}
	case set != nil:
		setID = set.ID()
	default:
		return misused("%s links need --checkpoint, --authorities or --signatures-only", link)
	}
	if named != nil && *named != setID {
		return fmt.Errorf("message of set %d, trusted is set %d", *named, setID)
	}
	history := ""
	if s.checkpoint != nil {
		if want, known := s.checkpoint.SetAt(j.Commit.Target.Number); known {
			if want != setID {
				return fmt.Errorf("the checkpoint says that set %d finalized #%d, not set %d", want, j.Commit.Target.Number, setID)
			}
			history = "; the checkpoint's history names the same set"
			for _, e := range s.checkpoint.State.History {
				if e.SetID == setID && e.LastBlock == j.Commit.Target.Number {
					history += ", which ends here"
				}
			}
		}
	}
	if s.signatures && s.set == nil {
		if err := j.VerifySignatures(setID); err != nil {
			return err
		}
		s.weak = true
		s.ok(link, "%s: %d of %d signatures valid for set %d, round %d; whether the signers are authorities is not known%s",
			j.Commit.Target, len(j.Commit.Votes), len(j.Commit.Votes), setID, j.Round, history)
		return nil
	}
	if err := j.Verify(set); err != nil {
		return err
	}
	s.ok(link, "%s is final: %d of %d authorities of set %d signed, threshold %d, round %d%s", j.Commit.Target,
		len(j.Commit.Votes), set.Len(), setID, set.Threshold(), j.Round, history)
	return nil
}

func (s *session) finality(raw []byte) error {
	p, err := grandpa.DecodeFinalityProof(scaleBytes(raw))
	if err != nil {
		return err
	}
	u, err := p.Update(s.takeHeaders()...)
	if err != nil {
		return err
	}
	return s.apply("finality", u)
}

func (s *session) warp(raw []byte) error {
	w, err := grandpa.DecodeWarpProof(scaleBytes(raw))
	if err != nil {
		return err
	}
	if s.state == nil {
		return misused("warp links need --checkpoint")
	}
	next, err := s.state.ApplyWarp(w, s.now)
	if err != nil {
		return err
	}
	s.advanced("warp", next, fmt.Sprintf("%d fragments, finished %v", len(w.Fragments), w.Finished))
	return nil
}

// proof takes the nodes of a read proof for the present state root.
func (s *session) proof(raw []byte) error {
	if s.root == nil {
		return misused("state links need a trusted state root: a checkpoint, a final header before it, or --root")
	}
	nodes, claimed, keys, err := decodeProof(raw)
	if err != nil {
		return err
	}
	if claimed != nil && *claimed != *s.root {
		return fmt.Errorf("file is about state root %s, trusted is %s of %s", claimed, s.root, s.rootFrom)
	}
	view, err := reads.NewView(*s.root, nodes)
	if err != nil {
		return err
	}
	// The root's own node must be there, else nothing can be read.
	entries, used, err := view.Proof.Available(trie.Hash(*s.root), trie.MaxNodes)
	if err != nil {
		return err
	}
	s.view = view
	s.ok("state", "%d nodes under %s of %s, %d of them in use, %d values", view.Proof.Len(), s.root, s.rootFrom, used, len(entries))
	for _, k := range keys {
		if err := s.read("key:" + fmt.Sprintf("%x", k)); err != nil {
			return err
		}
	}
	return nil
}

// decodeProof reads nodes from SCALE or from JSON: a list of nodes, or an object with "proof" and, if wanted, the
// "stateRoot" that it is about and a "key" or "keys" to read.
func decodeProof(raw []byte) (nodes [][]byte, root *grandpa.Hash, keys [][]byte, err error) {
	if !isJSON(raw) {
		nodes, err = trie.DecodeNodes(scaleBytes(raw))
		return nodes, nil, nil, err
	}
	var file struct {
		StateRoot string
		Key       string
		Keys      []string
		Proof     []string
	}
	if raw[0] == '[' {
		err = json.Unmarshal(raw, &file.Proof)
	} else {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read proof: %w", err)
	}
	for i, n := range file.Proof {
		b, err := parseHex(fmt.Sprintf("proof node %d", i), n)
		if err != nil {
			return nil, nil, nil, err
		}
		nodes = append(nodes, b)
	}
	if file.StateRoot != "" {
		b, err := parseHex("stateRoot", file.StateRoot)
		if err != nil || len(b) != 32 {
			return nil, nil, nil, fmt.Errorf("stateRoot %q is not 32 bytes in hexadecimal", file.StateRoot)
		}
		root = (*grandpa.Hash)(b)
	}
	if file.Key != "" {
		file.Keys = append(file.Keys, file.Key)
	}
	for _, k := range file.Keys {
		b, err := parseHex("key", k)
		if err != nil {
			return nil, nil, nil, err
		}
		keys = append(keys, b)
	}
	return nodes, root, keys, nil
}

// decodeHeaders reads Vec<Header> from SCALE, or a JSON list of encoded headers in hexadecimal.
func decodeHeaders(raw []byte) ([]*grandpa.Header, error) {
	if !isJSON(raw) {
		return grandpa.DecodeHeaders(scaleBytes(raw))
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	if len(list) > grandpa.MaxHeaders {
		return nil, fmt.Errorf("%d headers, limit %d", len(list), grandpa.MaxHeaders)
	}
	var out []*grandpa.Header
	for i, text := range list {
		b, err := parseHex(fmt.Sprintf("header %d", i), text)
		if err != nil {
			return nil, err
		}
		h, err := grandpa.DecodeHeader(b)
		if err != nil {
			return nil, fmt.Errorf("header %d: %w", i, err)
		}
		out = append(out, h)
	}
	return out, nil
}

// para makes a parachain's state the one that the next state link is about.
func (s *session) para(value string) error {
	id, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return fmt.Errorf("para=%s: expected a parachain's number", value)
	}
	if s.view == nil {
		return misused("para links need a state link before them")
	}
	h, ok, err := s.view.ParaHead(uint32(id))
	if err == nil && !ok {
		err = fmt.Errorf("the relay chain has no parachain %d", id)
	}
	if err != nil {
		return s.breaks("para", err)
	}
	s.ok("para", "head of parachain %d is %s", id, h.ID())
	root := h.StateRoot
	s.root, s.rootFrom, s.view = &root, fmt.Sprintf("parachain %d at #%d", id, h.Number), nil
	return nil
}

// read prints an item of the present state.
func (s *session) read(item string) error {
	if s.view == nil {
		return misused("read links need a state link before them")
	}
	read, err := parseItem(item)
	if err != nil {
		return err
	}
	text, err := read(s.view)
	if err != nil {
		return s.breaks("read", fmt.Errorf("%s: %w", item, err))
	}
	s.ok("read", "%s: %s", item, text)
	return nil
}

func formatTime(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z07:00") }

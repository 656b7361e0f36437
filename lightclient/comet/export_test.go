package comet

import "time"

// What tests of other packages' files need of the inside.

// VoteSignBytes is what a validator signed with the commit.
func VoteSignBytes(chainID string, c *Commit, at time.Time) []byte {
	return newSignBytes(chainID, c).vote(at)
}

// An ExistenceParts is a parsed existence proof.
type ExistenceParts struct {
	Key, Value, LeafPrefix []byte
	Path                   [][2][]byte
}

// ParseExistence is the proof parser.
func ParseExistence(b []byte) (*ExistenceParts, error) {
	e, err := parseExistence(b)
	if err != nil {
		return nil, err
	}
	p := &ExistenceParts{Key: e.key, Value: e.value, LeafPrefix: e.leafPrefix}
	for _, op := range e.path {
		p.Path = append(p.Path, [2][]byte{op.prefix, op.suffix})
	}
	return p, nil
}

package staking

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/npos"
)

// request builds a protobuf message; zero values are left out, as proto3 does.
type request []byte

func (r request) uint(n protowire.Number, v uint64) request {
	if v == 0 {
		return r
	}
	return protowire.AppendVarint(protowire.AppendTag(r, n, protowire.VarintType), v)
}

func (r request) bytes(n protowire.Number, v []byte) request {
	if len(v) == 0 {
		return r
	}
	return protowire.AppendBytes(protowire.AppendTag(r, n, protowire.BytesType), v)
}

func (r request) string(n protowire.Number, v string) request { return r.bytes(n, []byte(v)) }

// message is a protobuf message by field number. Fields that nobody asks for are
// newer than this client and passed over.
type message struct {
	uints map[protowire.Number]uint64
	bytes map[protowire.Number][][]byte
}

func parse(b []byte) (*message, error) {
	m := &message{map[protowire.Number]uint64{}, map[protowire.Number][][]byte{}}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", ErrAnswer, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			m.uints[num], n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			m.bytes[num] = append(m.bytes[num], v)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil, fmt.Errorf("%w: field %d: %w", ErrAnswer, num, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return m, nil
}

func (m *message) uint(n protowire.Number) uint64 { return m.uints[n] }

// last is the value of a field that occurs once.
func (m *message) last(n protowire.Number) []byte {
	if v := m.bytes[n]; len(v) > 0 {
		return v[len(v)-1]
	}
	return nil
}

// amounts reads decimal amounts; an absent one is zero.
func (m *message) amounts(into map[protowire.Number]*npos.U128) error {
	for n, dst := range into {
		text := string(m.last(n))
		if text == "" {
			continue
		}
		v, err := npos.ParseU128(text)
		if err != nil {
			return fmt.Errorf("%w: field %d: %w", ErrAnswer, n, err)
		}
		*dst = v
	}
	return nil
}

// list reads messages of an account and an amount.
func (m *message) list(n protowire.Number) ([]Amount, error) {
	out := []Amount{}
	for _, b := range m.bytes[n] {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		a := Amount{Account: string(v.last(1))}
		if err := v.amounts(map[protowire.Number]*npos.U128{2: &a.Amount}); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

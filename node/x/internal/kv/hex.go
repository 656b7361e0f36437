package kv

import (
	"encoding/hex"
	"fmt"
)

// HexBytes is hexadecimal in JSON.
type HexBytes []byte

// MarshalText encodes.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText decodes.
func (h *HexBytes) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil {
		return fmt.Errorf("kv: not hexadecimal: %w", err)
	}
	*h = raw
	return nil
}

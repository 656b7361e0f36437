package verifycli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/phala-go/phala/lightclient/grandpa"
)

// maxFile bounds what is read of a file.
const maxFile = grandpa.MaxCheckpointBytes

// readFile reads a file. If it is a JSON-RPC answer, it returns the result; surrounding space of text is cut.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	text := bytes.TrimSpace(raw)
	if !json.Valid(text) {
		if bytes.HasPrefix(text, []byte("0x")) {
			return text, nil
		}
		return raw, nil
	}
	var answer struct {
		Version string          `json:"jsonrpc"`
		Result  json.RawMessage `json:"result"`
	}
	if json.Unmarshal(text, &answer) == nil && answer.Version != "" && len(answer.Result) > 0 {
		text = answer.Result
	}
	var inner string
	if json.Unmarshal(text, &inner) == nil {
		return []byte(inner), nil
	}
	return text, nil
}

// isJSON tells a JSON object or list from SCALE: a file is JSON if it is valid JSON.
func isJSON(raw []byte) bool {
	return len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') && json.Valid(raw)
}

// scaleBytes returns the bytes of a file that holds them raw or in hexadecimal with 0x in front.
func scaleBytes(raw []byte) []byte {
	if digits, ok := bytes.CutPrefix(raw, []byte("0x")); ok {
		if b, err := hex.DecodeString(string(digits)); err == nil {
			return b
		}
	}
	return raw
}

// parseHex reads hexadecimal with or without 0x.
func parseHex(what, s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// readAuthorities reads a list of keys, one a line, with a weight behind it if that is not 1. Empty lines and lines
// that begin with # do not count.
func readAuthorities(path string) ([]grandpa.Authority, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var list []grandpa.Authority
	for i, line := range strings.Split(string(raw), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		key, err := parseHex(fmt.Sprintf("%s, line %d", path, i+1), fields[0])
		if err != nil || len(key) != 32 || len(fields) > 2 {
			return nil, fmt.Errorf("%s, line %d: expected a key of 32 bytes in hexadecimal and, if not 1, a weight", path, i+1)
		}
		a := grandpa.Authority{Key: grandpa.Key(key), Weight: 1}
		if len(fields) == 2 {
			if a.Weight, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
				return nil, fmt.Errorf("%s, line %d: weight %q", path, i+1, fields[1])
			}
		}
		list = append(list, a)
	}
	return list, nil
}

package npos

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

var update = flag.Bool("update", false, "write golden files")

// record is one of each kind, with its decoder, which returns what it re-encodes to.
type record struct {
	name  string
	bytes []byte
	parse func([]byte) ([]byte, error)
}

func again[T any](parse func([]byte) (T, error), marshal func(T) []byte) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return marshal(v), nil
	}
}

func records() []record {
	a, b := sdk.AccAddress(bytes.Repeat([]byte{1}, 32)), sdk.AccAddress(bytes.Repeat([]byte{2}, 20))
	cons := [20]byte{9, 8, 7}
	big := npos.U128{Hi: 5, Lo: 6}
	one := npos.U64(1)
	return []record{
		{"ledger", (&ledger{Active: big, Chunks: []chunk{{one, 7}, {big, 9}}, Role: roleNominator, Commission: 3, Targets: []sdk.AccAddress{a, b}, Bag: 11, Seq: 12, Slashes: 13}).marshal(), again(parseLedger, (*ledger).marshal)},
		{"period", (&period{Begun: 1, Start: 3, End: 4, Session: 2, Time: 5, Staked: big, Issued: one, Fees: one, Paid: one, Swept: true}).marshal(), again(parsePeriod, (*period).marshal)},
		{"seats", marshalSeats([]seat{{a, cons}, {b, [20]byte{}}}), again(parseSeats, marshalSeats)},
		{"points", marshalPoints([]uint64{1, 2, 3}), again(parsePoints, marshalPoints)},
		{"exposure", (&exposure{Cons: cons, Commission: 1, Own: one, Total: big, Backers: 2, Paid: 3, Slashed: 4, Disabled: true}).marshal(), again(parseExposure, (*exposure).marshal)},
		{"shares", marshalShares([]share{{a, big}, {b, one}}), again(parseShares, marshalShares)},
		{"slash", (&slash{Validator: b, Era: 1, Reported: 2, Applies: 3, Height: 9, From: 4, To: 5, State: slashApplying, Page: 6, Pages: 7, Amount: big, Stakers: 8}).marshal(), again(parseSlash, (*slash).marshal)},
		{"spans", marshalSpans(&era.Spans{List: []era.Span{{Start: 1, Slashed: big}, {Start: 2}}}), again(parseSpans, marshalSpans)},
		{"progress", (&progress{Phase: phaseExposures, NotBefore: 1, Places: 10, Balancing: 11, Limit: 12, Cursor: []byte{2}, Voters: 3, Pages: 4, Extras: 5, Hash: [32]byte{6}, Steps: 7, Seats: 8, Winners: 9, Staked: big}).marshal(), again(parseProgress, (*progress).marshal)},
		{"voters", marshalVoters([]voter{{a, big, []uint16{1, 2}}, {b, one, []uint16{}}}), again(parseVoters, marshalVoters)},
		{"candidates", marshalCandidates([]candidate{{a, cons, 5, big}, {b, cons, 6, one}}), again(parseCandidates, marshalCandidates)},
	}
}

// TestRecords: the encodings are those of the golden file, decode to what they were
// made from, and are refused when cut or followed by anything.
func TestRecords(t *testing.T) {
	file := filepath.Join("testdata", "records.golden")
	var lines []string
	for _, r := range records() {
		lines = append(lines, r.name+" "+hex.EncodeToString(r.bytes))
		if got, err := r.parse(r.bytes); err != nil || !bytes.Equal(got, r.bytes) {
			t.Errorf("%s: %x, %v", r.name, got, err)
		}
		if _, err := r.parse(append(bytes.Clone(r.bytes), 0)); err == nil {
			t.Errorf("%s: accepted a byte behind it", r.name)
		}
		for n := range r.bytes {
			if _, err := r.parse(r.bytes[:n]); err == nil {
				t.Errorf("%s: accepted %d bytes of %d", r.name, n, len(r.bytes))
			}
		}
	}
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !reflect.DeepEqual(got, string(want)) {
		t.Errorf("encodings changed: %v\n%s", err, got)
	}
}

// FuzzRecords: whatever a decoder accepts it encodes to the same bytes.
func FuzzRecords(f *testing.F) {
	list := records()
	for i, r := range list {
		f.Add(uint8(i), r.bytes)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		r := list[int(kind)%len(list)]
		if got, err := r.parse(b); err == nil && !bytes.Equal(got, b) {
			t.Errorf("%s: %x became %x", r.name, b, got)
		}
	})
}

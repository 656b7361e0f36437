package proto_test

import (
	"strings"
	"testing"
)

// fuzz: whatever bytes the parser takes, it does not panic, and what it accepts is the
// one encoding of the value.
func fuzz(f *testing.F, names ...string) {
	var target kind
	for _, k := range kinds() {
		for _, n := range names {
			if k.name == n || strings.HasSuffix(n, "/") && strings.HasPrefix(k.name, n) {
				b := k.marshal(k.value)
				f.Add(b)
				f.Add(b[:len(b)/2])
				target = k
			}
		}
	}
	if target.parse == nil {
		f.Fatal("no such kind")
	}
	f.Fuzz(func(t *testing.T, b []byte) { canonical(t, target, b) })
}

func FuzzParseEvent(f *testing.F)          { fuzz(f, "event/") }
func FuzzParseEntry(f *testing.F)          { fuzz(f, "entry/") }
func FuzzParseMessage(f *testing.F)        { fuzz(f, "Message") }
func FuzzParseCursor(f *testing.F)         { fuzz(f, "Cursor") }
func FuzzParseRegistration(f *testing.F)   { fuzz(f, "Registration") }
func FuzzParseSealedOutput(f *testing.F)   { fuzz(f, "SealedOutput") }
func FuzzParseInvocation(f *testing.F)     { fuzz(f, "Invocation") }
func FuzzParseOutput(f *testing.F)         { fuzz(f, "Output") }
func FuzzParseQuery(f *testing.F)          { fuzz(f, "Query") }
func FuzzParseGrant(f *testing.F)          { fuzz(f, "Grant") }
func FuzzParseRevocation(f *testing.F)     { fuzz(f, "Revocation") }
func FuzzParseAnswer(f *testing.F)         { fuzz(f, "Answer") }
func FuzzParseKeyShares(f *testing.F)      { fuzz(f, "KeyShares") }
func FuzzParseWorkerInfo(f *testing.F)     { fuzz(f, "WorkerInfo") }
func FuzzParseAttestation(f *testing.F)    { fuzz(f, "Attestation") }
func FuzzParseCluster(f *testing.F)        { fuzz(f, "Cluster") }
func FuzzParseContract(f *testing.F)       { fuzz(f, "Contract") }
func FuzzParseCodeManifest(f *testing.F)   { fuzz(f, "CodeManifest") }
func FuzzParseCode(f *testing.F)           { fuzz(f, "Code") }
func FuzzParseCommandRecord(f *testing.F)  { fuzz(f, "CommandRecord") }
func FuzzParseStateRef(f *testing.F)       { fuzz(f, "StateRef") }
func FuzzParseSnapshot(f *testing.F)       { fuzz(f, "Snapshot") }
func FuzzParseSnapshotRecord(f *testing.F) { fuzz(f, "SnapshotRecord") }
func FuzzParseReceiptRecord(f *testing.F)  { fuzz(f, "ReceiptRecord") }

package keyring_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/keyring"
)

// A TEE without sealing keys: what is in memory is all there is.
type volatile struct{}

func (volatile) Name() string    { return "example" }
func (volatile) TEE() attest.TEE { return attest.TDX }
func (volatile) Simulated() bool { return true }
func (volatile) Evidence(context.Context, [64]byte) (attest.Evidence, error) {
	return attest.Evidence{}, errors.New("no hardware")
}
func (volatile) SealingKey(context.Context, []byte) ([32]byte, error) {
	return [32]byte{}, producer.ErrNoSealing
}

// A query is sealed to a session that the keyring made, opened there, and answered with a
// key that is good for this one answer.
func Example() {
	dir, err := os.MkdirTemp("", "keyring-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cfg := keyring.Config{DataDir: dir, Chain: "phala-1", Role: proto.RoleWorker, Operator: []byte("operator")}
	keeper, err := keyring.Open(context.Background(), cfg, volatile{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring := keeper.Ring() // a worker's, in another process: keyring.Start
	session, err := ring.NewSession()
	if err != nil {
		fmt.Println(err)
		return
	}

	fresh, _ := commkey.Generate(rand.Reader) // the client's, for this query
	query, _ := envelope.Seal(rand.Reader, proto.QueryContext("phala-1"), fresh, session, []byte("what is my balance?"))

	plain, reply, _, err := ring.OpenQuery(context.Background(), query)
	fmt.Println(string(plain), err)
	sealed, _ := reply.Seal(rand.Reader, []byte("42 PHA"))
	answer, err := envelope.OpenReply(proto.QueryContext("phala-1"), fresh, session, sealed)
	fmt.Println(string(answer), err)

	// Another session is not its to announce.
	_, err = ring.Sign(1, [][]byte{proto.MarshalEntry(proto.StartSession{Key: fresh.Public()})})
	fmt.Println(errors.Is(err, keyring.ErrRefused))
	// Output:
	// what is my balance? <nil>
	// 42 PHA <nil>
	// true
}

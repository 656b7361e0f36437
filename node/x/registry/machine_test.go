package registry

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// TestOneMachineOneWorker: a machine whose worker went silent may be taken over, and
// then the earlier worker does not serve again beside the new one, however much its
// outbox speaks.
func TestOneMachineOneWorker(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)))
	e.skip(11)
	if ok, why := e.serving(1); ok || !strings.Contains(why, "silent") {
		t.Fatalf("%v %s", ok, why)
	}
	a := e.apply(2)
	a.machine = "machine-1"
	e.Block(e.register(a))
	e.refused(e.outbox(1, 1, proto.Challenge{}), mq.ErrNoWorker)
	if ok, _ := e.serving(2); !ok {
		t.Fatal("the new worker does not serve")
	}
	if ok, _ := e.serving(1); ok {
		t.Fatal("two workers of one machine serve")
	}
	e.Start()
	if _, err := e.Tx(e.register(e.apply(1))); !errors.Is(err, ErrMachine) {
		t.Fatalf("the earlier worker comes back: %v", err)
	}
	e.Finish()
	// On a machine of its own it may.
	b := e.apply(1)
	b.machine = "machine-9"
	e.Block(e.register(b))
	if ok, why := e.serving(1); !ok {
		t.Fatal(why)
	}
	// What it left by that is not the machine that another has by now.
	c := e.apply(3)
	c.machine = "machine-1"
	e.refused(e.register(c), ErrMachine)
}

// TestOperatorReplaces: an operator puts a new worker in the place of his own while it
// serves, and nobody else does, nor a worker in that of a gatekeeper.
func TestOperatorReplaces(t *testing.T) {
	e := newEnv(t)
	gk := e.apply(1)
	gk.reg.Role = proto.RoleGatekeeper
	e.Block(e.register(gk), e.register(e.apply(2)))
	next := func(n int, machine string, operator int) *application {
		a := e.apply(n)
		a.machine, a.sender, a.reg.Operator = machine, testchain.Account(operator), testchain.Account(operator)
		return a
	}
	e.refused(e.register(next(5, "machine-1", 1)), ErrMachine)
	e.refused(e.register(next(5, "machine-2", 1)), ErrMachine)
	events := e.Block(e.register(next(5, "machine-2", 2)))
	if got := testchain.Values(events, "admission_ended", "worker"); !reflect.DeepEqual(got, []string{id(2).String()}) {
		t.Fatalf("ended: %v", got)
	}
	if ok, _ := e.serving(2); ok {
		t.Fatal("two workers of one machine serve")
	}
	if ok, why := e.serving(5); !ok {
		t.Fatal(why)
	}
}

// TestWorkerMoves: the machine that a worker left is free for another one.
func TestWorkerMoves(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)))
	a := e.apply(1)
	a.machine = "machine-8"
	e.Block(e.register(a))
	b := e.apply(2)
	b.machine = "machine-1"
	e.Block(e.register(b))
	for n := 1; n <= 2; n++ {
		if ok, why := e.serving(n); !ok {
			t.Errorf("worker %d: %s", n, why)
		}
	}
}

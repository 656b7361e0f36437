package verify_test

import (
	"context"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
)

// tees are simulated machines in this process.
type tees struct {
	t     *testing.T
	store *simulator.Store
	now   time.Time
}

func newTEE(t *testing.T) func(time.Time) stack.TEE {
	return func(now time.Time) stack.TEE {
		s, err := simulator.Open(t.TempDir(), now, false)
		if err != nil {
			t.Fatal(err)
		}
		return &tees{t, s, now}
	}
}

func (x *tees) Roots() attest.Roots { return x.store.Roots }

func (x *tees) Producer(name string) producer.Producer {
	m, err := x.store.Machine(name, x.now)
	if err != nil {
		x.t.Fatal(err)
	}
	return &machine{x, m}
}

type machine struct {
	*tees
	m *simulator.Machine
}

var measurement = []byte("pruntime")

func (e *machine) Name() string    { return "simulator" }
func (e *machine) TEE() attest.TEE { return attest.TDX }
func (e *machine) Simulated() bool { return true }

func (e *machine) Evidence(_ context.Context, reportData [64]byte) (attest.Evidence, error) {
	ev, err := e.m.Evidence(attest.TDX, measurement, reportData)
	if err == nil {
		ev.Collateral, err = e.store.Collateral(attest.TDX, e.now)
	}
	return ev, err
}

func (e *machine) SealingKey(_ context.Context, label []byte) ([32]byte, error) {
	return e.m.SealingKey(attest.TDX, measurement, label)
}

// ownMeasurement is the digest of the software that these machines run.
func ownMeasurement(t *testing.T) proto.Hash {
	t.Helper()
	m, err := simulator.Measurement(attest.TDX, measurement)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

package stack

import (
	"context"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/proto"
)

// A TEE makes the producers of a network's machines.
type TEE interface {
	Roots() attest.Roots
	Producer(machine string) producer.Producer
}

// machines are simulated ones, in this process, of the vendor that the stack has.
type machines struct {
	t      testing.TB
	vendor *simulator.Store
	now    time.Time
}

func newVendor(t testing.TB, now time.Time) *simulator.Store {
	s, err := simulator.Open(t.TempDir(), now, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (x *machines) Roots() attest.Roots { return x.vendor.Roots }

func (x *machines) Producer(name string) producer.Producer {
	m, err := x.vendor.Machine(name, x.now)
	if err != nil {
		x.t.Fatal(err)
	}
	return &machine{x, m}
}

type machine struct {
	*machines
	m *simulator.Machine
}

// software is what all of these machines run.
var software = []byte("pruntime")

func (e *machine) Name() string    { return "simulator" }
func (e *machine) TEE() attest.TEE { return attest.TDX }
func (e *machine) Simulated() bool { return true }

func (e *machine) Evidence(_ context.Context, reportData [64]byte) (attest.Evidence, error) {
	ev, err := e.m.Evidence(attest.TDX, software, reportData)
	if err == nil {
		ev.Collateral, err = e.vendor.Collateral(attest.TDX, e.now)
	}
	return ev, err
}

func (e *machine) SealingKey(_ context.Context, label []byte) ([32]byte, error) {
	return e.m.SealingKey(attest.TDX, software, label)
}

// Measurement is the digest of the software that the machines run.
func Measurement(t testing.TB) proto.Hash {
	t.Helper()
	m, err := simulator.Measurement(attest.TDX, software)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"cosmossdk.io/core/appmodule"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"
	"google.golang.org/grpc"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/registry/types"
)

var (
	_ module.AppModuleBasic     = Module{}
	_ module.HasGenesis         = Module{}
	_ appmodule.HasServices     = Module{}
	_ appmodule.HasBeginBlocker = Module{}
)

// Module is the Cosmos SDK module.
type Module struct{ K *Keeper }

// Name returns ModuleName.
func (Module) Name() string { return ModuleName }

// IsAppModule marks the type.
func (Module) IsAppModule() {}

// IsOnePerModuleType marks the type.
func (Module) IsOnePerModuleType() {}

// ConsensusVersion counts migrations.
func (Module) ConsensusVersion() uint64 { return 1 }

// RegisterLegacyAminoCodec registers nothing.
func (Module) RegisterLegacyAminoCodec(*codec.LegacyAmino) {}

// RegisterInterfaces registers the messages.
func (Module) RegisterInterfaces(r codectypes.InterfaceRegistry) { types.RegisterInterfaces(r) }

// RegisterGRPCGatewayRoutes registers nothing.
func (Module) RegisterGRPCGatewayRoutes(client.Context, *runtime.ServeMux) {}

// RegisterServices registers the messages.
func (m Module) RegisterServices(r grpc.ServiceRegistrar) error {
	types.RegisterMsgServer(r, m.K)
	return nil
}

// BeginBlock remembers the block's hash.
func (m Module) BeginBlock(ctx context.Context) error {
	return m.K.BeginBlock(sdk.UnwrapSDKContext(ctx))
}

// Genesis is the module's state.
type Genesis struct {
	Params Params `json:"params"`
	// Measurements are the allow-list that the network begins with.
	Measurements []AllowedMeasurement `json:"measurements"`
	// Class is attest.ClassSimulated for a simulated network, and else real, whatever it
	// says. It never changes.
	Class string `json:"class"`
	// Roots are a simulated network's attestation roots; a real one's are the vendors',
	// which are compiled in, and it may not name any. They never change.
	Roots kv.HexBytes `json:"roots"`
	// State is everything else, raw.
	State []kv.Item `json:"state"`
}

// check checks all but the form of the state.
func (g *Genesis) check() error {
	if _, err := attest.NetworkRoots(g.Class, g.Roots); err != nil {
		return fmt.Errorf("registry genesis: class %q: roots: %w", g.Class, err)
	}
	for i := range g.Measurements {
		if err := g.Measurements[i].check(); err != nil {
			return fmt.Errorf("registry genesis: %w", err)
		}
	}
	for _, i := range g.State {
		// Behind the back of class and params, which were checked.
		if bytes.Equal(i.Key, keyRoots) || bytes.Equal(i.Key, keyParams) {
			return fmt.Errorf("registry genesis: %q in the raw state", i.Key)
		}
	}
	return g.Params.Validate()
}

// DefaultGenesis allows no measurement and trusts the vendors' roots.
func (Module) DefaultGenesis(codec.JSONCodec) json.RawMessage {
	b, err := json.Marshal(Genesis{Params: DefaultParams(), Class: attest.ClassReal, Measurements: []AllowedMeasurement{}, State: []kv.Item{}})
	if err != nil {
		panic(err)
	}
	return b
}

// ValidateGenesis checks a genesis.
func (Module) ValidateGenesis(_ codec.JSONCodec, _ client.TxEncodingConfig, b json.RawMessage) error {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		return fmt.Errorf("registry genesis: %w", err)
	}
	return g.check()
}

// InitGenesis writes the state.
func (m Module) InitGenesis(ctx sdk.Context, _ codec.JSONCodec, b json.RawMessage) {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		panic(err)
	}
	if err := g.check(); err != nil {
		panic(err)
	}
	s := m.K.store.OpenKVStore(ctx)
	if err := m.K.SetParams(ctx, g.Params); err != nil {
		panic(err)
	}
	for i := range g.Measurements {
		if err := m.K.setMeasurement(ctx, &g.Measurements[i]); err != nil {
			panic(err)
		}
	}
	if len(g.Roots) > 0 {
		if err := s.Set(keyRoots, g.Roots); err != nil {
			panic(err)
		}
	}
	if err := kv.Import(s, g.State); err != nil {
		panic(err)
	}
}

// ExportGenesis reads the state. The hashes of blocks are not in it: a chain that
// begins from an export has a first block of its own, which is its trust root.
func (m Module) ExportGenesis(ctx sdk.Context, _ codec.JSONCodec) json.RawMessage {
	p, err := m.K.Params(ctx)
	if err != nil {
		panic(err)
	}
	s := m.K.store.OpenKVStore(ctx)
	roots, err := s.Get(keyRoots)
	if err != nil {
		panic(err)
	}
	state, err := kv.Export(s, "a/", "c/", "e/", "g/", "m/", "master", "n/", "sweep", "u/", "v/", "w/", "x/")
	if err != nil {
		panic(err)
	}
	class := attest.ClassReal
	if len(roots) > 0 {
		class = attest.ClassSimulated
	}
	b, err := json.Marshal(Genesis{Params: p, Measurements: []AllowedMeasurement{}, Class: class, Roots: roots, State: state})
	if err != nil {
		panic(err)
	}
	return b
}

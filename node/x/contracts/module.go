package contracts

import (
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

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/kv"
)

var (
	_ module.AppModuleBasic   = Module{}
	_ module.HasGenesis       = Module{}
	_ appmodule.HasServices   = Module{}
	_ appmodule.HasEndBlocker = Module{}
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

// RegisterServices registers messages and queries.
func (m Module) RegisterServices(r grpc.ServiceRegistrar) error {
	types.RegisterMsgServer(r, m.K)
	types.RegisterQueryServer(r, m.K)
	return nil
}

// EndBlock makes receipts final, starts contracts and fills free seats.
func (m Module) EndBlock(ctx context.Context) error { return m.K.EndBlock(sdk.UnwrapSDKContext(ctx)) }

// Genesis is the module's state.
type Genesis struct {
	Params Params `json:"params"`
	// State is everything else, raw.
	State []kv.Item `json:"state"`
}

// DefaultGenesis has no cluster.
func (Module) DefaultGenesis(codec.JSONCodec) json.RawMessage {
	b, err := json.Marshal(Genesis{Params: DefaultParams(), State: []kv.Item{}})
	if err != nil {
		panic(err)
	}
	return b
}

// ValidateGenesis checks a genesis.
func (Module) ValidateGenesis(_ codec.JSONCodec, _ client.TxEncodingConfig, b json.RawMessage) error {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		return fmt.Errorf("contracts genesis: %w", err)
	}
	return g.Params.Validate()
}

// InitGenesis writes the state.
func (m Module) InitGenesis(ctx sdk.Context, _ codec.JSONCodec, b json.RawMessage) {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		panic(err)
	}
	s := m.K.store.OpenKVStore(ctx)
	if err := m.K.SetParams(ctx, g.Params); err != nil {
		panic(err)
	}
	if err := kv.Import(s, g.State); err != nil {
		panic(err)
	}
}

// ExportGenesis reads the state.
func (m Module) ExportGenesis(ctx sdk.Context, _ codec.JSONCodec) json.RawMessage {
	p, err := m.K.Params(ctx)
	if err != nil {
		panic(err)
	}
	s := m.K.store.OpenKVStore(ctx)
	state, err := kv.Export(s, "a/", "b/", "c/", "count", "d/", "e/", "f/", "k/", "l/", "q/", "r/", "s/", "v/", "w/", "y/", "z/")
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(Genesis{p, state})
	if err != nil {
		panic(err)
	}
	return b
}

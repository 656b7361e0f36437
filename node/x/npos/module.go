package npos

import (
	"context"
	"encoding/json"
	"fmt"

	"cosmossdk.io/core/appmodule"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"
	"google.golang.org/grpc"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
)

var (
	_ module.AppModuleBasic     = Module{}
	_ module.HasGenesis         = Module{}
	_ appmodule.HasServices     = Module{}
	_ appmodule.HasBeginBlocker = Module{}
	_ appmodule.HasEndBlocker   = Module{}
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

// RegisterServices registers the messages and queries.
func (m Module) RegisterServices(r grpc.ServiceRegistrar) error {
	types.RegisterMsgServer(r, m.K)
	types.RegisterQueryServer(r, queries{m.K})
	return nil
}

// BeginBlock takes fees and counts votes.
func (m Module) BeginBlock(ctx context.Context) error {
	return m.K.BeginBlock(sdk.UnwrapSDKContext(ctx))
}

// EndBlock works on the next era.
func (m Module) EndBlock(ctx context.Context) error {
	return m.K.EndBlock(sdk.UnwrapSDKContext(ctx))
}

// Genesis is the module's state. The heights in it are the chain's: a chain that
// begins from an export goes on at its height.
type Genesis struct {
	Params Params `json:"params"`
	// State is everything else, raw.
	State []kv.Item `json:"state"`
}

// DefaultGenesis has no validators: they come by genesis transactions.
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
		return fmt.Errorf("npos genesis: %w", err)
	}
	return g.Params.Validate()
}

// InitGenesis writes the state. One that does not add up begins no chain.
func (m Module) InitGenesis(ctx sdk.Context, _ codec.JSONCodec, b json.RawMessage) {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		panic(err)
	}
	for _, name := range []string{ModuleName, RewardsName} {
		m.K.accounts.GetModuleAccount(ctx, name) // which makes it
	}
	if err := m.K.SetParams(ctx, g.Params); err != nil {
		panic(err)
	}
	if err := kv.Import(m.K.kv(ctx), g.State); err != nil {
		panic(err)
	}
	if len(g.State) == 0 {
		return // the first era begins after the genesis transactions
	}
	if _, err := m.K.Audit(ctx); err != nil {
		panic(err)
	}
}

// ExportGenesis reads the state.
func (m Module) ExportGenesis(ctx sdk.Context, _ codec.JSONCodec) json.RawMessage {
	p, err := m.K.Params(ctx)
	if err != nil {
		panic(err)
	}
	state, err := kv.Export(m.K.kv(ctx), string(keyActive), string(keySequence), string(keySlashSeq), string(keyProgress), string(keySnapshot),
		prefixLedger, prefixCandidate, prefixKey, prefixOperator, prefixList, prefixVoters, prefixExtra, prefixMoved, prefixEra, prefixSeats,
		prefixPoints, prefixExposure, prefixPage, prefixSlash, prefixSlashPage, prefixOffender, prefixForgiven, prefixTaken, prefixSpans)
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(Genesis{Params: p, State: state})
	if err != nil {
		panic(err)
	}
	return b
}

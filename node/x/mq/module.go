package mq

import (
	"context"
	"encoding/hex"
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

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
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

// RegisterLegacyAminoCodec registers nothing: messages use their amino names.
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

// BeginBlock begins a block.
func (m Module) BeginBlock(ctx context.Context) error {
	m.K.BeginBlock(sdk.UnwrapSDKContext(ctx))
	return nil
}

// EndBlock folds.
func (m Module) EndBlock(ctx context.Context) error { return m.K.EndBlock(sdk.UnwrapSDKContext(ctx)) }

// Genesis is the module's state. Bodies are not in it: a chain that starts from an
// export begins its topics where they were, and enclaves that need older messages
// need a node that kept them.
type Genesis struct {
	Topics []GenesisTopic  `json:"topics"`
	Outbox []GenesisOutbox `json:"outbox"`
}

// GenesisTopic is one topic's position.
type GenesisTopic struct {
	Topic string `json:"topic"`
	Seq   uint64 `json:"seq,string"`
	Head  string `json:"head"`
}

// GenesisOutbox is one worker's position.
type GenesisOutbox struct {
	Worker string `json:"worker"`
	Head   string `json:"head"`
	Next   uint64 `json:"next,string"`
}

// DefaultGenesis is empty: InitGenesis makes the two topics that always exist.
func (Module) DefaultGenesis(codec.JSONCodec) json.RawMessage {
	return json.RawMessage(`{"topics":[],"outbox":[]}`)
}

// ValidateGenesis checks a genesis.
func (Module) ValidateGenesis(_ codec.JSONCodec, _ client.TxEncodingConfig, b json.RawMessage) error {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		return fmt.Errorf("mq genesis: %w", err)
	}
	_, err := g.check()
	return err
}

func (g *Genesis) check() (map[string]proto.Cursor, error) {
	topics := map[string]proto.Cursor{}
	for _, t := range g.Topics {
		head, err := hex.DecodeString(t.Head)
		if err != nil || len(head) != 32 || t.Topic == "" || len(t.Topic) > proto.MaxTopic {
			return nil, fmt.Errorf("mq genesis: topic %q: head or name is malformed", t.Topic)
		}
		if _, ok := topics[t.Topic]; ok {
			return nil, fmt.Errorf("mq genesis: topic %q twice", t.Topic)
		}
		topics[t.Topic] = proto.Cursor{Seq: t.Seq, Head: proto.Hash(head)}
	}
	workers := map[proto.WorkerID]bool{}
	for _, o := range g.Outbox {
		b, err := hex.DecodeString(o.Worker)
		head, herr := hex.DecodeString(o.Head)
		if err != nil || len(b) != 32 || o.Next == 0 || herr != nil || len(head) != 32 {
			return nil, fmt.Errorf("mq genesis: outbox of %q is malformed", o.Worker)
		}
		if workers[proto.WorkerID(b)] {
			return nil, fmt.Errorf("mq genesis: outbox of %q twice", o.Worker)
		}
		workers[proto.WorkerID(b)] = true
	}
	return topics, nil
}

// InitGenesis writes the state.
func (m Module) InitGenesis(ctx sdk.Context, _ codec.JSONCodec, b json.RawMessage) {
	var g Genesis
	if err := kv.StrictJSON(b, &g); err != nil {
		panic(err)
	}
	topics, err := g.check()
	if err != nil {
		panic(err)
	}
	s := m.K.store.OpenKVStore(ctx)
	for _, t := range g.Topics {
		c := topics[t.Topic].Marshal()
		if err := s.Set(proto.KeyTopic(t.Topic), c); err != nil {
			panic(err)
		}
		if t.Seq == 0 {
			continue
		}
		if err := s.Set(keyStart(t.Topic), c); err != nil {
			panic(err)
		}
	}
	for _, o := range g.Outbox {
		w, _ := hex.DecodeString(o.Worker)
		head, _ := hex.DecodeString(o.Head)
		if err := s.Set(proto.KeyOutbox(proto.WorkerID(w)), proto.Cursor{Seq: o.Next - 1, Head: proto.Hash(head)}.Marshal()); err != nil {
			panic(err)
		}
	}
	for _, name := range []string{proto.TopicSystem, proto.TopicGatekeeper} {
		if _, ok := topics[name]; !ok {
			if err := m.K.CreateTopic(ctx, name); err != nil {
				panic(err)
			}
		}
	}
}

// ExportGenesis reads the state.
func (m Module) ExportGenesis(ctx sdk.Context, _ codec.JSONCodec) json.RawMessage {
	g := Genesis{Topics: []GenesisTopic{}, Outbox: []GenesisOutbox{}}
	s := m.K.store.OpenKVStore(ctx)
	err := kv.Each(s, []byte("t/"), func(k, v []byte) (bool, error) {
		c, err := proto.ParseCursor(v)
		g.Topics = append(g.Topics, GenesisTopic{string(k), c.Seq, c.Head.String()})
		return true, err
	})
	if err != nil {
		panic(err)
	}
	err = kv.Each(s, []byte("o/"), func(k, v []byte) (bool, error) {
		c, err := proto.ParseCursor(v)
		g.Outbox = append(g.Outbox, GenesisOutbox{hex.EncodeToString(k), c.Head.String(), c.Seq + 1})
		if err != nil {
			return false, err
		}
		return true, nil
	})
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(g)
	if err != nil {
		panic(err)
	}
	return b
}

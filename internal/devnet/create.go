package devnet

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// create makes the folder: TEE roots, genesis, ports.
func (n *Net) create(measurement string) error {
	n.say("making a new network in %s", short(n.opt.Dir))
	bonds := n.opt.Bonds
	if bonds == nil {
		bonds = []int64{1_000_000}
	}
	ports, err := n.findPorts(len(bonds))
	if err != nil {
		return err
	}
	if _, err := n.output("tee-simulator", "init", "--dir", n.path("tee"), "--no-snp"); err != nil {
		return err
	}
	roots, err := os.ReadFile(n.path("tee", "roots.bin"))
	if err != nil {
		return err
	}
	digest, err := n.output("tee-simulator", "measure", "--class", "sgx", "--measurement", measurement)
	if err != nil {
		return err
	}
	var suffix [4]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return err
	}
	chain := "phala-devnet-" + hex.EncodeToString(suffix[:])
	alice, operator := account(DevAccount), account(operatorAccount)
	var validators []validatorSpec
	for i, bond := range bonds {
		validators = append(validators, validatorSpec{Home: n.path(nodeName(i)), Seed: hex.EncodeToString(randomSeed()), Bond: bond,
			RPC: fmt.Sprintf("tcp://127.0.0.1:%d", ports.RPC[i]), P2P: fmt.Sprintf("tcp://127.0.0.1:%d", ports.P2P[i])})
	}
	spec := map[string]any{
		"chain_id": chain, "genesis_time": time.Now().UTC().Add(-time.Second), "block_interval": "100ms", "min_gas_price": fmt.Sprint(tx.GasPrice, tx.Denom),
		"validators":   validators,
		"accounts":     []any{map[string]any{"address": alice, "pha": 1_000_000}, map[string]any{"address": operator, "pha": 1_000_000}},
		"class":        attest.ClassSimulated,
		"roots":        hex.EncodeToString(roots),
		"measurements": []any{map[string]any{"digest": digest, "role": "worker"}, map[string]any{"digest": digest, "role": "gatekeeper"}},
		"registry": map[string]any{"gatekeeper_operators": []string{operator},
			"recent_blocks": 600, "attestation_blocks": 5_000_000, "renewal_blocks": 6000, "lease_blocks": 6000, "worst_level": 4, "registrations_per_block": 48, "tcb_evaluations": map[string]any{"sgx": 1000, "tdx": 1000},
			"settings": map[string]any{"lease_ms": 600_000, "trusting_period_ms": 1_728_000_000, "clock_drift_ms": 60_000, "session_interval_ms": 604_800_000}},
	}
	// Eras of a minute, so that they can be watched; fewer seats than a devnet may have
	// validators, so that nominations can move them.
	spec["npos"] = map[string]any{"seats": 5, "session_blocks": 100, "sessions_per_era": 5, "unbonding_eras": 4, "slash_defer_eras": 1, "history_eras": 84,
		"min_nominator_bond": "1000000000000", "min_validator_bond": "1000000000000000", "min_commission": 0, "max_candidates": 100, "max_electing_voters": 22_500,
		"balancing_iterations": 10, "max_era_seconds": 172_800,
		"issuance": map[string]any{"min": uint64(25e15), "max": uint64(100e15), "ideal": uint64(750e15), "falloff": uint64(50e15)}}
	maps.Copy(spec["npos"].(map[string]any), n.opt.NPoS)
	maps.Copy(spec["registry"].(map[string]any), n.opt.Registry)
	if n.opt.Contracts != nil {
		spec["contracts"] = n.opt.Contracts
	}
	if n.opt.Slashing != nil {
		spec["slashing"] = n.opt.Slashing
	}
	b, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path(specFile), b, 0o600); err != nil {
		return err
	}
	if _, err := n.output("phala-node", "init-network", n.path(specFile)); err != nil {
		return err
	}
	if err := os.WriteFile(n.path("operator.key"), []byte(operatorAccount+"\n"), 0o600); err != nil {
		return err
	}
	genesis, err := fileHash(n.path("node", "config", "genesis.json"))
	if err != nil {
		return err
	}
	n.state = State{Network: client.Network{Chain: chain, Node: fmt.Sprintf("http://127.0.0.1:%d", ports.RPC[0]), Simulated: true}, Account: DevAccount,
		Contracts: map[string]proto.ContractID{}, Measurement: measurement, Genesis: genesis, Workers: n.opt.Workers, TLS: n.opt.TLS, Ports: ports}
	n.mark("genesis")
	return n.save()
}

func randomSeed() []byte {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		panic("devnet: no random source: " + err.Error())
	}
	return b
}

func account(uri string) string {
	k, err := identity.FromURI(uri)
	if err != nil {
		panic("devnet: broken invariant: " + err.Error())
	}
	pub := k.Public()
	s, err := address.Bech32(address.HRP, pub[:])
	if err != nil {
		panic("devnet: broken invariant: " + err.Error())
	}
	return s
}

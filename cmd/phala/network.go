package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// A networkFile describes a network that is no devnet. Only the first four fields are
// needed; deploy adds the names that it gives.
type networkFile struct {
	client.Network
	Cluster   proto.ClusterID             `json:"cluster,omitempty"` // to which deploy deploys; 0: the first
	Contracts map[string]proto.ContractID `json:"contracts,omitempty"`
}

func loadNetwork(path string) (*networkFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n := &networkFile{Contracts: map[string]proto.ContractID{}}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(n); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n.Chain == "" || n.Node == "" || n.RootHeight < 1 || n.Root == (proto.Hash{}) {
		return nil, fmt.Errorf(`%s: a network needs "chain", "node" (URL of a node's RPC), "root_height" and "root" (a header's height and hash, from somebody you trust)`, path)
	}
	if n.Cluster == 0 {
		n.Cluster = 1
	}
	return n, nil
}

// network finds the network and, where it is a devnet, its state.
func (a *app) network() (*devnet.State, error) {
	s, err := a.load()
	if err != nil || a.root == "" {
		return s, err
	}
	root, err := client.ParseTrustRoot(a.root)
	if err != nil {
		return nil, fmt.Errorf("--trust-root: %w", err)
	}
	s.RootHeight, s.Root = root.Height, root.Hash
	return s, nil
}

func (a *app) load() (*devnet.State, error) {
	if a.file != "" {
		n, err := loadNetwork(a.file)
		if err != nil {
			return nil, err
		}
		return &devnet.State{Network: n.Network, Cluster: n.Cluster, Contracts: n.Contracts}, nil
	}
	s, err := devnet.Load(a.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no network in %s: start one with: make devnet (or name its folder with --devnet, or another network with --network)", a.dir)
	}
	return s, err
}

// remember gives a contract a name.
func (a *app) remember(name string, id proto.ContractID) error {
	if a.file == "" {
		return devnet.Remember(a.dir, name, id)
	}
	return devnet.Rewrite(a.file, func([]byte) ([]byte, error) {
		n, err := loadNetwork(a.file)
		if err != nil {
			return nil, err
		}
		n.Contracts[name] = id
		return json.MarshalIndent(n, "", "  ")
	})
}

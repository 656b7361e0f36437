package simulator

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/snp"
)

// Files of a network's directory. All but the roots and the collateral hold
// secrets or decide about them, and are readable by their owner only.
const (
	fileRoots      = "roots.bin"   // for the genesis
	fileNetwork    = "network.pem" // certificates and private keys
	fileState      = "state.json"  // status, advisories, revoked machines
	dirCollateral  = "collateral"  // <class>.bin: what is published now
	dirMachines    = "machines"    // <name>.pem: secret, keys, certificates
	fileLock       = ".lock"
	refreshedAfter = 24 * time.Hour // collateral is re-issued when older
)

// Store is a simulated network kept in a directory. Several processes may use
// one directory.
type Store struct {
	Dir     string
	Network *Network
	Roots   attest.Roots

	cached map[attest.TEE]*cachedCollateral
}

type cachedCollateral struct {
	raw        []byte
	collateral *attest.Collateral
	expiry     time.Time
}

// Open opens the network in dir, and makes it first if there is none; withSNP
// says whether a new one gets AMD-like roots too.
func Open(dir string, now time.Time, withSNP bool) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{Dir: dir, cached: make(map[attest.TEE]*cachedCollateral)}
	err := s.locked(func() error {
		text, err := os.ReadFile(s.path(fileNetwork))
		if errors.Is(err, fs.ErrNotExist) {
			return s.create(now, withSNP)
		}
		if err != nil {
			return err
		}
		return s.load(text)
	})
	if err != nil {
		return nil, fmt.Errorf("simulated network in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// locked runs f while no other process changes the directory.
func (s *Store) locked(f func() error) error {
	lock, err := os.OpenFile(s.path(fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which releases it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return f()
}

// write replaces a file atomically.
func (s *Store) write(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (s *Store) create(now time.Time, withSNP bool) (err error) {
	if s.Network, err = NewNetwork(now, withSNP); err != nil {
		return err
	}
	roots, err := s.Network.Roots()
	if err != nil {
		return err
	}
	if s.Roots, err = attest.SimulatedRoots(roots); err != nil {
		return err
	}
	text, err := encodeAuthorities(s.Network.authorities())
	if err != nil {
		return err
	}
	// The keys come last: without them the network does not exist yet.
	if err := s.write(s.path(fileRoots), roots, 0o644); err != nil {
		return err
	}
	return s.write(s.path(fileNetwork), text, 0o600)
}

func (n *Network) authorities() []named {
	list := []named{{"root", &n.Root}, {"pck-ca", &n.PCKCA}, {"tcb-signer", &n.TCBSigner}}
	if n.ARK.Cert != nil {
		list = append(list, named{"ark", &n.ARK}, named{"ask", &n.ASK})
	}
	return list
}

func (s *Store) load(text []byte) error {
	n := &Network{Product: snp.Milan}
	all := map[string]*Authority{"root": &n.Root, "pck-ca": &n.PCKCA, "tcb-signer": &n.TCBSigner, "ark": &n.ARK, "ask": &n.ASK}
	if err := decodeAuthorities(text, all); err != nil {
		return fmt.Errorf("%s: %w", fileNetwork, err)
	}
	if n.Root.Cert == nil || n.PCKCA.Cert == nil || n.TCBSigner.Cert == nil {
		return fmt.Errorf("%s: a certificate is missing", fileNetwork)
	}
	roots, err := os.ReadFile(s.path(fileRoots))
	if err != nil {
		return err
	}
	want, err := n.Roots()
	if err != nil {
		return err
	}
	if !bytes.Equal(roots, want) {
		return fmt.Errorf("%s does not belong to %s", fileRoots, fileNetwork)
	}
	s.Network = n
	s.Roots, err = attest.SimulatedRoots(roots)
	return err
}

// named is an authority with its name in a PEM file.
type named struct {
	name string
	*Authority
}

func encodeAuthorities(list []named) ([]byte, error) {
	var out []byte
	for _, a := range list {
		header := map[string]string{"Name": a.name}
		key, err := x509.MarshalPKCS8PrivateKey(a.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: header, Bytes: a.Cert.Raw})...)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: header, Bytes: key})...)
	}
	return out, nil
}

func decodeAuthorities(text []byte, into map[string]*Authority) error {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		text = rest
		a := into[block.Headers["Name"]]
		if a == nil {
			return fmt.Errorf("unknown name %q", block.Headers["Name"])
		}
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			a.Cert = cert
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return errors.New("a key that cannot sign")
			}
			a.Key = signer
		default:
			return fmt.Errorf("unknown block %q", block.Type)
		}
	}
}

var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// blockSecret is the PEM type of a machine's secret.
const blockSecret = "SIMULATED MACHINE SECRET"

// Machine returns the named machine, and makes it first if there is none.
func (s *Store) Machine(name string, now time.Time) (m *Machine, err error) {
	if !machineName.MatchString(name) {
		return nil, fmt.Errorf("machine name %q: letters, digits, dot, dash and underscore, at most 64", name)
	}
	path := s.path(dirMachines, name+".pem")
	err = s.locked(func() error {
		text, err := os.ReadFile(path)
		if err == nil {
			m, err = s.loadMachine(text)
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if m, err = s.Network.NewMachine(now); err != nil {
			return err
		}
		list := []named{{"pck", &m.PCK}, {"attestation", &Authority{Key: m.Attestation, Cert: m.PCK.Cert}}}
		if m.VCEK.Cert != nil {
			list = append(list, named{"vcek", &m.VCEK})
		}
		if text, err = encodeAuthorities(list); err != nil {
			return err
		}
		text = append(pem.EncodeToMemory(&pem.Block{Type: blockSecret, Bytes: m.Secret[:]}), text...)
		return s.write(path, text, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("simulated machine %s: %w", name, err)
	}
	return m, nil
}

func (s *Store) loadMachine(text []byte) (*Machine, error) {
	block, rest := pem.Decode(text)
	m := new(Machine)
	if block == nil || block.Type != blockSecret || len(block.Bytes) != len(m.Secret) {
		return nil, errors.New("its secret is missing")
	}
	copy(m.Secret[:], block.Bytes)
	var attestation Authority
	err := decodeAuthorities(rest, map[string]*Authority{"pck": &m.PCK, "attestation": &attestation, "vcek": &m.VCEK})
	if err != nil {
		return nil, err
	}
	key, ok := attestation.Key.(*ecdsa.PrivateKey)
	_, pck := m.PCK.Key.(*ecdsa.PrivateKey)
	if !ok || !pck || m.PCK.Cert == nil {
		return nil, errors.New("a key or certificate is missing")
	}
	m.Attestation = key
	m.identify(s.Network)
	return m, nil
}

// diskState is State as the directory keeps it.
type diskState struct {
	Status     string   `json:"status"`
	Advisories []string `json:"advisories,omitempty"`
	Evaluation uint32   `json:"evaluation"`
	Revoked    []string `json:"revoked,omitempty"` // PCK serial numbers, hexadecimal
}

// State reads what the network's vendor says at present.
func (s *Store) State() (State, error) {
	b, err := os.ReadFile(s.path(fileState))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	var d diskState
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	out := State{Status: d.Status, Advisories: d.Advisories, Evaluation: d.Evaluation}
	for _, serial := range d.Revoked {
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return State{}, fmt.Errorf("%s: serial number %q", fileState, serial)
		}
		out.Revoked = append(out.Revoked, n)
	}
	return out, err
}

// SetState changes what the vendor says, and publishes new collateral of every
// class at once. Its TCB evaluation number grows by itself.
func (s *Store) SetState(now time.Time, edit func(*State) error) error {
	return s.locked(func() error {
		state, err := s.State()
		if err != nil {
			return err
		}
		if err := edit(&state); err != nil {
			return err
		}
		state.Evaluation = max(state.Evaluation, 1) + 1
		d := diskState{Status: state.Status, Advisories: state.Advisories, Evaluation: state.Evaluation}
		for _, n := range state.Revoked {
			d.Revoked = append(d.Revoked, n.Text(16))
		}
		b, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return err
		}
		if err := s.write(s.path(fileState), append(b, '\n'), 0o600); err != nil {
			return err
		}
		for _, tee := range s.Classes() {
			if err := s.publish(tee, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Classes returns the classes the network has roots for.
func (s *Store) Classes() []attest.TEE {
	if s.Network.ARK.Cert == nil {
		return []attest.TEE{attest.SGX, attest.TDX}
	}
	return []attest.TEE{attest.SGX, attest.TDX, attest.SNP}
}

func (s *Store) publish(tee attest.TEE, now time.Time) error {
	state, err := s.State()
	if err != nil {
		return err
	}
	c, err := s.Network.Collateral(s.Network.Publication(tee, now, state))
	if err != nil {
		return err
	}
	return s.write(s.path(dirCollateral, tee.String()+".bin"), c.Marshal(), 0o644)
}

// Collateral returns what is published for a class. It is issued anew when it
// is a day old.
func (s *Store) Collateral(tee attest.TEE, now time.Time) (*attest.Collateral, error) {
	c, err := s.current(tee, now)
	if err == nil && c != nil && c.expiry.Sub(now) > CollateralValidity-refreshedAfter {
		return c.collateral, nil
	}
	if err := s.locked(func() error { return s.publish(tee, now) }); err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	if c, err = s.current(tee, now); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errors.New("collateral: published one is missing")
	}
	return c.collateral, nil
}

// current reads the published collateral, nil when there is none.
func (s *Store) current(tee attest.TEE, now time.Time) (*cachedCollateral, error) {
	raw, err := os.ReadFile(s.path(dirCollateral, tee.String()+".bin"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if c := s.cached[tee]; c != nil && bytes.Equal(c.raw, raw) {
		return c, nil
	}
	collateral, err := attest.ParseCollateral(raw)
	if err != nil {
		return nil, err
	}
	info, err := attest.VerifyCollateral(collateral, s.Roots, now)
	if err != nil {
		return nil, err
	}
	c := &cachedCollateral{raw, collateral, info.Expiry}
	s.cached[tee] = c
	return c, nil
}

// Revoke puts a machine's PCK certificate on the revocation list.
func (s *Store) Revoke(m *Machine, now time.Time) error {
	return s.SetState(now, func(state *State) error {
		state.Revoked = append(state.Revoked, m.PCK.Cert.SerialNumber)
		return nil
	})
}

// MachineIDOf is the identity that a verdict gives to a machine.
func MachineIDOf(m *Machine, tee attest.TEE) string {
	id := attest.MachineID(tee, m.PPID[:])
	if tee == attest.SNP {
		id = attest.MachineID(tee, m.ChipID[:])
	}
	return hex.EncodeToString(id[:])
}

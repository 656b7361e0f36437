package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/keys"
)

// Failure classes. Test with errors.Is; they survive the way from one process to the other.
var (
	// ErrGone: the keyring's process has ended, and with it every key. The worker must end
	// too.
	ErrGone = errors.New("keyring: its process has ended")
	// ErrRequest: a request is malformed, or asks for more than a request may.
	ErrRequest = errors.New("keyring: malformed request")
	// ErrRefused: the keyring does not put its name to this.
	ErrRefused = errors.New("keyring: refused")
	// ErrNoKey: there is no such key, or it was erased.
	ErrNoKey = errors.New("keyring: no such key")
	// ErrOpen: an envelope is not for any of the keys.
	ErrOpen = errors.New("keyring: envelope does not open")
	// ErrRelease: a release of keys is not what it says, or not for this enclave.
	ErrRelease = errors.New("keyring: release of keys refused")
	// ErrIdentity: the sealed identity is of another network, or of other settings.
	ErrIdentity = errors.New("pruntime: the sealed identity is of another network, trust root, role or operator, or was made with stricter settings")
)

// Config is what an identity belongs to.
type Config struct {
	DataDir    string
	Chain      string
	RootHeight uint64 // of the trust root
	RootHash   proto.Hash
	Role       proto.Role
	Operator   []byte
	Roots      proto.Hash // digest of the attestation roots
	Settings   proto.Settings
	Releases   []proto.Hash     // gatekeepers
	Now        func() time.Time // the host's clock; not sent to another process, which has its own
}

// Files returns the store of the sealed files of one key, bound to the network.
//
// The roots are in the binding too: a host cannot start a gatekeeper again with roots of
// its own and have its share released to evidence of its own.
func (c *Config) Files(key [32]byte) (*keys.Store, error) {
	bind := transcript.Bytes("phala/pruntime/files", []byte(c.Chain), transcript.U64(c.RootHeight), c.RootHash[:], []byte{byte(c.Role)}, c.Roots[:])
	return keys.Open(c.DataDir, key, bind, rand.Reader)
}

// SealingLabel is for the TEE's sealing key, from which both keys of files derive.
const SealingLabel = "phala/pruntime/v1"

// SealingKeys derives from the TEE's sealing key those of the keyring's own files and of
// all the others. Neither tells anything of the other.
func SealingKeys(seal [32]byte) (own, files [32]byte, err error) {
	for label, k := range map[string]*[32]byte{"phala/keyring/own/v1": &own, "phala/keyring/files/v1": &files} {
		b, err := hkdf.Key(sha256.New, seal[:], nil, label, 32)
		if err != nil {
			return own, files, fmt.Errorf("keyring: sealing key: %w", err)
		}
		*k = [32]byte(b)
	}
	return own, files, nil
}

// Info is what a keyring tells about itself, once.
type Info struct {
	Worker    proto.WorkerID
	TEE       attest.TEE
	Simulated bool
	Ephemeral bool           // nothing is sealed that a later start could open
	Made      proto.Settings // what the identity was made with
	Releases  []proto.Hash   // likewise
	Files     [32]byte       // sealing key of all files but the keyring's own
}

// A Keeper holds the keys. Its methods are safe for concurrent use.
type Keeper struct {
	cfg  Config
	tee  producer.Producer
	own  *keys.Store
	id   *identity.KeyPair
	info Info

	mu       sync.Mutex
	master   [32]byte             // the network's master key; zero: none has released keys yet
	sessions []*commkey.SecretKey // newest last; at most two
	made     [][32]byte           // public keys of this start's sessions, newest last
	epochs   map[proto.ClusterID]cluster.Secrets
	known    map[epochOf]commkey.PublicKey // epochs whose keys were here; they never change
}

type epochOf struct {
	cluster proto.ClusterID
	epoch   uint64
}

// maxMade is how many sessions are remembered: many more than one start announces.
const maxMade = 4096

// Open makes or opens the identity.
func Open(ctx context.Context, cfg Config, tee producer.Producer) (*Keeper, error) {
	k := &Keeper{cfg: cfg, tee: tee, epochs: map[proto.ClusterID]cluster.Secrets{}, known: map[epochOf]commkey.PublicKey{}}
	if k.cfg.Now == nil {
		k.cfg.Now = time.Now
	}
	k.info = Info{TEE: tee.TEE(), Simulated: tee.Simulated()}
	seal, err := tee.SealingKey(ctx, []byte(SealingLabel))
	if errors.Is(err, producer.ErrNoSealing) && cfg.Role == proto.RoleWorker {
		// A worker needs nothing of its own that the network cannot give again: without
		// sealing it is a new one at each start. What it writes opens in this start only.
		k.info.Ephemeral = true
		_, err = rand.Read(seal[:])
	}
	if err != nil {
		return nil, fmt.Errorf("pruntime: sealing key: %w", err)
	}
	own, files, err := SealingKeys(seal)
	if err != nil {
		return nil, err
	}
	k.info.Files = files
	if k.own, err = cfg.Files(own); err != nil {
		return nil, err
	}
	if k.info.Ephemeral {
		if err := k.own.Clear(); err != nil { // what nobody can open
			return nil, err
		}
	}
	if err := k.openIdentity(); err != nil {
		return nil, err
	}
	k.info.Worker = proto.WorkerID(k.id.Public())
	return k, nil
}

// fileIdentity is the keyring's own file. Others can remove it, and with it the identity;
// all that belongs to one is in it, so that they cannot remove a part.
const fileIdentity = "identity"

// openIdentity reads the sealed identity or makes one. It belongs to one chain, trust
// root, role and operator for ever. What it registered with holds until it registers
// again, so a restart may not go further than the settings that it was made with; it may
// be stricter.
func (k *Keeper) openIdentity() error {
	c := &k.cfg
	b, err := k.own.Get(fileIdentity)
	switch {
	case errors.Is(err, keys.ErrNone):
		id, _, err := identity.Generate(rand.Reader)
		if err != nil {
			return err
		}
		k.id, k.info.Made, k.info.Releases = id, c.Settings, c.Releases
		return k.keepIdentity([32]byte{})
	case err != nil:
		return fmt.Errorf("%w (was this folder made on another machine, by another build, or for another network? %s)", err, c.DataDir)
	}
	r := wire.NewReader(b)
	secret, was, made := r.Blob(64), r.Blob(1024), readSettings(r)
	releases, master := readHashes(r), r.Array32()
	if err := r.Close(); err != nil {
		return fmt.Errorf("pruntime: identity: %w", err)
	}
	if string(was) != string(c.bound()) {
		return fmt.Errorf("%w: use another data folder, or the flags that it was made with", ErrIdentity)
	}
	if what := c.Settings.Beyond(&made); what != "" {
		return fmt.Errorf("%w: %s goes further than what it was made with: use another data folder for a new identity, or a stricter flag", ErrIdentity, what)
	}
	if k.id, err = identity.FromSecret(secret); err != nil {
		return err
	}
	for _, h := range c.Releases {
		if !slices.Contains(releases, h) {
			return fmt.Errorf("%w: it was made to release no keys to %s", ErrIdentity, h)
		}
	}
	k.info.Made, k.info.Releases, k.master = made, releases, master
	return nil
}

// bound is what an identity belongs to for ever.
func (c *Config) bound() []byte {
	return new(wire.Writer).String(c.Chain).U64(c.RootHeight).Fixed(c.RootHash[:]).U8(uint8(c.Role)).Blob(c.Operator).Bytes()
}

// keepIdentity seals the identity with the network's master key.
func (k *Keeper) keepIdentity(master [32]byte) error {
	w := new(wire.Writer).Blob(k.id.Secret()).Blob(k.cfg.bound())
	writeSettings(w, &k.info.Made).Count(len(k.info.Releases))
	for _, h := range k.info.Releases {
		w.Fixed(h[:])
	}
	return k.own.Put(fileIdentity, w.Fixed(master[:]).Bytes())
}

// newSession makes a session key and erases all but the one before.
func (k *Keeper) newSession() ([32]byte, error) {
	s, err := commkey.Generate(rand.Reader)
	if err != nil {
		return [32]byte{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sessions = append(k.sessions, s)
	k.sessions = slices.Clone(k.sessions[max(0, len(k.sessions)-2):])
	k.made = append(k.made, s.Public())
	k.made = k.made[max(0, len(k.made)-maxMade):]
	return s.Public(), nil
}

// endSessions erases all session keys but one.
func (k *Keeper) endSessions(keep [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sessions = slices.DeleteFunc(k.sessions, func(s *commkey.SecretKey) bool { return [32]byte(s.Public()) != keep })
}

// wasSession reports whether a public key is that of a session which was made here. One
// that was erased still counts: nobody can use it.
func (k *Keeper) wasSession(key [32]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.made, key)
}

// held returns the sessions' keys, newest first.
func (k *Keeper) held() []*commkey.SecretKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Clone(k.sessions)
	slices.Reverse(out)
	return out
}

// epoch returns an epoch's key, nil when it is not here.
func (k *Keeper) epoch(c proto.ClusterID, epoch uint64) *commkey.SecretKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.epochs[c][epoch]
}

// wasEpoch reports whether a public key is the one of an epoch whose key was released
// here.
func (k *Keeper) wasEpoch(c proto.ClusterID, epoch uint64, key [32]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.known[epochOf{c, epoch}]
	return ok && [32]byte(known) == key
}

// addEpoch keeps an epoch's key and reports whether it is the one that was here before.
func (k *Keeper) addEpoch(c proto.ClusterID, epoch uint64, key *commkey.SecretKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, ok := k.known[epochOf{c, epoch}]; ok && old != key.Public() {
		return false
	}
	if k.epochs[c] == nil {
		k.epochs[c] = cluster.Secrets{}
	}
	k.epochs[c][epoch], k.known[epochOf{c, epoch}] = key, key.Public()
	return true
}

// forget erases a cluster's keys of the epochs before one.
func (k *Keeper) forget(c proto.ClusterID, before uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.epochs[c].Forget(before)
}

// pinMaster remembers the network's master public key, and refuses another one: the first
// that released keys to this identity is the network's for this identity, for ever.
// Whoever controls the chain later cannot move it to keys of his own.
func (k *Keeper) pinMaster(master [32]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch k.master {
	case master:
		return nil
	case [32]byte{}:
	default:
		return fmt.Errorf("master key %x, this identity belongs to %x", master, k.master)
	}
	if err := k.keepIdentity(master); err != nil {
		return err
	}
	k.master = master
	return nil
}

// evidence obtains evidence with report data.
func (k *Keeper) evidence(ctx context.Context, reportData [64]byte) ([]byte, error) {
	ev, err := k.tee.Evidence(ctx, reportData)
	if err != nil {
		return nil, fmt.Errorf("pruntime: evidence: %w", err)
	}
	return ev.Marshal(), nil
}

package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/phala-go/phala/crypto/transcript"
)

// Failure classes. Test with errors.Is.
var (
	// ErrSealed: a file does not open. It is damaged, or of another enclave or network.
	ErrSealed = errors.New("keys: sealed file does not open")
	// ErrNone: there is no such file.
	ErrNone = errors.New("keys: no such file")
)

const magic = "PHS1"

// maxFile bounds what is read into memory.
const maxFile = 4 << 30

// A Store keeps sealed files in a directory.
type Store struct {
	dir     string
	aead    cipher.AEAD
	context []byte
	rng     io.Reader
	settle  func(dir string) // has the disk keep the names in a directory
}

// Open returns the store of a directory. key is the enclave's sealing key, context
// what every file is bound to.
func Open(dir string, key [32]byte, context []byte, rng io.Reader) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &Store{dir, aead, context, rng, settle}, nil
}

// settle writes a directory's names to the disk, where the system lets one: not every
// TEE's file system does.
func settle(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

func (s *Store) aad(name string) []byte {
	return transcript.Bytes("phala/seal/v1", s.context, []byte(name))
}

// Put seals data under a name. The file appears whole or not at all, and a machine that
// loses its power afterwards has it: of a gatekeeper's share there is no other copy.
func (s *Store) Put(name string, data []byte) error {
	nonce := make([]byte, s.aead.NonceSize())
	if _, err := io.ReadFull(s.rng, nonce); err != nil {
		return fmt.Errorf("keys: read random nonce: %w", err)
	}
	out := append([]byte(magic), nonce...)
	out = s.aead.Seal(out, nonce, data, s.aad(name))
	path := filepath.Join(s.dir, name)
	tmp := path + ".tmp"
	// Whatever is there is left of a start that was killed; if it is a link, it was made to
	// have another file written over.
	if err := s.Delete(name + ".tmp"); err != nil {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, werr := f.Write(out)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		// A part of it would keep a full disk full.
		return errors.Join(fmt.Errorf("keys: write %s: %w", name, err), s.Delete(name+".tmp"))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("keys: %w", err), s.Delete(name+".tmp"))
	}
	s.settle(s.dir)
	return nil
}

// Get opens the file with a name.
func (s *Store) Get(name string) ([]byte, error) {
	path := filepath.Join(s.dir, name)
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNone, name)
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrSealed, name, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	n := len(magic) + s.aead.NonceSize()
	if len(b) < n || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: %s", ErrSealed, name)
	}
	data, err := s.aead.Open(nil, b[len(magic):n], b[n:], s.aad(name))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrSealed, name)
	}
	return data, nil
}

// Delete removes a file; that there is none is no error.
func (s *Store) Delete(name string) error {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

// Clear removes every file; folders beside them stay.
func (s *Store) Clear() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			err = errors.Join(err, s.Delete(e.Name()))
		}
	}
	return err
}

// Sweep removes what a killed process left of files whose names start with prefix. Nobody
// else may write such files meanwhile.
func (s *Store) Sweep(prefix string) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ".tmp") {
			err = errors.Join(err, s.Delete(e.Name()))
		}
	}
	return err
}

// List returns the names that start with prefix, in order.
func (s *Store) List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !strings.HasSuffix(e.Name(), ".tmp") {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode"

	"golang.org/x/crypto/scrypt"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
)

// A key file is JSON: the address in the clear, the secret URI under AES-256-GCM with
// a key that scrypt (N=2^15, r=8, p=1) derives from the passphrase and the salt. The
// address is in the additional data.
type keyFile struct {
	Version int    `json:"version"`
	Address string `json:"address"`
	Salt    []byte `json:"salt"`
	Nonce   []byte `json:"nonce"`
	Sealed  []byte `json:"sealed"`
}

func keyDir() (string, error) {
	if d := os.Getenv("PHALA_KEYS"); d != "" {
		return d, nil
	}
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "phala", "keys"), err
}

var errKeyName = errors.New("a key's name is of letters, digits and dashes, 64 bytes at most, and no seed")

// newName refuses names under which a key could not be used: those that look like a secret
// themselves.
func newName(name string) error {
	seed := strings.HasPrefix(name, "0x") || len(name) == 64 && strings.Trim(strings.ToLower(name), "0123456789abcdef") == ""
	if name == "" || len(name) > 64 || seed || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
	}) {
		return errKeyName
	}
	return nil
}

func keyPath(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, `/\.`) {
		return "", errKeyName
	}
	dir, err := keyDir()
	return filepath.Join(dir, name+".json"), err
}

func keyCipher(pass, salt []byte) (cipher.AEAD, error) {
	k, err := scrypt.Key(pass, salt, 1<<15, 8, 1, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func saveKey(name, uri string) (string, error) {
	k, err := identity.FromURI(uri)
	if err != nil {
		return "", err
	}
	if err := newName(name); err != nil {
		return "", err
	}
	path, err := keyPath(name)
	if err != nil {
		return "", err
	}
	there := fmt.Errorf("there is a key %q already: %s", name, path)
	if _, err := os.Stat(path); err == nil {
		return "", there
	}
	pass, err := newPassphrase()
	if err != nil {
		return "", err
	}
	pub := k.Public()
	f := keyFile{Version: 1, Salt: make([]byte, 16), Nonce: make([]byte, 12)}
	if f.Address, err = address.Bech32(address.HRP, pub[:]); err != nil {
		return "", err
	}
	for _, b := range [][]byte{f.Salt, f.Nonce} {
		if _, err := rand.Read(b); err != nil {
			return "", err
		}
	}
	aead, err := keyCipher(pass, f.Salt)
	if err != nil {
		return "", err
	}
	f.Sealed = aead.Seal(nil, f.Nonce, []byte(uri), []byte(f.Address))
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	err = createFile(path, append(b, '\n'))
	if errors.Is(err, os.ErrExist) {
		return "", there // another process was faster
	}
	return f.Address, err
}

// createFile makes a file that was not there: with all of its contents, or not at all.
func createFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func loadKey(name string) (*keyFile, string, error) {
	path, err := keyPath(name)
	if err != nil {
		return nil, "", err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if newName(name) != nil {
			return nil, "", errors.New("no key of that name, which is not shown because it may be a secret: phala keys list shows what there is, and a seed begins with 0x")
		}
		return nil, "", fmt.Errorf("no key %q: phala keys list shows what there is, phala keys add %s makes one", name, name)
	}
	if err != nil {
		return nil, "", err
	}
	f := new(keyFile)
	if err := json.Unmarshal(b, f); err != nil || f.Version != 1 || len(f.Nonce) != 12 {
		return nil, "", fmt.Errorf("%s is not a key file", path)
	}
	return f, path, nil
}

func unsealKey(name string) (string, error) {
	f, path, err := loadKey(name)
	if err != nil {
		return "", err
	}
	pass, err := passphrase()
	if err != nil {
		return "", err
	}
	aead, err := keyCipher(pass, f.Salt)
	if err != nil {
		return "", err
	}
	uri, err := aead.Open(nil, f.Nonce, f.Sealed, []byte(f.Address))
	if err != nil {
		return "", fmt.Errorf("%s does not open: wrong passphrase, or the file was changed", path)
	}
	return string(uri), nil
}

func openKey(name string) (*identity.KeyPair, error) {
	uri, err := unsealKey(name)
	if err != nil {
		return nil, err
	}
	return identity.FromURI(uri)
}

func runKeys(_ context.Context, a *app, args []string) error {
	f := a.flags("phala keys add NAME | list | import NAME | export NAME",
		"Accounts, encrypted on this disk under a passphrase (PHALA_PASSPHRASE, or asked for). import reads a recovery\nphrase or secret URI from standard input; export prints it.")
	pos, err := need(f, args, 1, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	switch verb, named := pos[0], len(pos) == 2; {
	case verb != "add" && verb != "import" && verb != "export" && verb != "list":
		return misused(f, "%q is none of add, list, import and export", verb)
	case named && verb == "list":
		return misused(f, "list takes no name")
	case !named && verb != "list":
		return misused(f, "%s takes a name", verb)
	}
	switch pos[0] {
	case "add":
		phrase, err := identity.NewPhrase(rand.Reader)
		if err != nil {
			return err
		}
		addr, err := saveKey(pos[1], phrase)
		if err != nil {
			return err
		}
		return a.print(map[string]string{"name": pos[1], "address": addr, "phrase": phrase}, func(w io.Writer) {
			fmt.Fprintf(w, "%s  %s\n\nWrite these words down; they are the key:\n\n  %s\n", pos[1], addr, phrase)
		})
	case "import":
		if err := newName(pos[1]); err != nil {
			return err
		}
		line, err := ask(os.Stdin, a.err, "recovery phrase or secret URI")
		if err != nil {
			return fmt.Errorf("give the recovery phrase on standard input: %w", err)
		}
		addr, err := saveKey(pos[1], strings.TrimSpace(line))
		if err != nil {
			return err
		}
		return a.print(map[string]string{"name": pos[1], "address": addr}, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", pos[1], addr) })
	case "export":
		uri, err := unsealKey(pos[1])
		if err != nil {
			return err
		}
		return a.print(map[string]string{"name": pos[1], "secret": uri}, func(w io.Writer) { fmt.Fprintln(w, uri) })
	}
	return listKeys(a)
}

func listKeys(a *app) error {
	dir, err := keyDir()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	list := []map[string]string{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		k, _, err := loadKey(name)
		if err != nil {
			return err
		}
		list = append(list, map[string]string{"name": name, "address": k.Address})
	}
	sort.Slice(list, func(i, j int) bool { return list[i]["name"] < list[j]["name"] })
	return a.print(list, func(w io.Writer) {
		for _, k := range list {
			fmt.Fprintf(w, "%-16s %s\n", k["name"], k["address"])
		}
	})
}

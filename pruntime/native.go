package pruntime

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/phala-go/phala/proto"
)

// nativeCache keeps compiled code, which is native, sealed. It is in the open only while
// the engine prepares one code, in a folder that exists as long: whoever could write there
// would run code in this process. In a TEE the folder for temporary files is inside the
// enclave; elsewhere nothing is protected anyway.
type nativeCache struct {
	store interface {
		Put(name string, b []byte) error
		Get(name string) ([]byte, error)
		List(prefix string) ([]string, error)
		Delete(name string) error
	}
	from string // Config.Native
	log  func(msg string, args ...any)
	kept sync.Map // hashes of codes of which something was sealed, or found
}

// nativePrefix starts the names of sealed files and of folders. The former go on with the
// code's hash and the engine's own name of the file.
const nativePrefix = "native-"

func nativeName(code proto.Hash) string { return nativePrefix + code.String() + "-" }

// use calls f with a folder that holds what was compiled of a code before, if that is found,
// and keeps what f added.
func (n *nativeCache) use(code proto.Hash, f func(dir string, found bool) error) (err error) {
	dir, lock, err := nativeDir()
	if err != nil {
		return fmt.Errorf("pruntime: folder for compiled code: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), lock.Close()) }()
	if err := n.unseal(code, dir); err != nil {
		return err
	}
	had := map[string]bool{}
	if err := eachFile(dir, func(rel string) error { had[rel] = true; return nil }); err != nil {
		return err
	}
	if len(had) > 0 {
		n.kept.Store(code, true)
	}
	if err := f(dir, len(had) > 0); err != nil {
		return err
	}
	err = eachFile(dir, func(rel string) error {
		if had[rel] || strings.HasSuffix(rel, ".tmp") {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(dir, rel))
		if err != nil {
			return err
		}
		if err := n.store.Put(nativeName(code)+base64.RawURLEncoding.EncodeToString([]byte(rel)), b); err != nil {
			return err
		}
		n.kept.Store(code, true)
		return nil
	})
	if err != nil {
		n.log("compiled code was not kept", "code", code, "error", err)
	}
	return nil
}

func (n *nativeCache) unseal(code proto.Hash, dir string) error {
	if n.from != "" {
		if err := os.CopyFS(dir, os.DirFS(n.from)); err != nil {
			return fmt.Errorf("pruntime: compiled code: %w", err)
		}
	}
	names, err := n.store.List(nativeName(code))
	if err != nil {
		return err
	}
	for _, name := range names {
		rel, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, nativeName(code)))
		if err != nil || !filepath.IsLocal(string(rel)) {
			continue
		}
		b, err := n.store.Get(name)
		if err != nil {
			// It is only a cache: what does not open is compiled again.
			if derr := n.store.Delete(name); derr != nil {
				return derr
			}
			continue
		}
		path := filepath.Join(dir, string(rel))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			return fmt.Errorf("pruntime: compiled code: %w", err)
		}
	}
	return nil
}

// eachFile calls f with the path of each file in a folder.
func eachFile(dir string, f func(rel string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return f(rel)
	})
}

// nativeDir makes a folder and locks it until the file is closed, so that sweepNative can
// tell it from one that a killed process left behind.
func nativeDir() (dir string, lock *os.File, err error) {
	for range 100 { // a sweep may come between making and locking it, and another one the next time
		if dir, err = os.MkdirTemp("", "pruntime-"+nativePrefix); err != nil {
			return "", nil, err
		}
		if lock, err = os.Open(dir); err != nil {
			continue
		}
		if err = flock(lock); !errors.Is(err, syscall.EWOULDBLOCK) { // a system without locks has no other process either
			if _, err = os.Stat(dir); err == nil { // the sweep may have removed it and gone
				return dir, lock, nil
			}
		}
		lock.Close()
	}
	return "", nil, err
}

func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// sweepNative removes the folders that killed processes left behind.
func sweepNative() error {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "pruntime-"+nativePrefix+"*"))
	for _, dir := range left {
		f, oerr := os.Open(dir)
		if oerr != nil {
			continue // gone, or somebody else's
		}
		if flock(f) == nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		err = errors.Join(err, f.Close())
	}
	return err
}

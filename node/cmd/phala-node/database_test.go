package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dbm "github.com/cosmos/cosmos-db"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// TestRemoveUnborn goes through what a folder can hold when the process that makes a
// database ends, and through what must not be touched.
func TestRemoveUnborn(t *testing.T) {
	const name = "x"
	manifest, table := firstManifest, "000002.ldb"
	made := t.TempDir()
	db, err := dbm.NewGoLevelDB(name, made, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	b, err := os.ReadFile(filepath.Join(made, name+".db", manifest))
	if err != nil {
		t.Fatal(err)
	}
	whole := string(b)
	type files = map[string]string
	for _, tc := range []struct {
		name          string
		files         files
		stuck, opened bool // without and with removeUnborn
	}{
		{"folder", files{}, false, true},
		{"lock and log", files{"LOCK": "", "LOG": "begin"}, false, true},
		{"empty manifest", files{manifest: ""}, true, true},
		{"half a manifest", files{"LOCK": "", "LOG": "begin", manifest: whole[:len(whole)/2]}, true, true},
		{"manifest", files{"LOCK": "", "LOG": "begin", manifest: whole}, true, true},
		{"empty name", files{manifest: whole, "CURRENT.0": ""}, true, true},
		{"half a name", files{manifest: whole, "CURRENT.0": manifest[:5]}, true, true},
		{"name", files{manifest: whole, "CURRENT.0": manifest + "\n"}, false, true},
		{"removed by half", files{"CURRENT.0": ""}, true, true},
		{"named", files{manifest: whole, "CURRENT": manifest + "\n"}, false, true},
		{"lost its entry point", files{manifest: whole, table: ""}, true, false},
		{"lost its name", files{manifest: whole, "000001.log": ""}, true, false},
		{"another manifest", files{"MANIFEST-000004": whole}, true, false},
		{"somebody's file", files{manifest: whole, "note.txt": ""}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			make := func() string {
				dir := t.TempDir()
				sub := filepath.Join(dir, name+".db")
				if err := os.Mkdir(sub, 0o700); err != nil {
					t.Fatal(err)
				}
				for f, content := range tc.files {
					if err := os.WriteFile(filepath.Join(sub, f), []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				return dir
			}
			open := func(dir string) error {
				db, err := dbm.NewGoLevelDB(name, dir, nil)
				if err != nil {
					return err
				}
				return errors.Join(db.SetSync([]byte("k"), []byte("v")), db.Close())
			}
			if err := open(make()); (err != nil) != tc.stuck {
				t.Fatalf("opened as it is: %v, stuck %t", err, tc.stuck)
			}
			dir := make()
			if err := removeUnborn(dir); err != nil {
				t.Fatal(err)
			}
			if err := open(dir); (err == nil) != tc.opened {
				t.Errorf("opened after removeUnborn: %v, want %t", err, tc.opened)
			}
			for f := range tc.files {
				if _, err := os.Stat(filepath.Join(dir, name+".db", f)); !tc.opened && err != nil {
					t.Errorf("%v, but it was not the rest of a creation", err)
				}
			}
			// Whoever makes one now holds the lock.
			if tc.stuck && tc.opened {
				dir := make()
				lock, err := storage.OpenFile(filepath.Join(dir, name+".db"), false)
				if err != nil {
					t.Fatal(err)
				}
				defer lock.Close()
				if err := removeUnborn(dir); !errors.Is(err, syscall.EAGAIN) || !strings.Contains(err.Error(), "another node") {
					t.Errorf("while somebody has the lock: %v", err)
				}
			}
		})
	}
	if err := removeUnborn(filepath.Join(made, "nothing")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestStopWhileCreating stops a new node while it makes each of its databases, as soon
// as the folder is there and up to 3 ms later. The last start makes blocks.
func TestStopWhileCreating(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("PHALA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("PHALA_SEED=%d repeats this", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	home := newHome(t)
	data := filepath.Join(home, "data")
	for _, db := range []string{"application", "snapshots/metadata", "bodies", "blockstore", "state", "tx_index", "evidence"} {
		n := startNode(t, home)
		n.until("the database "+db, func() bool {
			_, err := os.Stat(filepath.Join(data, db+".db"))
			return err == nil
		})
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		sig := []os.Signal{syscall.SIGKILL, syscall.SIGTERM}[rng.IntN(2)]
		n.cmd.Process.Signal(sig)
		<-n.done
		if out := n.output(); strings.Contains(out, "corrupted") || strings.Contains(out, "panic") {
			t.Fatalf("stopped by %v while making %s; it said\n%s", sig, db, out)
		}
	}
	n := startNode(t, home)
	n.until("a block", func() bool { return strings.Contains(n.output(), "committed state") })
}

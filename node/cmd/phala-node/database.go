package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// goleveldb makes a database by writing its first manifest and then the file CURRENT that
// names it. A process that ends in between leaves a manifest that nothing names, and
// opening takes that for a database that lost its entry point.
const (
	firstManifest = "MANIFEST-000000"
	firstCurrent  = "CURRENT.0" // becomes CURRENT by renaming
)

// removeUnborn removes what is left of each database below the folders whose creation was
// cut off, so that it is made anew. It touches only what never was a database.
func removeUnborn(dirs ...string) error {
	for _, dir := range dirs {
		dbs, err := filepath.Glob(filepath.Join(dir, "*.db"))
		if err != nil {
			return err
		}
		for _, db := range dbs {
			if err := removeUnbornDB(db); err != nil {
				return fmt.Errorf("database %s, which was not made to its end: %w", db, err)
			}
		}
	}
	return nil
}

func removeUnbornDB(dir string) error {
	if ok, err := unborn(dir); !ok {
		return err
	}
	// The lock that whoever opens it takes: another node may be making it now.
	lock, err := storage.OpenFile(dir, false)
	if err != nil {
		return fmt.Errorf("is another node running here? %w", err)
	}
	defer lock.Close()
	if ok, err := unborn(dir); !ok {
		return err
	}
	// In this order, which leaves an unborn one if it is cut off, too.
	for _, name := range []string{firstCurrent, firstManifest} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unborn reports whether a folder holds the beginning of a database and nothing else.
// Whatever was stored is in further files, which are made after CURRENT.
func unborn(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	begun := false
	for _, e := range entries {
		switch e.Name() {
		case firstManifest, firstCurrent:
			begun = true
		case "LOCK", "LOG", "LOG.old":
		default:
			return false, nil
		}
	}
	return begun, nil
}

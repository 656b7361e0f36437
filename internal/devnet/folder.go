package devnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/phala-go/phala/proto"
)

// lockFile is held by the process that runs the folder's devnet. It also says that the
// folder is a devnet's, before there is a state.
const lockFile = "devnet.lock"

// ErrRunning: another process runs this folder's devnet.
var ErrRunning = errors.New("devnet: it runs already")

// take makes the folder and locks it, so that nobody starts a second network in it, or
// clears it under one that runs.
func take(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	own := len(entries) == 0
	for _, e := range entries {
		own = own || e.Name() == lockFile || e.Name() == StateFile
	}
	if !own {
		return nil, fmt.Errorf("devnet: %s is not empty, and no devnet's: name another folder with --devnet", dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b, _ := os.ReadFile(f.Name())
		f.Close()
		return nil, fmt.Errorf("%w in %s, by process %s: stop that first, or name another folder with --devnet", ErrRunning, dir, strings.TrimSpace(string(b)))
	}
	err = errors.Join(f.Truncate(0), write(f, fmt.Sprintln(os.Getpid())))
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// empty removes everything but the lock.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != lockFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// save writes the state, with the names that others gave contracts meanwhile.
func (n *Net) save() error {
	return Rewrite(n.path(StateFile), func(old []byte) ([]byte, error) {
		s := new(State)
		if old != nil {
			if err := json.Unmarshal(old, s); err != nil {
				return nil, err
			}
			maps.Copy(n.state.Contracts, s.Contracts)
		}
		return json.MarshalIndent(n.state, "", "  ")
	})
}

// Remember gives a contract a name in a devnet's folder.
func Remember(dir, name string, id proto.ContractID) error {
	return Rewrite(filepath.Join(dir, StateFile), func(old []byte) ([]byte, error) {
		s := new(State)
		if err := json.Unmarshal(old, s); err != nil {
			return nil, err
		}
		s.Contracts[name] = id
		return json.MarshalIndent(s, "", "  ")
	})
}

// Rewrite replaces a file by what change makes of it, nil at first: whole, and one process
// after the other, so that none undoes what another one did.
func Rewrite(path string, change func(old []byte) ([]byte, error)) error {
	tmp, err := lockTemp(path + ".tmp")
	if err != nil {
		return err
	}
	defer tmp.Close()
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	var b []byte
	if err == nil {
		b, err = change(old)
	}
	if err == nil {
		err = errors.Join(tmp.Truncate(0), write(tmp, string(b)+"\n"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(tmp.Name()))
	}
	return os.Rename(tmp.Name(), path)
}

// lockTemp makes a file and locks it. One that was renamed by whoever had it locked is
// another one now.
func lockTemp(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			var ours, there os.FileInfo
			if ours, err = f.Stat(); err == nil {
				if there, err = os.Stat(path); err == nil && os.SameFile(ours, there) {
					return f, nil
				}
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// foreign refuses a folder that cannot continue, with the command that helps.
func (o *Options) foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %s; start afresh with: %s", ErrForeign, fmt.Sprintf(format, args...), o.afresh())
}

func (o *Options) afresh() string {
	s := "bin/phala devnet --fresh"
	if o.Workers > 0 {
		s += fmt.Sprintf(" --workers %d", o.Workers)
	}
	if len(o.Bonds) > 1 {
		s += fmt.Sprintf(" --validators %d", len(o.Bonds))
	}
	if o.TLS {
		s += " --tls"
	}
	if wd, err := os.Getwd(); err != nil || o.Dir != filepath.Join(wd, ".devnet") {
		s += " --devnet " + Quote(o.Dir)
	}
	return s
}

// Quote writes a word so that a shell reads it as it is.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

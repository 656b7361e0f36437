package settings

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, file string, env map[string]string, args ...string) (name string, every time.Duration, err error) {
	t.Helper()
	f := flag.NewFlagSet("test", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&name, "node-name", "default", "")
	f.DurationVar(&every, "every", time.Second, "")
	for k, v := range env {
		t.Setenv(k, v)
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	err = Parse(f, "TEST", args)
	return name, every, err
}

// TestOrder: a flag wins over the environment, which wins over the file, which wins over
// the default.
func TestOrder(t *testing.T) {
	const file = "# settings\nnode-name = file\nevery = 3s # often\n\n"
	for _, c := range []struct {
		name  string
		file  string
		env   map[string]string
		args  []string
		want  string
		every time.Duration
	}{
		{"default", "", nil, nil, "default", time.Second},
		{"file", file, nil, nil, "file", 3 * time.Second},
		{"environment over file", file, map[string]string{"TEST_NODE_NAME": "env"}, nil, "env", 3 * time.Second},
		{"flag over both", file, map[string]string{"TEST_NODE_NAME": "env"}, []string{"--node-name", "flag"}, "flag", 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, every, err := parse(t, c.file, c.env, c.args...)
			if err != nil || name != c.want || every != c.every {
				t.Errorf("got %s, %s, %v", name, every, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown setting", "node-nam = x", `config:1: no setting "node-nam"`},
		{"no value", "\nnode-name", `config:2: "node-name" is not name = value`},
		{"twice", "node-name = a\nnode-name = b", "config:2: node-name was set on line 1"},
		{"not a duration", "every = soon", "config:1: every"},
		{"a config in the config", "config = x", `no setting "config"`},
	} {
		if _, _, err := parse(t, c.file, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if _, _, err := parse(t, "", nil, "extra"); err == nil {
		t.Error("an argument was swallowed")
	}
}

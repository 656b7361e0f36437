package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttackTable: the tests that docs/attacks.md names are there.
func TestAttackTable(t *testing.T) {
	b, err := os.ReadFile("../../docs/attacks.md")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	source := func(dir string) string {
		if _, ok := sources[dir]; !ok {
			files, _ := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				sources[dir] += string(text)
			}
		}
		return sources[dir]
	}
	named := regexp.MustCompile("`([a-z0-9/]+)/(Test[A-Za-z0-9]+)`(?:, (\"[^\"|]+\"))?").FindAllStringSubmatch(string(b), -1)
	if len(named) < 60 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, m := range named {
		if text := source(m[1]); !strings.Contains(text, "func "+m[2]+"(") || !strings.Contains(text, m[3]) {
			t.Errorf("%s has no %s %s", m[1], m[2], m[3])
		}
	}
}

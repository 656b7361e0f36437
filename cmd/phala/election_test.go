package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/npos/snapshot"
)

// phala runs a command as the shell would and returns what it wrote.
func phala(t testing.TB, args ...string) (string, string, error) {
	t.Helper()
	var out, errw bytes.Buffer
	err := run(t.Context(), args, &out, &errw)
	return out.String(), errw.String(), err
}

// sharedFile is a file of the folder shared beside the repository.
func sharedFile(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{"..", "..", "..", "shared", "data"}, parts...)...)
	if dir := os.Getenv("PHALA_SHARED"); dir != "" {
		path = filepath.Join(append([]string{dir, "data"}, parts...)...)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no %s; set PHALA_SHARED to the shared folder", path)
	}
	return path
}

func TestElectionOfRealNetworks(t *testing.T) {
	for _, c := range []struct {
		file, symbol    string
		args            []string
		seats           int
		minimum, backed string
		pjr             bool // certified, not trivially
	}{
		{"polkadot-election-simulate-11243307.json.gz", "DOT", nil, 600, "11917625363904135", "8646406290932651774", false},
		{"polkadot-election-simulate-11243307.json.gz", "DOT", []string{"--seats", "297"}, 297, "", "", true},
		{"kusama-election-output-2020.json.gz", "KSM", []string{"--balance", "0"}, 614, "", "", false},
		{"kusama-election-output-2020.json.gz", "KSM", []string{"--seats", "300"}, 300, "", "", true},
	} {
		args := append([]string{"election", "dry-run", sharedFile(t, "elections", c.file), "--output", "json"}, c.args...)
		out, progress, err := phala(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Symbol     string
			Seats      int
			TotalStake string `json:"total_stake"`
			Score      struct {
				Minimal string `json:"minimal_stake"`
			}
			PJR struct {
				Holds     bool
				Unelected int
			}
			Validators []struct {
				ID, Support string
				ElectedWith string `json:"elected_with"`
			}
			Published *struct {
				SameSeats int `json:"same_seats"`
			}
			Seconds map[string]float64
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatal(err)
		}
		if v.Symbol != c.symbol || v.Seats != c.seats || len(v.Validators) != c.seats || !v.PJR.Holds || c.pjr != (v.PJR.Unelected > 0) {
			t.Errorf("%s: %s, %d seats, %d validators, PJR %+v", c.file, v.Symbol, v.Seats, len(v.Validators), v.PJR)
		}
		if c.minimum != "" && (v.Score.Minimal != c.minimum || v.TotalStake != c.backed) {
			t.Errorf("%s: smallest support %s, stake %s", c.file, v.Score.Minimal, v.TotalStake)
		}
		if (v.Published != nil) == (c.args != nil && c.args[0] == "--seats") || v.Published != nil && v.Published.SameSeats != c.seats {
			t.Errorf("%s %v: compared with the file: %+v", c.file, c.args, v.Published)
		}
		for _, s := range []string{"read", "elect", "report"} {
			if _, ok := v.Seconds[s]; !ok {
				t.Errorf("no time of %q", s)
			}
		}
		if !strings.Contains(progress, "electing") {
			t.Errorf("progress: %q", progress)
		}
	}
}

// Bob has the most voters behind him and goes first. Ann follows, because Max is worth more
// to her than Sam and what is left of Tim to Cat.
const small = `{"phala_election":1,"symbol":"PHA","decimals":0,"seats":2,"candidates":["ann","bob","cat"],"voters":[{"id":"max","stake":"100","approvals":["ann","bob"]},{"id":"sam","stake":"40","approvals":["cat"]},{"id":"tim","stake":"20","approvals":["bob","cat"]}]}`

func TestElectionFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("small.json", small)
	svg, saved := filepath.Join(dir, "out.svg"), filepath.Join(dir, "saved.json")
	out, _, err := phala(t, "election", "dry-run", plain, "--svg", svg, "--save", saved)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 of 3 candidates, 3 voters, 5 approvals", "certified at 80 PHA", "1/3 of the seats", "not elected", "time to elect"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	drawn, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(drawn, []byte(`class="bar"`)); n != 2 {
		t.Errorf("%d bars", n)
	}
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}

	// What was saved is judged the same, and can be elected from again.
	b, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := snapshot.Parse(b); err != nil || len(s.Supports) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	again, _, err := phala(t, "election", "report", saved)
	if err != nil {
		t.Fatal(err)
	}
	if line := "stake backing     120 PHA"; !strings.Contains(out, line) || !strings.Contains(again, line) {
		t.Errorf("%s\n%s", out, again)
	}
	if out, _, err = phala(t, "election", "dry-run", saved); err != nil || !strings.Contains(out, "against the file  equal score; 2 validators in both") {
		t.Errorf("%v\n%s", err, out)
	}

	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte(small))
	z.Close()
	if out, _, err = phala(t, "election", "dry-run", file("small.json.gz", zipped.String()), "--explain", "cat"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cat is not elected: beside what they give to others, its voters could offer 51 PHA for a seat; the last seat went for 54 PHA", "2 voters approve of it", "tim gives 0 PHA of its 20 PHA; it backs 1 of the 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, _, err = phala(t, "election", "dry-run", plain, "--explain", "bob"); err != nil || !strings.Contains(out, "elected in round 1: its voters could give 120 PHA") {
		t.Errorf("%v\n%s", err, out)
	}

	for _, c := range []struct {
		name string
		args []string
		want error
	}{
		{"no file", []string{"dry-run", filepath.Join(dir, "missing")}, fs.ErrNotExist},
		{"no result", []string{"report", plain}, snapshot.CodeNoResult},
		{"not gzip", []string{"dry-run", file("x.gz", small)}, gzip.ErrHeader},
		{"cut off", []string{"dry-run", file("y.gz", zipped.String()[:40])}, io.ErrUnexpectedEOF},
		{"not a snapshot", []string{"dry-run", file("z.json", "{}")}, snapshot.CodeFormat},
		{"no such form", []string{"rerun", plain}, errUsage},
		{"negative", []string{"dry-run", plain, "--seats", "-1"}, errUsage},
		{"nothing named", nil, errUsage},
	} {
		if _, _, err := phala(t, append([]string{"election"}, c.args...)...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, _, err := phala(t, "election", "dry-run", "--devnet", dir); err == nil || !strings.Contains(err.Error(), "no network in "+dir) {
		t.Errorf("no network: %v", err)
	}
	if _, _, err := phala(t, "election", "dry-run", plain, "--explain", "zoe"); err == nil || !strings.Contains(err.Error(), `no candidate "zoe" among the 3`) {
		t.Errorf("unknown candidate: %v", err)
	}
}

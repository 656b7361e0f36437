// Package settings reads a daemon's settings: flags, over the environment, over one file.
//
// A setting is a flag. NAME-WITH-DASHES may also be given as PREFIX_NAME_WITH_DASHES in
// the environment, or as a line "name-with-dashes = value" in the file that --config
// names; a # starts a comment. What is not known is refused with its line.
package settings

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strings"
)

// Parse adds --config to the flag set and parses args, environment and file.
func Parse(f *flag.FlagSet, prefix string, args []string) error {
	config := f.String("config", "", "file of settings, one \"name = value\" on a line")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see --help", f.Arg(0))
	}
	set := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { set[fl.Name] = true })
	var err error
	f.VisitAll(func(fl *flag.Flag) {
		name := prefix + "_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !set[fl.Name] && err == nil {
			set[fl.Name] = true
			if serr := fl.Value.Set(v); serr != nil {
				err = fmt.Errorf("%s=%q: %w", name, v, serr)
			}
		}
	})
	if err != nil || *config == "" {
		return err
	}
	return file(f, *config, set)
}

func file(f *flag.FlagSet, path string, set map[string]bool) error {
	r, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	defer r.Close()
	s := bufio.NewScanner(r)
	seen := map[string]int{}
	for line := 1; s.Scan(); line++ {
		text, _, _ := strings.Cut(s.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		fl := f.Lookup(name)
		switch {
		case !ok:
			return fmt.Errorf("%s:%d: %q is not name = value", path, line, strings.TrimSpace(text))
		case fl == nil || name == "config":
			return fmt.Errorf("%s:%d: no setting %q; see --help", path, line, name)
		case seen[name] > 0:
			return fmt.Errorf("%s:%d: %s was set on line %d", path, line, name, seen[name])
		}
		seen[name] = line
		if set[name] {
			continue
		}
		if err := fl.Value.Set(value); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", path, line, name, err)
		}
	}
	return s.Err()
}

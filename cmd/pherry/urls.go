package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// urls reads a comma-separated list of URLs; blanks around them do not matter.
func urls(list string) ([]string, error) {
	var out []string
	for _, s := range strings.Split(list, ",") {
		s = strings.TrimSpace(s)
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return nil, fmt.Errorf("%q is not a URL such as http://127.0.0.1:8000", s)
		case slices.Contains(out, s):
			return nil, fmt.Errorf("%s is there twice", s)
		}
		out = append(out, s)
	}
	return out, nil
}

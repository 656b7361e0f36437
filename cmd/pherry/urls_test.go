package main

import (
	"slices"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		name, list string
		want       []string
		refused    string
	}{
		{"one", "http://127.0.0.1:8000", []string{"http://127.0.0.1:8000"}, ""},
		{"blanks", "http://a:1, https://b/x ", []string{"http://a:1", "https://b/x"}, ""},
		{"none", "", nil, `"" is not a URL`},
		{"one too many commas", "http://a:1,", nil, `"" is not a URL`},
		{"no scheme", "127.0.0.1:8000", nil, "is not a URL"},
		{"a host as scheme", "localhost:8000", nil, "is not a URL"},
		{"another scheme", "tcp://a:1", nil, "is not a URL"},
		{"no host", "http://", nil, "is not a URL"},
		{"twice", "http://a:1,http://a:1", nil, "http://a:1 is there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := urls(c.list)
			if c.refused == "" && (err != nil || !slices.Equal(got, c.want)) || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("got %q, %v; want %q %q", got, err, c.want, c.refused)
			}
		})
	}
}

package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
)

// What a client reaches, and what it does not.
func Example() {
	public := httptest.NewServer(api.Public(new(pruntime.Runtime))) // one that pruntime.Open made
	defer public.Close()
	for _, path := range []string{"/v1/advance", "/metrics"} {
		res, err := http.Get(public.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		res.Body.Close()
		fmt.Println(path, res.StatusCode)
	}
	// Output:
	// /v1/advance 404
	// /metrics 404
}

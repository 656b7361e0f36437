package verifycli_test

import (
	"os"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa/verifycli"
)

func Example() {
	verifycli.Run([]string{"--root", "03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314", "read=number"},
		os.Stdout, os.Stdout, time.Unix(0, 0))
	// Output:
	// phala verify substrate: read links need a state link before them
}

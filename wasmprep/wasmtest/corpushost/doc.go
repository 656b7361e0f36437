// Package corpushost offers the test corpus's host on wazero.
package corpushost

// Package keys keeps what an enclave must not lose and nobody else may see: files
// that are sealed to the enclave.
//
// A sealed file is
//
//	"PHS1" ‖ [12] random nonce ‖ AES-256-GCM ciphertext and tag
//
// under a key that the TEE derives for this enclave (package attest/producer), with
// the file's name and the network's trust root in the additional data: a file of
// another enclave, of another network, renamed, cut or edited does not open.
// Sealing cannot stop a host from bringing back an older file; whoever uses one
// catches up with the chain before it answers anything.
package keys

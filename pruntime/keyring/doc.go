// Package keyring keeps an enclave's secret keys, as ssh-agent keeps a user's: whoever
// needs one asks for what it is needed for, and never gets the key.
//
// A worker's keyring is a process of its own ([Start], [Main]). The other process runs the
// contracts of strangers, compiled to native code; a bug in that compiler or in a host
// function, exploited, must not give the keys away. A [Keeper] alone has
//
//   - the IdentityKey, in a sealed file, and the TEE's sealing key
//   - the session keys, to which queries and releases of keys are sealed
//   - the traffic keys of the cluster's epochs
//   - the way to the TEE, which gives evidence
//
// and a [Ring] asks it: to register this enclave, certify its TLS key, sign entries of its
// outbox, make a session, open a query, a release of keys, commands of an epoch. What leaves
// it are plaintexts, keys of one answer each, and of a release what the cluster's state
// needs: the stable key and the blinding keys. It does not sign just anything: it makes
// registrations and statements by itself, and signs no entry that announces a session or an
// epoch's key other than its own, to which others would seal. So whoever takes the other
// process over can use the keys while it runs, and cannot take them away.
//
// A gatekeeper runs no contracts and asks a Keeper in its own process ([Keeper.Ring]), with
// the same requests.
//
// # Isolation
//
// On Linux, before it has a key, the keyring's process closes its memory to all others
// without CAP_SYS_PTRACE and forbids dumps. Before it runs anything of others, the worker's
// process gives up its capabilities, for good, and with them the way to that one; and it
// gives up more that would help ([Confine]): writing files elsewhere, starting programs,
// speaking to the TEE's agent. What whoever takes it over can do then is in
// docs/threat-model.md.
//
// # Requests
//
// Both ends of some socket pairs send frames (conn.go): u32 length, body. A body is in
// package wire's encoding, one byte of kind first (message.go); it is bounded and has one
// form. What breaks the rules of frames ends both processes: the worker stops with
// [ErrGone], and the keyring when nobody is there to ask.
package keyring

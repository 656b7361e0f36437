// Package producer obtains evidence about the program it is linked into.
//
// [Open] chooses the interface, by name or by looking for one:
//
//   - configfs: the Linux kernel's configfs-tsm, in TDX and SEV-SNP guests
//   - dstack: the guest agent's socket, in dstack's TDX guests
//   - gramine: the pseudo-files of Gramine, in SGX enclaves
//   - simulator: the socket of a tee-simulator, on development networks
//
// Looking never finds the simulator, and nothing here falls back to it: it is
// asked for by name, and what it gives is accepted only by a network whose
// genesis names its roots. This package contains the simulator's client, not its
// issuer.
//
// What a producer returns is in canonical form and carries the report data that
// was asked for, or it is an error. Hardware gives evidence without collateral:
// a chain holds that. Sealing keys exist on SGX, from MRENCLAVE, so that an upgraded
// enclave does not get them, and in the simulator; elsewhere [ErrNoSealing] says
// that nothing outlasts the process. On SEV-SNP the VCEK comes from the host's
// certificate table, or from [Options].
//
// The interfaces are tested against imitations, since the tests have no TEE
// hardware.
package producer

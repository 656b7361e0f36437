// Package pcs fetches what processor vendors publish about their platforms: Intel's
// collateral for SGX and TDX from its provisioning certification service or a PCCS
// (interface version 4), AMD's certificates and revocation lists for SEV-SNP from its
// key distribution service.
//
// [Client.Collateral] gives the collateral of a key (attest.Evidence.CollateralKey),
// [Client.Early] the one that Intel will enforce next, [Client.Of] that of one of Intel's TCB
// recoveries, and [Client.Complete] makes evidence as the hardware gave it into evidence that verifies anywhere. Nothing is
// handed on that attest has not verified under the client's roots at the client's time,
// so that neither the endpoint nor the way to it is trusted: what they can do is
// withhold.
//
// # Endpoints
//
// Each is a base URL, with http or https, by configuration; without one the vendor's
// own is used. Intel's service keeps the root's revocation list apart, at
// [IntelRootCRL]; a PCCS serves it beside the rest.
//
//	{intel}/tdx/certification/v4/tcb?fmspc=…[&update=early|&tcbEvaluationDataNumber=…]
//	{intel}/tdx/certification/v4/qe/identity[the same]              and both for /sgx/…
//	{intel}/sgx/certification/v4/pckcrl?ca=platform&encoding=der
//	{intel}/sgx/certification/v4/rootcacrl                          PCCS only
//	{amd}/vcek/v1/Milan/cert_chain, /crl, /{chip}?blSPL=…
//
// Answers are bounded in size and time, redirects are not followed, and every form that
// the interface does not have is refused. An [Error] has a code and names what was asked
// for; a refusal of package attest is inside it.
//
// Tested with a local server that serves Intel's and AMD's recorded answers, and
// simulated ones for what was not recorded: SGX, revocation lists of AMD, Turin. The
// vendors' own servers were not reached by any test.
package pcs

// Package collateral keeps fresh what a chain holds of the processor vendors'
// publications, and warns ahead of a TCB recovery that would exclude workers.
//
// A [Keeper] asks a [Source] (package pcs) for the collateral of every platform that its
// workers run on, and sends the chain what is newer than what it holds. The chain
// verifies it by the vendor's signatures, so no trust is in who brings it, and several
// keepers only repeat one another. What is not newer is never sent. While governance has
// not followed Intel to the next TCB recovery, the data of the one before are kept fresh, for
// as long as Intel renews them.
//
// Intel publishes the data of a TCB recovery months before they count. The keeper judges
// its workers' evidence by them as the chain will: what would be refused then is a
// [Warning] now, while there is time to patch. AMD publishes nothing of the kind; its
// workers are judged by what counts already.
//
// Nothing is kept: a round asks anew.
package collateral

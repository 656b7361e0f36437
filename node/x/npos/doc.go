// Package npos is the chain's nominated proof of stake: who validates, what they and
// their nominators earn, and what they lose.
//
// # Stakes
//
// An account bonds tokens, then is a candidate ([Keeper.Validate]), which votes for
// itself, or a nominator ([Keeper.Nominate]) with up to 16 candidates it wants elected.
// The tokens are in the module's account and nowhere else until they are withdrawn;
// unbonding takes UnbondingEras eras after the last one in which they may have stood
// behind a validator. Nominators are in a list by bags of about equal stake, so that
// bonding more is cheap and the largest are found first.
//
// # Eras
//
// An era lasts SessionBlocks * SessionsPerEra blocks. In its last session the next one
// is elected, each block doing a part that is bounded in units of work: nominators are
// read into a snapshot, largest first; sequential Phragmén with balancing runs over it
// (package npos); the winners' exposures are written. At the era's end x/staking's
// validators change in one block. Where the work is not done by then the era lasts
// until it is; where nobody is elected it lasts until another session's election
// succeeds. While it lasts, nothing unbonds: the stake behind the validators stays.
//
// The election runs in memory. The state holds its snapshot, the parameters that it
// began with and the number of steps made, from which a node that restarts makes the
// same steps again.
//
// # x/staking
//
// x/staking is left what it is good at: keys, status and jail of validators, and the
// updates for CometBFT. What it counts is not money: [PowerDenom] has one unit for each
// base unit of an exposure, held in x/staking's pools, delegated by this module's
// account alone. Nobody else ever has any, so its messages for delegators can do
// nothing. An era's change therefore costs one delegation for each validator and none
// for each nominator; it happens at once, so that no block's set is half of one era and
// half of the next; and a slash takes tokens from whoever owes them, wherever the
// election has put their stake since.
//
// # Rewards
//
// Each signature under a block is a point. When an era ends, package npos/era's curve
// says what is issued to stakers and treasury. The stakers' part and the era's fees are
// divided by points, then by exposure, each part rounded down; what rounding leaves or
// nobody claims within HistoryEras goes to the treasury. [Keeper.Payout] pays one page
// of an exposure; anyone may send it, and each page is paid once. x/mint is not used.
// x/distribution is the treasury (the community pool) and does not divide fees.
//
// # Slashes
//
// x/evidence and x/slashing find offences, but are given views of x/staking that do not
// punish (SlashingView, EvidenceStaking, EvidenceSlashing). Double signing costs the
// fraction of npos/era by how many did so in one session, of the exposure of the era
// whose validators signed that height, by spans, so that one fault found twice costs
// once. The slash is computed at the report and applied SlashDeferEras eras later
// unless governance cancels it; until then nothing of the stakers it names can be
// withdrawn. Whoever double-signs, or misses too many blocks, is disabled until the era
// ends, if fewer than a third are. Not signing costs no stake. What is taken goes to
// the treasury.
//
// # Accounts
//
// Every token is in one place: a stake in the module's account, or a reward in the
// rewards' account. [Keeper.Audit] adds all of it up and compares exposures, pages, x/staking's
// power and the list with each other; a chain does not begin from a state that it refuses.
//
// # Governance
//
// Votes count by the exposures of the active era ([Keeper.Tally]).
package npos

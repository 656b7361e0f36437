// Package bags places stakers in an ordered list of bags by stake, so that bonding
// more costs nothing until a threshold is crossed and the largest stakers are found
// without sorting all (the idea of Substrate's pallet-bags-list). The package is pure:
// the list itself is the caller's store, keyed by bag and by the sequence number with
// which a staker entered it.
//
// A Thresholds value is the upper bounds of the bags in ascending order, the last of
// them without limit. A staker of stake s belongs to the first bag whose bound is at
// least s; walking from the last bag to the first, and within a bag in the order of
// entry, meets larger stakers first up to the width of a bag.
package bags

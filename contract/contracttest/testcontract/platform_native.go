//go:build !wasip1

package main

// platform is what Differ differs by.
const platform = "native"

package substrate

// AcceptKey is acceptKey, for the tests' own servers.
func AcceptKey(key string) string { return acceptKey(key) }

// A contract whose author forgot to register it.
package main

import _ "github.com/phala-go/phala/contract"

func main() {}

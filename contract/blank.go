//go:build wasip1

package contract

// blank is a host without state, for warming up.
type blank struct{}

func (blank) Get([]byte) ([]byte, bool)       { return nil, false }
func (blank) Put(_, _ []byte)                 {}
func (blank) Delete([]byte)                   {}
func (blank) Next(_, _ []byte) ([]byte, bool) { return nil, false }
func (blank) Caller() []byte                  { return nil }
func (blank) Reader() []byte                  { return nil }
func (blank) Self() [32]byte                  { return [32]byte{} }
func (blank) Height() uint64                  { return 0 }
func (blank) Time() uint64                    { return 0 }
func (blank) Random(b []byte)                 { clear(b) }
func (blank) Log([]byte)                      {}
func (blank) Reentry() bool                   { return false }

func (blank) Hash(uint32, []byte) []byte                 { return nil }
func (blank) Verify(uint32, []byte, []byte, []byte) bool { return false }
func (blank) Recover([]byte, []byte) ([]byte, bool)      { return nil, false }
func (blank) PublicKey(uint32, []byte) []byte            { return nil }
func (blank) Sign(uint32, []byte, []byte) []byte         { return nil }
func (blank) Derive([]byte) [32]byte                     { return [32]byte{} }
func (blank) Emit([]byte, []byte) bool                   { return false }
func (blank) Fetch([]byte) (uint32, []byte)              { return 1, nil }
func (blank) Call(bool, [32]byte, []byte, uint64) (uint32, []byte) {
	return 1, nil
}

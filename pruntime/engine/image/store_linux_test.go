package image

import "testing"

// TestNewPagesAreFound: calls that write where earlier ones did are restored from what is
// known of them; the first that writes elsewhere is noticed, by whichever thread, and so is
// the host's own writing.
func TestNewPagesAreFound(t *testing.T) {
	img, ctx := setup(t, scribbler(), "init", Auto)
	if !img.DirtyPages() {
		t.Skip("instances are not restored page-wise on this system")
	}
	inst, err := img.Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close(ctx)
	restore := func() {
		t.Helper()
		if err := img.restore(inst); err != nil {
			t.Fatal(err)
		}
		if inst.StateHash() != img.Hash() {
			t.Fatal("not the image")
		}
	}
	known := func() (quiet bool) { // restores without a scan, unless something else in this process faulted
		before := inst.view.scanned
		restore()
		return inst.view.scanned == before
	}
	mustCall(t, ctx, inst, "write", 5000, 1)
	restore()
	quiet := 0
	for range 1000 {
		mustCall(t, ctx, inst, "write", 5000, 2)
		if known() {
			quiet++
		}
	}
	if quiet == 0 {
		t.Error("a thousand calls that write one page were all scanned")
	}
	for page := range uint64(5 << 4) { // each of them new but one
		done := make(chan struct{})
		go func() { // on another thread, often
			defer close(done)
			inst.Call(ctx, "write", gasLimit, page<<12, 3)
		}()
		<-done
		restore()
	}
	if err := inst.view.reset(); err != nil {
		t.Fatal(err)
	}
	inst.Module().Memory().Write(3<<12, []byte("from the host"))
	restore()
}

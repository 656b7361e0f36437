package image

import (
	"reflect"
	"unsafe"

	"github.com/tetratelabs/wazero/api"
)

// A function of wazero's has the stack that its calls run on, of 10 KiB when it is made. A
// full one is doubled, from whatever it has grown to, is refused beyond 50 MB, and stays as
// it is for the next call. With a stack that was used, a deep call could so end in another
// way than on machines that answered other queries; a new one for each call has to grow
// within it and be collected, which costs a third of the queries. So every call begins on
// the same stack, its instance's, and what that grew to is dropped after it.

// stackSize is that of an instance's stack. wazero grew the examples' calls from 10 KiB to
// 91 at most.
const stackSize = 128 << 10

// stackFields are where a compiled function of wazero's keeps its stack. They are what its
// growStack sets.
type stackFields struct {
	stack  *[]byte
	top    *uintptr // its end, rounded down to 16 bytes
	bottom **byte   // its begin, which compiled code looks at to see whether it is full
}

// stackOf finds a function's. It reports false for functions of another make, such as the
// interpreter's: those must be new for each call.
func stackOf(fn api.Function) (stackFields, bool) {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().String() != "*wazevo.callEngine" {
		return stackFields{}, false
	}
	t := v.Type().Elem()
	stack, found1 := t.FieldByName("stack")
	top, found2 := t.FieldByName("stackTop")
	exec, found3 := t.FieldByName("execCtx")
	if !found1 || !found2 || !found3 || exec.Type.Kind() != reflect.Struct {
		return stackFields{}, false
	}
	bottom, found := exec.Type.FieldByName("stackBottomPtr")
	if !found || stack.Type != reflect.TypeFor[[]byte]() || top.Type != reflect.TypeFor[uintptr]() || bottom.Type != reflect.TypeFor[*byte]() {
		return stackFields{}, false
	}
	p := v.UnsafePointer()
	return stackFields{
		stack:  (*[]byte)(unsafe.Add(p, stack.Offset)),
		top:    (*uintptr)(unsafe.Add(p, top.Offset)),
		bottom: (**byte)(unsafe.Add(p, exec.Offset+bottom.Offset)),
	}, true
}

// set has the function's next call run on b.
func (f stackFields) set(b []byte) {
	*f.stack, *f.bottom = b, &b[0]
	*f.top = uintptr(unsafe.Pointer(&b[len(b)-1])) &^ 15
}

// A function is one of an instance's exports.
type function struct {
	api.Function
	stack stackFields
}

// function returns an export, to be called on the instance's stack. It is nil if there is
// none.
func (i *Instance) function(name string) *function {
	if fn, ok := i.funcs[name]; ok {
		return fn
	}
	export := i.mod.ExportedFunction(name)
	if export == nil {
		return nil
	}
	fn := &function{Function: export}
	var ok bool
	if fn.stack, ok = stackOf(export); !ok {
		return fn
	}
	if i.stack == nil {
		i.stack = make([]byte, stackSize)
	}
	fn.stack.set(i.stack)
	i.funcs[name] = fn
	return fn
}

// resetStack has a function begin on the instance's stack again.
func (i *Instance) resetStack(fn *function) {
	if fn.stack.stack != nil {
		fn.stack.set(i.stack)
	}
}

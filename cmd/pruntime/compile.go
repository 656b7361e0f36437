package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/phala-go/phala/pruntime/engine"
)

// compile fills a folder with the native code of modules, for machines of this kind and
// this build of pruntime: a devnet starts faster when it finds its example compiled.
func compile(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: pruntime compile DIR MODULE…")
	}
	eng, err := engine.New(args[0])
	if err != nil {
		return err
	}
	for _, file := range args[1:] {
		module, err := os.ReadFile(file)
		if err != nil {
			return errors.Join(err, eng.Close(ctx))
		}
		if _, err := eng.Prepare(ctx, module); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", file, err), eng.Close(ctx))
		}
	}
	return eng.Close(ctx)
}

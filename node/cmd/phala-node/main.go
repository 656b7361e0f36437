// phala-node is the blockchain node.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"cosmossdk.io/log/v2"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/flags"
	"github.com/cosmos/cosmos-sdk/server"
	servercmd "github.com/cosmos/cosmos-sdk/server/cmd"
	"github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	"github.com/spf13/cast"
	"github.com/spf13/cobra"

	"github.com/phala-go/phala/node/app"
)

func main() {
	app.Configure()
	home := defaultHome()
	enc := app.NewEncoding()
	root := &cobra.Command{
		Use:           "phala-node",
		Short:         "The Phala Network blockchain node",
		Long:          "phala-node orders encrypted messages, registers enclaves, elects validators, pays and slashes.\nUsers want the phala tool; operators of workers want pruntime and pherry.",
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			ctx := client.Context{}.WithCodec(enc.Codec).WithInterfaceRegistry(enc.Interfaces).WithTxConfig(enc.TxConfig).
				WithLegacyAmino(enc.Amino).WithInput(os.Stdin).WithHomeDir(home).WithViper("PHALA")
			ctx, err := client.ReadPersistentCommandFlags(ctx, cmd.Flags())
			if err != nil {
				return err
			}
			if err := client.SetCmdClientContextHandler(ctx, cmd); err != nil {
				return err
			}
			return server.InterceptConfigsPreRunHandler(cmd, config.DefaultConfigTemplate, config.DefaultConfig(), cmtcfg.DefaultConfig())
		},
	}
	server.AddCommands(root, home, create, export, func(start *cobra.Command) {
		start.PreRunE = prepare
		start.Flags().Uint64(app.FlagKeepBodies, 0, "blocks whose messages are kept, 0 for all; enclaves that join later need a node that kept theirs")
	})
	root.AddCommand(initNetwork(), audit(home))
	if err := servercmd.Execute(root, "PHALA", home); err != nil {
		fmt.Fprintln(os.Stderr, "phala-node:", err)
		os.Exit(1)
	}
}

func defaultHome() string {
	if h := os.Getenv("PHALA_HOME"); h != "" {
		return h
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, ".phala-node")
}

// prepare makes the folder ready for a start that follows one which was cut off.
func prepare(cmd *cobra.Command, _ []string) error {
	cmd.SilenceUsage = true // what follows is no matter of flags
	c := server.GetServerContextFromCmd(cmd)
	data := filepath.Join(c.Config.RootDir, "data")
	return removeUnborn(data, filepath.Join(data, "snapshots"), c.Config.DBDir())
}

func create(logger log.Logger, db dbm.DB, opts servertypes.AppOptions) servertypes.Application {
	a, err := app.New(logger, db, cast.ToString(opts.Get(flags.FlagHome)), opts, server.DefaultBaseappOptions(opts)...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "phala-node:", err)
		os.Exit(1)
	}
	return a
}

// export returns the state of a height. It says nothing: the log goes where the state is
// written to.
func export(_ log.Logger, db dbm.DB, height int64, _ bool, _ []string, opts servertypes.AppOptions, modules []string) (servertypes.ExportedApp, error) {
	a, err := app.NewAt(height, log.NewNopLogger(), db, cast.ToString(opts.Get(flags.FlagHome)), opts)
	if err != nil {
		return servertypes.ExportedApp{}, err
	}
	defer a.Close()
	return a.Export(modules)
}

// initNetwork makes the folders of a new network's validators.
func initNetwork() *cobra.Command {
	return &cobra.Command{
		Use:               "init-network SPEC.json",
		Short:             "Make folders, keys and one genesis for the validators of a new network",
		Long:              "init-network reads a description of a network (chain id, validators with their folders and ports, funded\naccounts, registry parameters) and writes keys, configuration and genesis. The phala tool's devnet uses it.",
		Args:              cobra.ExactArgs(1),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true // what follows is no matter of flags
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			spec, err := app.ParseNetworkSpec(b)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return app.InitNetwork(spec)
		},
	}
}

// audit adds up all money of a stopped node's state.
func audit(home string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Add up every account of a stopped node and compare with the modules' records",
		Long: "audit reads the state of a height and adds up what every account has. It prints where the supply is, as JSON in base\n" +
			"units, and fails when a module has more or less than its records say: not a unit may be missing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true // what follows is no matter of flags
			c := server.GetServerContextFromCmd(cmd)
			dir, err := cmd.Flags().GetString(flags.FlagHome)
			if err != nil {
				return err
			}
			height, err := cmd.Flags().GetInt64(server.FlagHeight)
			if err != nil {
				return err
			}
			data := filepath.Join(dir, "data")
			if _, err := os.Stat(filepath.Join(data, "application.db")); err != nil {
				return fmt.Errorf("no node has its state in %s: %w", data, err)
			}
			db, err := dbm.NewDB("application", server.GetAppDBBackend(c.Viper), data)
			if err != nil {
				return fmt.Errorf("%w: stop the node first", err)
			}
			a, err := app.NewAt(height, log.NewNopLogger(), db, dir, c.Viper)
			if err != nil {
				return err
			}
			defer a.Close()
			found, bad := a.Audit()
			b, err := json.MarshalIndent(found, "", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), string(b))
			return bad
		},
	}
	cmd.Flags().String(flags.FlagHome, home, "folder of the node")
	cmd.Flags().Int64(server.FlagHeight, app.Latest, "height whose state is read, -1 for the newest")
	return cmd
}

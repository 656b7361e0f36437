package attest_test

// Frozen values. A change of one of them is a change of what allow-lists and
// registries on running networks mean.
const (
	goldenProductionRoots = "7046ff9c164b5e2e716c8bf3a43189ed791f1b8f0532252a039f96c01ed24a0e"
	goldenSGX             = "9ef0cac646cec11e2898107f3f1561ad43c544a209706c12a7d380dc17e28cac"
	goldenTDX             = "3fc0efb9d3d97061fbfacf886b77ff57144c8457390ef0dd748c84e6ca9a0011"
	goldenSNP             = "ed9d0f650a657676adbee8ceb88f6faf74205d2021798b3cc9b27809921ba018"
	goldenIntelMachine    = "cc00a3d823899258c7f1aa722dc5f6220be436bacd9a60970f249db9fd8889f7"
	goldenAMDMachine      = "3ee98abcd6147e35135890e459865b34a57fcbd1ff96165530be2faebf6cbd21"
)

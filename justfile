# Chores of doorfleet. `just` lists them; `.ci/run` runs the same commands.

# List the recipes.
default:
    @just --list

# The whole system on this machine: a hub, 24 doors, the scheduled jobs.
demo *ARGS:
    cargo run --release --bin doorctl -- demo {{ ARGS }}

# Every test.
test:
    cargo test --workspace

# Write what the commands of the docs print now into the docs.
transcript:
    DOORFLEET_BLESS=1 cargo test -p doorctl --test end_to_end documents

# Rewrite docs/reference/doorctl.md from the help texts of doorctl.
reference:
    DOORFLEET_BLESS=1 cargo test -p doorctl --test cli reference

# Formatting and lints, as CI judges them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Azure's own SDKs against our hub, agent and CLI.
compat *ARGS:
    compat/run {{ ARGS }}

# The web page in Chromium, with a real hub and doors; screenshots go to target/dashboard.
page:
    dashboard/test/run

# Build with the oldest compiler that is promised: Debian's Rust 1.85.
msrv:
    deploy/debian-build.sh build --bins

# Build for a Raspberry Pi in cross's container: `just cross door-agent TARGET`.
cross PROGRAM="door-agent" TARGET="aarch64-unknown-linux-gnu":
    CROSS_CONFIG=cross.toml cross build --locked --target {{ TARGET }} -p {{ PROGRAM }} \
        --profile {{ if PROGRAM == "door-hub" { "dist-hub" } else { "dist" } }}

# Build the agent (arm64, armhf) and the hub (arm64) without a container, and run them under qemu.
cross-debian *WHAT:
    deploy/debian-cross-build.sh {{ WHAT }}

# Debian packages, checked by lintian: this machine's, or as named (`door-agent:arm64`).
packages *WHAT:
    deploy/packages.sh {{ WHAT }}

# Everything that a release offers for download, in target/download (about half an hour).
release *ARGS:
    deploy/release {{ ARGS }}

# A door on an emulated Raspberry Pi, from its enrolment to its upgrade (root).
pi *ARGS:
    deploy/pi/test {{ ARGS }}

# All benchmarks, into bench/RESULTS.md (about an hour).
bench:
    bench/all

# The hub beside mosquitto and a floor; with `latency`, calls to one hub.
bench-hub *ARGS:
    cargo run --release -p doorfleet-bench -- {{ ARGS }}

# The agent beside a device of Azure's Python SDK: start, memory, wake-ups, call to pin.
bench-agent *ARGS:
    bench/agent {{ ARGS }}

# The web page: readers of events, and a browser with 20,000 doors.
bench-page *ARGS:
    bench/page {{ ARGS }}

# Kills, power failures, clock steps and cuts of agents in random order; a failure names its seed.
faults NIGHTS="600" KILLS="600":
    DOORFLEET_NIGHTS={{ NIGHTS }} DOORFLEET_KILLS={{ KILLS }} \
        cargo test -p door-agent --test agent killed -- --nocapture

# Look for bytes that break a parser: all targets, or one, for so many seconds each.
fuzz TARGET="all" SECONDS="60":
    fuzz/run {{ TARGET }} {{ SECONDS }}

# Mutation tests of door-core by cargo-mutants 26.0.0 (an hour or more; `--shard 0/16` for a part).
mutants *ARGS:
    PROPTEST_CASES=8 cargo mutants --package door-core --output target {{ ARGS }}

# All that CI runs, or what a contributor runs before a push: `just ci quick`.
ci *ARGS:
    .ci/run {{ ARGS }}

#!/usr/bin/env bash
# debian-build.sh [CARGO ARGUMENTS...] - run cargo with Debian's Rust 1.85, the oldest supported
# compiler.
#
# Default: `check --workspace --bins`; `--locked` is added. The toolchain comes from
# debian-toolchain.sh and is kept in the user's cache folder. The build uses its own target folder,
# target/rust-1.85, so that it does not discard what another compiler built.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/rust-1.85
deploy/debian-toolchain.sh "$toolchain"
[ $# -gt 0 ] || set -- check --workspace --bins
export LD_LIBRARY_PATH=$toolchain/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export RUSTC=$toolchain/bin/rustc
export CARGO_TARGET_DIR=${DEBIAN_BUILD_TARGET:-target/rust-1.85}
exec "$toolchain/bin/cargo" "$@" --locked

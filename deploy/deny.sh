#!/usr/bin/env bash
# deploy/deny.sh - judge the dependency tree by deny.toml: licenses, banned crates, sources and, where there is a copy of them, known advisories.
#
# The advisories are read from a git clone of RustSec's advisory-db, named by DOORFLEET_ADVISORY_DB or lying at
# $XDG_CACHE_HOME/doorfleet/advisory-db (default ~/.cache). Without a copy they are not judged, and the output says so.
# cargo-deny is built once into the user's cache folder, by Rust 1.88 or newer: no package registry but Rust's has a version
# that reads edition 2024, and older ones stop at the newest advisories.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
deny=$cache/cargo-deny-$version/bin/cargo-deny
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ ! -x "$deny" ]; then
    echo "building cargo-deny $version into $cache (some minutes, once)"
    # Unoptimized: it runs for a second, and compiles in a third of the time.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$scratch/target \
        cargo install --quiet --debug --locked --root "$cache/cargo-deny-$version" "cargo-deny@$version"
fi

"$deny" --all-features check --hide-inclusion-graph bans licenses sources

copy=${DOORFLEET_ADVISORY_DB:-$cache/advisory-db}
if [ ! -d "$copy" ]; then
    echo "advisories: not judged, there is no copy of them at $copy"
    exit 0
fi
# cargo-deny looks for the copy under a name made of the database's address.
ln -s "$(realpath "$copy")" "$scratch/advisory-db-3157b0e258782691"
sed "s|^\[advisories\]|&\ndb-path = \"$scratch\"|" deny.toml >"$scratch/deny.toml"
"$deny" --all-features --config "$scratch/deny.toml" --offline check --hide-inclusion-graph advisories

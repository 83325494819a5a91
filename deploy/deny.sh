#!/usr/bin/env bash
# deploy/deny.sh - check the dependency tree against deny.toml: licenses, banned crates, sources
# and, if there is a copy, known advisories.
#
# Advisories come from a git clone of RustSec's advisory-db in DOORFLEET_ADVISORY_DB or
# $XDG_CACHE_HOME/doorfleet/advisory-db (default ~/.cache). Without a clone they are not checked,
# and the output says so. cargo-deny is built once into the user's cache folder, with Rust 1.88 or
# newer:
# other package registries have no version that reads edition 2024, and older ones fail on the
# newest advisories.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
deny=$cache/cargo-deny-$version/bin/cargo-deny
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ ! -x "$deny" ]; then
    echo "building cargo-deny $version into $cache (some minutes, once)"
    # Unoptimized: it compiles in a third of the time and runs only for a second.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$scratch/target \
        cargo install --quiet --debug --locked --root "$cache/cargo-deny-$version" \
            "cargo-deny@$version"
fi

"$deny" --all-features check --hide-inclusion-graph bans licenses sources

copy=${DOORFLEET_ADVISORY_DB:-$cache/advisory-db}
if [ ! -d "$copy" ]; then
    echo "advisories: not checked, $copy is missing"
    exit 0
fi
# cargo-deny derives the folder's name from the database's address.
ln -s "$(realpath "$copy")" "$scratch/advisory-db-3157b0e258782691"
sed "s|^\[advisories\]|&\ndb-path = \"$scratch\"|" deny.toml >"$scratch/deny.toml"
"$deny" --all-features --config "$scratch/deny.toml" --offline check --hide-inclusion-graph \
    advisories

#!/usr/bin/env bash
# cross-check.sh - check how `cross` reads cross.toml, without a container engine: a stand-in
# records how it is called.
#
# For each target the image, the environment and the cargo line must be those of cross.toml, and
# cross must neither skip the file nor find an unknown key. cross 0.2.5 is built with cargo if it is
# missing, and kept in the user's cache folder.
#
# rustup has a stand-in too: cross 0.2.5 cannot parse the list of a newer rustup, and would update
# the user's toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.2.5
tools=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/cross-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() { echo "cross-check.sh: $*" >&2; exit 1; }

[ -x "$tools/bin/cross" ] ||
    # Unoptimised: it compiles in a third of the time and runs only for a second.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$work/tools \
        cargo install --quiet --debug --locked cross --version "$version" --root "$tools"

mkdir "$work/bin" "$work/home"
cat >"$work/bin/engine" <<'SH'
#!/bin/sh
case $1 in
    --help) echo "a stand-in for podman" ;;
    run) printf '%s\n' "$@" >"$ENGINE_LOG" ;;
esac
SH
# What cross lists is installed already; any other request is refused and recorded.
cat >"$work/bin/rustup" <<'SH'
#!/bin/sh
case "$*" in
    "toolchain list") echo "$STANDIN_TOOLCHAIN (default)" ;;
    "target list"*)
        printf '%s (installed)\n' aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf \
            arm-unknown-linux-gnueabihf x86_64-unknown-linux-gnu
        ;;
    "component list"*) echo "rust-src (installed)" ;;
    *) echo "$*" >>"$RUSTUP_LOG"; exit 1 ;;
esac
SH
chmod +x "$work/bin/engine" "$work/bin/rustup"
# The compiler itself instead of rustup's proxy, so that nothing here reaches the real rustup.
sysroot=$(rustc --print sysroot)
ln -s "$sysroot/bin/rustc" "$sysroot/bin/cargo" "$work/bin/"

export ENGINE_LOG=$work/engine.log RUSTUP_LOG=$work/rustup.log STANDIN_TOOLCHAIN=${sysroot##*/}
run_cross() { # run_cross NAME CONFIG TARGET: runs cross; its messages go to $work/NAME
    rm -f "$ENGINE_LOG"
    env PATH="$work/bin:$PATH" HOME="$work/home" CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" \
        RUSTUP_HOME="$work/home/rustup" XARGO_HOME="$work/home/xargo" \
        CARGO_TARGET_DIR="$work/target" CROSS_CUSTOM_TOOLCHAIN=1 \
        CROSS_CONTAINER_ENGINE="$work/bin/engine" ${2:+CROSS_CONFIG="$2"} \
        "$tools/bin/cross" build --profile dist --target "$3" -p door-agent >"$work/$1" 2>&1 ||
        die "cross failed for $3: $(cat "$work/$1")"
    [ ! -s "$RUSTUP_LOG" ] || die "cross called rustup for more than a list: $(cat "$RUSTUP_LOG")"
    [ -s "$ENGINE_LOG" ] || die "cross called no engine for $3: $(cat "$work/$1")"
}
complains() { grep -E "won't be considered|unused key" "$work/$1"; }

for target in aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf \
    arm-unknown-linux-gnueabihf; do
    run_cross talk cross.toml "$target"
    ! complains talk || die "cross does not accept all of cross.toml for $target"
    expected() {
        grep -qxF -- "$1" "$ENGINE_LOG" ||
            die "for $target cross did not pass '$1' to the engine, but:" \
                "$(tr '\n' ' ' <"$ENGINE_LOG")"
    }
    expected "ghcr.io/cross-rs/$target:$version"
    for name in CARGO_TERM_COLOR CARGO_INCREMENTAL RUST_BACKTRACE; do expected "$name"; done
    tail -1 "$ENGINE_LOG" |
        grep -qE "cargo build --profile dist --target $target -p door-agent\$" ||
        die "for $target cross would run: $(tail -1 "$ENGINE_LOG")"
    echo "$target: image, environment and cargo line are as configured"
done

# Check the check: cross reports the file when it is not configured, and an unknown key.
run_cross unnamed "" aarch64-unknown-linux-gnu
complains unnamed >/dev/null || die "cross no longer reports that it ignores cross.toml"
{ cat cross.toml; printf 'imagine = "x"\n'; } >"$work/wrong.toml"
run_cross wrong "$work/wrong.toml" aarch64-unknown-linux-gnu
complains wrong >/dev/null || die "cross no longer reports an unknown key"

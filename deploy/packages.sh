#!/usr/bin/env bash
# packages.sh [--quick] [PROGRAM:ARCH...] - build Debian packages: door-agent for amd64, arm64 and
# armhf, door-hub and doorctl for amd64 and arm64.
#
# Default: the three for this machine. They go to target/packages. Man pages and completions come
# from the programs themselves (`documents`), under qemu for another architecture. Programs for this
# machine are built with Debian's Rust 1.85 by debian-build.sh, others by debian-cross-build.sh.
# cargo-deb is built with cargo if it is missing, and kept in the user's cache folder; lintian comes
# from apt. An error or warning of lintian is a failure.
#
# --quick is for tests of the packages, not for release: this machine's programs are those of
# `cargo build`, by the usual compiler, those of others come from debian-cross-build.sh --quick, and
# the packages go to target/packages/quick.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
version=3.6.3
tools=$cache/cargo-deb-$version
die() { echo "packages.sh: $*" >&2; exit 1; }

host=$(dpkg --print-architecture)
packages=target/packages quick=
if [ "${1:-}" = --quick ]; then
    shift
    packages=target/packages/quick quick=yes
fi
[ $# -gt 0 ] || set -- "door-agent:$host" "door-hub:$host" "doorctl:$host"
for what in "$@"; do
    case $what in
        door-agent:amd64 | door-agent:arm64 | door-agent:armhf) ;;
        door-hub:amd64 | door-hub:arm64 | doorctl:amd64 | doorctl:arm64) ;;
        *)
            die "invalid PROGRAM:ARCH '$what': expected door-agent:amd64, door-agent:arm64," \
                "door-agent:armhf, door-hub:amd64, door-hub:arm64, doorctl:amd64 or doorctl:arm64"
            ;;
    esac
done
if [ ! -x "$tools/bin/cargo-deb" ]; then
    build=$(mktemp -d)
    # Unoptimised: it compiles in a third of the time.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$build \
        cargo install --quiet --debug --locked cargo-deb --version "$version" --root "$tools"
    rm -rf "$build"
fi
command -v lintian >/dev/null || deploy/apt-install.sh lintian

export DEBIAN_BUILD_TARGET=${DEBIAN_BUILD_TARGET:-target/rust-1.85} \
    DEBIAN_CROSS_TARGET=${DEBIAN_CROSS_TARGET:-target/rust-1.85-cross}
for what in "$@"; do
    program=${what%:*} arch=${what#*:} profile=dist
    [ "$program" != door-hub ] || profile=dist-hub
    [ -z "$quick" ] || profile=quick
    case $arch in
        amd64) triple=x86_64-unknown-linux-gnu run=() ;;
        arm64)
            triple=aarch64-unknown-linux-gnu
            run=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
            ;;
        armhf)
            triple=armv7-unknown-linux-gnueabihf
            run=(qemu-arm-static -L /usr/arm-linux-gnueabihf)
            ;;
    esac
    if [ -n "$quick" ] && [ "$arch" = "$host" ]; then
        cargo build --workspace --bins --locked
        target=${CARGO_TARGET_DIR:-target} run=() shape=(--profile dev)
        built=$target/debug
    elif [ "$arch" = "$host" ]; then
        deploy/debian-build.sh build --profile "$profile" --target "$triple" -p "$program" \
            --bin "$program"
        target=$DEBIAN_BUILD_TARGET built=$DEBIAN_BUILD_TARGET/$triple/$profile run=() \
            shape=(--no-strip --profile "$profile" --target "$triple")
    else
        deploy/debian-cross-build.sh ${quick:+--quick} "$what"
        target=$DEBIAN_CROSS_TARGET built=$DEBIAN_CROSS_TARGET/$triple/$profile \
            shape=(--no-strip --profile "$profile" --target "$triple")
    fi
    documents=target/packages/documents/$program
    # Also those of an older release: only new files may remain.
    rm -rf "$documents" "$packages/${program}_"*"_$arch.deb"
    mkdir -p "$documents" "$packages"
    "${run[@]}" "$built/$program" documents "$documents"
    # The pages of `help` repeat the others.
    rm -f "$documents/$program"-help*.1 "$documents/$program"-*-help*.1
    release=$("${run[@]}" "$built/$program" --version | cut -d' ' -f2)-1
    {
        printf '%s (%s) unstable; urgency=medium\n\n' "$program" "$release"
        printf '  * See CHANGELOG.md of the sources.\n\n'
        printf ' -- doorfleet <doorfleet@localhost>  %s\n' \
            "$(git log -1 --format=%cD 2>/dev/null || date -R)"
    } >"$documents/changelog"
    deb=$packages/${program}_${release}_$arch.deb
    CARGO_TARGET_DIR=$target "$tools/bin/cargo-deb" deb --quiet --no-build "${shape[@]}" \
        -p "$program" --output "$deb"
    lintian --allow-root --fail-on error,warning "$deb"
    echo "$deb: $(stat -c %s "$deb") bytes"
done

#!/usr/bin/env bash
# packages.sh [ARCH...] - make the Debian packages of door-agent: amd64, arm64, armhf. Default: this machine's.
#
# They go to target/packages. Man pages and completions come from the program itself, `door-agent documents`, under qemu for another
# architecture. This machine's is built with Debian's Rust 1.85 by debian-build.sh, the others by debian-cross-build.sh. cargo-deb is built with
# cargo when it is missing and kept under the user's cache folder; lintian comes from apt. A finding of lintian, error or warning, ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
version=3.6.3
tools=$cache/cargo-deb-$version
die() { echo "packages.sh: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

host=$(dpkg --print-architecture)
[ $# -gt 0 ] || set -- "$host"
if [ ! -x "$tools/bin/cargo-deb" ]; then
    build=$(mktemp -d)
    CARGO_TARGET_DIR=$build cargo install --quiet --locked cargo-deb --version "$version" --root "$tools"
    rm -rf "$build"
fi
command -v lintian >/dev/null || as_root apt-get install -y -qq --no-install-recommends lintian >/dev/null

program=door-agent
export DEBIAN_BUILD_TARGET=${DEBIAN_BUILD_TARGET:-target/rust-1.85} DEBIAN_CROSS_TARGET=${DEBIAN_CROSS_TARGET:-target/rust-1.85-cross}
documents=target/packages/documents/$program
for arch in "$@"; do
    case $arch in
        amd64) triple=x86_64-unknown-linux-gnu run=() ;;
        arm64) triple=aarch64-unknown-linux-gnu run=(qemu-aarch64-static -L /usr/aarch64-linux-gnu) ;;
        armhf) triple=armv7-unknown-linux-gnueabihf run=(qemu-arm-static -L /usr/arm-linux-gnueabihf) ;;
        *) die "architecture '$arch' is not known here; expected amd64, arm64 or armhf" ;;
    esac
    if [ "$arch" = "$host" ]; then
        deploy/debian-build.sh build --profile dist --target "$triple" -p "$program" --bin "$program"
        folder=$DEBIAN_BUILD_TARGET
        run=()
    else
        deploy/debian-cross-build.sh "$program:$arch"
        folder=$DEBIAN_CROSS_TARGET
    fi
    # Of an older release, too: what is there afterwards is what was made.
    rm -rf "$documents" "target/packages/${program}_"*"_$arch.deb"
    mkdir -p "$documents"
    "${run[@]}" "$folder/$triple/dist/$program" documents "$documents"
    # Pages of `help` say nothing that the others do not.
    rm -f "$documents/$program"-help*.1 "$documents/$program"-*-help*.1
    release=$("${run[@]}" "$folder/$triple/dist/$program" --version | cut -d' ' -f2)-1
    printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n -- doorfleet <doorfleet@localhost>  %s\n' \
        "$program" "$release" "$(git log -1 --format=%cD 2>/dev/null || date -R)" >"$documents/changelog"
    deb=target/packages/${program}_${release}_$arch.deb
    CARGO_TARGET_DIR=$folder "$tools/bin/cargo-deb" deb --quiet --no-build --no-strip --profile dist --target "$triple" -p "$program" --output "$deb"
    lintian --allow-root --fail-on error,warning "$deb"
    echo "$deb: $(stat -c %s "$deb") bytes"
done

#!/usr/bin/env bash
# debian-toolchain.sh DEST [ARCH...] - unpack Debian's Rust 1.85 into DEST as a private toolchain.
#
# Rust 1.85 is the compiler of Debian 13 and of Raspberry Pi OS trixie, and so the oldest supported
# one. Debian 12 has it as `rustc-web`, Debian 13 as `rustc`. Nothing is installed: packages are
# downloaded with apt and unpacked with dpkg-deb, so an existing rustup or rustc is not changed.
# Each ARCH (arm64, armhf) adds that architecture's standard library, for cross builds.
#
#   deploy/debian-toolchain.sh ~/.cache/doorfleet/rust-1.85
#   rustup toolchain link debian ~/.cache/doorfleet/rust-1.85 && cargo +debian build
#
# Needs Debian 12 or 13 (or a derivative) on amd64 or arm64, apt, and a cargo to copy; root only to
# refresh apt's lists or to add an architecture.
set -euo pipefail

die() { echo "debian-toolchain.sh: $*" >&2; exit 1; }

[ $# -ge 1 ] || die "usage: debian-toolchain.sh DEST [ARCH...]"
dest=$1; shift
for arch in "$@"; do
    case $arch in
        amd64 | arm64 | armhf) ;;
        *) die "unknown architecture '$arch': expected amd64, arm64 or armhf" ;;
    esac
done
command -v apt-get >/dev/null || die "apt-get is missing: this script unpacks Debian packages"
host=$(dpkg --print-architecture)
triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
[ -n "$triplet" ] || die "cannot determine this machine's library folder; install dpkg-dev or gcc"

stamp="$dest/.complete"
wanted="$host $*"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    LD_LIBRARY_PATH="$dest/lib" "$dest/bin/rustc" --version
    exit 0
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
for arch in "$@"; do
    [ "$arch" = "$host" ] || dpkg --print-foreign-architectures | grep -qx "$arch" ||
        as_root dpkg --add-architecture "$arch"
done

# Debian 13's rustc is 1.85; Debian 12 has an older one, and 1.85 under the name used for building
# its browsers.
version_of() {
    apt-cache madison "$1" 2>/dev/null | awk '{print $3}' | grep -m1 '^1\.85\.' || true
}
pick() {
    for flavour in -web ""; do
        version=$(version_of "rustc$flavour")
        [ -n "$version" ] && return 0
    done
    return 1
}
pick || { as_root apt-get update -qq || true; pick; } ||
    die "no rustc 1.85 in apt's lists; is this Debian 12 or 13?"
for arch in "$@"; do
    apt-cache show "libstd-rust${flavour}-dev:$arch=$version" >/dev/null 2>&1 || {
        as_root apt-get update -qq || true
        break
    }
done

packages=("rustc$flavour:$host=$version" "libstd-rust$flavour-1.85:$host=$version"
    "libstd-rust$flavour-dev:$host=$version")
llvm=$(apt-cache show "rustc$flavour:$host=$version" |
    sed -n 's/^\(Pre-\)\?Depends:.*\(libllvm[0-9]*\).*/\2/p' | head -1)
[ -n "$llvm" ] || llvm=$(apt-cache show "libstd-rust$flavour-1.85:$host=$version" |
    sed -n 's/^Depends:.*\(libllvm[0-9]*\).*/\1/p' | head -1)
[ -n "$llvm" ] || die "cannot determine which libllvm rustc$flavour $version needs"
packages+=("$llvm:$host")
for arch in "$@"; do
    [ "$arch" = "$host" ] || packages+=("libstd-rust$flavour-dev:$arch=$version")
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching ${packages[*]}"
(cd "$work" && apt-get -o APT::Sandbox::User= download -qq "${packages[@]}")
for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/unpacked"; done

rm -rf "$dest"
mkdir -p "$dest/bin" "$dest/lib"
cp "$work/unpacked/usr/bin/rustc" "$dest/bin/"
mv "$work/unpacked/usr/lib/$triplet"/lib*.so* "$work/unpacked/usr/lib/rustlib" "$dest/lib/"
# rustup provides no cargo for a linked toolchain that lacks one.
cargo=$(rustup which cargo 2>/dev/null || command -v cargo) ||
    die "no cargo to copy into the toolchain; install Rust first"
cp "$cargo" "$dest/bin/cargo"
LD_LIBRARY_PATH="$dest/lib" "$dest/bin/rustc" --version
echo "$wanted" >"$stamp"

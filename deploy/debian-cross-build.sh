#!/usr/bin/env bash
# debian-cross-build.sh [PROGRAM:ARCH...] - build what the packages ship for Raspberry Pis, without a container, and prove that it runs.
#
# Default: door-agent:arm64 door-agent:armhf door-hub:arm64, in this order, with Debian's Rust 1.85 and [profile.dist], the hub with
# [profile.dist-hub]. The Rust toolchain comes from debian-toolchain.sh and is kept under the user's cache folder, apart from that of
# debian-build.sh; C compilers, C libraries and qemu are Debian's packages, installed when they are missing. The programs go to
# target/rust-1.85-cross/TARGET/PROFILE (DEBIAN_CROSS_TARGET is another target folder).
#
# Each program is run once under qemu. It must need no glibc newer than Debian 12's, 2.36. Its size, what it needs, how long it takes to start
# and its memory are printed; the last two are those of `--version` under emulation, so they compare builds and say nothing of a Pi.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
toolchain=$cache/rust-1.85-cross
newest_glibc=2.36

die() { echo "debian-cross-build.sh: $*" >&2; exit 1; }

[ $# -gt 0 ] || set -- door-agent:arm64 door-agent:armhf door-hub:arm64
for what in "$@"; do
    case $what in
        door-agent:arm64 | door-agent:armhf | door-hub:arm64 | doorctl:arm64) ;;
        *) die "'$what' is not built here; expected door-agent:arm64, door-agent:armhf, door-hub:arm64 or doorctl:arm64" ;;
    esac
done

missing=()
while read -r command package; do
    command -v "$command" >/dev/null || missing+=("$package")
done <<'PACKAGES'
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf
qemu-aarch64-static qemu-user-static
PACKAGES
[ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing+=(libc6-dev-arm64-cross)
[ -e /usr/arm-linux-gnueabihf/include/stdio.h ] || missing+=(libc6-dev-armhf-cross)
[ ${#missing[@]} = 0 ] || deploy/apt-install.sh "${missing[@]}"
deploy/debian-toolchain.sh "$toolchain" arm64 armhf

export LD_LIBRARY_PATH=$toolchain/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export RUSTC=$toolchain/bin/rustc
export CARGO_TARGET_DIR=${DEBIAN_CROSS_TARGET:-target/rust-1.85-cross}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The configuration of a simulated door with a key of nobody's, so that `check` reads a whole one and dials no hub.
example() {
    local key
    key=$(printf 'nobody opens a door with this' | base64)
    mkdir -p "$work/door"
    printf 'HostName=127.0.0.1;DeviceId=example;SharedAccessKey=%s' "$key" >"$work/door/example.connection-string"
    chmod 600 "$work/door/example.connection-string"
    cat >"$work/door/example.toml" <<'TOML'
[hub]
connection_string_file = "example.connection-string"
mqtt_port = 1

[strike]
kind = "motor-lock"

[board]
kind = "simulated"

[state]
directory = "state"
TOML
}

# The newest version of glibc among the symbols that a program takes from outside.
glibc_needed() {
    readelf --dyn-syms --wide "$1" | grep -o '@GLIBC_[0-9.]*' | sed 's/@GLIBC_//' | sort -uV | tail -1
}

# A first line that says which program this is; `check` of the agent reads the example: it must find the configuration and the key fine.
try() {
    local program=$1 file=$2 said
    shift 2
    said=$("$@" "$file" --version)
    [[ "$said" == "$program "[0-9]* ]] || die "$file --version says '$said', expected $program and a version"
    [ "$program" = door-agent ] || return 0
    # No hub answers at the example's port, so that `check` as a whole fails; each other line has to be right.
    said=$("$@" "$file" check --config "$work/door/example.toml" 2>&1 || true)
    for line in "fine   configuration: " "fine   connection string: device example of 127.0.0.1"; do
        grep -qF "$line" <<<"$said" || die "$file check lacks the line '$line':
$said"
    done
}

# Best of five starts in milliseconds, and the most memory that one of them held, in kB; the emulator's own part is in both.
measure() {
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys, time
best = None
for _ in range(5):
    began = time.monotonic()
    subprocess.run(sys.argv[1:] + ["--version"], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    best = took if best is None else min(best, took)
print(f"{best * 1000:.0f} ms, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss} kB")
PYTHON
}

example
for what in "$@"; do
    program=${what%:*}
    case ${what#*:} in
        arm64) target=aarch64-unknown-linux-gnu emulator=(qemu-aarch64-static -L /usr/aarch64-linux-gnu) machine=AArch64 ;;
        armhf) target=armv7-unknown-linux-gnueabihf emulator=(qemu-arm-static -L /usr/arm-linux-gnueabihf) machine=ARM ;;
    esac
    profile=dist
    [ "$program" != door-hub ] || profile=dist-hub
    "$toolchain/bin/cargo" build --profile "$profile" --locked --target "$target" -p "$program" --bin "$program"
    file=$CARGO_TARGET_DIR/$target/$profile/$program
    readelf --file-header "$file" | grep -q "Machine: *$machine\$" || die "$file is not of $machine"
    needed=$(glibc_needed "$file")
    [ -n "$needed" ] || die "cannot tell which glibc $file needs"
    [ "$(printf '%s\n' "$needed" "$newest_glibc" | sort -V | tail -1)" = "$newest_glibc" ] ||
        die "$file needs glibc $needed, and Debian 12 has $newest_glibc"
    try "$program" "$file" "${emulator[@]}"
    printf '%s: %s bytes, glibc %s, starts in %s\n' "$what" "$(stat -c %s "$file")" "$needed" "$(measure "${emulator[@]}" "$file")"
done

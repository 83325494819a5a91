#!/usr/bin/env bash
# debian-cross-build.sh [--quick] [PROGRAM:ARCH...] - cross-build the packaged programs for
# Raspberry Pis, without a container, and test that they run.
#
# Default: door-agent:arm64 door-agent:armhf door-hub:arm64, in this order, with Debian's Rust 1.85
# and [profile.dist], the hub with [profile.dist-hub]; --quick takes [profile.quick] for both, which
# builds faster and runs slower: for tests, not for release. The Rust toolchain comes from
# debian-toolchain.sh and is kept in the user's cache folder, separate from that of debian-build.sh;
# C compilers, C libraries and qemu are Debian packages, installed if missing. The programs go to
# target/rust-1.85-cross/TARGET/PROFILE (DEBIAN_CROSS_TARGET sets another target folder).
#
# Each program runs once under qemu. It must not need a newer glibc than 2.36, that of Debian 12.
# Its size, glibc, start-up time and memory are printed; the last two are those of `--version` under
# emulation, so they allow to compare builds but say nothing about a Pi.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet
toolchain=$cache/rust-1.85-cross
newest_glibc=2.36

die() { echo "debian-cross-build.sh: $*" >&2; exit 1; }

quick=
if [ "${1:-}" = --quick ]; then
    shift
    quick=yes
fi
[ $# -gt 0 ] || set -- door-agent:arm64 door-agent:armhf door-hub:arm64
for what in "$@"; do
    case $what in
        door-agent:arm64 | door-agent:armhf | door-hub:arm64 | doorctl:arm64) ;;
        *)
            die "invalid PROGRAM:ARCH '$what': expected door-agent:arm64, door-agent:armhf," \
                "door-hub:arm64 or doorctl:arm64"
            ;;
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

# Writes the configuration of a simulated door with a dummy key, so that `check` reads a complete
# one and reaches no hub.
example() {
    local key
    key=$(printf 'nobody opens a door with this' | base64)
    mkdir -p "$work/door"
    printf 'HostName=127.0.0.1;DeviceId=example;SharedAccessKey=%s' "$key" \
        >"$work/door/example.connection-string"
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

# The newest version of glibc among the symbols that a program imports.
glibc_needed() {
    readelf --dyn-syms --wide "$1" | grep -o '@GLIBC_[0-9.]*' | sed 's/@GLIBC_//' | sort -uV |
        tail -1
}

# Checks that --version names the program, and that the agent's `check` accepts the example's
# configuration and key.
try() {
    local program=$1 file=$2 output
    shift 2
    output=$("$@" "$file" --version)
    [[ "$output" == "$program "[0-9]* ]] ||
        die "$file --version says '$output', expected $program and a version"
    [ "$program" = door-agent ] || return 0
    # No hub answers at the example's port, so `check` as a whole fails; the other lines must be
    # fine.
    output=$("$@" "$file" check --config "$work/door/example.toml" 2>&1 || true)
    for line in "fine   configuration: " "fine   connection string: device example of 127.0.0.1"; do
        grep -qF "$line" <<<"$output" || die "the output of $file check lacks the line '$line':
$output"
    done
}

# Best of five starts in milliseconds, and the peak memory of any in kB; both include the emulator.
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
        arm64)
            target=aarch64-unknown-linux-gnu machine=AArch64
            emulator=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
            ;;
        armhf)
            target=armv7-unknown-linux-gnueabihf machine=ARM
            emulator=(qemu-arm-static -L /usr/arm-linux-gnueabihf)
            ;;
    esac
    profile=dist
    [ "$program" != door-hub ] || profile=dist-hub
    [ -z "$quick" ] || profile=quick
    "$toolchain/bin/cargo" build --profile "$profile" --locked --target "$target" -p "$program" \
        --bin "$program"
    file=$CARGO_TARGET_DIR/$target/$profile/$program
    readelf --file-header "$file" | grep -q "Machine: *$machine\$" ||
        die "$file is not for $machine"
    needed=$(glibc_needed "$file")
    [ -n "$needed" ] || die "cannot determine which glibc $file needs"
    [ "$(printf '%s\n' "$needed" "$newest_glibc" | sort -V | tail -1)" = "$newest_glibc" ] ||
        die "$file needs glibc $needed, but Debian 12 has $newest_glibc"
    try "$program" "$file" "${emulator[@]}"
    printf '%s: %s bytes, glibc %s, starts in %s\n' "$what" "$(stat -c %s "$file")" "$needed" \
        "$(measure "${emulator[@]}" "$file")"
done

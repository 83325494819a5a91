#!/usr/bin/env bash
# prepare.sh DEST - put the files of an emulated Raspberry Pi 3 into DEST: Debian 12's arm64 kernel
# with its modules, a root file system like that of Raspberry Pi OS Lite (systemd, sshd, sudo,
# systemd-timesyncd, gpiod), and a kernel module that adds edge detection to QEMU's pins.
#
# Needs Debian 12 on amd64, root, apt. Takes five minutes the first time, mostly for the root file
# system, whose programs run under qemu; a second call finds DEST complete and does nothing. The
# kernel's packages are unpacked, not installed.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
die() { echo "prepare.sh: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: prepare.sh DEST"
[ "$(id -u)" = 0 ] || die "needs root, for the root file system"
mkdir -p "$1"
dest=$(realpath "$1")

# Files are made again when a script or source that produces them changes.
recipe=$(cat "$here/prepare.sh" "$here/pi_edges.c" | sha256sum | cut -c1-16)
if [ "$(cat "$dest/.complete" 2>/dev/null)" = "$recipe" ]; then exit 0; fi
# Never empty a foreign folder.
[ -e "$dest/.emulated-pi" ] || [ -z "$(ls -A "$dest")" ] ||
    die "$dest contains files of another origin: expected an empty folder or none"
find "$dest" -mindepth 1 -delete
touch "$dest/.emulated-pi"

packages=(qemu-system-arm qemu-user-static mmdebstrap arch-test e2fsprogs cpio kmod make
    gcc-aarch64-linux-gnu)
mapfile -t missing < <(
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            echo "$package"
    done
)
dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
# The lists of a foreign architecture may be incomplete; missing packages are reported below.
apt-get update -qq 2>/dev/null || true
[ ${#missing[@]} = 0 ] || "$here/../apt-install.sh" "${missing[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "the kernel"
# The newest version whose parts apt all knows: an update of one architecture may be published
# before that of the other.
parts=()
while read -r version; do
    release=$(apt-cache show "linux-image-arm64:arm64=$version" |
        sed -n 's/^Depends: linux-image-\([^ ]*\) .*/\1/p')
    parts=("linux-image-$release:arm64" "linux-headers-$release:arm64"
        "linux-headers-${release%-arm64}-common" "linux-kbuild-$(cut -d. -f1,2 <<<"$release")")
    parts=("${parts[@]/%/=$version}")
    apt-get download --print-uris -qq "${parts[@]}" >/dev/null && break
    echo "Linux $version is incomplete at the mirror, trying an older one"
    parts=()
done < <(apt-cache madison linux-image-arm64:arm64 | cut -d'|' -f2 | tr -d ' ')
[ ${#parts[@]} -gt 0 ] ||
    die "apt knows no linux-image-arm64:arm64 with its headers and linux-kbuild; is this Debian 12?"
(cd "$work" && apt-get -o APT::Sandbox::User= download -qq "${parts[@]}" busybox-static:arm64)
for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/unpacked"; done
cp "$work/unpacked/boot/vmlinuz-$release" "$dest/vmlinuz"
cp "$work/unpacked/usr/lib/linux-image-$release/broadcom/bcm2837-rpi-3-b.dtb" "$dest/pi-3.dtb"
cp "$work/unpacked/bin/busybox" "$dest/busybox"

# Modules for the card, the network on USB and the file system, each after its dependencies.
mkdir "$dest/modules"
depmod -b "$work/unpacked" "$release"
order() {
    modprobe -d "$work/unpacked" -S "$release" --show-depends "$1" |
        sed -n 's/^insmod \([^ ]*\).*/\1/p'
}
number=10
for module in sdhci-iproc bcm2835 crc32c_generic ext4 phy-generic dwc2 rndis_host cdc_ether; do
    for file in $(order "$module"); do
        if ! ls "$dest/modules/"*"-${file##*/}" >/dev/null 2>&1; then
            cp "$file" "$dest/modules/$number-${file##*/}"
            number=$((number + 1))
        fi
    done
done

echo "the edges of the pins"
headers=$work/unpacked/usr/src/linux-headers-$release
# Debian's headers refer to each other by their installed paths.
grep -rlE '/usr/(src|lib)/linux-' --include=Makefile --include='*.mk' "$work/unpacked/usr/src" |
    xargs -r sed -i -E "s#/usr/(src|lib)/linux-#$work/unpacked/usr/\1/linux-#g"
mkdir "$work/pi_edges"
cp "$here/pi_edges.c" "$work/pi_edges/"
echo 'obj-m := pi_edges.o' >"$work/pi_edges/Kbuild"
make -s -C "$headers" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- M="$work/pi_edges" modules \
    >"$work/output" 2>&1 || {
    cat "$work/output" >&2
    die "the kernel module does not build"
}
aarch64-linux-gnu-strip -g "$work/pi_edges/pi_edges.ko"
cp "$work/pi_edges/pi_edges.ko" "$dest/modules/99-pi_edges.ko"

echo "the root file system"
[ -e /proc/sys/fs/binfmt_misc/register ] ||
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] ||
    tr -d '\n' </usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
mmdebstrap --quiet --mode=root --variant=minbase --architectures=arm64 \
    --include=systemd,systemd-sysv,systemd-timesyncd,udev,dbus,kmod,iproute2,procps \
    --include=openssh-server,sudo,ca-certificates,gpiod \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$dest/root.tar"
echo "$recipe" >"$dest/.complete"

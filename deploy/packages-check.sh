#!/usr/bin/env bash
# packages-check.sh DEB... - install, upgrade, remove and purge packages in a Debian root, and check
# what is left each time.
#
# Needs root (mmdebstrap and chroot) and packages of this machine's architecture. The root is kept
# as an archive in the user's cache folder. systemctl and uname in it are stand-ins: the first
# records its calls and runs doors and hub, the second can report ARMv6. The programs are those of
# the packages.
# The checks are in packages-check/PROGRAM.sh.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: packages-check.sh DEB..." >&2; exit 1; }
die() { echo "packages-check.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"
steps=$(dirname "$(realpath "$0")")/packages-check
archive=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/debian-12-root.tar
work=$(mktemp -d)
root=$work/root
finish() {
    local pid
    for pid in "$root"/run/units/*; do
        [ ! -e "$pid" ] || kill "$(cat "$pid")" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

if [ ! -s "$archive" ]; then
    command -v mmdebstrap >/dev/null || "${steps%/*}/apt-install.sh" mmdebstrap
    mkdir -p "${archive%/*}"
    mmdebstrap --quiet --variant=apt --include=systemd,udev bookworm "$work/root.tar"
    mv "$work/root.tar" "$archive"
fi
mkdir "$root"
tar -C "$root" --exclude='./dev/*' -xf "$archive"
mkdir -p "$root/run/systemd/system" "$root/run/units" "$root/usr/local/bin" "$root/packages"
printf '' >"$root/dev/null"
# An agent starts only with something to trust; the package ca-certificates would provide the same.
mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

cat >"$root/usr/local/bin/systemctl" <<'SH'
#!/bin/sh
# A running unit has its process id in /run/units.
echo "$*" >>/systemctl.log
for unit in "$@"; do :; done
unit=${unit%.service}
name=${unit#door-agent@}
end() {
    kill "$(cat "/run/units/$unit")"
    while kill -0 "$(cat "/run/units/$unit")" 2>/dev/null; do sleep 0.1; done
    rm "/run/units/$unit"
}
begin() {
    case $unit in
        door-agent@*)
            export CREDENTIALS_DIRECTORY=/run/credentials/$name \
                STATE_DIRECTORY=/var/lib/door-agent/$name
            mkdir -p "$CREDENTIALS_DIRECTORY"
            cp "/etc/door-agent/$name.connection-string" "$CREDENTIALS_DIRECTORY/connection-string"
            set -- door-agent --config "/etc/door-agent/$name.toml"
            ;;
        door-hub) set -- door-hub serve --data /var/lib/door-hub ;;
    esac
    setsid "$@" </dev/null >>"/var/log/$name.log" 2>&1 &
    echo $! >"/run/units/$unit"
}
case "$*" in
    "list-units "*)
        for file in /run/units/door-agent@*; do
            [ ! -e "$file" ] ||
                echo "${file##*/}.service loaded active running Controller of a door"
        done
        ;;
    "show -P ActiveState "*)
        if [ -e "/run/units/$unit" ]; then echo active; else echo inactive; fi
        ;;
    "is-active "*) [ -e "/run/units/$unit" ] ;;
    "is-enabled "*)
        [ -L "/etc/systemd/system/multi-user.target.wants/$unit.service" ] ||
            [ "$unit" = door-agent-reboot.path ]
        ;;
    "restart "*) end && [ ! -e /broken ] && begin ;;
    "try-restart "*) [ ! -e "/run/units/$unit" ] || { end && begin; } ;;
    "start "*.path) ;;
    "start "*) begin ;;
    "disable --now "*) [ ! -e "/run/units/$unit" ] || end ;;
esac
SH
cat >"$root/usr/local/bin/uname" <<'SH'
#!/bin/sh
if [ "$1" = -m ] && [ -e /armv6 ]; then echo armv6l; else exec /usr/bin/uname "$@"; fi
SH
chmod +x "$root/usr/local/bin/systemctl" "$root/usr/local/bin/uname"

# With /proc, which systemd-tmpfiles needs, mounted only for the command.
# shellcheck disable=SC2016 # The inner shell expands it.
inside() {
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
        env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
present() { for path in "$@"; do [ -e "$root/$path" ] || die "$stage: /$path is missing"; done; }
absent() {
    for path in "$@"; do
        [ ! -e "$root/$path" ] && [ ! -L "$root/$path" ] || die "$stage: /$path is still there"
    done
}
asked() {
    grep -qxF -- "$1" "$root/systemctl.log" ||
        die "$stage: systemctl was not called with '$1', but with: $(cat "$root/systemctl.log")"
}
# The program that a unit runs; it ends in (deleted) after an upgrade without restart.
program_of() { readlink "/proc/$(cat "$root/run/units/$1")/exe"; }
# Everything that a package may have left behind.
tree() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./var/lib/dpkg -o -path ./var/log \
        -o -path ./var/cache -o -path ./tmp \) -prune -o ! -path ./systemctl.log -print | sort)
}

for deb in "$@"; do
    package=$(dpkg-deb --field "$deb" Package)
    [ -f "$steps/$package.sh" ] ||
        die "unknown package '$package' in $deb: expected one of: $(cd "$steps" && echo *.sh)"
    cp "$deb" "$root/packages/$package.deb"
    rm -rf "$work/next"
    dpkg-deb -R "$deb" "$work/next"
    sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/next" "$root/packages/$package-next.deb" >/dev/null
    : >"$root/systemctl.log"
    echo "== $package"
    # shellcheck source=/dev/null
    . "$steps/$package.sh"
done

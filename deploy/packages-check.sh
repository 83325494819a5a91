#!/usr/bin/env bash
# packages-check.sh DEB - install, upgrade, remove and purge a package of door-agent in a Debian root, and look at what is left each time.
#
# Needs root (mmdebstrap and chroot) and a package of this machine's architecture. The root is kept as an archive under the user's cache folder.
# systemctl and uname are stand-ins in it: the first writes down what it is asked for and says that a door runs, the second can be an ARMv6.
set -euo pipefail
[ $# = 1 ] || { echo "usage: packages-check.sh DEB" >&2; exit 1; }
die() { echo "packages-check.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"
deb=$(realpath "$1")
archive=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/debian-12-root.tar
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -s "$archive" ]; then
    command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
    mkdir -p "${archive%/*}"
    mmdebstrap --quiet --variant=apt --include=systemd,udev bookworm "$work/root.tar"
    mv "$work/root.tar" "$archive"
fi
root=$work/root
mkdir "$root"
tar -C "$root" --exclude='./dev/*' -xf "$archive"
mkdir -p "$root/run/systemd/system" "$root/usr/local/bin" "$root/packages"
printf '' >"$root/dev/null"

cat >"$root/usr/local/bin/systemctl" <<'SH'
#!/bin/sh
echo "$*" >>/systemctl.log
case $1 in list-units) echo "door-agent@lobby.service loaded active running Controller of the door lobby" ;; esac
SH
cat >"$root/usr/local/bin/uname" <<'SH'
#!/bin/sh
if [ "$1" = -m ] && [ -e /armv6 ]; then echo armv6l; else exec /usr/bin/uname "$@"; fi
SH
chmod +x "$root/usr/local/bin/systemctl" "$root/usr/local/bin/uname"
cp "$deb" "$root/packages/first.deb"
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/next" "$root/packages/next.deb" >/dev/null

# With /proc, by which systemd-tmpfiles works, mounted for the command alone.
inside() { unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
present() { for path in "$@"; do [ -e "$root/$path" ] || die "$stage: /$path is missing"; done; }
absent() { for path in "$@"; do [ ! -e "$root/$path" ] || die "$stage: /$path is still there"; done; }
asked() { grep -qxF -- "$1" "$root/systemctl.log" || die "$stage: systemctl was not asked for '$1', but for: $(cat "$root/systemctl.log")"; }

stage="on an ARMv6"
touch "$root/armv6"
! inside dpkg -i /packages/first.deb >"$work/said" 2>&1 || die "$stage: the package was installed"
grep -q 'this machine is ARMv6' "$work/said" || die "$stage: the reason is not told: $(cat "$work/said")"
absent usr/bin/door-agent etc/door-agent/example.toml
rm "$root/armv6"
echo "$stage: refused"

stage="installed"
inside dpkg -i /packages/first.deb >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
present usr/bin/door-agent usr/lib/systemd/system/door-agent@.service usr/lib/systemd/system/door-agent-reboot.path \
    usr/lib/udev/rules.d/60-door-agent.rules usr/share/man/man1/door-agent.1.gz usr/share/man/man1/door-agent-check.1.gz \
    usr/share/bash-completion/completions/door-agent usr/share/zsh/vendor-completions/_door-agent run/door-agent
grep -q '^gpio:.*:door-agent$' "$root/etc/group" || die "$stage: the user is not in group gpio"
[ "$(stat -c %a "$root/run/door-agent")" = 2770 ] || die "$stage: /run/door-agent has another mode"
inside dpkg-query -W -f '${Conffiles}' door-agent | grep -q /etc/door-agent/example.toml || die "$stage: the example is no conffile"
inside door-agent check --config /etc/door-agent/example.toml >"$work/said" 2>&1 || true
# Of the example nothing may be wrong but the key, which it cannot have.
grep -q 'example.connection-string' "$work/said" || die "$stage: the example is not read to its key: $(cat "$work/said")"
asked "enable --now door-agent-reboot.path"
echo "$stage: program, units, user, folders, manual and example are there"

stage="upgraded"
echo 'kind of our own' >"$root/etc/door-agent/lobby.toml"
echo 'SharedAccessKey=x' >"$root/etc/door-agent/lobby.connection-string"
mkdir -p "$root/var/lib/door-agent/lobby"
echo 'slots' >"$root/var/lib/door-agent/lobby/slots"
echo '# changed here' >>"$root/etc/door-agent/example.toml"
kept() { (cd "$root" && find etc/door-agent var/lib/door-agent -type f -exec sha256sum {} + | sort); }
before=$(kept)
: >"$root/systemctl.log"
inside dpkg -i /packages/next.deb >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
[ "$(kept)" = "$before" ] || die "$stage: configuration, keys or slots have changed"
asked daemon-reload
! grep -E '^(stop|restart|try-restart|reload-or-restart|start|kill)' "$root/systemctl.log" || die "$stage: a unit was stopped or started"
grep -q 'door-agent@lobby.service goes on with the program it was started with' "$work/said" || die "$stage: the running door is not named: $(cat "$work/said")"
echo "$stage: slots, keys and settings are the same, the running door was left alone and named"

stage="removed"
: >"$root/systemctl.log"
inside dpkg -r door-agent >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
absent usr/bin/door-agent usr/lib/systemd/system/door-agent@.service
present etc/door-agent/lobby.connection-string var/lib/door-agent/lobby/slots
asked "stop door-agent@*.service"
echo "$stage: settings, keys and slots stay"

stage="purged"
inside dpkg -P door-agent >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
absent etc/door-agent/lobby.connection-string var/lib/door-agent etc/door-agent/example.toml run/door-agent
present etc/door-agent/lobby.toml
echo "$stage: keys and state are gone, the operator's own settings stay"

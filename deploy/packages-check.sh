#!/usr/bin/env bash
# packages-check.sh DEB - install, upgrade, remove and purge a package of door-agent in a Debian root, and look at what is left each time.
#
# Needs root (mmdebstrap and chroot) and a package of this machine's architecture. The root is kept as an archive under the user's cache folder.
# systemctl and uname are stand-ins in it: the first writes down what it is asked for and keeps simulated doors running, the second can be an ARMv6.
set -euo pipefail
[ $# = 1 ] || { echo "usage: packages-check.sh DEB" >&2; exit 1; }
die() { echo "packages-check.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"
deb=$(realpath "$1")
archive=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/debian-12-root.tar
work=$(mktemp -d)
root=$work/root
finish() {
    local pid
    for pid in "$root"/run/doors/*; do [ ! -e "$pid" ] || kill "$(cat "$pid")" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

if [ ! -s "$archive" ]; then
    command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
    mkdir -p "${archive%/*}"
    mmdebstrap --quiet --variant=apt --include=systemd,udev bookworm "$work/root.tar"
    mv "$work/root.tar" "$archive"
fi
mkdir "$root"
tar -C "$root" --exclude='./dev/*' -xf "$archive"
mkdir -p "$root/run/systemd/system" "$root/run/doors" "$root/usr/local/bin" "$root/packages"
printf '' >"$root/dev/null"
# An agent starts only when it can trust somebody; the package ca-certificates would bring the same.
mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

cat >"$root/usr/local/bin/systemctl" <<'SH'
#!/bin/sh
# A door that runs has its process id in /run/doors.
echo "$*" >>/systemctl.log
name=${2#door-agent@}
name=${name%.service}
end() {
    kill "$(cat "/run/doors/$name")"
    while kill -0 "$(cat "/run/doors/$name")" 2>/dev/null; do sleep 0.1; done
}
begin() {
    export CREDENTIALS_DIRECTORY=/run/credentials/$name STATE_DIRECTORY=/var/lib/door-agent/$name
    mkdir -p "$CREDENTIALS_DIRECTORY"
    cp "/etc/door-agent/$name.connection-string" "$CREDENTIALS_DIRECTORY/connection-string"
    setsid door-agent --config "/etc/door-agent/$name.toml" </dev/null >>"/var/log/$name.log" 2>&1 &
    echo $! >"/run/doors/$name"
}
case "$*" in
    "list-units "*) for name in $(ls /run/doors); do echo "door-agent@$name.service loaded active running Controller of the door $name"; done ;;
    "restart door-agent@"*) end && begin ;;
    "start door-agent@"*) begin ;;
esac
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
# A door that is locked without power, one that power keeps locked, and one whose agent does not answer.
door() { # door NAME STRIKE
    printf '[hub]\nmqtt_port = 1\n[strike]\n%s\n[board]\nkind = "simulated"\n' "$2" >"$root/etc/door-agent/$1.toml"
    printf 'HostName=127.0.0.1;DeviceId=%s;SharedAccessKey=bm9ib2R5IG9wZW5zIGEgZG9vciB3aXRoIHRoaXM=' "$1" >"$root/etc/door-agent/$1.connection-string"
    chmod 600 "$root/etc/door-agent/$1.connection-string"
}
door lobby 'kind = "hold-strike"
fail = "secure"'
door cellar 'kind = "maglock"'
for name in lobby cellar; do
    inside systemctl start "door-agent@$name.service"
    for _ in $(seq 100); do
        if inside door-agent status --config "/etc/door-agent/$name.toml" 2>"$work/said" | grep -q "^$name: locked"; then break; fi
        sleep 0.1
    done
    inside door-agent status --config "/etc/door-agent/$name.toml" >"$work/said" 2>&1 || die "$stage: $name does not run: $(cat "$work/said" "$root/var/log/$name.log")"
    grep -q "^$name: locked" "$work/said" || die "$stage: $name does not lock: $(cat "$work/said")"
done
mkdir -p "$root/var/lib/door-agent/attic"
echo 'slots' >"$root/var/lib/door-agent/attic/slots"
door attic 'kind = "maglock"'
# Its process is there, but answers nobody.
sleep 600 &
echo $! >"$root/run/doors/attic"
echo '# changed here' >>"$root/etc/door-agent/example.toml"
program_of() { readlink "/proc/$(cat "$root/run/doors/$1")/exe"; }
kept() { (cd "$root" && find etc/door-agent var/lib/door-agent/attic -type f -exec sha256sum {} + | sort); }
before=$(kept)
cellar=$(cat "$root/run/doors/cellar")
: >"$root/systemctl.log"
inside dpkg -i /packages/next.deb >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
[ "$(kept)" = "$before" ] || die "$stage: configuration, keys or slots have changed"
asked daemon-reload
asked "restart door-agent@lobby.service"
grep -qxF 'lobby: restarted; it was locked all the while' "$work/said" || die "$stage: the restart is not told: $(cat "$work/said")"
[[ "$(program_of lobby)" != *'(deleted)' ]] || die "$stage: lobby runs the old program"
[ "$(grep -cE '^(stop|restart|try-restart|reload-or-restart|start|kill)' "$root/systemctl.log")" = 1 ] ||
    die "$stage: more units were stopped or started than one: $(cat "$root/systemctl.log")"
for name in cellar attic; do
    grep -qxF "door-agent: door-agent@$name.service goes on with the program it was started with; to finish the upgrade: door-agent restart $name" "$work/said" ||
        die "$stage: $name, which goes on, is not named: $(cat "$work/said")"
done
grep -q '^error: cellar is not restarted .*power keeps it locked' "$work/said" || die "$stage: it is not told why cellar goes on: $(cat "$work/said")"
[ "$(cat "$root/run/doors/cellar")" = "$cellar" ] && [[ "$(program_of cellar)" == *'(deleted)' ]] || die "$stage: cellar does not run its old program"
echo "$stage: slots, keys and settings are the same; a door was restarted that stays locked without power, the others go on and are named"

stage="restarted by hand"
! inside door-agent restart cellar >"$work/said" 2>&1 || die "$stage: cellar was restarted, although power keeps it locked"
inside door-agent restart --force cellar >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
[[ "$(program_of cellar)" != *'(deleted)' ]] || die "$stage: cellar runs the old program"
echo "$stage: the other door, by force"
for name in lobby cellar attic; do
    kill "$(cat "$root/run/doors/$name")"
    rm "$root/run/doors/$name"
done

stage="removed"
: >"$root/systemctl.log"
inside dpkg -r door-agent >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
absent usr/bin/door-agent usr/lib/systemd/system/door-agent@.service
present etc/door-agent/lobby.connection-string var/lib/door-agent/attic/slots var/lib/door-agent/lobby
asked "stop door-agent@*.service"
echo "$stage: settings, keys and slots stay"

stage="purged"
inside dpkg -P door-agent >"$work/said" 2>&1 || die "$stage: $(cat "$work/said")"
absent etc/door-agent/lobby.connection-string var/lib/door-agent etc/door-agent/example.toml run/door-agent
present etc/door-agent/lobby.toml
echo "$stage: keys and state are gone, the operator's own settings stay"

#!/bin/sh
# install-agent.sh NAME --connection-string FILE [--ca FILE] [--config FILE] [--package FILE]
#     [--force] - make this Raspberry Pi a door.
#
# Runs on the Pi, as root. Installs the package unless that version is installed, validates the
# settings with `door-agent check`, moves the files to /etc/door-agent, starts door-agent@NAME and
# waits until it is connected. It may be repeated: existing files stay, a running door without
# changes is not restarted, and replaced settings are kept as NAME.toml.bak.
#
# The settings must name their files by these names: in [hub]
# connection_string_file = "NAME.connection-string" and, with a CA, ca_file = "NAME.ca.pem". Without
# --config the settings on the Pi stay. --force restarts a running door even if that moves its lock.
set -eu
die() { echo "install-agent.sh: $*" >&2; exit 1; }
usage() {
    echo 'usage: install-agent.sh NAME --connection-string FILE [--ca FILE] [--config FILE]' \
        '[--package FILE] [--force]' >&2
    die "$1"
}

door='' connection='' ca='' config='' package='' force=''
while [ $# -gt 0 ]; do
    case $1 in
        --force) force=--force; shift; continue ;;
        --connection-string | --ca | --config | --package)
            [ $# -ge 2 ] || usage "$1 has no value: expected a file"
            [ -r "$2" ] || die "$1: cannot read $2"
            ;;
    esac
    case $1 in
        --connection-string) connection=$2; shift ;;
        --ca) ca=$2; shift ;;
        --config) config=$2; shift ;;
        --package) package=$2; shift ;;
        -*) usage "unknown option $1" ;;
        *) [ -z "$door" ] || usage "unexpected argument $1: expected one NAME"; door=$1 ;;
    esac
    shift
done
case $door in
    '' | *[!A-Za-z0-9_-]*) usage "invalid NAME '$door': expected letters, digits, _ and -" ;;
esac
[ -n "$connection" ] || usage "--connection-string FILE is missing"
[ "$(id -u)" = 0 ] || die "needs root"
[ -d /run/systemd/system ] || die "systemd is not running: doors run as its services"
[ "$(uname -m)" != armv6l ] ||
    die "this machine is ARMv6 (Pi 1 or Zero), expected ARMv7 or ARM64 (Pi 2 or newer)"
etc=/etc/door-agent unit=door-agent@$door mark=/run/doorctl-enroll-$door
[ -n "$config" ] || [ -e "$etc/$door.toml" ] ||
    die "--config is missing, and $etc/$door.toml does not exist yet:" \
        "write one like deploy/examples/lobby-east.toml"

installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' door-agent 2>/dev/null || true)
if [ -n "$package" ]; then
    [ "$(dpkg-deb -f "$package" Package)" = door-agent ] ||
        die "$package is not a package of door-agent"
    wanted=$(dpkg-deb -f "$package" Version)
    if [ "$installed" = "installed $wanted" ]; then
        echo "package: door-agent $wanted is there already"
    else
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            -o DPkg::Lock::Timeout=120 \
            -o Dpkg::Options::=--force-confold "$(realpath "$package")" </dev/null
        echo "package: door-agent $wanted is installed"
    fi
else
    case $installed in
        'installed '*) ;;
        *) die "door-agent is not installed; name its package: --package FILE" ;;
    esac
fi

# In a folder only for root, beside the settings in force; they are replaced only if check passes.
umask 077
stage=$etc/.enroll-$door
rm -rf "$stage"
mkdir -p "$stage"
trap 'rm -rf "$stage"' EXIT
# A shell ended by a signal does not run the EXIT trap by itself.
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
cp "$connection" "$stage/$door.connection-string"
[ -z "$ca" ] || cp "$ca" "$stage/$door.ca.pem"
[ -n "$ca" ] || [ ! -e "$etc/$door.ca.pem" ] || cp "$etc/$door.ca.pem" "$stage/"
cp "${config:-$etc/$door.toml}" "$stage/$door.toml"
[ ! -d "$etc/$door.toml.d" ] || cp -R "$etc/$door.toml.d" "$stage/"
door-agent check --config "$stage/$door.toml" ||
    die "the settings are not installed: fix what is WRONG and repeat"

changed=
place() {
    [ -e "$stage/$1" ] || return 0
    chmod "$2" "$stage/$1"
    if [ -e "$etc/$1" ] && cmp -s "$stage/$1" "$etc/$1"; then
        chmod "$2" "$etc/$1"
        echo "settings: $etc/$1 is there already"
        return 0
    fi
    changed=yes
    if [ -e "$etc/$1" ] && [ "$1" = "$door.toml" ]; then cp -p "$etc/$1" "$etc/$1.bak"; fi
    mv -f "$stage/$1" "$etc/$1"
    echo "settings: $etc/$1 is written"
}
place "$door.connection-string" 600
place "$door.ca.pem" 644
place "$door.toml" 644
sync
# A running agent keeps using the files with which it was started: remember that for this
# invocation.
if [ -n "$changed" ] && systemctl is-active --quiet "$unit"; then
    systemctl show -P InvocationID "$unit" >"$mark"
fi

systemctl enable --quiet "$unit" door-agent-reboot.path
systemctl start door-agent-reboot.path
if systemctl is-active --quiet "$unit"; then
    stale=
    case $(readlink "/proc/$(systemctl show -P MainPID "$unit")/exe") in
        *"(deleted)") stale=yes ;;
    esac
    if [ -e "$mark" ] && [ "$(cat "$mark")" = "$(systemctl show -P InvocationID "$unit")" ]; then
        stale=yes
    fi
    if [ -z "$stale" ]; then
        echo "service: $unit runs already and is not restarted"
    else
        # Refuses with a message if that would move the lock. Unquoted: empty or a single flag.
        # shellcheck disable=SC2086
        door-agent restart $force "$door"
    fi
else
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl restart "$unit" || die "$unit does not start: see journalctl -u $unit"
    echo "service: $unit is started"
fi

tries=60
until door-agent status --config "$etc/$door.toml" 2>/dev/null | grep -q '^link .*hub connected'; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "$door is not connected after a minute: see journalctl -u $unit"
    sleep 1
done
door-agent status --config "$etc/$door.toml"

#!/bin/sh
# A Pi for tests: replaces `ssh` on this machine and the programs on the Pi, by the name of the
# call.
#
# PI is the root of the Pi; its bin is first in PATH. Every call is logged to PI/log, and the input
# of ssh to PI/ssh.log. A file in PI injects a fault: down (no ssh), no-sudo, wrong-machine,
# no-start, mute (a started program prints nothing),
# `install`).
me=$(basename "$0")
[ "$me" = ssh ] || echo "$me $*" >>"$PI/log"

pid() { cat "$PI/run/$1.pid" 2>/dev/null; }
alive() { [ -n "$(pid "$1")" ] && kill -0 "$(pid "$1")" 2>/dev/null; }
# The systemd unit in the arguments.
unit() { for word; do case $word in door-agent@*) echo "${word%.service}" ;; esac; done; }
begin() {
    door=${1#door-agent@}
    if [ -e "$PI/mute" ]; then
        echo "the network is down" >>"$PI/journal"
        sleep 60 >/dev/null 2>&1 &
    else
        "$PI/usr/bin/door-agent" --config "$PI/etc/door-agent/$door.toml" \
            >>"$PI/journal" 2>&1 </dev/null &
    fi
    echo $! >"$PI/run/$1.pid"
}
end() {
    kill "$(pid "$1")" 2>/dev/null
    while alive "$1"; do sleep 0.05; done
}

case $me in
ssh)
    printf '%s\n' "$*" >>"$PI/ssh.log"
    case " $* " in *" -O exit "*) exit 0 ;; esac
    [ ! -e "$PI/down" ] || {
        echo "ssh: connect to host door.example port 22: No route to host" >&2
        exit 255
    }
    for command; do :; done
    command=$(printf '%s' "$command" |
        sed -e "s#/etc/door-agent#$PI/etc/door-agent#g" -e "s#/run/#$PI/run/#g")
    PATH=$PI/bin:$PATH exec sh -c "$command"
    ;;
uname) [ ! -e "$PI/wrong-machine" ] && echo aarch64 || echo armv6l ;;
dpkg) echo arm64 ;;
dpkg-deb) case $3 in Version) cat "$2" ;; *) echo door-agent ;; esac ;;
dpkg-query)
    version=$(cat "$PI/installed" 2>/dev/null) || exit 1
    case $* in *Status*) echo "installed $version" ;; *) echo "$version" ;; esac
    ;;
apt-get)
    for deb; do :; done
    cat "$deb" >"$PI/installed"
    rm -f "$PI/usr/bin/door-agent"
    ln "$DOOR_AGENT" "$PI/usr/bin/door-agent" 2>/dev/null ||
        cp "$DOOR_AGENT" "$PI/usr/bin/door-agent"
    mkdir -p "$PI/etc/door-agent"
    ;;
id) if [ -n "${PI_ROOT-}" ]; then echo 0; else echo 1000; fi ;;
sudo)
    [ ! -e "$PI/no-sudo" ] || { echo "sudo: a password is required" >&2; exit 1; }
    shift
    PI_ROOT=yes exec "$@"
    ;;
systemctl)
    unit=$(unit "$@")
    case "$*" in
    is-active*) if alive "$unit"; then echo active; else echo inactive; exit 3; fi ;;
    *MainPID*) pid "$unit" ;;
    *InvocationID*) pid "$unit" ;;
    restart*)
        end "$unit"
        [ ! -e "$PI/no-start" ] || { echo "Job for $unit.service failed." >&2; exit 1; }
        begin "$unit"
        ;;
    esac
    ;;
journalctl) tail -n 5 "$PI/journal" 2>/dev/null ;;
door-agent)
    if [ "$1" = install ] && [ -e "$PI/outdated" ]; then
        echo "error: unrecognized subcommand 'install'" >&2
        exit 2
    fi
    [ "$1" != install ] || { shift; set -- install --root "$PI" "$@"; }
    exec "$PI/usr/bin/door-agent" "$@"
    ;;
esac

#!/bin/sh
# enroll.sh [-p PORT] [-o OPTION]... [USER@]HOST NAME --connection-string FILE [--ca FILE]
#     [--config FILE] [--package FILE] [--force] - make a Raspberry Pi a door, from a laptop.
#
# Needs only ssh and tar; `doorctl devices enroll` does the same and more. USER is root or has sudo
# without a password. The files are sent on standard input, never on a command line.
# install-agent.sh, which must be beside this script, does the rest on the Pi: its head describes
# the files. The door must be registered with its hub first:
#
#   doorctl devices add lobby-east --building 43 --floor 3 &&
#       doorctl devices connection-string lobby-east --out lobby-east.connection-string
#   (umask 077; az iot hub device-identity connection-string show -n HUB -d lobby-east -o tsv \
#       >lobby-east.connection-string)
set -eu
die() { echo "enroll.sh: $*" >&2; exit 1; }
usage() {
    echo 'usage: enroll.sh [-p PORT] [-o OPTION]... [USER@]HOST NAME --connection-string FILE' \
        '[--ca FILE] [--config FILE] [--package FILE] [--force]' >&2
    die "$1"
}
quoted() { printf "'"; printf '%s' "$1" | sed "s/'/'\\\\''/g"; printf "'"; }

# After the loop the positional parameters hold the options of ssh.
host='' door='' connection='' ca='' config='' package='' force=''
remaining=$#
while [ "$remaining" -gt 0 ]; do
    word=$1
    shift
    remaining=$((remaining - 1))
    case $word in
        -p | -o | --connection-string | --ca | --config | --package)
            [ "$remaining" -gt 0 ] || usage "$word has no value"
            value=$1
            shift
            remaining=$((remaining - 1))
            ;;
    esac
    case $word in
        -p | -o) set -- "$@" "$word" "$value" ;;
        --connection-string) connection=$value ;;
        --ca) ca=$value ;;
        --config) config=$value ;;
        --package) package=$value ;;
        --force) force=--force ;;
        -*) usage "unknown option $word" ;;
        *)
            if [ -z "$host" ]; then host=$word
            elif [ -z "$door" ]; then door=$word
            else usage "unexpected argument $word: expected HOST and NAME only"
            fi
            ;;
    esac
done
if [ -z "$host" ] || [ -z "$door" ]; then usage "HOST or NAME is missing"; fi
case $door in
    *[!A-Za-z0-9_-]*) usage "invalid NAME '$door': expected letters, digits, _ and -" ;;
esac
[ -n "$connection" ] || usage "--connection-string FILE is missing"
script=$(cat "$(dirname "$0")/install-agent.sh") || die "install-agent.sh is not beside this script"

# In a private folder, under the names that the Pi uses.
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A shell ended by a signal does not run the EXIT trap by itself.
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
arguments=$(quoted "$door")
take() {
    [ -n "$2" ] || return 0
    [ -r "$2" ] || die "$1: cannot read $2"
    cp "$2" "$work/$3"
    arguments="$arguments $1 \"\$folder\"/$(quoted "$3")"
}
take --connection-string "$connection" connection-string
take --ca "$ca" ca.pem
take --config "$config" toml
take --package "$package" door-agent.deb

remote="set -e
umask 077
folder=\$(mktemp -d)
trap 'rm -rf \"\$folder\"' EXIT
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
tar -xf - -C \"\$folder\"
as=
[ \"\$(id -u)\" = 0 ] || as='sudo -n'
\$as sh -c $(quoted "$script") install-agent.sh $arguments $force </dev/null"
tar -cf - -C "$work" . | ssh "$@" -- "$host" "$remote"

#!/usr/bin/env bash
# apt-install.sh PACKAGE... - install Debian packages that a build or a check needs, by root or by sudo.
#
# apt's lists are refreshed before. That some cannot be, such as a foreign architecture's while its mirror is being updated, is no failure by itself:
# it is told when a package is not found then.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: apt-install.sh PACKAGE..." >&2; exit 1; }
command -v apt-get >/dev/null || { echo "apt-install.sh: there is no apt-get; install by hand: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
echo "installing $*" >&2
refreshed=$(as_root apt-get update -qq 2>&1) || true
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || {
    [ -z "$refreshed" ] || printf 'apt-get update said before:\n%s\n' "$refreshed" >&2
    exit 1
}

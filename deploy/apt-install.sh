#!/usr/bin/env bash
# apt-install.sh PACKAGE... - install Debian packages that a build or check needs, as root or with
# sudo.
#
# Waits for another apt-get. Refreshes apt's lists first. A failed refresh (such as of a foreign
# architecture whose mirror is being updated) is not an error by itself: it is reported only if a
# package is not found.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: apt-install.sh PACKAGE..." >&2; exit 1; }
if ! command -v apt-get >/dev/null; then
    echo "apt-install.sh: apt-get is missing; install by hand: $*" >&2
    exit 1
fi
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
echo "installing $*" >&2
refreshed=$(as_root apt-get update -qq 2>&1) || true
as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 \
    install -y -qq --no-install-recommends "$@" \
    >/dev/null || {
    [ -z "$refreshed" ] || printf 'the apt-get update before it reported:\n%s\n' "$refreshed" >&2
    exit 1
}

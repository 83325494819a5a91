#!/usr/bin/env bash
# docs-check.sh - check that every link in the Markdown files of this tree leads to a file that
# exists, and every anchor to a heading, and that every page that the code cites exists. It only
# reads files; links to the web are not followed.
#
# Uses remark-validate-links in the versions of docs-check/package-lock.json, kept under the user's
# cache folder. On Debian, apt installs node and npm if they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

for need in node:nodejs npm:npm; do
    command -v "${need%%:*}" >/dev/null || deploy/apt-install.sh "${need##*:}"
done
lock=deploy/docs-check/package-lock.json
tool=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/docs-check-$(sha256sum "$lock" | cut -c1-12)
if [ ! -e "$tool/installed" ]; then
    rm -rf "$tool"
    mkdir -p "$tool"
    cp deploy/docs-check/package.json "$lock" "$tool"
    npm ci --prefix "$tool" --no-audit --no-fund --loglevel=error
    touch "$tool/installed"
fi

status=0
while IFS=: read -r file page; do
    [ -e "$page" ] || { echo "$file: $page does not exist"; status=1; }
done < <(git grep -oE '(docs|deploy)/[A-Za-z0-9/_-]+\.md' -- ':!*.md' ':!*.snap')
[ "$status" = 0 ] || exit 1

mapfile -t pages < <(git ls-files --cached --others --exclude-standard '*.md')
"$tool/node_modules/.bin/remark" --no-config --no-ignore --no-stdout --quiet --frail \
    --use "$tool/node_modules/remark-gfm/index.js" \
    --use "$tool/node_modules/remark-validate-links/index.js=repository:false" \
    "${pages[@]}"
echo "${#pages[@]} pages: every link and anchor leads somewhere"

#!/usr/bin/env bash
# wording-check.sh [FILE...] - check the words and the width of all files in git, or of those named.
#
# Words: codespell with its own dictionary of misspellings and with .ci/words.txt, which suggests
# plainer words. A word that is right where it stands goes on a line with `codespell:ignore WORD`,
# or, when it is a name of the code, into .codespellrc.
# Width: 100 columns in scripts, prose, and in Rust in comments and text literals (rustfmt keeps the
# code). Exempt are generated files, fixtures, migrations (never edited), data in literals, values
# of TOML, and in Markdown tables, links, headings and code blocks. codespell comes from PyPI and is
# kept under the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.4.1
codespell=${XDG_CACHE_HOME:-$HOME/.cache}/doorfleet/codespell-$version/bin/codespell
if [ ! -x "$codespell" ]; then
    python3 -m venv "${codespell%/bin/*}"
    "${codespell%/codespell}/pip" install --quiet --disable-pip-version-check "codespell==$version"
fi
generated='(^|/)(Cargo\.lock|package-lock\.json)$|^fuzz/(corpus|crashes|dictionaries)/|^tests/'
generated+='|^hub/src/store/sqlite/schema/|^\.ci/words\.txt$|\.(snap|pem|key|svg|log)$'
[ $# -gt 0 ] || mapfile -t -O 0 files < <(git ls-files | grep -vE "$generated")
[ $# -eq 0 ] || files=("$@")
status=0
"$codespell" --dictionary - --dictionary .ci/words.txt "${files[@]}" || status=1
python3 - "${files[@]}" <<'PYTHON' || status=1
import re, sys
wide = 0
for name in sys.argv[1:]:
    kind = name.rsplit(".", 1)[-1]
    if not re.search(r"\.(rs|sh|py|js|toml|md|service|timer|path|rules|conf)$|/run$|^just", name):
        continue
    fenced = False
    for number, line in enumerate(open(name, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if kind == "rs" and (
            not re.match(r'\s*(//|"[^"]* [^"]*"?[,\\]?$)', line) or re.search(r'\\"|\S{60}', line)
        ):
            continue
        if kind == "toml" and line[-1:] in "]}\",":
            continue
        if kind == "md":
            if line.lstrip().startswith("```"):
                fenced = not fenced
            if fenced or line.lstrip().startswith(("|", "#", "<")) or "](" in line:
                continue
        if len(line) > 100 and not re.search(r"https?://\S{40,}", line):
            print(f"{name}:{number}: {len(line)} columns, expected at most 100")
            wide += 1
sys.exit(wide > 0)
PYTHON
exit $status

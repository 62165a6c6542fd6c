#!/bin/sh
# build-tools.sh constraints LOCK: print the tools that built packages of LOCK, such as setuptools, as
# constraints for uv, with hashes. They are comments in the lock, since they are not installed.
# build-tools.sh learn LOG LOCK PYTHON: print these comments for the next lock: the tools that uv
# names in its output LOG, and those of LOCK for packages that uv had built before. Written by the
# deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
mark="# built with:"

constraints() {
    sed -n "s/^$mark //p" "$1" 2>/dev/null || true
}

# Print «name==version» of each tool, once.
named() {
    sed -n 's/^DEBUG Installing build requirements\{0,1\}: //p' "$1" | tr -s ', ' '\n' |
        grep '^[a-z0-9-]*==' | sort -u || true
}

# Leave out a tool with two versions, which two packages may need: no constraint allows both.
agreed() {
    awk -F== '{ count[$1]++; line[$1] = $0 } END { for (name in count) if (count[name] == 1) print line[name] }'
}

# Print the pinned tools of stdin with hashes. uv adds each tool's own requirements: those that the
# build used are in the list themselves, and the others are left out.
hashed() { # PYTHON
    uv pip compile --quiet --python "$1" --generate-hashes --no-header --no-annotate - >"$work/hashed" || exit
    sed -e ':a' -e '/\\$/N; s/ *\\\n */ /; ta' "$work/hashed" >"$work/lines"
    sed 's/==.*/==/; s/^/^/' "$work/agreed" | grep -f - "$work/lines"
}

case "${1-} $#" in
"constraints 2") constraints "$2" ;;
"learn 4")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    named "$2" >"$work/named"
    sed 's/==.*/==/; s/^/^/' "$work/named" >"$work/names"
    constraints "$3" | grep -v -f "$work/names" >"$work/kept" || true
    agreed <"$work/named" >"$work/agreed"
    [ ! -s "$work/agreed" ] || hashed "$4" <"$work/agreed" >>"$work/kept"
    sort "$work/kept" | sed "s/^/$mark /"
    ;;
*) usage ;;
esac

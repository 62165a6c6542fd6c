#!/bin/sh
# whole-file.sh FILE OWNER MODE [COMMAND...]: FILE.new takes the place of FILE in one step, unless
# COMMAND, which gets its path, refuses it. After a loss of power, FILE has its old content or its new
# one. Operations send this text, since the deploy's programs come later.
set -eu
file=$1 owner=$2 mode=$3
shift 3
chown "$owner" "$file.new"
chmod "$mode" "$file.new"
[ $# = 0 ] || "$@" "$file.new" || {
    rm -f "$file.new"
    exit 1
}
sync "$file.new"
mv -T "$file.new" "$file"
sync "$(dirname "$file")"

#!/bin/sh
# download.sh check|apply FILE URL SHA256 [MEMBER]: the program FILE is the one at URL, or its MEMBER
# if it is an archive. With an offline folder, it comes from there, and so does its checksum. FILE
# changes only to a content with the right checksum. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 4 ] || [ $# = 5 ] || usage
action=$1 file=$2 url=$3 sha256=$4 member=${5-}
name=${url##*/}
[ -z "$OFFLINE_DIR" ] || # in its list, a "*" before the name of a binary file
    sha256=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1 }' "$OFFLINE_DIR/SHA256SUMS")

# Print the checksum of a file, and its name, as sha256sum does. openssl takes a fifth of the time.
checksum() {
    openssl dgst -sha256 -r "$1" | sed 's/ \*/  /'
}

# Is the file the pinned one, and a program? Of an archive's member, a file beside it holds the
# archive's checksum and its own, both as sha256sum reads them.
is_pinned() {
    [ -n "$sha256" ] && [ -x "$file" ] || return 1
    if [ -z "$member" ]; then
        [ "$(checksum "$file")" = "$sha256  $file" ]
    else
        [ "$(cat "$file.sha256")" = "# $sha256
$(checksum "$file")" ]
    fi 2>/dev/null
}

check() {
    is_pinned || fail "$file does not come from a $name with the pinned checksum $sha256"
}

apply() {
    if [ -n "$OFFLINE_DIR" ]; then
        cp "$OFFLINE_DIR/$name" "$file.new"
    else
        curl -fsSL --retry 3 -o "$file.new" "$url"
    fi
    echo "$sha256  $file.new" | sha256sum --check --status 2>/dev/null || {
        rm "$file.new"
        fail "$name does not have the pinned checksum $sha256; it was not installed"
    }
    if [ -n "$member" ]; then
        tar -xzOf "$file.new" "$member" >"$file.part"
        mv "$file.part" "$file.new"
    fi
    chmod 755 "$file.new"
    replace "$file"
    [ -z "$member" ] || {
        echo "# $sha256"
        sha256sum "$file"
    } >"$file.sha256.new"
    [ -z "$member" ] || replace "$file.sha256"
}

case $action in
check) check ;;
apply) apply ;;
*) usage ;;
esac

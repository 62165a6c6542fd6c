#!/bin/sh
# node-image.sh check|apply noted|gone NOTE ENGINE NODE UNIT: while the container NODE still names its
# image, the file NOTE has the image's id (noted); later the image is gone from ENGINE, unless another
# container needs it (gone). Where there is no UNIT, there is no node. The removal sends this text to
# the host with the arguments on top.
set -eu
[ $# = 6 ] || {
    echo "usage: node-image.sh check|apply noted|gone NOTE ENGINE NODE UNIT" >&2
    exit 2
}
note=$3 engine=$4 node=$5 unit=$6

case "$1 $2" in
"check noted")
    [ ! -e "$unit" ] || [ -e "$note" ] || {
        echo "there is no $note" >&2
        exit 1
    }
    ;;
"apply noted") "$engine" container inspect -f '{{.Image}}' "$node" >"$note" 2>/dev/null || true ;;
"check gone")
    [ ! -e "$note" ] || {
        echo "there still is $note" >&2
        exit 1
    }
    ;;
"apply gone")
    xargs -r "$engine" rmi <"$note" >/dev/null 2>&1 || true
    rm "$note"
    ;;
*)
    echo "usage: node-image.sh check|apply noted|gone NOTE ENGINE NODE UNIT" >&2
    exit 2
    ;;
esac

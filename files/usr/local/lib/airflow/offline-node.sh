#!/bin/sh
# offline-node.sh check|apply ENGINE ARCHIVE IMAGE: ENGINE has the image of the node under the name
# IMAGE, which is the deploy's own, whichever the archive has. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 4 ] || usage
engine=$2 archive=$3 image=$4

case $1 in
check) "$engine" image inspect "$image" >/dev/null 2>&1 || fail "$engine does not have $image" ;;
apply)
    loaded=$("$engine" load -qi "$archive")
    loaded=${loaded##*: }
    "$engine" tag "$loaded" "$image"
    "$engine" rmi "$loaded" >/dev/null
    ;;
*) usage ;;
esac

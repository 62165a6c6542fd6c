#!/bin/sh
# buildah.sh check|apply: buildah has no container and no image from which worker images are built. The
# removal sends this text to the host with the arguments on top.
set -eu
[ $# = 1 ] || {
    echo "usage: buildah.sh check|apply" >&2
    exit 2
}
command -v buildah >/dev/null || exit 0

case $1 in
check)
    found=$({
        buildah containers
        buildah images
    } | grep airflow-worker-b) || exit 0
    echo "buildah still has $(echo "$found" | head -n 1)" >&2
    exit 1
    ;;
apply)
    buildah rm airflow-worker-build >/dev/null 2>&1 || true
    buildah images -q localhost/airflow-worker-base 2>/dev/null | sort -u |
        xargs -r buildah rmi --force >/dev/null
    ;;
esac

#!/bin/sh
# image-build.sh check|apply TAG VENV [BASE LAYER...]: the worker image TAG is in the cluster, or lies as
# an archive in the folder IMAGES. Written by the deploy of Airflow.
#
# VENV names the virtual environment that the image has. With a LAYER the image consists of a base
# with the tag BASE, which buildah keeps, and of the layers on top, so their change takes seconds. A
# LAYER is a version of the DAGs, or the word plugins with the version of the plugins.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 3 ] || [ $# -ge 5 ] || usage
action=$1 tag=$2 venv=$3 base=${4:+localhost/airflow-worker-base:$4}
shift 3
[ $# = 0 ] || shift
image=$WORKER_REPOSITORY:$tag container=airflow-worker-build
archive=$IMAGES/$tag.tar listed=$IMAGES/$tag

from_scratch() {
    buildah from --name "$container" scratch >/dev/null
    "$here/image-fill.sh" "$container" "$VENVS/$venv"
}

from_base() {
    if ! buildah images "$base" >/dev/null 2>&1; then
        buildah images -q "${base%:*}" 2>/dev/null | sort -u | xargs -r buildah rmi --force >/dev/null
        from_scratch
        buildah commit --quiet --rm "$container" "$base" >/dev/null
    fi
    buildah from --name "$container" "$base" >/dev/null
    root=$(buildah mount "$container")
    for layer; do
        case $layer in
        plugins-*) from=$IMAGE_PLUGINS to=$root$PLUGINS ;;
        *) from=$IMAGE_DAGS/$layer to=$root$DAGS ;;
        esac
        mkdir -p "$to"
        cp -a "$from/." "$to"
    done
}

case $action in
check)
    [ -e "$archive" ] || "$here/image-load.sh" check "$image" 2>/dev/null ||
        fail "$image is neither in the cluster nor an archive in $IMAGES"
    ;;
apply)
    # A killed run may have left these.
    rm -rf "$IMAGES"/*.tar* "$listed"
    buildah rm "$container" >/dev/null 2>&1 || true
    if [ -n "$base" ]; then from_base "$@"; else from_scratch; fi
    cp -r "$(buildah mount "$container")/usr/share/sbom" "$listed"
    # shellcheck disable=SC2012 # the names are tags of images
    ls -dt "$IMAGES"/*/ | tail -n "+$((WORKER_IMAGES_KEPT + 1))" | xargs -r rm -r
    buildah commit --quiet --rm "$container" "docker-archive:$archive.new:$image" >/dev/null
    replace "$archive"
    ;;
*) usage ;;
esac

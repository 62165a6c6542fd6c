#!/bin/sh
# image-push.sh check|apply TAG VENV [BASE LAYER...]: the registry has the worker image TAG, which
# image-build.sh builds from these arguments. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"
[ $# = 3 ] || [ $# -ge 5 ] || usage
action=$1 image=$WORKER_REPOSITORY:$2 archive=$IMAGES/$2.tar registry=${WORKER_REPOSITORY%%/*}
shift

# Run skopeo's command $1 with the registry's login, if there is one.
with_login() {
    command=$1
    shift
    if [ -e "$REGISTRY_LOGIN" ]; then set -- "--authfile=$REGISTRY_LOGIN" "$@"; fi
    skopeo "$command" "$@"
}

# Ask for the image that pods name.
has() {
    digest=$(pinned_digest "$image")
    with_login inspect --raw "docker://${digest:+${image%:*}@}${digest:-$image}"
}

# Fail with a sentence unless the registry has the image or says that it lacks it.
ask() {
    said=$(has 2>&1 >/dev/null) || case $said in
    *"manifest unknown"* | *"name unknown"* | *"not found"* | *denied*) ;;
    *unauthorized* | *"authentication required"* | *"invalid username/password"*)
        [ -z "$REGISTRY_USER" ] ||
            fail "worker_registry: $registry does not let the user $REGISTRY_USER in: correct username and password"
        fail "worker_registry: $registry wants a login: write username and password"
        ;;
    *x509*)
        fail "worker_registry: the host trusts no CA of the certificate of $registry: write the CA's certificate (PEM) as ca_certificate"
        ;;
    *) fail "worker_registry: $registry can't be asked for $image: $said" ;;
    esac
}

case $action in
check) has >/dev/null 2>&1 || fail "the registry does not have $image, or does not say so" ;;
apply)
    ask
    [ -e "$archive" ] || "$here/image-build.sh" apply "$@"
    with_login copy --quiet --digestfile "$archive.digest" "docker-archive:$archive" "docker://$image"
    pin_image "$image" "$(cat "$archive.digest")"
    rm "$archive" "$archive.digest"
    ;;
*) usage ;;
esac

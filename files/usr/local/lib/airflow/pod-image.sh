#!/bin/sh
# pod-image.sh check|apply IMAGE: the pod template in use is POD_CANDIDATE, in which IMAGE has its digest
# if it comes from a registry: nobody who may push there can replace it under the tasks. The digest is
# known once the image was pushed or tried. Written by the deploy of Airflow.
set -eu
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 2 ] || usage
image=$2
digest=$(pinned_digest "$image")

template() {
    echo "# Written by the deploy of Airflow: the template of every task pod. Airflow fills in the command."
    sed -E "s|(: ['\"]?)$(echo "$image" | sed 's/\./\\./g')(['\"]?)\$|\\1$image${digest:+@$digest}\\2|" "$POD_CANDIDATE"
}

case $1 in
check)
    template | cmp -s - "$POD_TEMPLATE" ||
        fail "$POD_TEMPLATE differs from $POD_CANDIDATE with the digest of the image"
    [ -n "$(find "$POD_TEMPLATE" -user root -group "$CONTROL_USER" -perm 640)" ] ||
        fail "$POD_TEMPLATE has another owner or mode"
    ;;
apply)
    template >"$POD_TEMPLATE.new"
    replace "$POD_TEMPLATE" "root:$CONTROL_USER" 640
    ;;
*) usage ;;
esac

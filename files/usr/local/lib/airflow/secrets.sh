#!/bin/sh
# secrets.sh check|apply: each of Airflow's secrets has its file in SECRETS; one that is there stays.
# secrets.sh new NAME: print a new secret as its file holds it. Written by the deploy of Airflow.
set -eu
here=$(dirname "$(readlink -f "$0")")
# shellcheck disable=SC1091
. "$here/lib.sh"

new() {
    case $1 in
    fernet-key)
        name=AIRFLOW__CORE__FERNET_KEY=
        value="base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()"
        ;;
    jwt-secret) name=AIRFLOW__API_AUTH__JWT_SECRET= value="secrets.token_urlsafe(64)" ;;
    api-secret-key) name=AIRFLOW__API__SECRET_KEY= value="secrets.token_urlsafe(48)" ;;
    admin-password | smoke-test-password) name='' value="secrets.token_urlsafe(18)" ;;
    *) usage ;;
    esac
    /usr/bin/python3 -c "import base64, secrets; print('$name' + $value)"
}

case "${1-} $#" in
"check 1")
    for each in $MADE_SECRETS; do
        [ -s "$SECRETS/$each" ] || fail "there is no $SECRETS/$each"
    done
    ;;
"apply 1")
    umask 077
    for each in $MADE_SECRETS; do
        [ -s "$SECRETS/$each" ] || {
            "$here/lost-secret.sh" "$each"
            new "$each" >"$SECRETS/$each.new"
            # Data that it encrypts survives a loss of power, so the key must survive it too.
            replace "$SECRETS/$each"
        }
    done
    ;;
"new 2") new "$2" ;;
*) usage ;;
esac

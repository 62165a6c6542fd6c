#!/bin/sh
# secrets.sh new NAME: print a new secret as its file holds it. Written by the deploy of Airflow.
set -eu
[ "${1-}" = new ] && [ $# = 2 ] || {
    echo "usage: secrets.sh new NAME" >&2
    exit 2
}
key="import base64, secrets; print('AIRFLOW__CORE__FERNET_KEY=' + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())"
case $2 in
fernet-key) python3 -c "$key" ;;
jwt-secret) python3 -c "import secrets; print('AIRFLOW__API_AUTH__JWT_SECRET=' + secrets.token_urlsafe(64))" ;;
api-secret-key) python3 -c "import secrets; print('AIRFLOW__API__SECRET_KEY=' + secrets.token_urlsafe(48))" ;;
admin-password) python3 -c "import secrets; print(secrets.token_urlsafe(18))" ;;
*)
    echo "there is no secret $2" >&2
    exit 2
    ;;
esac

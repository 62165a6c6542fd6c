#!/bin/sh
# certificate.sh check|apply FOLDER NAME...: nginx's certificate in FOLDER is right for these names and
# addresses and for the host's own. Written by the deploy of Airflow, which calls it, as
# airflow-certificate.timer does.
#
# An authority (CA) of the host's own signs it. Its key is made once and has two certificates: ca.pem,
# which people import, permits only these names and those below them, so a thief of the key can't pass
# for servers of other names. pods-ca.pem has no such limit: tasks trust it for this host only, and a
# running task keeps the authority that it read at its start, also when the host gets another name.
# A certificate keeps a name that is not wanted any more until there is another reason for a new
# one, so it loses none while the name service is away.
set -eu
usage() {
    echo "usage: certificate.sh check|apply FOLDER NAME..." >&2
    exit 2
}
[ $# -ge 2 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
action=$1
here=$(dirname "$(readlink -f "$0")")
cd "$2"
shift 2
# PostgreSQL's has no timer, and lasts for longer: see postgres-certificate.sh.
lasts=${CERTIFICATE_DAYS:-825}
left=${CERTIFICATE_LEFT:-30}
soon=$((left * 86400))

wanted=$({
    printf '%s\n' localhost 127.0.0.1 "$@"
    hostname
    hostname -f || true # the name service may not know it
    "$here/own-addresses.sh" | sed 's/.* //'
} 2>/dev/null | sort -u)

# Print the kind of a name in the words of openssl, and the mask with which it means one address.
kind() {
    case $1 in *:*) echo IP ;; *[!0-9.]*) echo DNS ;; *) echo IP ;; esac
}
mask() {
    case $1 in *:*) echo /ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ;; *[!0-9.]*) ;; *) echo /255.255.255.255 ;; esac
}

# Whether a file is a certificate of the authority's key, for long enough.
holds() {
    shown=$(openssl x509 -in "$1" -noout -checkend $soon -pubkey) || return 1
    key=$(openssl pkey -in ca-key.pem -pubout) || return 1
    case $shown in *"$key"*) ;; *) return 1 ;; esac
}

is_limited() {
    openssl x509 -in ca.pem -noout -ext nameConstraints | grep 'Name Constraints: critical'
}

# verify CERTIFICATE OPTION...: whether ca.pem alone vouches for it. openssl x509 takes five times as long.
verify() {
    certificate=$1
    shift
    openssl verify -no-CApath -no-CAstore -CAfile ca.pem "$@" "$certificate"
}

# Whether people who imported ca.pem trust a certificate.
people_trust() {
    holds ca.pem && is_limited && verify "$1"
}

fits() {
    holds pods-ca.pem && people_trust server.pem || return 1
    openssl x509 -in server.pem -noout -checkend $soon || return 1
    for name in $wanted; do
        check=-verify_hostname
        [ "$(kind "$name")" = DNS ] || check=-verify_ip
        verify server.pem $check "$name" || return 1
    done
}

# new SUBJECT DAYS OPTION...: make a certificate with the extensions of standard input.
new() {
    {
        printf '%s\n' '[req]' 'distinguished_name = name' 'x509_extensions = more' '[name]' '[more]'
        echo 'subjectKeyIdentifier = hash'
        cat
    } >request.new
    subject=$1 days=$2
    shift 2
    openssl req -x509 -config request.new -subj "$subject" -days "$days" -out certificate.new "$@" 2>error.new ||
        { cat error.new >&2 && exit 1; }
}

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.new
}

# authority FILE [EXTENSION]: make a certificate of the authority's key. Clients find an authority by
# its name, which therefore stays when the host gets another one.
authority() {
    same=$(openssl x509 -in pods-ca.pem -noout -subject -nameopt compat 2>/dev/null | sed 's/^subject= *//')
    new "${same:-/O=Airflow\'s authority/CN=$(hostname)}" 3650 -key ca-key.pem <<END
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth
${2-}
END
    chmod 644 certificate.new
    sync certificate.new
    mv certificate.new "$1"
}

if fits >/dev/null 2>&1; then exit 0; fi
[ "$action" = apply ] || {
    echo "the certificate in $PWD is missing, ends within $left days or lacks one of these names:" "$@" >&2
    exit 1
}
umask 077
if ! openssl pkey -in ca-key.pem -noout >/dev/null 2>&1; then
    new_key
    sync key.new
    mv key.new ca-key.pem
fi
# An earlier version of the deploy made one certificate of the key, without a limit.
if [ ! -e pods-ca.pem ] && holds ca.pem && ! is_limited; then ln ca.pem pods-ca.pem; fi >/dev/null 2>&1
holds pods-ca.pem >/dev/null 2>&1 || authority pods-ca.pem
new_key
new "/O=Airflow/CN=$(hostname)" "$lasts" -key key.new -CA pods-ca.pem -CAkey ca-key.pem <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
subjectAltName = $(for name in $wanted; do echo "$(kind "$name"):$name"; done | paste -sd,)
END
cat certificate.new key.new >server.pem.new
people_trust server.pem.new >/dev/null 2>&1 ||
    authority ca.pem "nameConstraints = critical, $(for name in $wanted; do
        echo "permitted;$(kind "$name"):$name$(mask "$name")"
    done | paste -sd,)"
# Otherwise nginx would not start if the host lost its power now.
sync server.pem.new
mv server.pem.new server.pem
sync .
rm -f ./*.new

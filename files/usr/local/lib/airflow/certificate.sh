#!/bin/sh
# certificate.sh check|apply FOLDER NAME...: nginx's certificate in FOLDER is right for these names and
# addresses and for the host's own. Written by the deploy of Airflow, which calls it, as
# airflow-certificate.timer does.
#
# An authority (CA) of the host's own signs it, which is made the first time. A certificate keeps a
# name that is not wanted any more until there is another reason for a new one, so it loses none while
# the name service is away.
set -eu
usage() {
    echo "usage: certificate.sh check|apply FOLDER NAME..." >&2
    exit 2
}
[ $# -ge 2 ] || usage
case $1 in check | apply) ;; *) usage ;; esac
action=$1
cd "$2"
shift 2

wanted=$({
    printf '%s\n' localhost 127.0.0.1 "$@"
    hostname
    hostname -f || true # the name service may not know it
    # The node's address, under which pods reach it. Nothing is sent there.
    ip -o -4 route get 192.0.2.1 | sed -n 's/.* src \([^ ]*\).*/\1/p'
} 2>/dev/null | sort -u)

# Print the kind of a name in the words of openssl.
kind() {
    case $1 in *:*) echo IP ;; *[!0-9.]*) echo DNS ;; *) echo IP ;; esac
}

fits() {
    test -s ca-key.pem || return 1
    openssl verify -CAfile ca.pem server.pem || return 1
    openssl x509 -in server.pem -noout -checkend $((30 * 86400)) || return 1
    for name in $wanted; do
        check=-checkhost
        [ "$(kind "$name")" = DNS ] || check=-checkip
        openssl x509 -in server.pem -noout $check "$name" | grep 'does match' || return 1
    done
}

# new OWNER DAYS OPTION...: make a key and a certificate with the extensions of standard input.
new() {
    {
        printf '%s\n' '[req]' 'distinguished_name = name' 'x509_extensions = more' '[name]' '[more]'
        echo 'subjectKeyIdentifier = hash'
        cat
    } >request.new
    subject="/O=$1/CN=$(hostname)" days=$2
    shift 2
    openssl req -x509 -config request.new -subj "$subject" -days "$days" -noenc -newkey ec \
        -pkeyopt ec_paramgen_curve:P-256 -keyout key.new -out certificate.new "$@" 2>error.new ||
        { cat error.new >&2 && exit 1; }
}

if fits >/dev/null 2>&1; then exit 0; fi
[ "$action" = apply ] || {
    echo "the certificate in $PWD is missing, ends within 30 days or lacks one of these names:" "$@" >&2
    exit 1
}
umask 077
if ! { test -s ca-key.pem && openssl x509 -in ca.pem -noout -checkend 0; } >/dev/null 2>&1; then
    rm -f ca.pem # so that it never stands beside another one's key
    new "Airflow's authority" 3650 <<END
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
END
    mv key.new ca-key.pem
    chmod 644 certificate.new
    mv certificate.new ca.pem
fi
new Airflow 825 -CA ca.pem -CAkey ca-key.pem <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
subjectAltName = $(for name in $wanted; do echo "$(kind "$name"):$name"; done | paste -sd,)
END
cat certificate.new key.new >server.pem.new
mv server.pem.new server.pem
rm -f ./*.new

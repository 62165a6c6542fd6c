#!/bin/sh
# Ask a host that is one of several of an Airflow how others know it, and what they should have in
# common. Each answer is a line «key value». Preflight sends this text, after a function own_name that
# is the program own-name.sh; it changes nothing.

say() { printf '%s %s\n' "$1" "$2"; }

name=$(own_name)
say hostname "$name"
say name "$name"
say name "$(hostname)"
address=$(ip -o -4 route get 192.0.2.1 | sed -n 's/.* src \([^ ]*\).*/\1/p')
say name "$address"
say address "$address"
# Its certificate has this one as well: see certificate.sh.
interface=$(ip -o -4 route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p')
if [ -n "$interface" ]; then
    first=$(ip -o -4 addr show dev "$interface" scope global | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
    say name "$first"
    say node "$first" # minikube takes it
fi
# shellcheck disable=SC1091
. /etc/os-release
say system "$ID ${VERSION_CODENAME-} on $(dpkg --print-architecture)"
say time "$(date +%s.%N)"

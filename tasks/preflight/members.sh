#!/bin/sh
# Ask one of several hosts of an Airflow for its names and addresses, and for values that all should
# share. Each answer is a line «key value». Preflight sends this text, after the programs
# own-name.sh and own-addresses.sh as functions own_name and own_addresses; it changes nothing.
# No key leaves the host, only its digest.

: "${address_config=}"  # keepalived's configuration
: "${fernet_key=}"      # file with the keys of the data
: "${host_env=}"        # the values of an earlier deploy
: "${shared=}"          # files that the first host makes for all, a list
: "${virtual_address=}" # the address that the hosts have in turn

say() { printf '%s %s\n' "$1" "$2"; }

# Whether a machine answers for the address $1. A packet to it makes the kernel ask; the kernel asks
# a neighbour that it knows after 5 s.
is_taken() {
    # shellcheck disable=SC2016 # the other shell expands it
    bash -c 'echo >/dev/udp/"$0"/9' "$1" 2>/dev/null
    for _ in $(seq 50); do
        case $(ip -4 neigh show to "$1") in
        *REACHABLE*) return 0 ;;
        *FAILED* | '') return 1 ;;
        esac
        sleep 0.2
    done
    return 1
}

ask_virtual_address() {
    # The narrowest network with it. The address itself, on the host that has it, makes no route.
    ip -o -4 route show to match "$virtual_address" scope link | grep '^[1-9]' | sort -t/ -k 2,2nr |
        sed -n '1s/.* dev \([^ ]*\).* src \([^ ]*\).*/interface \1\nlink_address \2/p'
    if ip -o -4 address show to "$virtual_address" scope global | grep -q .; then
        say virtual own
    elif grep -Fqs " $virtual_address/32 " "$address_config"; then
        say virtual known
    elif is_taken "$virtual_address"; then
        say virtual taken
    fi
}

# printf is part of the shell, so no list of processes has a key.
ask_keys() {
    [ -s "$fernet_key" ] || return 0
    for key in $(cut -d = -f 2- "$fernet_key" | tr , ' '); do
        say key "$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)"
    done
}

# Tell when each file was made, which a copy keeps, and a digest. A person may have written a password,
# which a digest alone would not hide from guesses: so it is one of the key as well.
ask_shared() {
    [ -s "$fernet_key" ] || return 0
    for file in $shared; do
        [ -e "$file" ] || continue
        digest=$(find "$file" -type f -print0 | sort -z | xargs -0r sha256sum | cat "$fernet_key" - | sha256sum)
        say shared "$file $(stat -c %Y "$file") ${digest%% *}"
    done
}

# Name the database with which Airflow now works, and its servers.
ask_database() {
    connection=$(sed -n 's/^OWNER_CONNECTION=//p' "$host_env" 2>/dev/null | tr -d \' | tr ' ' '\n')
    echo "$connection" | sed -n 's/^PGDATABASE=/database /p'
    echo "$connection" | sed -n 's/^PGHOST=//p' | tr , '\n' | sed 's/^/server /'
}

name=$(own_name)
say hostname "$name"
say name "$name"
say name "$(hostname)"
own_addresses | sed 'p; s/.* /name /'
# shellcheck disable=SC1091
. /etc/os-release
say system "$ID ${VERSION_CODENAME-} on $(dpkg --print-architecture)"
ask_keys
ask_shared
[ "$(systemctl is-active airflow.target 2>/dev/null)" != active ] || say runs yes
ask_database
[ -z "$virtual_address" ] || ask_virtual_address
say time "$(date +%s.%N)" # last, so that it is new when it arrives

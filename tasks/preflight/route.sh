#!/bin/sh
# Ask a host from which of its addresses it reaches another one, under which ones it knows that, and
# whether something between them swallows its packets. Each answer is a line «key value». Preflight sends
# this text, with assignments of the variables below on top; it changes nothing.

: "${server=}" # name or address of the other host
: "${port=}"   # the port there; nothing may listen yet

# The values are arguments: bash would run a command in its text. A refusal comes from the host itself.
answers() {
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(LC_ALL=C timeout 5 bash -c '</dev/tcp/$0/$1' "$1" "$port" 2>&1) && return
    case $said in *refused*) ;; *) return 1 ;; esac
}

getent ahosts "$server" | awk '{ print $1 }' | sort -u | while read -r address; do
    printf 'to %s\n' "$address"
    ip -o route get "$address" 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/from \1/p'
    answers "$address" || printf 'silent %s\n' "$address"
done
true

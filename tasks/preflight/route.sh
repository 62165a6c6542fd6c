#!/bin/sh
# Ask a host from which of its addresses it reaches the database, and under which ones it knows that. Each
# answer is a line «key value». Preflight sends this text, with an assignment of the variable below on top;
# it changes nothing.

: "${database=}" # name or address of the database's host

getent ahosts "$database" | awk '{ print $1 }' | sort -u | while read -r address; do
    printf 'to %s\n' "$address"
    ip -o route get "$address" 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/from \1/p'
done
true

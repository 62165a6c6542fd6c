#!/bin/sh
# Ask which run holds the deploy's lock. No program of the deploy may be on the host yet, so this is
# sent as text with assignments of these variables on top.

: "${lock_file=}"    # its content names the run that holds the lock
: "${lock_owner=}"   # this run's name
: "${lock_tries=35}" # how often to look, each 0.1 s: a run takes the lock a moment after it begins

# Print the name of another run that holds the lock, nothing if it is this one.
other_holder() {
    while [ "$(cat "$lock_file" 2>/dev/null)" != "$lock_owner" ]; do
        lock_tries=$((lock_tries - 1))
        if [ "$lock_tries" -eq 0 ]; then
            holder=$(cat "$lock_file" 2>/dev/null)
            echo "${holder:-a process that left no name}"
            return
        fi
        sleep 0.1
    done
}

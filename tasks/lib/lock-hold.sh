#!/bin/sh
# The holder of the deploy's lock. It runs before any program is on the host, so it is sent as text
# with assignments of these variables on top.

: "${lock_file=}"  # its content names the run that holds the lock
: "${lock_owner=}" # this run's name
: "${lock_wait=}"  # seconds, for the lock of a run that just ended
: "${lock_lease=}" # seconds that a run may be silent; empty if there is no network in between

# End without the lock: the preflight says why. It may take longer than a run with a lease takes to
# notice that its holder has ended, so the holder stays until the run ends.
give_up() {
    [ -z "$lock_lease" ] || exec cat >/dev/null 9>&-
    exit 0
}

# A login without rights fails here: Debian 12's install accepts root's folder, and touch does not. A
# failed exec would end the shell.
install -d -m 700 "$(dirname "$lock_file")" || give_up
touch "$lock_file" || give_up
exec 9>>"$lock_file"
flock -w "$lock_wait" 9 || give_up
echo "$lock_owner" >"$lock_file"
if [ -n "$lock_lease" ]; then
    # A connection that is cut without a word stays open here for a quarter of an hour, so the run says
    # each few seconds that it is there.
    while timeout --foreground "$lock_lease" sh -c 'read -r line' 9>&-; do :; done
else
    while echo; do sleep 0.5; done 2>/dev/null # until nobody reads it
fi

#!/bin/sh
# The operation `synced_folder` sends this text with the variables that it needs on top, since no program
# is on the host before it ran: $action (check or apply), the folder $dest, $record, which lists the
# files that it brought there, $wanted, the checksum of the list that the folder should have, and $accept,
# a command that may refuse the new files.

# shellcheck disable=SC2154
check() {
    if [ -z "$wanted" ]; then
        [ ! -s "$record" ]
    else
        echo "$wanted  $record" | sha256sum --check --status &&
            cd "$dest" && sha256sum --check --status "$record"
    fi
}

# Print the files that a list names.
names() {
    sed -n 's/^[0-9a-f]\{64\}  //p' "$1"
}

apply() {
    set -e
    umask 022
    mkdir -p "$dest"
    cd "$dest"
    if [ -n "$accept" ]; then
        rm -rf "$record.folder"
        mkdir "$record.folder"
        tar -C "$record.folder" -xf "$record.tar"
        $accept "$record.folder$dest"
        rm -r "$record.folder"
    fi
    # From here on the record names all files, wherever the run is killed.
    cat "$record.new" >>"$record"
    # Each file has the time of its arrival: systemd looks for files newer than those it has read.
    # No tool reads files with this ending, and none of a person has such a name. They get the group of
    # their folder: root's tar would give them the archive's otherwise.
    tar -C / --touch --no-same-owner --transform 's/$/.airflow-deploy-new/' -xf "$record.tar"
    # A loss of power leaves each file as it was or as it should be, and none of them empty.
    names "$record.new" | sed 's/$/.airflow-deploy-new/' | xargs -rd '\n' sync --
    names "$record.new" | while IFS= read -r name; do
        mv -T -- "$name.airflow-deploy-new" "$name"
    done
    names "$record.new" >"$record.names"
    names "$record" | sort -u | while IFS= read -r name; do
        if ! grep -qxF -e "$name" "$record.names"; then
            rm -f -- "$name" "$name.airflow-deploy-new"
            rmdir -p -- "$(dirname -- "$name")" 2>/dev/null || true
        fi
    done
    mv "$record.new" "$record"
    rm "$record.tar" "$record.names"
}

"$action"

#!/bin/sh
# accept.sh postgres|keep|site|address|unit|units NEW: the program that reads the file NEW can work with
# it. NEW stands beside the file that it should replace, with the suffix .new; "units" takes a folder of
# units. A running program would ignore a bad file until the next boot, and then not start. Written
# by the deploy of Airflow.
set -eu
umask 077
work=$(mktemp -d)
clean_up() { rm -rf "$work" ${checked:+"$checked"}; }
trap clean_up EXIT

refuse() {
    printf '%s\n' "$1" | sed "s|$work|$folder|g" >&2
    echo "the new $name is refused, and the earlier one stays" >&2
    exit 1
}

# PostgreSQL reads all of its options with the new file among them, and ends.
postgres() {
    folder=$(dirname "$(dirname "$new")")
    cp -r "$folder/." "$work"
    cp "$new" "$work/conf.d/$name"
    version=$(basename "$(dirname "$folder")")
    said=$("/usr/lib/postgresql/$version/bin/postgres" -C config_file \
        -c "config_file=$work/postgresql.conf" 2>&1) || refuse "$(echo "$said" | sed 's/^.*[A-Z]:  //')"
    keep
}

# Keep the earlier file until PostgreSQL has started with the new one: see postgres.sh.
keep() {
    [ ! -e "${new%.new}" ] || [ -e "${new%.new}.before" ] || cp -p "${new%.new}" "${new%.new}.before"
}

# nginx reads all sites with the new one among them, and tries to listen there.
site() {
    folder=$(dirname "$(dirname "$new")")
    for each in "$folder"/sites-enabled/*; do
        [ ! -e "$each" ] || [ "${each##*/}" = "$name" ] || ln -s "$(readlink -f "$each")" "$work/"
    done
    cp "$new" "$work/$name"
    # Relative names in it are below its own folder.
    checked=$folder/nginx.conf.new
    sed "s|$folder/sites-enabled/|$work/|" "$folder/nginx.conf" >"$checked"
    said=$(nginx -t -q -c "$checked" 2>&1) || refuse "$said"
}

# keepalived tries the new file. Debian 12's keepalived ends by a signal if the file has a script,
# and is silent if nothing is wrong: https://github.com/acassen/keepalived/issues/2587
address() {
    folder=$(dirname "$new")
    # The shell would tell of the signal.
    { said=$(keepalived --config-test --use-file "$new" 2>&1); } 2>/dev/null ||
        [ "$?,$said" = 143, ] || refuse "$said"
}

unit() {
    folder=$(dirname "$new")
    cp "$new" "$work/$name"
    verify "$work" "$work/$name"
}

units() {
    folder=$new name=units
    verify "$new" "$new"/*.service "$new"/*.target "$new"/*.timer
}

# verify FOLDER UNIT...: systemd can load the units.
verify() {
    path=$1
    shift
    said=$(SYSTEMD_UNIT_PATH=$path: systemd-analyze --man=no verify "$@" 2>&1) || refuse "$said"
}

new=${2-} name=$(basename "${2-}" .new)
case "$#,${1-}" in
2,postgres | 2,keep | 2,site | 2,address | 2,unit | 2,units) "$1" ;;
*)
    echo "usage: accept.sh postgres|keep|site|address|unit|units NEW" >&2
    exit 2
    ;;
esac

#!/bin/sh
# nginx-remove.sh check|apply SITE LINK DROP_IN TLS STAMP: nginx serves nothing of Airflow. It runs if
# it has other sites. The removal sends this text to the host with the arguments on top.
set -u
[ $# = 6 ] || {
    echo "usage: nginx-remove.sh check|apply SITE LINK DROP_IN TLS STAMP" >&2
    exit 2
}
action=$1 site=$2 link=$3 drop_in=$4 tls=$5 stamp=$6
unit=nginx.service

case $action in
check)
    for path in "$site" "$drop_in" "$tls"; do
        [ ! -e "$path" ] || {
            echo "there still is $path" >&2
            exit 1
        }
    done
    ;;
apply)
    rm -f "$link" "$drop_in" "$stamp"
    rmdir "$(dirname "$drop_in")" 2>/dev/null # the folder may hold a drop-in of an admin
    systemctl daemon-reload
    others=$(find "$(dirname "$link")"/* /etc/nginx/conf.d/*.conf -prune 2>/dev/null)
    if [ -n "$others" ]; then
        systemctl try-reload-or-restart "$unit" || exit
    else
        systemctl disable --quiet --now "$unit" || exit
    fi
    rm -rf "$site" "$tls"
    ;;
*)
    echo "usage: nginx-remove.sh check|apply SITE LINK DROP_IN TLS STAMP" >&2
    exit 2
    ;;
esac

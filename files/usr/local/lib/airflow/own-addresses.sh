#!/bin/sh
# own-addresses.sh: print the IPv4 addresses of this host that others use, a line for each use:
#   address ADDRESS  the one with which it reaches other networks, and under which pods reach it
#   node ADDRESS     the first one of the default route's interface, which minikube takes
# Preflight sends this text as well. Written by the deploy of Airflow.
ip -o -4 route get 192.0.2.1 | sed -n 's/.* src \([^ ]*\).*/address \1/p' # nothing is sent there
interface=$(ip -o -4 route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p')
[ -z "$interface" ] ||
    ip -o -4 addr show dev "$interface" scope global | sed -n '1s/.* inet \([0-9.]*\).*/node \1/p'

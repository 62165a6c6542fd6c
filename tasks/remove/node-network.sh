#!/bin/sh
# node-network.sh check|apply PODS: of the cluster with the network of pods PODS there is no rule of the
# firewall and no link. Networks that others have by CNI, such as a podman's, keep theirs.
# The removal sends this text to the host with the arguments on top.
set -eu
[ $# = 2 ] || {
    echo "usage: node-network.sh check|apply PODS" >&2
    exit 2
}
action=$1 pods=$2
addresses='
    function number(address, part) {
        split(address, part, ".")
        return ((part[1] * 256 + part[2]) * 256 + part[3]) * 256 + part[4]
    }
    function of_pods(text, net, size) { # whether it has an address of theirs
        split(pods, net, "/")
        size = 2 ^ (32 - net[2])
        for (; match(text, /[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/); text = substr(text, RSTART + RLENGTH))
            if (int(number(substr(text, RSTART, RLENGTH)) / size) == int(number(net[1]) / size)) return 1
        return 0
    }'

# Print those of the rules $1, of iptables-save, that stay. All networks share some chains of CNI: these
# go with the last network.
staying() {
    printf '%s\n' "$1" | awk -v pods="$pods" "$addresses"'
        function is_shared(name) { return name ~ /^CNI-(ADMIN|FORWARD|HOSTPORT-.*)$/ }
        function is_cni(at) { return chain[at] ~ /^CNI-/ || target[at] ~ /^CNI-/ }
        function claim(name) { if (name ~ /^CNI-/ && !is_shared(name)) own[name] }
        /KUBE-/ { next }
        {
            line[++last] = $0
            chain[last] = $1 == "-A" ? $2 : substr($1, 2)
            for (i = 3; i < NF; i++) if ($i ~ /^-[jg]$/) target[last] = $(i + 1)
            if ($1 != "-A" || !is_cni(last) || !of_pods($0)) next
            gone[last] = 1
            claim(chain[last])
            claim(target[last])
        }
        END {
            for (at = 1; at <= last; at++) {
                if (chain[at] in own || target[at] in own) gone[at] = 1
                if (!gone[at] && chain[at] ~ /^CNI-/ && (!is_shared(chain[at]) ||
                    line[at] ~ /^-A CNI-(ADMIN|FORWARD) / && target[at] !~ /^CNI-/)) others = 1
            }
            for (at = 1; at <= last; at++) if (!gone[at] && (others || !is_cni(at))) print line[at]
        }'
}

links() { # of the network plugin that have addresses of pods alone
    for link in bridge cni0; do
        ip -4 -o address show dev $link 2>/dev/null | awk -v pods="$pods" "$addresses"'
            { if (of_pods($4)) ours = $2; else others = 1 }
            END { if (!others) print ours }'
    done
}

found=$(links)
for tool in iptables ip6tables; do
    rules=$($tool-save 2>/dev/null) || continue
    stay=$(staying "$rules")
    [ "$rules" != "$stay" ] || continue
    found="$found rules of $tool"
    [ "$action" = check ] || printf '%s\n' "$stay" | $tool-restore || true
done
case $action in
check)
    [ -z "$found" ] || {
        echo "Kubernetes left" "$found" >&2
        exit 1
    }
    ;;
apply) for link in $(links); do ip link delete "$link"; done ;;
esac

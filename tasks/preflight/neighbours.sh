#!/bin/sh
# Ask a host for things of others that the deploy must neither take over nor break. Preflight sends
# this text below questions.sh, with the same rules: answers are lines «key value», and nothing is
# changed.

: "${address_config=}"   # keepalived's configuration, if the deploy writes it
: "${airflow_uid=}"      # the id that runs DAGs' code
: "${brought_paths=}"    # files and folders that people may bring
: "${firewall_ports=}"   # ports of the host that pods must reach
: "${firewall_ways=}"    # «hook/protocol/port» of other packets that must pass
: "${index_files=}"      # uv's files of configuration
: "${index_servers=}"    # servers of the public package index
: "${exporter=}"         # the package of the Prometheus endpoint, if the deploy uses it
: "${exporter_drop_in=}" # the deploy's options of it
: "${migrated=}"         # file with the version of the database
: "${minikube_profile=}" # file in which minikube keeps its cluster
: "${new_paths=}"        # patterns of files and folders that a first deploy makes
: "${node_engine=}"      # the container engine that runs the node
: "${engine_packages=}"  # packages of which it may be
: "${node_is_host=}"     # yes, or nothing
: "${acl_folders=}"      # folders whose files get an access control list
: "${first_user=}"       # the web page's first user
: "${mounted_folders=}"  # the host's folders of DAGs and plugins that pods mount
: "${own_folders=}"      # the folders that the deploy makes
: "${own_users=}"        # the users that the deploy makes
: "${pip_files=}"        # pip's files of configuration
: "${pod_network=}"      # the addresses of pods
: "${reached_ports=}"    # ports of the deploy that others reach
: "${smoke_passed=}"     # file that a deploy writes when a task ran as a pod
: "${test_user=}"        # the smoke test's user of the web page
: "${web_users=}"        # users of the web page of the inventory
: "${state=}"            # folder of the deploy's notes
: "${users_made=}"       # file that lists users of the web page that the deploy made
: "${units_directory=}"  # folder of the deploy's units

# Things with the deploy's names are the deploy's only if its notes exist: it writes these first.
knows_host() { [ -d "$state" ]; }

ask_postgres_cluster() { # version, name, port, state
    config=/etc/postgresql/$1/$2/conf.d/airflow.conf
    own=$([ -e "$config" ] && echo own)
    status=$4
    names=$(
        cd / && runuser -u postgres -- env PGCLUSTER="$1/$2" psql -XAtq -d postgres -c "
            select 'database-' || datname from pg_database
            where not datistemplate and datname <> 'postgres'
            union all select 'role-' || rolname from pg_roles
            where rolname in ('airflow', 'airflow-dags')" 2>/dev/null
    ) || case $status in online*) status=silent ;; esac # it starts, or refuses
    say postgres "$1 $2 $3 $status ${own:-others} $(echo "$names" | tr '\n' ' ')"
}

ask_postgres() {
    if [ -s "$migrated" ]; then
        say postgres_due yes # a deploy made the database
    else
        ss -Hltn 2>/dev/null | awk '{sub(/.*:/, "", $4); print "held", $4}' | sort -u
    fi
    # Debian's has no role in its URL. host.env changes earlier than Airflow.
    ! grep -qs '^sql_alchemy_conn = [^/]*//[^/]' /etc/airflow/airflow.cfg || say database_elsewhere yes
    command -v pg_lsclusters >/dev/null || return 0
    pg_lsclusters --no-header | while read -r version name port status _; do
        ask_postgres_cluster "$version" "$name" "$port" "$status" </dev/null
    done
}

ask_paths() { # files where a first deploy makes its own
    for place in $new_paths; do
        case " $brought_paths" in
        *" $place/"*) find -H "$place" -mindepth 1 -maxdepth 1 2>/dev/null ;; # its parts, one by one
        *) echo "$place" ;;
        esac
    done | while IFS= read -r path; do
        case " $brought_paths " in *" $path "* | *" $path/"*) continue ;; esac
        # Airflow's cluster may be a k3s on the host: its program has such names as links.
        [ "$(readlink "$path")" != k3s ] &&
            [ -n "$(find -H "$path" ! -type d -print -quit 2>/dev/null)" ] && say foreign_path "$path"
    done
}

ask_names() {                                        # users, ids and units that the deploy makes itself
    alias=$units_directory/airflow-webserver.service # of the api-server's unit
    [ -f "$alias" ] && [ ! -L "$alias" ] && say foreign_unit "$alias"
    owner=$(getent passwd "$airflow_uid" | cut -d: -f1)
    group=$(getent group "$airflow_uid" | cut -d: -f1)
    for name in $owner $group; do
        case $(knows_host && echo " $own_users ") in *" $name "*) ;; *) say foreign_uid "$name" ;; esac
    done
    knows_host && return
    ask_paths
    for user in $own_users; do
        getent passwd "$user" >/dev/null && say foreign_user "$user"
        getent group "$user" >/dev/null && say foreign_group "$user"
    done
    for folder in "$units_directory" /usr/lib/systemd/system; do # packages install into the other one
        for unit in "$folder"/airflow*.service "$folder"/airflow*.timer "$folder"/airflow.target; do
            [ "$unit" != "$alias" ] && [ -f "$unit" ] && [ ! -L "$unit" ] && say foreign_unit "$unit"
        done
    done
}

ask_masked() { # units that somebody forbids; Debian forbids those of a removed package until it is back
    systemctl list-unit-files --plain --no-legend --state=masked,masked-runtime 2>/dev/null |
        while read -r unit _; do
            [ -e "/var/lib/systemd/deb-systemd-helper-masked/$unit" ] || say masked "$unit"
        done
}

ask_environment() { # options of Airflow, and proxies, that systemd gives to each unit
    systemctl show-environment 2>/dev/null |
        sed -nE 's/^(AIRFLOW__[A-Z0-9_]*)=.*/units_variable \1/p; s/^((HTTPS?|ALL)_PROXY)=.*/units_proxy \1/Ip'
}

ask_keepalived() { # whether somebody else uses it
    [ ! -e "$address_config" ] || grep -q '^# Written by the deploy of Airflow' "$address_config" ||
        say foreign_keepalived "$address_config"
}

ask_exporter() { # whether somebody else uses it; the deploy writes its options before it installs it
    [ -z "$exporter" ] || [ -e "$exporter_drop_in" ] || ! is_installed "$exporter" ||
        grep -qsxF "$exporter" "$state/packages" || say foreign_exporter "$exporter"
}

is_installed() { # whether the host has the package $1
    dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

ask_engines() { # other programs that run containers, and containers of others in containerd
    others="containerd.io docker-ce docker.io moby-engine moby-containerd"
    has_node || others="$others cri-o kubeadm kubelet"
    for package in $others; do
        is_installed "$package" && say engine "$package"
    done
    for program in k3s rke2 k0s microk8s; do
        command -v "$program" >/dev/null && say engine "$program"
    done
    # minikube renames the networks of a podman that has them by CNI.
    find /etc/cni/net.d -name '*podman*.conflist' -o -name '*bridge*.conflist' 2>/dev/null | grep -q . &&
        [ -n "$(timeout 5 podman ps -q 2>/dev/null)" ] && say engine "podman (networks of CNI)"
    command -v ctr >/dev/null || return 0
    for namespace in $(timeout 5 ctr namespaces ls -q 2>/dev/null); do
        [ "$namespace" = k8s.io ] && has_node && continue
        [ -z "$(timeout 5 ctr -n "$namespace" containers ls -q 2>/dev/null)" ] || say engine "containerd ($namespace)"
    done
}

ask_node_engine() { # whether the engine that should run the node works and has a place for it
    [ -n "$node_engine" ] || return 0
    if ! command -v "$node_engine" >/dev/null; then
        [ ! -e "/snap/bin/$node_engine" ] || say foreign_engine "/snap/bin/$node_engine"
        ! would_take_btrfs || say engine_btrfs "$node_engine"
    elif ! said=$(timeout 30 "$node_engine" info 2>&1); then
        say engine_broken "$(echo "$said" | grep -i error | head -n 1)"
    # minikube takes the first line for the node's address.
    elif [ "$node_engine" = podman ] && warning=$(podman version 2>&1 >/dev/null | grep -m 1 .); then
        say engine_warns "$warning"
    elif [ ! -e "$minikube_profile" ] && is_of_no_package; then
        say foreign_engine "$(command -v "$node_engine")"
    elif [ ! -e "$minikube_profile" ] && "$node_engine" container inspect minikube >/dev/null 2>&1; then
        say foreign_node "$node_engine"
    elif echo "$said" | grep -Eiq '^ *(storage driver|graphDriverName): btrfs$'; then
        say engine_btrfs "$node_engine"
    fi
}

is_of_no_package() { # whether the engine is a person's own, beside which the deploy would install one
    [ -n "$engine_packages" ] || return
    for package in $engine_packages; do
        ! is_installed "$package" || return
    done
}

would_take_btrfs() { # whether the engine, once it is installed, would keep images with its driver btrfs
    # docker before version 23, as Debian 12 has it, does on btrfs, unless it was told otherwise.
    [ "$node_engine" = docker ] && [ "$(stat -f -c %T /var/lib)" = btrfs ] &&
        grep -q '^VERSION_CODENAME=bookworm' /etc/os-release &&
        ! grep -qs '"storage-driver"' /etc/docker/daemon.json
}

# Whether the rules $1, of nft or iptables, drop the packets of a way «hook/protocol/port», $2: those of
# pods, or with the hook output those to pods. They do if a chain of the hook drops packets that no rule
# accepts, and none accepts these. Chains that others jump to count as if all packets reached them, and
# sets, maps and negations as if they contained pods: only a firewall that is certainly closed is a
# finding. Of the drops count those of all packets, of all but those of lo, of new connections, of the
# protocol, and of a chain that drops all. Prints nft's name of the chain. $3 has the interfaces of pods, and
# $4 is «open» if their network plugin puts a rule on top of the chain FORWARD of iptables.
keeps_out() {
    # Twice: first to find the chains that drop all packets, to which rules of the hook may lead.
    printf '%s\n@again\n%s\n' "$1" "$1" | awk -v way="$2" -v bridges="$3" -v forward="$4" -v network="$pod_network" '
        function number(address, part) {
            split(address, part, ".")
            return ((part[1] * 256 + part[2]) * 256 + part[3]) * 256 + part[4]
        }
        function begin(net) { # the first address of a network, an address or a range
            return int(number(net) / size(net)) * size(net)
        }
        function end(net, part) {
            return split(net, part, "-") > 1 ? number(part[2]) : begin(net) + size(net) - 1
        }
        function size(net, part) { return split(net, part, "/") > 1 ? 2 ^ (32 - part[2]) : 1 }
        function words(keys, text) { # behind one of the keys: one word, or those in braces
            if (!match($0, "(" keys ") ([{][^}]*[}]|[^ ]+)")) return ""
            text = substr($0, RSTART, RLENGTH)
            sub("^(" keys ") ", "", text)
            gsub(/[{}, ]+/, " ", text)
            return text
        }
        function of_pods(count, i, net) {
            if ($0 ~ interface " .*(" bridges ")|match-set [^ ]* " set) return 1
            count = split(words(addresses), net, " ")
            for (i = 1; i <= count; i++)
                if (net[i] !~ /^[0-9]/ || begin(net[i]) <= begin(network) && end(network) <= end(net[i])) return 1
            return 0
        }
        function to_port(count, i, each, range) {
            count = split(words("dports?"), each, " ")
            for (i = 1; i <= count; i++) {
                last = split(each[i], range, /[-:]/)
                if (each[i] !~ /^[0-9]/ || range[1] + 0 <= port && port <= range[last] + 0) return 1
            }
            return 0
        }
        function of_iptables() { return table == "" || table == "ip filter" && chain ~ /^[A-Z]+$/ }
        function of_other_hook() { return chain ~ /^ufw-.*-(input|forward|output)$/ && chain !~ hook "$" }
        function close_chain() {
            closed = 1
            if (name == "" && chain != "" && !of_iptables()) name = table " " chain
        }
        BEGIN {
            split(way, part, "/")
            hook = part[1]
            port = part[3]
            others = part[2] == "tcp" ? "udp dport|-p udp" : "tcp dport|-p tcp"
            built_in = toupper(hook)
            if (hook == "forward" && forward == "open") built_in = "-"
            interface = "(iif(name)?| -i)"
            addresses = "saddr| -s|--src-range"
            set = "src"
            if (hook == "output") {
                others = others "|iif| -i "
                interface = "(oif(name)?| -o)"
                addresses = "daddr| -d|--dst-range"
                set = "dst"
            }
        }
        { sub(/^[ \t]+/, "") }
        $0 == "@again" {
            again = 1
            elsewhere = base = other = dead = 0
            table = chain = ""
            next
        }
        /^[*]/ { elsewhere = dead = 0; table = chain = "" }
        /^table / { elsewhere = $2 !~ /^(ip|inet)$/; table = $2 " " $3 }
        /^chain / { base = dead = 0; chain = $2; other = of_other_hook() }
        /^-A / {
            if (chain != $2) dead = 0
            chain = $2
            base = chain == built_in
            other = !base && (chain ~ /^(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)$/ || of_other_hook())
        }
        elsewhere { next }
        /hook / {
            base = $0 ~ "hook " hook && !(built_in == "-" && chain == "FORWARD" && of_iptables())
            other = !base
        }
        base && /policy drop/ || $0 ~ "^:" built_in " DROP" { close_chain() }
        again && (dead || other) || /policy|ip6 / || $0 ~ others { next }
        {
            rule = $0
            sub(/^-A [^ ]+ /, "", rule)
            gsub(/(-m )?comment (--comment )?("[^"]*"|[^ ]+)/, "", rule)
            gsub(/counter( packets [0-9]+ bytes [0-9]+)?|log( (prefix "[^"]*"|(level|flags|group) [^ ]+))*/, "", rule)
            # Rules for all other hosts, for new connections, or for the protocol, are for pods too.
            gsub(/! -i lo |iif(name)? != "?lo"? /, "", rule)
            gsub(/-m (state --state|conntrack --ctstate) [A-Z,]*NEW[A-Z,]* /, "", rule)
            gsub(/ct state ([{][^}]*new[^}]*[}]|[a-z,]*new[a-z,]*) /, "", rule)
            gsub("-p " part[2] "( -m " part[2] ")? |(meta l4proto|ip protocol) " part[2] " ", "", rule)
            gsub(/^ +| +$/, "", rule)
            target = ""
            if (rule ~ /^(-j|-g|jump|goto) [^ ]+$/) target = substr(rule, index(rule, " ") + 1)
        }
        rule ~ /(return|-j RETURN)$/ { returns[table, chain] = 1 }
        !again && rule ~ /^(drop|-j DROP)$|^(reject|-j REJECT)( with .*| --reject-with .*)?$/ {
            if (!((table, chain) in returns)) drops[table, chain] = 1
        }
        !again { next }
        target != "" && (table, target) in drops { rule = "drop" }
        rule ~ /^(drop|-j DROP)$|^(reject|-j REJECT)( with .*| --reject-with .*)?$/ { # all that come here
            dead = 1
            if (base) close_chain()
        }
        rule ~ /^(accept|-j ACCEPT)$/ {
            if (base) found = 1
            next
        }
        rule ~ /accept|-j ACCEPT/ {
            limited = $0 ~ interface "|" addresses
            # Of these, only the hook input has many rules that let in no pods.
            loose = hook != "input" && !/dport|icmp/ && !(/ct ?state/ && !/new|NEW/)
            if (of_pods() ? to_port() || !/dport/ : !limited && (to_port() || loose)) found = 1
        }
        END {
            if (closed && !found) print name
            exit !(closed && !found)
        }'
}

ask_firewalld() {
    zone=$(firewall-cmd --get-zone-of-source="$pod_network" 2>/dev/null) ||
        zone=$(firewall-cmd --get-default-zone 2>/dev/null)
    [ "$(firewall-cmd --permanent --zone="$zone" --get-target 2>/dev/null)" = ACCEPT ] && return
    for port in $firewall_ports; do
        firewall-cmd --zone="$zone" --query-port="$port/tcp" >/dev/null 2>&1 || say firewall "firewalld input/tcp/$port"
    done
}

# k3s makes rules with programs of its own where the host has none.
listed_rules() {
    (
        PATH=$PATH:/var/lib/rancher/k3s/data/current/bin/aux
        nft list ruleset
        iptables-save
    ) 2>/dev/null
}

# Ports whose packets a rule sends elsewhere, as for the port of a container or of a pod on its node.
# No socket listens for these. A rule for some addresses or interfaces may leave the deploy's alone.
ask_forwarded() {
    [ -n "$reached_ports" ] || return 0
    rules=$(listed_rules | grep -iE '(-j|") ?dnat| dnat ' | grep -Ev '[^!] -[ids] |ip6? [ds]addr|iif(name)? ["{]')
    for port in $reached_ports; do
        ! echo "$rules" | grep -Eq "(tcp dport|-p tcp .*--dport) $port " || say forwarded "$port"
    done
}

ask_firewall() {
    [ -n "$firewall_ports" ] || return 0
    if firewall-cmd --state >/dev/null 2>&1; then
        ask_firewalld
        return
    fi
    rules=$(listed_rules)
    bridges='bridge|cni0|podman|docker|br-' forward=open
    if [ "$node_engine" = podman ]; then
        bridges=podman
        # netavark of newer releases has rules of nftables, which undo the drop of no other table.
        grep -Eq '^VERSION_CODENAME=(bookworm|noble)' /etc/os-release || forward=closed
    fi
    for way in $(for port in $firewall_ports; do echo "input/tcp/$port"; done) $firewall_ways; do
        chain=$(keeps_out "$rules" "$way" "$bridges" "$forward") || continue
        kind=rules
        [ -n "$chain" ] || ! grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf || kind=ufw
        say firewall "$kind $way $chain"
    done
}

ask_node_name() { # the name of the cluster's node, if the host has another name by now
    [ -n "$node_is_host" ] || return 0
    node=$(sed -n 's/^ *- --name=//p' /etc/kubernetes/manifests/etcd.yaml 2>/dev/null)
    [ -z "$node" ] || [ "$node" = "$(hostname | tr '[:upper:]' '[:lower:]')" ] || say node_name "$node"
}

ask_networks() { # addresses that the host uses, as «kind address interface», before its pods have some
    ! has_node && command -v ip >/dev/null || return 0
    # A cluster that was deleted may have left its bridge.
    ip -o -4 address show scope global | sed -nE '/ bridge /d; s|^[0-9]*: ([^ ]*) *inet (([^/ ]*)[^ ]*).*|address \3 \1\nnetwork \2 \1|p'
    ip -o -4 route show table all | awk '
        / dev bridge( |$)/ { next }
        { sub("^(unicast|unreachable|blackhole|prohibit) ", "") }
        $1 !~ "^(default$|[0-9])" { next }
        {
            device = ""
            for (i = 2; i < NF; i++) if ($i == "dev" && device == "") device = $(i + 1)
            if ($1 != "default") print "route", $1, device
            for (i = 2; i < NF; i++) if ($i == "via" && $(i + 1) ~ "^[0-9]") print "gateway", $(i + 1), device
        }'
    sed -nE 's/^nameserver[[:space:]]+([0-9.]+).*/server \1/p' /etc/resolv.conf 2>/dev/null
}

ask_engine_networks() { # those of the node's engine, also where no container runs: «network subnet name»
    ! has_node || return 0
    timeout 30 "$node_engine" network ls --format '{{.Name}}' 2>/dev/null | while read -r name; do
        timeout 30 "$node_engine" network inspect "$name" 2>/dev/null </dev/null |
            sed -nE "s|.*\"[Ss]ubnet\": *\"([0-9.]+/[0-9]+)\".*|network \1 $name|p"
    done
}

ask_node() { # Kubernetes' requirements on the host that is its node
    say hostname "$(hostname)"
    [ -e /proc/net/if_inet6 ] || say no_ipv6 yes
    ! command -v ip >/dev/null || ip -4 route show default 2>/dev/null | grep -q . || say no_ipv4 yes
    # systemd-resolved has a file with the real servers, which kubeadm finds.
    servers=/run/systemd/resolve/resolv.conf
    [ -e "$servers" ] || servers=/etc/resolv.conf
    # Pods have no IPv6.
    grep -Eq '^nameserver[[:space:]]+[0-9.]+[[:space:]]*$' "$servers" 2>/dev/null || say no_resolver "$servers"
    ask_search
    sed -nE 's/^nameserver[[:space:]]+(127\.[0-9.]+|::1)$/resolver \1/p' "$servers" 2>/dev/null
    ask_networks | sort -u | sed 's/^/uses /'
    ask_kernel
}

ask_search() { # domains of the host, and so of pods, in which each name has an address
    ! has_node || return 0
    sed -nE 's/^(search|domain)[[:space:]]+//p' "$servers" 2>/dev/null | xargs -n 1 | while read -r domain; do
        [ -z "$(timeout 3 getent ahostsv4 "airflow-deploy-asks.${domain%.}." 2>/dev/null)" ] || say answers_all "$domain"
    done
}

ask_module() { # why the kernel can not load the module $1
    if [ ! -d "/lib/modules/$(uname -r)" ]; then
        say no_module "$1 gone"
    elif [ "$(cat /proc/sys/kernel/modules_disabled 2>/dev/null)" = 1 ]; then
        say no_module "$1 disabled"
    elif ! command -v modprobe >/dev/null; then
        return # a package of the deploy may bring it
    elif ! found=$(modprobe -nv "$1" 2>/dev/null); then
        say no_module "$1 missing"
    else
        ! echo "$found" | grep -Eq '^install .*/(false|true)( |$)' || say no_module "$1 forbidden"
    fi
}

# Features that a host in a container, or a kernel whose files are gone, may lack. A kernel may have
# them without any module.
ask_kernel() {
    grep -qsw overlay /proc/filesystems || ask_module overlay
    # A container's machine may load it, when it is asked for. Without it pods have no DNS.
    [ -e /proc/sys/net/bridge ] || [ -z "$(ls /lib/modules/ 2>/dev/null)" ] || ask_module br_netfilter
    # kubelet opens it, and writes these unless they have the value.
    (: </dev/kmsg) 2>/dev/null || say closed_to_kubelet /dev/kmsg
    for each in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
        file=/proc/sys/${each%=*}
        [ "$(cat "$file" 2>/dev/null)" = "${each#*=}" ] || [ -w "$file" ] || say closed_to_kubelet "$file"
    done
}

ask_sysctls() { # features that are switched off, now or with the next boot
    for name in user.max_user_namespaces net.bridge.bridge-nf-call-iptables; do
        path=$(echo "$name" | tr . /)
        {
            cat "/proc/sys/$path"
            /usr/lib/systemd/systemd-sysctl --cat-config | tr -d ' \t' | tr . / | sed -n "s|^-*$path=||p" | tail -n 1
        } 2>/dev/null | grep -qx 0 && say sysctl_off "$name"
    done
}

ask_memory_group() { # whether kubelet finds the control group of memory, in either version
    groups=/sys/fs/cgroup/cgroup.controllers
    if [ -e "$groups" ]; then
        grep -qw memory "$groups" || say no_memory_group yes
    elif [ -e /proc/cgroups ]; then
        awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups || say no_memory_group yes
    fi
}

ask_places() { # folders whose programs may not run
    for place in /opt /usr/local /var/lib; do
        findmnt -no OPTIONS -T "$place" | grep -qw noexec && say noexec "$place"
    done
}

ask_folders() { # links in the place of folders that the deploy makes
    for folder in $own_folders; do
        [ ! -L "$folder" ] || say folder_link "$folder $(readlink -m "$folder")"
    done
}

ask_file_systems() { # file systems without POSIX ACLs, by which Airflow reads files of any umask
    for folder in $acl_folders; do
        place=$folder
        while [ ! -d "$place/" ]; do place=${place%/*}; done # it will be in the one above
        findmnt -no FSTYPE,OPTIONS -T "$place/" |
            sed -nE "s#^(nfs4|cifs|smb[23]|9p|vfat|exfat|ntfs[^ ]*|fuse[^ ]*) .*#no_acl $folder \\1#p
                s#^([^ ]+) +(.*,)?noacl(,.*)?\$#no_acl $folder \\1 noacl#p"
    done
}

ask_nginx() { # whether its configuration reads the sites that Debian's does
    [ ! -e /etc/nginx/nginx.conf ] || grep -q '^[^#]*sites-enabled/[*];' /etc/nginx/nginx.conf || say nginx_sites no
}

ask_sources() { # apt's sources: a disc of the installation that is not in its drive any more
    grep -lsE '^(deb .*|URIs:.*)cdrom:' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources | sed 's/^/disc /'
}

ask_releases() { # the releases of apt's sources, without the parts of one, such as -updates
    {
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?(cdrom:\[[^]]*\])?[^[:space:]]+[[:space:]]+([^[:space:]]+).*/\3/p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/*.list
        for file in /etc/apt/sources.list.d/*.sources; do
            awk 'BEGIN { RS = ""; FS = "\n" }
                tolower($0) ~ "(^|\n)enabled:[ \t]*no" { next }
                { for (i = 1; i <= NF; i++) if (sub("^Suites:", "", $i)) print $i }' "$file"
        done
    } 2>/dev/null | tr ' \t' '\n' | sed '/./!d; s|[-/].*||; s/^/apt_release /' | sort -u
}

ask_links() { # links to DAGs and modules elsewhere: pods mount only the folder itself
    for folder in $mounted_folders; do
        within=$(readlink -f "$folder")
        find "$folder/" -type l 2>/dev/null | sort | while read -r link; do
            case $(readlink -m "$link") in "$within" | "$within"/*) continue ;; esac
            # A link to another file, such as a virtual environment's python, may work in pods.
            [ -d "$link" ] || case $link in *.py | *.zip) ;; *) continue ;; esac
            say link_out "$folder $link"
            break
        done
    done
}

ask_dpkg() {
    lslocks -no PATH 2>/dev/null | grep -q ^/var/lib/dpkg/ && return # somebody installs packages now
    say dpkg "$(dpkg --audit 2>/dev/null | sed -n 's/^ \([a-z0-9][^ ]*\) .*/\1/p' | tr '\n' ' ')"
}

index_addresses() { # «server port» of the indexes that the files $2… name with the keys $1
    keys=$1
    shift
    # shellcheck disable=SC2048,SC2086 # words of a list
    cat $* 2>/dev/null | sed -nE "s#^[[:space:]]*($keys)[[:space:]]*[=:][[:space:]]*[\"']?(https?)://([^/@]*@)?([^/:\"' ]+)(:([0-9]+))?.*#\2 \4 \6#Ip" |
        while read -r scheme server port; do
            [ -n "$port" ] || port=$([ "$scheme" = http ] && echo 80 || echo 443)
            echo "$server $port"
        done
}

ask_index() { # the package index, as pip and uv each find it
    for program in pip uv; do
        if [ "$program" = pip ]; then
            # https://pip.pypa.io/en/stable/topics/configuration/: both spellings, INI's both signs
            found=$(index_addresses 'index[-_]url' "$pip_files")
        else
            found=$(index_addresses 'url|index-url' "$index_files")
        fi
        way=reachable # one of the company's may be an exception of the proxy
        if [ -n "$found" ]; then
            say index_of "$program"
        else
            way=through_proxy
            found=$(for server in $index_servers; do echo "$server 443"; done)
        fi
        echo "$found" | sort -u | while read -r server port; do
            [ -z "$server" ] || $way "$server" "$port" </dev/null || say no_index "$program $server"
        done
    done
}

as_owner() { # an earlier version of the deploy has no owner.sh
    if [ -x /usr/local/lib/airflow/owner.sh ]; then
        /usr/local/lib/airflow/owner.sh "$@"
    else
        # shellcheck disable=SC1091
        (. /etc/airflow/host.env && export PGCLUSTER && cd / && runuser -u airflow -- env PGDATABASE=airflow "$@")
    fi
}

ask_users() { # users of the web page that were deleted or changed, and those that are not the deploy's
    [ -s "$users_made" ] || return 0
    first=$(grep -xF -e "$first_user" "$users_made")
    tester=$([ -s "$smoke_passed" ] && echo "$test_user")
    as_owner env PGOPTIONS='-c search_path=pg_catalog' psql -XAtq 2>/dev/null <<EOF
select 'first_user deleted' where '$first' <> '' and not exists
    (select from public.ab_user where username = '$first');
select 'test_user changed' where '$tester' <> '' and not exists
    (select from public.ab_user u
        join public.ab_user_role l on l.user_id = u.id join public.ab_role r on r.id = l.role_id
        where u.username = '$tester' and u.active group by u.id having string_agg(r.name, ',') = 'User');
select 'others_user ' || lower(u.username) from public.ab_user u
    where lower(u.username) = any (string_to_array('$web_users', ' ')) and not exists
    (select from public.ab_user_group l join public.ab_group g on g.id = l.group_id
        where l.user_id = u.id and g.name = 'inventory');
EOF
}

ask_neighbours() {
    ask_users
    ask_postgres
    ask_names
    ask_masked
    ask_environment
    ask_keepalived
    ask_exporter
    ask_places
    ask_folders
    ask_links
    ask_node_engine
    ask_node_name
    ask_forwarded
    [ -s "$smoke_passed" ] && return
    ask_dpkg
    ask_sources
    ask_releases
    ask_file_systems
    ask_nginx
    ls /opt/airflow/venvs/*/.complete >/dev/null 2>&1 || ask_index
    grep -hiE '^(export +)?https?_proxy=.' /etc/environment 2>/dev/null | sed 's/.*/environment_proxy yes/' | head -n 1
    ask_firewall
    ask_sysctls
    [ -z "$node_is_host$node_engine" ] || ask_memory_group
    [ -z "$node_engine" ] || { ask_networks && ask_engine_networks; } | sort -u | sed 's/^/uses /'
    [ -n "$node_is_host" ] || return 0
    [ -e "$units_directory/minikube.service" ] || ask_engines
    ask_node
}

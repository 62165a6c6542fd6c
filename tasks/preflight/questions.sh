#!/bin/sh
# Ask a host about everything that may stop a deploy. Each answer is a line «key value». It uses only
# programs of a bare Debian: no Python, no curl. It changes nothing.
# No program of the deploy is on a bare host yet, so preflight sends this text, with assignments of
# the variables below, tasks/lib/lock.sh, and the program own-addresses.sh as a function on top.

# A variable that is not given is empty, so that nothing is asked about it.
: "${claims=}"             # lines «setting claim [folder]»: claims that must be there
: "${cluster_ports=}"      # «port:program» of each port of a node
: "${disks=}"              # folders whose file systems need room
: "${download_hosts=}"     # servers that downloads come from
: "${image_hosts=}"        # registries of Kubernetes' images
: "${index_urls=}"         # the inventory's indexes of Python packages
: "${kubeconfig=}"         # path of an existing cluster's kubeconfig
: "${kubectl=}"            # the client and its options
: "${kubernetes_version=}" # the wanted version
: "${local_image=}"        # an image that the node must have
: "${lock_owner=}"         # this run's name in the deploy's lock
: "${migrated=}"           # file with the version of the database
: "${minikube_files=}"     # files of the offline folder with the version of Kubernetes in them
: "${minikube_profile=}"   # file in which minikube keeps its cluster
: "${node_mount=}"         # the folder that minikube mounts into a node in a container
: "${nodes=}"              # not empty: the systems and architectures of the cluster's nodes matter
: "${nginx_site=}"         # the site of the deploy in nginx
: "${offline_between=}"    # versions of Kubernetes that the cluster may go through
: "${offline_dir=}"        # folder with all downloads
: "${offline_files=}"      # «architecture:name» of each
: "${offline_stamp=}"      # file that remembers how the folder looked when it was verified
: "${own_ports=}"          # «port:unit» of each port of the deploy's services
: "${pip_config=}"         # pip's configuration
: "${proxy=}"              # the proxy, as «host port»
: "${registry_host=}"      # the registry's name and port
: "${web_host=}"           # address or name at which nginx should serve the web page
: "${restore_mark=}"       # file with the command of a restore that was cut off
: "${state=}"              # folder of the deploy's notes
: "${safe_keys=}"          # keys of the kubeconfig whose lines hold no secret, as a pattern
: "${units_directory=}"    # folder of the deploy's units
: "${uv_config=}"          # uv's configuration of the host

architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)

say() { printf '%s %s\n' "$1" "$2"; }

# The values are arguments: bash would run a command in its text. The resolver asks a name server again,
# or the next one, after 5 seconds, and half a minute is too long for a person who waits.
# shellcheck disable=SC2016
connects() { timeout 12 bash -c '</dev/tcp/$0/$1' "$1" "$2" 2>/dev/null; }

through_proxy() { # whether the server $1 can be reached on port $2, through the proxy if there is one
    if [ -z "$proxy" ]; then
        connects "$1" "$2"
        return
    fi
    # shellcheck disable=SC2016 # the other shell expands it
    timeout 12 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" "$3" "$3" >&3 &&
        read -r answer <&3 && [[ $answer == *" 200 "* ]]' bash "${proxy% *}" "${proxy#* }" "$1:$2" 2>/dev/null
}

reachable() { # directly, or through the proxy
    connects "$1" "$2" || { [ -n "$proxy" ] && through_proxy "$1" "$2"; }
}

listener() { # the process that listens on port $1, as «process name»; nothing if the port is free
    ss -Hltnp "sport = :$1" 2>/dev/null |
        sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\2 \1/p' | head -n 1
}

is_ours() { # whether the process $2 holds port $1 for the unit $3
    if grep -qs "$3" "/proc/$2/cgroup"; then
        [ "$3" != nginx.service ] || [ -e "$nginx_site" ] # before the first deploy it is a person's
        return
    fi
    # Of systemd itself, its sockets tell.
    [ "$2" = 1 ] &&
        systemctl show -P Listen airflow-web.socket prometheus-postgres-exporter.socket |
        grep -q ":$1 "
}

ask_lock() {
    # The lock is root's; of another user, preflight says that it is not root.
    [ -n "$lock_owner" ] && [ "$(id -u)" = 0 ] || return 0
    holder=$(other_holder)
    [ -z "$holder" ] || say locked "$holder"
}

has_universe() { # whether apt has Ubuntu's component with most packages, or a mirror's own with them
    apt-cache show buildah >/dev/null 2>&1 ||
        grep -Eqs '^(deb .*|Components:.*) universe( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/*
}

ask_system() {
    [ -d /run/systemd/system ] && say systemd yes
    say uid "$(id -u)"
    # shellcheck disable=SC1091
    . /etc/os-release
    say system "$ID ${VERSION_CODENAME:-$VERSION_ID}"
    [ "$ID" != ubuntu ] || has_universe || say no_universe yes
    [ ! -e /usr/bin/python3 ] ||
        say pythons "$(find /usr/bin -name 'python3.*' | sed -n 's|.*/python\(3\.[0-9]*\)$|\1|p' | paste -sd' ')"
    say architecture "$architecture"
    [ "$(cat /sys/fs/selinux/enforce 2>/dev/null)" != 1 ] || say selinux enforcing
    say memory_kib "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
    for place in /opt /var; do
        say disk_kib "$place $(df -Pk $place | awk 'NR == 2 {print $4}')"
    done
    {
        hostname
        hostname -f
        own_addresses | sed 's/.* //'
    } 2>/dev/null | sed '/^localhost$/d; s/^/own_name /' | sort -u
}

ask_airflow() {
    ls /opt/airflow/venvs/*/.complete >/dev/null 2>&1 && say installed yes
    [ -e "$state/packages" ] && say packages yes
    [ -s "$migrated" ] && say migrated "$(cat "$migrated")"
    say database_kib \
        "$(du -skc /var/lib/postgresql/*/main/base 2>/dev/null | awk 'END {print $1 + 0}')"
}

# Free KiB and inodes, once for each file system; one without a number of inodes has 0 of 0. A
# folder that does not exist yet will be in the one above.
ask_room() {
    for place in $disks; do
        [ -d "$place" ] || place=${place%/*}
        # shellcheck disable=SC2046 # words
        set -- $(df -Pk "$place" | tail -n 1) $(df -Pi "$place" | tail -n 1)
        [ $# = 12 ] && say room "$6 $4 $8 ${10}"
    done | sort -u -k 2,2
}

ask_restore() {
    [ -s "$restore_mark" ] && say restore_cut "$(cat "$restore_mark")"
}

# Another Kubernetes has programs of the same names, and so has PostgreSQL's Patroni: etcd.
has_node() { # whether the deploy began to make minikube's node
    [ -e "$minikube_profile" ] || [ -e "$units_directory/minikube.service" ]
}

ask_ports() {
    say open_ports "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
    for own in $own_ports; do
        held=$(listener "${own%%:*}")
        [ -z "$held" ] || is_ours "${own%%:*}" "${held%% *}" "${own#*:}" ||
            say port "${own%%:*} $held"
    done
    for expected in $cluster_ports; do
        held=$(listener "${expected%%:*}")
        [ -z "$held" ] || { [ "${held#* }" = "${expected#*:}" ] && has_node; } ||
            say port "${expected%%:*} $held"
    done
}

# nginx can listen only at an address of the host itself, and does not start with another one.
ask_web_host() {
    [ -n "$web_host" ] || return 0
    found=$(getent ahosts "$web_host" | awk '{print $1}' | sort -u)
    # Debian's installation gives the host's name such an address, where only the host reaches nginx.
    [ -z "$found" ] || echo "$found" | grep -Eqv '^(127[.].*|::1)$' || say web_host_within "$(echo "$found" | paste -sd' ')"
    [ "$(cat /proc/sys/net/ipv4/ip_nonlocal_bind 2>/dev/null)" != 1 ] && command -v ip >/dev/null || return 0
    [ -n "$found" ] || say web_host unknown
    for address in $found; do
        case $address in 0.0.0.0 | :: | 127.* | ::1) continue ;; esac
        ip -o address show to "$address" | grep -q . || say web_host "$address"
    done
}

ask_minikube() {
    [ -n "$minikube_profile" ] || return 0
    say kubernetes "$(
        sed -n 's/^[[:space:]]*"KubernetesVersion": "v\([0-9.]*\)".*/\1/p' "$minikube_profile" \
            2>/dev/null | head -n 1
    )"
    [ -e "$minikube_profile" ] || return 0
    say minikube_driver "$(sed -n 's/^[[:space:]]*"Driver": "\([a-z0-9]*\)".*/\1/p' "$minikube_profile" | head -n 1)"
    # Of a node in a container. A mount from the time when it was made stands alone in its line.
    [ -z "$node_mount" ] || say node_address "$(sed -n 's/^[[:space:]]*"IP": "\([0-9.]*\)".*/\1/p' "$minikube_profile" | head -n 1)"
    [ -z "$node_mount" ] || grep -Eq "^[[:space:]]*\"$node_mount\",?\$" "$minikube_profile" ||
        say node_mount missing
}

kubeconfig_values() { # the values of the keys $1
    sed -nE "s/^[ -]*($1): *[\"']?([^\"' ]+).*/\2/p" "$kubeconfig" | sort -u
}

reaches() { # whether the server of the URL $1 answers
    address=${1#*://}
    address=${address%%/*}
    port=443
    case $address in
    \[*\]) ;;
    *:*)
        port=${address##*:}
        address=${address%:*}
        ;;
    esac
    address=${address#[}
    address=${address%]}
    reachable "$address" "$port"
}

# The proxy of each cluster, or its server if it has none: a server behind a proxy may drop packets from
# here, and the wait for it would be for nothing.
asked_servers() {
    awk -F '[ "\047]+' '
        function tell() { if (proxy != "") print proxy; else if (server != "") print server; proxy = server = "" }
        /^ *- / { tell() }
        /^[ -]*server:/ { sub(/^[ -]*server:/, ""); server = $2 }
        /^[ -]*proxy-url:/ { sub(/^[ -]*proxy-url:/, ""); proxy = $2 }
        END { tell() }' "$kubeconfig" | grep -v @ | sort -u
}

ask_kubeconfig() {
    [ -n "$kubeconfig" ] || return 0
    if [ ! -r "$kubeconfig" ]; then
        say kubeconfig missing
        return
    fi
    # Of a proxy's login only that there is one.
    grep -E "^[ -]*($safe_keys|proxy-url):" "$kubeconfig" |
        sed 's/\(^[ -]*proxy-url:\).*@.*/\1 login/; s/{.*//; s/^/safe |/'
    for server in $(asked_servers); do
        reaches "$server" && say reached "$server" &
    done | sort # once the last one has told
    # A path in the file is relative to the file's folder.
    for file in $(kubeconfig_values 'certificate-authority|client-certificate|client-key'); do
        (cd "${kubeconfig%/*}/" && [ -r "$file" ]) || say no_file "$file"
    done
    for tool in $(kubeconfig_values command); do
        (cd "${kubeconfig%/*}/" && command -v "$tool" >/dev/null) || say no_tool "$tool"
    done
}

ask_registry() {
    [ -n "$registry_host" ] || return 0
    port=${registry_host#*:}
    [ "$port" != "$registry_host" ] || port=443
    reachable "${registry_host%%:*}" "$port" || say registry unreachable
}

offline_version() { # is the folder of the version complete?
    for file in kubeadm kubectl kubelet images.tar; do
        [ -r "$1/$file" ] && grep -q " [ *]$1/$file\$" SHA256SUMS || return
    done
}

ask_offline_folder() {
    if [ ! -d "$offline_dir" ]; then
        say offline "the folder is not there"
        return
    elif [ ! -r "$offline_dir/SHA256SUMS" ]; then
        say offline "SHA256SUMS is missing"
        return
    fi
    cd "$offline_dir" || return
    for file in $offline_files; do
        [ "${file%%:*}" = "$architecture" ] || continue
        file=${file#*:}
        [ -r "$file" ] || say offline "$file is missing"
        grep -q " [ *]$file\$" SHA256SUMS || say offline "SHA256SUMS does not name $file"
    done
    for version in $offline_between; do
        offline_version "v$version" && say offline_between "$version"
    done
    # minikube would take down a running cluster and then find files of another version.
    for file in $minikube_files; do
        [ ! -r "$file" ] || grep -aqF "$kubernetes_version" "$file" ||
            say offline "$file is not of Kubernetes $kubernetes_version"
    done
    # Reading a gigabyte takes seconds: only if a file changed since the folder was last used.
    look=$(find . -type f -printf '%p %s %T@\n' | sort | sha256sum)
    if [ "$look" != "$(cat "$offline_stamp" 2>/dev/null)" ]; then
        sha256sum --check --quiet SHA256SUMS 2>/dev/null | while IFS=: read -r file _; do
            [ -r "$file" ] && say offline "$file does not have the checksum of SHA256SUMS"
        done
    fi
}

ask_packages() {
    for url in $index_urls; do
        reaches "$url" || say index_unreachable "$url" &
    done | sort # once the last one has told
    # uv installs Airflow, and reads none of pip's configuration.
    [ -n "$index_urls" ] || [ -e "$uv_config" ] || [ -z "$pip_config" ] ||
        ! grep -Eiqs '^[[:space:]]*index[-_]url[[:space:]]*[=:]' "$pip_config" || say pip_index "$pip_config"
}

missing_registries() { # those of which the host's containerd knows no mirror
    for server in $image_hosts; do
        [ -e "/etc/containerd/certs.d/$server" ] || [ -e /etc/containerd/certs.d/_default ] || echo "$server"
    done
}

ask_downloads() {
    if [ -n "$offline_dir" ]; then
        ask_offline_folder
        return
    fi
    registries='' # a cluster of the wanted version has its images
    grep -qs "\"KubernetesVersion\": \"$kubernetes_version\"" "$minikube_profile" || registries=$(missing_registries)
    for server in $download_hosts $registries; do
        through_proxy "$server" 443 || say unreachable "$server" &
    done | sort # once the last one has told
}

claim_is_missing() { # whether the cluster has no claim $1; one that does not answer is asked later
    [ -x "${kubectl%% *}" ] || return 1
    found=$($kubectl get pvc "$1" --ignore-not-found -o name --request-timeout=5s 2>/dev/null) ||
        return 1
    [ -z "$found" ]
}

ask_claims() {
    printf %s "$claims" | while read -r key name folder; do
        timeout 5 test -d "$folder" || say claim "$key $name $folder"
        claim_is_missing "$name" </dev/null && say claim "$key $name"
    done
}

# Not every user may list nodes.
ask_nodes() {
    [ -n "$nodes" ] && [ -x "${kubectl%% *}" ] || return 0
    kind='{.status.nodeInfo.operatingSystem}/{.status.nodeInfo.architecture}'
    for each in $($kubectl get nodes -o "jsonpath={range .items[*]}$kind {end}" \
        --request-timeout=5s 2>/dev/null); do
        say node "$each"
    done
}

ask_image() {
    [ -n "$local_image" ] || return 0
    ctr -n k8s.io images ls -q "name==$local_image" 2>/dev/null | grep -q . || say image missing
}

ask_lock
ask_system
ask_airflow
ask_room
ask_restore
ask_ports
ask_web_host
ask_minikube
ask_kubeconfig
ask_registry
ask_packages
ask_downloads
ask_claims
ask_nodes
ask_image
true

"""Commands that print the state of a host, to compare it with an earlier one."""

from __future__ import annotations

HOST_BEFORE = "/srv/host-before"  # how the machine was before the first deploy

# Shell commands that print, a line each, packages, users, enabled units, listening ports, mounts,
# links, firewall rules, files, and checksums of those that hold configuration; without what changes
# by itself or belongs to the tests.
_CHANGING = " -o ".join(
    f"-path {path}"
    for path in (
        *("/dev", "/proc", "/sys", "/srv", "/root/.cache/uv"),
        *("/run/credentials", "/run/log", "/run/systemd", "/run/user"),
        *("'/tmp/systemd-private-*'", "'/var/tmp/systemd-private-*'"),
        *(
            "/var/cache/apt",
            "/var/cache/ldconfig",
            "/var/lib/apt",
            "/var/lib/dpkg",
            "/var/log/journal",
        ),
        *("'/etc/*-'", "/etc/.pwd.lock"),
    )
)
LOOK_AT_HOST = f"""
{{
    dpkg-query -Wf 'package ${{Package}} ${{db:Status-Abbrev}}\n'
    getent passwd | cut -d: -f1 | sed 's/^/user /'
    getent group | cut -d: -f1 | sed 's/^/group /'
    systemctl list-unit-files --state=enabled --no-legend | sed 's/  */ /g; s/^/unit /'
    ss -Hltn 2>/dev/null | awk '{{print "port " $4}}'
    awk '{{print "mount " $2}}' /proc/mounts
    ls /sys/class/net | sed 's/^/link /'
    iptables-save 2>/dev/null | grep '^-A' | sed 's/^/rule /'
    find / \\( {_CHANGING} \\) -prune -o -print | sed 's/^/file /'
    find /etc /root /usr/local \\( {_CHANGING} \\) -prune -o -type f -exec sha256sum {{}} + |
        sed 's/^/content /'
}} | sort -u"""
# Things that Debian's packages leave, or take with them, when they are purged: users and their
# groups, the history of configuration files, their own logs, the system's locale (by the package
# locales). And things that a reboot takes away: locks, this removal's own among them, folders of
# programs, and what systemd leaves of a service with PrivateDevices that it stops as it starts.
LEFT = (
    r"[<>] ((user|group) (postgres|ssl-cert)|file /usr/lib/modules|file /var/lib/ucf/.*"
    r"|content \w+  /etc/(passwd|shadow|group|gshadow)"
    r"|(file|content \w+ ) /etc/(default/locale|locale\.conf)"
    r"|file /var/(log/(apt/.*|alternatives\.log|dpkg\.log)|cache/debconf/.*)"
    r"|file /run/(airflow-deploy(/(deploy|command))?|lock/netavark\.lock)"
    r"|file /run/(netns|podman.*|xtables\.lock)|file /tmp/namespace-dev-\w+(/dev)?)$"
)

# The things that a deploy could have brought: packages, users, units, and the files of these
# folders, with the content of those that a person could have written.
FOLDERS = (
    "find /etc /opt /usr/local /root /var/lib -xdev -path /root/.cache -prune -o"
    " -path '/var/lib/systemd/*' -o"
)
SNAPSHOT = (
    "dpkg-query -W; getent passwd; systemctl list-unit-files --no-legend | grep -v transient;"
    f" {FOLDERS} -printf '%p %s %m\n' | sort;"
    f" {FOLDERS} -type f -size -1024k -exec sha256sum {{}} + | sort"
)

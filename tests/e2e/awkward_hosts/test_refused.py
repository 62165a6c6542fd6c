"""What a host has that the deploy must not take over or can't work with is refused in a sentence,
with nothing changed; undone, it is no reason any more."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.snapshots import SNAPSHOT
from tests.e2e.support import deploy

PACKAGE = """
rm -rf /tmp/{name} && mkdir -p /tmp/{name}/DEBIAN
printf 'Package: {name}\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@example.com>\\n' \\
    > /tmp/{name}/DEBIAN/control
printf '{fields}Description: a stand-in\\n' >> /tmp/{name}/DEBIAN/control
printf '#!/bin/sh\\n{postinst}\\n' > /tmp/{name}/DEBIAN/postinst
chmod 755 /tmp/{name}/DEBIAN /tmp/{name}/DEBIAN/postinst
dpkg-deb --build /tmp/{name} /tmp/{name}.deb >/dev/null
dpkg --install /tmp/{name}.deb >/dev/null 2>&1 || true
"""


def package(name: str, fields: str = "", postinst: str = "true") -> str:
    """Shell commands that install a package of this name."""
    return PACKAGE.format(name=name, fields=fields, postinst=postinst)


CONFLICTS = "Provides: containerd, runc\\nConflicts: containerd, runc\\n"
INSTALL = """
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends {packages} \\
    >/dev/null 2>&1
"""
# Packets that this test itself needs are let in first.
FIREWALL = f"""
{INSTALL.format(packages="nftables")}
nft -f - <<'END'
table inet e2e {{
    chain input {{
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
        tcp dport 22 accept
    }}
}}
END
"""
# As Debian's example for workstations: the last rule drops what no other one took.
DROPS_THE_REST = FIREWALL.replace("policy drop;", "policy accept;").replace(
    "tcp dport 22 accept", "tcp dport 22 accept\n        counter drop"
)
OPENED = (
    "for port in 8443 8081; do"
    " nft add rule inet e2e input ip saddr 10.244.0.0/16 tcp dport $port accept; done"
)
FIREWALLD = (
    "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && firewall-cmd --reload"
)
UFW = "ufw allow from 10.244.0.0/16 to any port {port} proto tcp"


OTHERS = f"""
{INSTALL.format(packages="postgresql")}
cd /
runuser -u postgres -- createuser airflow
runuser -u postgres -- createdb --owner airflow airflow
runuser -u postgres -- psql -qc 'create table precious (x int)' airflow
"""


class Awkward(NamedTuple):
    """Something of a host: commands that make it, what is said about it, commands that undo it."""

    make: str
    said: tuple[str, ...]
    undo: str


HOSTS = {
    "docker": Awkward(
        package("containerd.io", CONFLICTS) + package("docker-ce", "Depends: containerd.io\\n"),
        ("another container engine is here, docker-ce", 'kubernetes_provider = "existing"'),
        "dpkg --purge docker-ce containerd.io >/dev/null",
    ),
    "a unit of Airflow 2": Awkward(
        "printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n'"
        " > /etc/systemd/system/airflow-webserver.service",
        ("/etc/systemd/system/airflow-webserver.service is a unit that this deploy did not make",),
        "rm /etc/systemd/system/airflow-webserver.service",
    ),
    "the id": Awkward(
        "useradd --uid 50000 bob",
        ("airflow_uid: the id belongs to bob", "usermod -u"),
        "userdel bob",
    ),
    "the user": Awkward(
        "useradd airflow",
        ("there is a user airflow that this deploy did not make", "deluser airflow"),
        "userdel airflow",
    ),
    "a name": Awkward(
        "hostname > /tmp/name && echo Big_Host > /proc/sys/kernel/hostname",
        ("the host's name Big_Host can't be a Kubernetes node's", "hostnamectl set-hostname"),
        "hostname $(cat /tmp/name)",
    ),
    "a resolver": Awkward(
        "cp /etc/resolv.conf /tmp/resolv.conf && echo nameserver 127.0.0.1 > /etc/resolv.conf",
        ("/etc/resolv.conf names 127.0.0.1", "kubelet.resolv-conf"),
        "cat /tmp/resolv.conf > /etc/resolv.conf",
    ),
    "a resolver without a server": Awkward(
        "cp /etc/resolv.conf /tmp/resolv.conf && echo search example.com > /etc/resolv.conf",
        ("/etc/resolv.conf names no server", "`nameserver 192.0.2.1`"),
        "cat /tmp/resolv.conf > /etc/resolv.conf",
    ),
    # As in a container of LXC.
    "no messages of the kernel": Awkward(
        "mv /dev/kmsg /dev/kmsg.e2e",
        ("kubelet needs /dev/kmsg", "use a virtual machine"),
        "mv /dev/kmsg.e2e /dev/kmsg",
    ),
    "logs on another disk": Awkward(
        "mkdir /srv/logs && ln -s /srv/logs /var/log/airflow",
        ("/var/log/airflow is a link", "mount --bind /srv/logs /var/log/airflow"),
        "rm /var/log/airflow && rmdir /srv/logs",
    ),
    "SSH without SFTP": Awkward(
        "sed -i 's/^Subsystem/#&/' /etc/ssh/sshd_config && systemctl reload ssh && sleep 1",
        ("its SSH server takes no files", "`Subsystem sftp internal-sftp`"),
        "sed -i 's/^#Subsystem/Subsystem/' /etc/ssh/sshd_config && systemctl reload ssh && sleep 1",
    ),
    "a full /tmp": Awkward(
        "mount -t tmpfs -o size=8m e2e /tmp",
        ("MiB of disk are free in /tmp",),
        "umount /tmp",
    ),
    "a disc of the installation": Awkward(
        "echo 'deb cdrom:[Debian GNU/Linux]/ stable main' > /etc/apt/sources.list.d/e2e.list",
        ("/etc/apt/sources.list.d/e2e.list names a disc", "take its line out"),
        "rm /etc/apt/sources.list.d/e2e.list",
    ),
    "nginx of nginx.org": Awkward(
        "mkdir -p /etc/nginx && echo 'events {}' > /etc/nginx/nginx.conf",
        ("nginx.conf does not read the sites", "include /etc/nginx/sites-enabled/*;"),
        "rm -r /etc/nginx",
    ),
    "a unit of a package": Awkward(
        "printf '[Service]\\nExecStart=/bin/true\\n'"
        " > /usr/lib/systemd/system/airflow-scheduler.service",
        ("/usr/lib/systemd/system/airflow-scheduler.service is a unit that this deploy did not",),
        "rm /usr/lib/systemd/system/airflow-scheduler.service",
    ),
    "orders to systemd, and a network of pods": Awkward(
        "systemctl mask --quiet nginx.service 2>/dev/null\n"
        "systemctl set-environment AIRFLOW__CORE__EXECUTOR=LocalExecutor\n"
        "ip route add unreachable 10.244.7.0/24",
        (
            "run `systemctl unmask nginx.service`",
            "`systemctl unset-environment AIRFLOW__CORE__EXECUTOR`",
            "the host uses the route 10.244.7.0/24, and the cluster's pods have 10.244.0.0/16",
        ),
        "systemctl unmask --quiet nginx.service\n"
        "systemctl unset-environment AIRFLOW__CORE__EXECUTOR\n"
        "ip route del unreachable 10.244.7.0/24",
    ),
    "a firewall whose last rule drops": Awkward(
        DROPS_THE_REST,
        ("lets no pod reach Airflow at port 8081",),
        "nft delete table inet e2e",
    ),
    "a firewall": Awkward(
        FIREWALL,
        (
            "lets no pod reach the cluster's API at port 8443",
            "nft insert rule inet e2e input ip saddr 10.244.0.0/16 tcp dport 8081 accept",
        ),
        OPENED,
    ),
    "firewalld": Awkward(
        "nft delete table inet e2e\n"
        + INSTALL.format(packages="firewalld netbase")
        + "systemctl restart firewalld",
        (
            "lets no pod reach the cluster's API at port 8443",
            f"run `{FIREWALLD}`",
        ),
        FIREWALLD,
    ),
    # This one stays, with the rules of its cure: Airflow is deployed behind it.
    "ufw": Awkward(
        "apt-get -qq purge --yes firewalld >/dev/null 2>&1\n"
        + INSTALL.format(packages="ufw")
        + "ufw allow 22/tcp >/dev/null && ufw --force enable >/dev/null",
        ("lets no pod reach Airflow at port 8081", f"run `{UFW.format(port=8081)}`"),
        f"{UFW.format(port=8081)} >/dev/null; {UFW.format(port=8443)} >/dev/null",
    ),
    "an Airflow by hand": Awkward(
        "mkdir -p /opt/airflow && echo '[core]' > /opt/airflow/airflow.cfg",
        ("this deploy did not make /opt/airflow", "move it away"),
        "rm -r /opt/airflow",
    ),
    "another Kubernetes": Awkward(
        package("kubeadm"),
        ("another container engine is here, kubeadm",),
        "dpkg --purge kubeadm >/dev/null",
    ),
    "no IPv4": Awkward(
        # The machine itself is in a network that needs no such route.
        "ip -4 route show default > /tmp/route && ip -4 route del default",
        ("the host has no default route for IPv4", "ip route add default via"),
        "ip -4 route add $(cat /tmp/route)",
    ),
    "noexec": Awkward(
        "mount --bind /opt /opt && mount -o remount,bind,noexec /opt",
        ("/opt is mounted with noexec", "mount -o remount,exec"),
        "umount /opt",
    ),
    "half a package": Awkward(
        package("e2e-broken", postinst="exit 1"),
        ("installed only in part (e2e-broken", "dpkg --configure -a"),
        "dpkg --purge e2e-broken >/dev/null",
    ),
    "an index for pip alone": Awkward(
        # Somebody answers at this port.
        "printf '[global]\\nindex-url = http://127.0.0.1:22/simple\\n' > /etc/pip.conf;"
        " cp /etc/hosts /tmp/hosts; echo 127.0.0.9 pypi.org files.pythonhosted.org >> /etc/hosts",
        ("pypi.org can't be reached, and uv takes Python packages", "/etc/uv/uv.toml too"),
        "rm /etc/pip.conf; cat /tmp/hosts > /etc/hosts",
    ),
    # This one stays, as the cure says, beside the deploy's own.
    "PostgreSQL of others": Awkward(
        OTHERS,
        (
            "main has the database airflow, which this deploy did not make",
            "main has the role airflow, which this deploy did not make",
            "pg_renamecluster",
        ),
        "pg_renamecluster $(ls /usr/lib/postgresql) main others",
    ),
}


def snapshot(shell: Shell) -> list[str]:
    """What is on the host, but for PostgreSQL's files, which change by themselves."""
    return [line for line in shell(SNAPSHOT).splitlines() if "/var/lib/postgresql" not in line]


@pytest.mark.parametrize("name", HOSTS)
def test_it_is_refused_until_it_is_undone(name: str, shell: Shell) -> None:
    make, said, undo = HOSTS[name]
    shell(f"apt-get -qq update >/dev/null; {make}" if "apt-get" in make else make)
    before = snapshot(shell)
    run = deploy()
    after = snapshot(shell)
    shell(undo)
    assert run.code != 0
    assert "Starting operation" not in run.output and "Traceback" not in run.output
    for words in said:
        assert words in run.output, run.output
    assert after == before
    dry = deploy("--dry")
    assert dry.code == 0, dry.output

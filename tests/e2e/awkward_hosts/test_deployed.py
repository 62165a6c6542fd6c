"""With an odd login, another Python, a second PostgreSQL cluster and a /tmp without programs, the
deploy makes the same Airflow as anywhere, and people's own changes to it are no reason to fail."""

from __future__ import annotations

import re

import pytest

from tasks import layout
from tests.e2e.conftest import Shell
from tests.e2e.support import REMOVAL, deploy
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

VERSION = "$(ls /usr/lib/postgresql)"
# What PAM gives to each login, and so to each command over SSH.
LOGIN = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "LC_ALL": "xx_YY.UTF-8",
    "PGHOST": "db.invalid",
    "TMPDIR": "/nowhere",
}
KUBECTL = "env -u https_proxy -u HTTPS_PROXY kubectl"  # the login's proxy answers nothing
# Before Kubernetes starts, the host has another address first. The test goes on by the old one.
OTHER_ADDRESS = """
[Unit]
Before=network-online.target containerd.service kubelet.service minikube.service
[Service]
Type=oneshot
ExecStart=/bin/sh -ec 'ip addr flush dev {interface} scope global; \\
    ip addr add {new}/{prefix} dev {interface}; ip addr add {old}/{prefix} dev {interface}; \\
    ip route replace default via {gateway} dev {interface}'
[Install]
WantedBy=multi-user.target
"""
# A server that prints the size of segments that it may send to the client, and the client.
SERVES = (
    "import socket; c, _ = socket.create_server(('198.51.100.2', 80)).accept();"
    " print(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))"
)
ASKS = "import socket; socket.create_connection(('198.51.100.2', 80)).recv(1)"
NOTHING_WRONG = "systemctl list-units --failed --no-legend 'airflow*' minikube postgresql* nginx"


# Rules of a network that others have by CNI, such as a podman's, and a file of its addresses.
OTHER_RULES = (
    "iptables {} CNI-FORWARD -s 198.51.100.2/32 -j ACCEPT",
    "iptables -t nat {} POSTROUTING -s 198.51.100.2/32 -j CNI-e2e",
    "iptables -t nat {} CNI-e2e ! -d 224.0.0.0/4 -j MASQUERADE",
)
OTHER_ADDRESS_FILE = "/var/lib/cni/networks/e2e/198.51.100.2"


def others(shell: Shell, sql: str) -> str:
    """Ask the cluster that was there before."""
    return shell(
        f"cd /; env -u PGHOST PGCLUSTER={VERSION}/others"
        f' runuser -u postgres -- psql -XAtqc "{sql}" airflow'
    )


@pytest.fixture(scope="module")
def precious(shell: Shell) -> str:
    """What the cluster of others looks like before the deploy."""
    return others(shell, "select rolname from pg_roles order by 1") + others(
        shell, "select datname, datdba from pg_database order by 1"
    )


def test_a_bare_host_becomes_a_working_airflow(shell: Shell, precious: str) -> None:
    shell(
        "echo create_main_cluster = false >> /etc/postgresql-common/createcluster.conf;"
        " mount -o remount,noexec /tmp;"
        " echo net.ipv6.conf.all.disable_ipv6=1 > /etc/sysctl.d/90-e2e.conf;"
        " echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6;"
        " echo 'session optional pam_umask.so umask=077' >> /etc/pam.d/common-session;"
        # A Python that somebody built, and that has none of Debian's packages.
        " printf '#!/bin/sh\\nexit 9\\n' > /usr/local/bin/python3; chmod 755 /usr/local/bin/python3"
    )
    text = "".join(f"{name}={value}\n" for name, value in LOGIN.items())
    shell(f"cat >> /etc/environment <<'END'\n{text}END")
    surroundings = shell("umask; env")
    assert surroundings.startswith("0077") and "PGHOST=db.invalid" in surroundings
    run = deploy()
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed
    again = deploy()
    assert again.code == 0 and again.changed == [], again.output
    assert shell(NOTHING_WRONG) == ""


def test_the_services_users_can_read_the_new_files(shell: Shell) -> None:
    folders = "/opt/airflow/venvs /opt/airflow/uv /usr/local/lib/airflow /usr/local/bin/airflow*"
    assert shell(f"find {folders} ! -type l ! -perm -o=r") == ""
    assert shell(f"find {folders} -type d ! -perm -o=x") == ""


def test_the_other_cluster_is_as_it_was(shell: Shell, precious: str) -> None:
    now = others(shell, "select rolname from pg_roles order by 1") + others(
        shell, "select datname, datdba from pg_database order by 1"
    )
    assert now == precious
    assert others(shell, "select count(*) from precious") == "0"
    lines = shell("pg_lsclusters --no-header").splitlines()
    ports = {line.split()[1]: line.split()[2] for line in lines}
    assert ports.keys() == {"main", "others"}
    assert shell("grep -c 'port=" + ports["main"] + "$' /etc/airflow/airflow.cfg") == "2"


def test_a_person_with_these_surroundings_has_working_commands(shell: Shell) -> None:
    assert "Smoke test passed" in shell("airflow-smoke-test")
    assert "/var/backups/airflow/" in shell("airflow-backup")
    assert shell("airflow variables list -o plain >/dev/null && echo yes") == "yes"


def test_an_admins_own_password_fails_no_deploy(shell: Shell) -> None:
    shell("airflow users reset-password --username admin --password Another-1 >/dev/null")
    run = deploy(settings={"dags_env": {"COLOUR": "green"}})
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed


def test_a_deleted_admin_stays_deleted(shell: Shell) -> None:
    shell("airflow users delete --username admin >/dev/null")
    run = deploy()
    assert run.code == 0, run.output
    assert "The web page has no user admin: somebody deleted it" in run.output
    assert " admin " not in shell("airflow users list --output plain")
    assert deploy().changed == []


def test_the_smoke_tests_user_comes_back(shell: Shell) -> None:
    shell("airflow users reset-password --username airflow-smoke-test --password x >/dev/null")
    assert "Smoke test passed" in shell("airflow-smoke-test")
    shell("airflow users delete --username airflow-smoke-test >/dev/null")
    assert "Smoke test passed" in shell("airflow-smoke-test")
    shell("airflow users remove-role --username airflow-smoke-test --role User >/dev/null")
    run = deploy()
    assert run.code == 0, run.output
    assert "Somebody deleted or changed airflow-smoke-test" in run.output
    assert "Smoke test passed" in shell("airflow-smoke-test")
    assert deploy().changed == []


def test_a_package_without_a_wheel_ends_the_deploy_before_the_cluster_changes(shell: Shell) -> None:
    settings: dict[str, object] = {
        "airflow_extra_requirements": ["python-ldap"],
        "postgres_config": {"max_connections": "117"},
    }
    run = deploy(settings=settings)
    assert run.code != 0
    assert "airflow_extra_requirements: they can't be installed" in run.output
    # A deploy that fails gives no results as JSON.
    steps = re.findall(r"--> Starting operation: (.+\n(?:(?!-->).*\n)*)", run.output)
    changed = [step for step in steps if re.search(r"(?m)\] Success$", step)]
    assert len(steps) > 20
    assert all(step.startswith(("System |", "Airflow |")) for step in changed), changed
    assert "117" not in shell("cat /etc/postgresql/*/main/conf.d/airflow.conf")
    assert "Smoke test passed" in shell("airflow-smoke-test")
    run = deploy()
    assert run.code == 0, run.output


def test_more_addresses_of_the_host_do_not_matter(shell: Shell) -> None:
    """A second network; and a second address that the host prefers, which minikube does not ask."""
    route = shell("ip -4 route show default | head -n 1")
    interface = shell("ip -4 route show default | sed -n '1s/.* dev \\([^ ]*\\).*/\\1/p'")
    shell(
        "ip link add e2e-second type veth peer name e2e-peer && ip link set e2e-second up"
        " && ip addr add 198.51.100.7/24 dev e2e-second"
        f" && ip addr add 203.0.113.9/32 dev {interface}"
    )
    run = deploy()
    assert run.code == 0 and run.changed == [], run.output
    shell(f"ip route change {route} src 203.0.113.9")
    try:
        assert "src 203.0.113.9" in shell("ip -4 route get 192.0.2.1")
        shell("systemctl start airflow-certificate")
        # Its pod reaches the host by the node's address, which is still the first one.
        assert "Smoke test passed" in shell("airflow-smoke-test")
    finally:
        shell(
            f"ip route change {route}; ip link del e2e-second"
            f"; ip addr del 203.0.113.9/32 dev {interface}"
        )
    assert "Smoke test passed" in shell("airflow-smoke-test")


def test_connections_of_pods_fit_through_a_small_interface(shell: Shell) -> None:
    """As that of a VPN: the other side sends segments that fit, as it does to the host itself."""
    shell(
        "ip netns add e2e-far && ip link add e2e-near mtu 1400 type veth peer name e2e-end"
        " netns e2e-far && ip addr add 198.51.100.1/24 dev e2e-near && ip link set e2e-near up"
        " && ip -n e2e-far addr add 198.51.100.2/24 dev e2e-end"
        " && ip -n e2e-far link set e2e-end up"
    )
    try:
        # containerd's name for the network of a pod, such as CoreDNS.
        pod = shell("ip netns list | grep -o '^cni-[^ ]*' | head -n 1")
        size = shell(
            f'ip netns exec e2e-far timeout 90 /usr/bin/python3 -c "{SERVES}" & timeout 60'
            " sh -c 'until ip netns exec e2e-far ss -Hltn | grep -q :80; do sleep 0.2; done';"
            f' ip netns exec {pod} timeout 20 /usr/bin/python3 -c "{ASKS}"; wait'
        )
    finally:
        shell("ip link del e2e-near; ip netns del e2e-far")
    # Without the headers of IP and TCP.
    assert 1300 < int(size) <= 1360


def test_a_proxy_is_for_the_internet_only(shell: Shell) -> None:
    """Nobody answers there, and nothing of the host and its cluster asks."""
    settings: dict[str, object] = {"proxy_url": "http://127.0.0.1:9"}
    run = deploy(settings=settings)
    assert run.code == 0, run.output
    assert "minikube | Give containerd the proxy" in run.changed
    assert deploy(settings=settings).changed == []
    shown = shell(
        "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID airflow-dag-processor)/environ"
    )
    assert "HTTPS_PROXY=http://127.0.0.1:9" in shown.splitlines()
    run = deploy()
    assert run.code == 0, run.output
    assert shell("ls /etc/systemd/system/containerd.service.d | grep -c airflow || true") == "0"


def test_a_boot_with_another_address_needs_a_deploy_at_most(shell: Shell, machine: Machine) -> None:
    old, last = machine.address, int(machine.address.rpartition(".")[2])
    new = f"{old.rpartition('.')[0]}.{200 + last % 50}"
    _, _, gateway, _, interface, *_ = shell("ip -4 route show default | head -n 1").split()
    prefix = shell(f"ip -o -4 addr show to {old} | sed 's|.*/\\([0-9]*\\) .*|\\1|'")
    unit = OTHER_ADDRESS.format(
        interface=interface, new=new, old=old, prefix=prefix, gateway=gateway
    )
    shell(
        f"cat > /etc/systemd/system/e2e-address.service <<'END'\n{unit}END\n"
        f"systemctl enable --quiet e2e-address; sed -i 's/^{old} /{new} /' /etc/hosts"
    )
    machines.reboot(machine.name)
    names = f"openssl x509 -noout -ext subjectAltName -in {layout.CERTIFICATE}"
    wait_for(lambda: new in shell(names), 180, "the certificate is for the new address", every=3)
    run = deploy()
    assert run.code == 0, run.output
    address = "{.items[*].status.addresses[?(@.type=='InternalIP')].address}"
    assert shell(f'{KUBECTL} get nodes -o jsonpath="{address}"') == new
    assert "Smoke test passed" in shell("airflow-smoke-test")
    assert shell(NOTHING_WRONG) == ""
    assert deploy().changed == []
    shell("systemctl disable --quiet e2e-address; rm /etc/systemd/system/e2e-address.service")


def test_another_name_of_the_host_needs_another_cluster(shell: Shell) -> None:
    old = shell("hostname")
    # This machine is a container, in which hostnamectl can't replace /etc/hostname.
    shell(f"hostname e2e-renamed && sed -i 's/\\b{old}\\b/e2e-renamed/g' /etc/hosts")
    run = deploy()
    assert run.code != 0 and "nothing was changed" in run.output
    assert f"the cluster's node is called {old}" in run.output
    # As with sudo -H, the login's folder for temporary files does not count.
    shell("env -u TMPDIR minikube delete >/dev/null 2>&1")
    run = deploy()
    assert run.code == 0, run.output
    assert shell(f"{KUBECTL} get nodes -o name") == "node/e2e-renamed"
    assert "Smoke test passed" in shell("airflow-smoke-test")
    assert deploy().changed == []


def test_the_removal_leaves_other_peoples_things(shell: Shell, precious: str) -> None:
    shell("iptables -N CNI-FORWARD 2>/dev/null || true; iptables -t nat -N CNI-e2e")
    shell(" && ".join(OTHER_RULES).replace("{}", "-A"))
    shell(f"mkdir -p $(dirname {OTHER_ADDRESS_FILE}) && echo mine > {OTHER_ADDRESS_FILE}")
    run = deploy(what=REMOVAL)
    assert run.code == 0, run.output
    shell(" && ".join(OTHER_RULES).replace("{}", "-C"))
    assert shell("iptables-save | grep -E 'KUBE-|10\\.244\\..*CNI-' || true") == ""
    assert shell("find /var/lib/cni -type f") == OTHER_ADDRESS_FILE
    assert deploy(what=REMOVAL).changed == []
    shell(" && ".join(OTHER_RULES).replace("{}", "-D"))
    shell("iptables -t nat -X CNI-e2e && rm -r /var/lib/cni")
    assert others(shell, "select count(*) from precious") == "0"
    (line,) = shell("pg_lsclusters --no-header").splitlines()
    assert line.split()[1] == "others"

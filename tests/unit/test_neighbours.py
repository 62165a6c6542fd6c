"""Preflight: things of others on a host, which the deploy neither takes over nor breaks."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import layout
from tasks.preflight import neighbours, questions
from tasks.preflight.neighbours import Cluster
from tasks.preflight.questions import Report, of_places, variables
from tasks.settings import RELEASES, Settings
from tests.unit import fake, postgres
from tests.unit.asked_host import Host
from tests.unit.fake import DEFAULTS, EXISTING_DATABASE
from tests.unit.reports import found

MIGRATED = {"migrated": ["3.3.2-0123 1 2"], "database_kib": ["1"], "installed": ["yes"]}


# Findings


@pytest.mark.parametrize(
    ("answers", "thing", "cure"),
    [
        ({"foreign_user": ["airflow"]}, "a user airflow that this deploy did not", "deluser"),
        ({"foreign_group": ["airflow"]}, "a group airflow that this deploy did not", "groupmod"),
        ({"others_user": ["ada"]}, "a user ada that the deploy did not make", "group inventory"),
        ({"foreign_uid": ["bob"]}, "airflow_uid: the id belongs to bob", "write another one"),
        ({"foreign_unit": ["/etc/systemd/system/airflow-x.service"]}, "airflow-x.service", "away"),
        (
            {"foreign_path": ["/opt/airflow/x"]},
            "not make /opt/airflow/x",
            "`mv /opt/airflow/x /root`",
        ),
        ({"foreign_keepalived": ["/etc/x.conf"]}, "/etc/x.conf is not of this deploy", "move the"),
        (
            {"foreign_exporter": ["prometheus-postgres-exporter"]},
            "metrics_port: prometheus-postgres-exporter is here",
            "`apt-get purge prometheus-postgres-exporter`",
        ),
        (
            {"folder_link": ["/var/log/airflow /data/my logs"]},
            "/var/log/airflow is a link",
            "`/data/my logs /var/log/airflow none bind` in /etc/fstab",
        ),
        ({"engine": ["docker-ce"]}, "docker-ce", 'minikube_driver = "podman"'),
        ({"engine_broken": ["Error: no runtime"]}, "Error: no runtime", "info` succeeds"),
        ({"engine_warns": ["level=warning"]}, "level=warning", " version` prints nothing else"),
        ({"foreign_node": ["podman"]}, "a container minikube", "rename minikube another"),
        ({"engine_btrfs": ["docker"]}, "storage driver btrfs", "out of worker_resources"),
        ({"hostname": ["Big_Host"]}, "Big_Host can't be", "hostnamectl set-hostname"),
        ({"hostname": ["-x"]}, "-x can't be", "hostnamectl"),
        ({"node_name": ["old"]}, "node is called old", "set-hostname old"),
        ({"resolver": ["127.0.0.1"]}, "names 127.0.0.1", "kubelet.resolv-conf"),
        ({"no_resolver": ["/etc/x"]}, "/etc/x names no server", "nameserver 192.0.2.1"),
        ({"no_module": ["overlay gone"]}, "can't load overlay", "reboot"),
        ({"no_module": ["overlay disabled"]}, "can't load overlay", "modules_disabled"),
        ({"no_module": ["overlay forbidden"]}, "can't load overlay", "`install overlay`"),
        ({"no_module": ["overlay missing"]}, "can't load overlay", "linux-image-amd64"),
        ({"closed_to_kubelet": ["/dev/x", "/proc/x"]}, "/dev/x, /proc/x", "a virtual machine"),
        ({"no_acl": ["/opt/airflow/dags nfs4"]}, "/opt/airflow/dags is on", "dags_git_bundles"),
        ({"no_acl": ["/opt/airflow/dags zfs noacl"]}, "(zfs) without", "acltype=posixacl"),
        ({"no_acl": ["/opt/airflow/dags ext4 noacl"]}, "(ext4) without", "take noacl out"),
        ({"nginx_sites": ["no"]}, "nginx.conf does not read", "include /etc/nginx/sites-enabled"),
        ({"disc": ["/etc/apt/x"]}, "/etc/apt/x names a disc", "take its line out"),
        ({"room": ["/tmp 1024 9999 9999"]}, "1 MiB of disk are free in /tmp", "need 16"),
        ({"no_ipv4": ["yes"]}, "no default route for IPv4", "ip route add default"),
        ({"noexec": ["/opt"]}, "/opt is mounted with noexec", "remount,exec"),
        (
            {"firewall": ["ufw input/tcp/8443"]},
            "no pod reach the cluster's API",
            "ufw allow from 10.244.0.0/16 to any port 8443 proto tcp",
        ),
        (
            {"firewall": ["firewalld input/tcp/8081"]},
            "Airflow at port 8081",
            "--add-source=10.244.0.0/16",
        ),
        ({"firewall": ["rules input/tcp/8081"]}, "port 8081", "iptables -I INPUT -s 10.244.0.0/16"),
        (
            {"firewall": ["rules input/tcp/8081 inet filter input"]},
            "port 8081",
            "nft insert rule inet filter input ip saddr 10.244.0.0/16 tcp dport 8081 accept",
        ),
        (
            {"firewall": ["rules forward/udp/53 inet filter forward"]},
            "reach the cluster's DNS",
            "nft insert rule inet filter forward ip saddr 10.244.0.0/16 accept"
            " && nft insert rule inet filter forward ip daddr 10.244.0.0/16 accept",
        ),
        (
            {"firewall": ["rules output/tcp/8181"]},
            "look after no pod",
            "iptables -I OUTPUT -d 10.244.0.0/16 -j ACCEPT",
        ),
        (
            {"firewall": ["ufw output/tcp/8181"]},
            "look after no pod",
            "`ufw allow out to 10.244.0.0/16`",
        ),
        ({"dpkg": ["foo bar "]}, "in part (foo bar)", "dpkg --configure -a"),
        (
            {"no_index": ["uv index.example"], "index_of": ["pip"]},
            "uv takes Python packages",
            "/etc/uv/uv.toml too",
        ),
        (
            {"no_index": ["pip index.example"], "index_of": ["uv"]},
            "pip takes Python packages",
            "/etc/pip.conf too",
        ),
        (
            {"no_index": ["uv index.example"], "index_of": ["uv"]},
            "index.example can't be reached",
            "open the way",
        ),
    ],
)
def test_a_finding_names_the_thing_and_a_cure(
    answers: dict[str, list[str]], thing: str, cure: str
) -> None:
    (finding,) = found(answers)
    assert thing in finding and cure in finding


def test_an_index_of_the_inventory_can_replace_the_public_one() -> None:
    given = {"build_indexes": {"own": {"url": "https://index.example/simple"}}}
    (finding,) = found({"no_index": ["uv pypi.org"], "index_of": ["pip"]}, given)
    assert "uv.toml" not in finding and 'build_indexes "default": True' in finding


@pytest.mark.parametrize("name", ["host", "db-1.example.com", "0x"])
def test_a_name_of_a_node_is_no_finding(name: str) -> None:
    assert found({"hostname": [name]}) == []


def test_a_resolver_for_pods_is_the_inventorys_to_name() -> None:
    given = {"minikube_extra_args": ["--extra-config=kubelet.resolv-conf=/etc/resolv.pods"]}
    assert found({"resolver": ["127.0.0.1"], "no_resolver": ["/etc/x"]}, given) == []


def test_an_address_needs_its_protocol() -> None:
    assert found({"no_ipv6": ["yes"]}) == []
    (finding,) = found({"no_ipv6": ["yes"]}, {"web_host": "::"})
    assert "0.0.0.0" in finding


def test_a_host_does_not_go_back_to_a_postgresql_without_its_data() -> None:
    answers = {**MIGRATED, "database_elsewhere": ["yes"]}
    (finding,) = [each for each in found(answers) if each.startswith("postgres_provider")]
    assert "the deploy moves none" in finding
    assert not [each for each in found(answers, EXISTING_DATABASE) if "postgres" in each]


# Clusters of PostgreSQL: the answers of pg_lsclusters and of the clusters, and the decision.

OWN = "15 main 5432 online own database-airflow role-airflow role-airflow-dags"
CHOSEN: list[tuple[str, list[str], dict[str, Any], tuple[int, int]]] = [
    ("bookworm", [], {}, (15, 5432)),
    ("bookworm", ["15 main 5432 online others "], {}, (15, 5432)),
    ("bookworm", ["15 old 5432 online others database-x"], {}, (15, 5433)),
    ("bookworm", ["15 old 5432 down others", "15 main 5433 online others"], {}, (15, 5433)),
    ("bookworm", [], {"postgres_version": 17}, (17, 5432)),
    ("bookworm", [OWN], {}, (15, 5432)),
    # Debian was upgraded: the version stays, until somebody upgrades the cluster.
    ("trixie", [OWN], {}, (15, 5432)),
    ("trixie", [OWN, "17 main 5433 online others "], {}, (15, 5432)),
    ("trixie", ["15 main 5433 down own", OWN.replace("15", "17")], {}, (17, 5432)),
]


@pytest.mark.parametrize(("codename", "answers", "given", "expected"), CHOSEN)
def test_the_cluster_is_the_one_with_the_data(
    codename: str, answers: list[str], given: dict[str, Any], expected: tuple[int, int]
) -> None:
    settings = Settings.from_data(given)
    report = Report({"postgres": answers, "system": [f"debian {codename}"]})
    assert neighbours.postgres(settings, report) == expected
    completed = settings.for_release(codename, expected)
    assert (completed.postgres.version, completed.postgres_port) == expected
    assert found({"postgres": answers, "system": [f"debian {codename}"]}, given) == []


@pytest.mark.parametrize(
    ("clusters", "held", "port"),
    [
        ([], ["22", "5432"], 5433),
        (["15 x 5433 down others"], ["5432"], 5434),
        ([OWN], ["5432"], 5432),  # by the cluster itself
    ],
)
def test_a_new_cluster_gets_a_port_that_nobody_has(
    clusters: list[str], held: list[str], port: int
) -> None:
    report = Report({"postgres": clusters, "held": held, "system": ["debian bookworm"]})
    assert neighbours.postgres(DEFAULTS, report) == (15, port)


@pytest.mark.parametrize(
    ("answers", "given", "said"),
    [
        (
            {"postgres": ["15 main 5432 online others database-airflow"]},
            {},
            ["15/main has the database airflow, which", "pg_renamecluster 15 main others"],
        ),
        (
            {"postgres": ["15 main 5432 online others database-shop"]},
            {},
            ["15/main has the database shop, which", "pg_renamecluster 15 main others"],
        ),
        (
            {"postgres": ["15 main 5432 online others role-airflow"]},
            {},
            ["has the role airflow, which", "pg_renamecluster"],
        ),
        (
            {"postgres": ["15 main 5432 down others "]},
            {},
            ["15/main does not run", "pg_ctlcluster 15 main start"],
        ),
        (
            {**MIGRATED, "postgres": [OWN]},
            {"postgres_version": 17},
            ["postgres_version", "15/main", "`pg_upgradecluster 15 main -v 17`", "write 15"],
        ),
        (
            {
                **MIGRATED,
                "postgres": [
                    "15 old 5432 online others database-airflow role-airflow",
                    "15 main 5433 online own ",
                ],
            },
            {},
            ["in the PostgreSQL cluster 15/old", "pg_dump --cluster 15/old", "--cluster 15/main"],
        ),
    ],
)
def test_a_cluster_of_others_is_refused(
    answers: dict[str, list[str]], given: dict[str, Any], said: list[str]
) -> None:
    if "migrated" in answers:  # by the version that is wanted, so that nothing else is to say
        key = Settings.from_data(given).for_release("bookworm").venv_key
        answers = {**answers, "migrated": [f"{key} 1 2"]}
    (finding,) = found(answers, given)
    for words in said:
        assert words in finding


EMPTY = "17 main 5432 online others "
WITHOUT_PROGRAMS = "15 main 5432 down,binaries_missing own "


@pytest.mark.parametrize(
    ("clusters", "said"),
    [
        # Debian's `apt purge` of the old version took its clusters away, or only its programs.
        ([], ["Airflow's database is gone", layout.MIGRATED, "airflow-restore"]),
        ([EMPTY], ["Airflow's database is gone", layout.MIGRATED, "airflow-restore"]),
        ([WITHOUT_PROGRAMS], ["15/main has Airflow's database", "install postgresql-15 again"]),
        ([WITHOUT_PROGRAMS, EMPTY.replace("5432", "5433")], ["install postgresql-15 again"]),
        # One that does not run can't be asked, and the deploy starts it.
        (["15 main 5432 down own "], []),
        ([WITHOUT_PROGRAMS.replace("5432", "5433"), OWN.replace("15", "17")], []),
    ],
)
def test_a_database_that_was_lost_is_not_replaced_by_an_empty_one(
    clusters: list[str], said: list[str]
) -> None:
    key = DEFAULTS.for_release("trixie").venv_key
    answers = {
        **MIGRATED,
        "migrated": [f"{key} 1 2"],
        "system": ["debian trixie"],
        "postgres": clusters,
        "postgres_due": ["yes"],
    }
    findings = found(answers)
    assert len(findings) == bool(said)
    for words in said:
        assert words in findings[0]


def test_a_postgres_of_an_earlier_debian_is_mentioned() -> None:
    fitting = Report({"postgres": [OWN], "system": ["debian bookworm"]})
    assert neighbours.remark(DEFAULTS, fitting) is None
    report = Report({"postgres": [OWN], "system": ["debian trixie"]})
    said = neighbours.remark(DEFAULTS, report)
    assert said and "PostgreSQL 15 is of an earlier Debian" in said and "which has 17" in said
    # It names a section that is there.
    (section,) = re.findall("section “(.*)”", said)
    assert f"## {section}\n" in (layout.ROOT / "inventories/YEARS.md").read_text()
    # With another archive somebody may want it so.
    wanted = Settings.from_data({"postgres_version": 15})
    assert neighbours.remark(wanted, report) is None


def test_a_cluster_that_was_upgraded_is_airflows_own_again() -> None:
    """Also if its configuration did not come along."""
    there = ["15 main 5433 down own ", OWN.replace("15", "17").replace(" own ", " others ")]
    report = Report({**MIGRATED, "postgres": there, "system": ["debian trixie"]})
    assert neighbours.postgres(DEFAULTS, report) == (17, 5432)
    key = DEFAULTS.for_release("trixie", (17, 5432)).venv_key
    system = {"system": ["debian trixie"], "migrated": [f"{key} 1 2"]}
    assert found({**MIGRATED, "postgres": there, **system}) == []


def test_an_answer_is_read() -> None:
    report = Report({"postgres": ["15 main 5432 online,recovery own role-airflow"]})
    assert neighbours.clusters(report) == [
        Cluster(15, "main", 5432, True, True, frozenset({"role-airflow"}))
    ]


# The questions, asked for real, where a folder has some programs and files of the host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without anything of others."""
    return Host(tmp_path)


def test_an_empty_host_has_nothing_to_tell(host: Host) -> None:
    assert host.ask() == {}


def test_clusters_are_asked_one_by_one(host: Host) -> None:
    host.program(
        "pg_lsclusters", "echo '15 main 5432 online postgres /data'\necho '17 x 5433 down'"
    )
    host.program(
        "runuser", 'case "$*" in *15/main*) echo database-airflow; echo role-airflow ;; esac'
    )
    assert host.ask()["postgres"] == [
        "15 main 5432 online others database-airflow role-airflow",
        "17 x 5433 down others",
    ]


def test_a_cluster_that_does_not_answer_is_not_taken_for_an_empty_one(host: Host) -> None:
    """As while it recovers from a crash."""
    host.program("pg_lsclusters", "echo '15 main 5432 online postgres /data'")
    host.program("runuser", "echo 'the database system is starting up' >&2; exit 2")
    assert host.ask()["postgres"] == ["15 main 5432 silent others"]


def test_a_database_is_due_once_a_deploy_made_it(host: Host, tmp_path: Path) -> None:
    host.variables["migrated"] = str(tmp_path / "migrated")
    assert host.ask() == {}
    (tmp_path / "migrated").write_text("3.3.2-0123 1 2\n")
    assert host.ask() == {"postgres_due": ["yes"]}
    (host.bin / "pg_lsclusters").unlink()  # purged with the rest
    assert host.ask()["postgres_due"] == ["yes"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ports_that_are_held_are_told_until_there_is_a_database(
    host: Host, tmp_path: Path, address: str
) -> None:
    (host.bin / "ss").unlink()  # that of this machine answers
    host.variables["migrated"] = str(tmp_path / "migrated")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = str(server.getsockname()[1])
        assert port in host.ask()["held"]
        (tmp_path / "migrated").write_text("3.3.2-0123 1 2\n")
        assert host.ask() == {"postgres_due": ["yes"]}
    (tmp_path / "migrated").unlink()
    assert port not in host.ask().get("held", [])


def test_names_of_others_are_told_unless_the_deploy_was_here(host: Host) -> None:
    host.program(
        "getent",
        'case "$*" in *" airflow" | *50000) echo airflow:x:50000 ;; *) exit 2 ;; esac',
    )
    (host.units / "airflow-scheduler.service").touch()
    (host.units / "airflow-webserver.service").touch()
    assert host.ask() == {
        "foreign_unit": [
            f"{host.units}/airflow-webserver.service",
            f"{host.units}/airflow-scheduler.service",
        ],
        "foreign_uid": ["airflow", "airflow"],
        "foreign_user": ["airflow"],
        "foreign_group": ["airflow"],
    }
    host.state.mkdir()
    # Of this one the deploy makes a link.
    assert host.ask() == {"foreign_unit": [f"{host.units}/airflow-webserver.service"]}
    (host.units / "airflow-webserver.service").unlink()
    (host.units / "airflow-webserver.service").symlink_to("airflow-api-server.service")
    assert host.ask() == {}


def test_units_that_an_admin_masked_are_told_at_any_time(host: Host) -> None:
    host.program(
        "systemctl", "echo 'nginx.service masked enabled'; echo 'keepalived.service masked enabled'"
    )
    # Debian masks the units of a package that is removed but not purged, until it comes back.
    host.file("/var/lib/systemd/deb-systemd-helper-masked/keepalived.service")
    assert host.ask() == {"masked": ["nginx.service"]}
    passed = Path(host.variables["smoke_passed"])
    passed.parent.mkdir()
    passed.write_text("state")
    assert host.ask() == {"masked": ["nginx.service"]}


@pytest.mark.parametrize(
    ("unit", "given", "is_needed"),
    [
        ("airflow-scheduler.service", {}, True),
        ("airflow-webserver.service", {}, True),  # an alias of the api-server's
        ("airflow-liveness.timer", {}, True),
        ("airflow-flower.service", {}, False),  # as of an Airflow 2
        ("hwclock.service", {}, False),
        ("nginx.service", {}, True),
        ("keepalived.service", {}, False),
        ("postgresql@15-main.service", {}, True),
        ("postgresql@13-main.service", {}, False),
        ("postgresql.service", {}, True),
        ("postgresql.service", EXISTING_DATABASE, False),
        ("prometheus-postgres-exporter.socket", {}, False),
        ("prometheus-postgres-exporter.socket", {"metrics_port": 9187}, True),
        ("kubelet.service", {}, True),
        ("docker.service", {}, False),
        ("containerd.service", {"minikube_driver": "docker"}, False),
        ("docker.service", {"minikube_driver": "docker"}, True),
        ("opt-airflow-logs.mount", {"minikube_driver": "podman"}, True),
    ],
)
def test_a_masked_unit_is_refused_if_the_deploy_needs_it(
    unit: str, given: dict[str, Any], is_needed: bool
) -> None:
    findings = [each for each in found({"masked": ["rc.local", unit]}, given) if "masked" in each]
    assert len(findings) == is_needed
    assert all(f"`systemctl unmask {unit}`" in each for each in findings)


def test_a_proxy_that_reaches_all_units_is_told_and_refused(host: Host) -> None:
    variables = "no_proxy=localhost\nhttps_proxy=http://ada:s3cret@proxy.example:3128"
    host.program("systemctl", f'test "$1" != show-environment || echo "{variables}"')
    answers = host.ask()
    assert answers == {"units_proxy": ["https_proxy"]}
    (finding,) = found(answers)
    assert "write it into proxy_url" in finding and "unset-environment https_proxy" in finding
    # There it works already.
    assert found({**answers, "installed": ["yes"]}) == []


def test_a_domain_with_an_address_for_each_name_is_told(host: Host) -> None:
    host.file("/etc/resolv.conf", "nameserver 192.0.2.53\nsearch right.example wild.example.\n")
    host.program("getent", 'case "$*" in *.wild.example.) echo 192.0.2.1 ;; *) exit 2 ;; esac')
    answers = host.ask()
    assert answers == {"answers_all": ["wild.example."]}
    (finding,) = found(answers)
    assert "each name in the domain wild.example. has an address" in finding


@pytest.mark.parametrize("name", ["123456", "-x", "Up", "a..b"])
def test_a_name_that_no_node_can_have_is_told(name: str) -> None:
    (finding,) = found({"hostname": [name]})
    assert f"the host's name {name} can't be a Kubernetes node's" in finding


def test_options_of_airflow_that_reach_all_units_are_told_and_refused(host: Host) -> None:
    variables = "LANG=C\nAIRFLOW__CORE__EXECUTOR=x\nAIRFLOW_HOME=/x"
    host.program("systemctl", f'test "$1" != show-environment || echo "{variables}"')
    answers = host.ask()
    assert answers == {"units_variable": ["AIRFLOW__CORE__EXECUTOR"]}
    (finding,) = found(answers)
    assert "all units of the host AIRFLOW__CORE__EXECUTOR, and" in finding
    assert "airflow_config" in finding and "unset-environment AIRFLOW__CORE__EXECUTOR" in finding


class Places:
    """The deploy's places below a folder."""

    def __init__(self, host: Host, given: dict[str, Any] | None = None) -> None:
        self.root = host.state.parent / "root"
        values = of_places(Settings.from_data(given or {}))
        for name in ("brought_paths", "new_paths"):
            host.variables[name] = " ".join(f"{self.root}{each}" for each in values[name].split())

    def file(self, path: str) -> str:
        """Make a file there; returns its path."""
        file = Path(f"{self.root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return str(file)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/opt/airflow/airflow.cfg", ""),
        ("/opt/airflow/venv/bin/airflow", "/opt/airflow/venv"),
        ("/opt/airflow/a file", ""),
        ("/etc/airflow/airflow.cfg", ""),
        ("/etc/airflow/.env", ""),
        ("/var/lib/airflow/airflow.db", "/var/lib/airflow"),
        ("/usr/local/bin/airflow", ""),
        ("/usr/local/bin/kubectl", ""),
        ("/usr/local/bin/minikube", ""),
        ("/run/airflow/scheduler.pid", "/run/airflow"),
    ],
)
def test_files_of_an_airflow_of_others_are_told(host: Host, path: str, told: str) -> None:
    places = Places(host)
    places.file(path)
    assert host.ask() == {"foreign_path": [f"{places.root}{told or path}"]}
    host.state.mkdir()
    assert host.ask() == {}


def test_files_that_people_bring_to_a_first_deploy_are_not_told(host: Host) -> None:
    """As inventories/README.md says; or a removal with `keep_data` left them."""
    own = "/etc/airflow/pki/kubeconfig"
    places = Places(host, {**fake.EXISTING, "kubernetes_kubeconfig": own})
    for path in (
        f"{layout.SECRETS}/fernet-key",
        f"{layout.DAGS}/a.py",
        f"{layout.PLUGINS}/b.py",
        f"{layout.LOGS}/dag_id=a/c.log",
        f"{layout.DAG_PROCESSOR_LOGS}/d.log",
        f"{layout.BACKUPS}/e.tar",
        own,
    ):
        places.file(path)
    for empty in ("/opt/airflow/lost+found", "/var/lib/airflow"):  # as of a disk of its own
        Path(f"{places.root}{empty}").mkdir(parents=True)
    program = Path(places.file("/usr/local/bin/k3s"))
    (program.parent / "kubectl").symlink_to("k3s")
    assert host.ask() == {}
    (program.parent / "airflow").symlink_to("/opt/venv/bin/airflow")
    assert host.ask() == {"foreign_path": [f"{program.parent}/airflow"]}


def test_a_keepalived_of_somebody_else_is_told_if_the_deploy_needs_it(host: Host) -> None:
    config = host.state.parent / "keepalived.conf"
    config.write_text("vrrp_instance theirs {\n}\n")
    assert host.ask() == {}
    host.variables["address_config"] = str(config)
    assert host.ask() == {"foreign_keepalived": [str(config)]}
    config.write_text(fake.plan(fake.several(0, fake.ONE_ADDRESS)).uploads[layout.ADDRESS_CONFIG])
    assert host.ask() == {}
    config.unlink()
    assert host.ask() == {}


def test_an_exporter_of_somebody_else_is_told_if_the_deploy_needs_it(host: Host) -> None:
    drop_in = host.state.parent / "drop-in"
    host.program("dpkg-query", 'case "$*" in *" exporter") echo installed ;; esac')
    assert host.ask() == {}
    host.variables |= {"exporter": "exporter", "exporter_drop_in": str(drop_in)}
    assert host.ask() == {"foreign_exporter": ["exporter"]}
    drop_in.touch()
    assert host.ask() == {}
    # Without metrics_port for a while, the package stays, and the deploy's options go.
    drop_in.unlink()
    host.state.mkdir()
    (host.state / "packages").write_text("nginx\nexporter\n")
    assert host.ask() == {}
    (host.state / "packages").unlink()
    host.program("dpkg-query", "exit 1")
    assert host.ask() == {}


def test_an_exporter_is_asked_about_where_there_will_be_an_endpoint() -> None:
    assert of_places(DEFAULTS)["exporter"] == ""
    wanted = of_places(Settings.from_data({"metrics_port": 9187}))
    assert wanted["exporter"] and wanted["exporter_drop_in"] == layout.METRICS_DROP_IN


def test_an_id_of_somebody_else_is_told_at_any_time(host: Host) -> None:
    host.program("getent", 'case "$*" in "passwd 50000") echo bob:x:50000 ;; *) exit 2 ;; esac')
    host.state.mkdir()
    assert host.ask() == {"foreign_uid": ["bob"]}


def test_other_engines_are_told_before_the_deploy_has_its_own(host: Host) -> None:
    host.program("dpkg-query", 'case "$*" in *docker-ce) echo installed ;; esac')
    host.program("ctr", 'case "$*" in *namespaces*) echo k8s.io; echo moby ;; *) echo 1 ;; esac')
    host.program("k3s", "")
    told = ["docker-ce", "k3s", "containerd (k8s.io)", "containerd (moby)"]
    assert host.ask()["engine"] == told
    profile = host.state.with_name("config.json")
    host.variables["minikube_profile"] = str(profile)
    profile.touch()  # the containers of the first namespace are of its cluster
    assert host.ask()["engine"] == ["docker-ce", "k3s", "containerd (moby)"]
    (host.units / "minikube.service").touch()
    assert host.ask() == {}


def test_a_podman_whose_networks_minikube_would_rename_is_told_while_it_has_containers(
    host: Host,
) -> None:
    host.program("podman", 'test "$*" = "ps -q" && echo 0123')
    assert host.ask() == {}  # its networks are of netavark
    network = host.file("/etc/cni/net.d/87-podman.conflist")
    assert host.ask() == {"engine": ["podman (networks of CNI)"]}
    host.program("podman", "true")
    assert host.ask() == {}
    host.program("podman", "echo 0123")
    network.rename(f"{network}.mk_disabled")
    assert host.ask() == {}


@pytest.mark.parametrize("package", ["cri-o", "kubeadm", "kubelet"])
def test_a_kubernetes_of_others_is_told(host: Host, package: str) -> None:
    host.program("dpkg-query", f'case "$*" in *" {package}") echo installed ;; esac')
    assert host.ask() == {"engine": [package]}


def test_an_engine_that_does_not_work_is_told_with_its_words(host: Host) -> None:
    host.variables |= {"node_is_host": "", "node_engine": "podman", "firewall_ports": ""}
    host.program(
        "podman", 'echo warning >&2; test "$1" = info && echo "Error: no runtime" >&2; exit 1'
    )
    assert host.ask() == {"engine_broken": ["Error: no runtime"]}
    host.program("podman", 'test "$1" = info')
    assert host.ask() == {}
    host.program("podman", 'test "$1" != version || { echo Version: 5; echo "level=warning" >&2; }')
    assert host.ask() == {"engine_warns": ["level=warning"]}


def test_an_engine_of_no_package_is_told_before_it_gets_a_second_one_beside_it(
    host: Host,
) -> None:
    packages = questions.engine_alternatives("docker")
    assert packages == ["docker.io", "docker-ce", "moby-engine"]
    host.variables |= {"node_is_host": "", "node_engine": "docker", "firewall_ports": ""}
    host.variables |= {"minikube_profile": str(host.state.with_name("config.json"))}
    host.variables |= {"engine_packages": " ".join(packages)}
    host.program("docker", 'test "$1" = info')
    assert host.ask() == {"foreign_engine": [f"{host.bin}/docker"]}
    host.program("dpkg-query", 'case "$*" in *" docker-ce") echo installed ;; esac')
    assert host.ask() == {}
    host.program("dpkg-query", "")
    host.state.with_name("config.json").touch()  # the cluster runs in it
    assert host.ask() == {}
    snap = host.file("/snap/bin/engine")  # where commands are not looked for
    host.variables["node_engine"] = "engine"
    assert host.ask() == {"foreign_engine": [str(snap)]}
    (finding,) = found({"foreign_engine": ["/snap/bin/docker"]}, {"minikube_driver": "docker"})
    assert "/snap/bin/docker is of no Debian package (docker.io, docker-ce, moby" in finding


@pytest.mark.parametrize(
    ("engine", "answer"),
    [("docker", " Storage Driver: {}"), ("podman", "store:\n  graphDriverName: {}")],
)
def test_an_engine_with_which_a_node_counts_no_disk_is_told(
    host: Host, engine: str, answer: str
) -> None:
    host.variables |= {"node_is_host": "", "node_engine": engine, "firewall_ports": ""}
    for driver, said in (("btrfs", {"engine_btrfs": [engine]}), ("overlay", {})):
        host.program(engine, f'test "$1" = info && echo "{answer.format(driver)}"')
        assert host.ask() == said


def test_pods_that_ask_for_no_disk_may_run_on_such_an_engine() -> None:
    without = {"worker_resources": {"limits": {"memory": "1Gi"}}}
    assert found({"engine_btrfs": ["docker"]}, {"minikube_driver": "docker", **without}) == []


def test_a_container_of_others_with_the_nodes_name_is_told(host: Host) -> None:
    profile = host.state.with_name("config.json")
    host.variables |= {
        "node_is_host": "",
        "node_engine": "podman",
        "firewall_ports": "",
        "minikube_profile": str(profile),
    }
    host.program("podman", 'test "$*" = info || test "$*" = "container inspect minikube"')
    assert host.ask() == {"foreign_node": ["podman"]}
    profile.touch()  # it is root's minikube's own
    assert host.ask() == {}


UFW = "-A ufw-user-input -s 10.244.0.0/16 -p tcp -m tcp --dport {} -j ACCEPT"
DROP = "type filter hook input priority filter; policy drop;"
HOOK = DROP.replace("drop", "accept")
BOTH = ["rules input/tcp/8443", "rules input/tcp/8081"]
RULES: list[tuple[list[str], list[str]]] = [
    ([], []),
    (["type filter hook input priority filter; policy accept;"], []),
    ([DROP], ["rules input/tcp/8443", "rules input/tcp/8081"]),
    (
        [":INPUT DROP [0:0]", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"],
        ["rules input/tcp/8443", "rules input/tcp/8081"],
    ),
    ([":INPUT DROP [0:0]", UFW.format(8443)], ["rules input/tcp/8081"]),
    ([":INPUT DROP [0:0]", UFW.format(8443), UFW.format(8081)], []),
    (
        [DROP, "ip saddr 10.244.0.0/16 tcp dport 8443 counter packets 0 accept"],
        ["rules input/tcp/8081"],
    ),
    ([DROP, "ip saddr 10.244.0.0/16 accept"], []),
    ([DROP, 'iifname "bridge" accept'], []),
    ([DROP, "tcp dport { 22, 8081, 8443 } accept"], []),
    (
        [DROP, "tcp dport 18443 accept", "tcp dport 80810 accept"],
        ["rules input/tcp/8443", "rules input/tcp/8081"],
    ),
    ([DROP, "ip saddr 192.0.2.0/24 accept"], ["rules input/tcp/8443", "rules input/tcp/8081"]),
    (
        [DROP, "ip saddr 192.0.2.0/24 tcp dport 8443 accept"],
        ["rules input/tcp/8443", "rules input/tcp/8081"],
    ),
    (
        [DROP, 'iifname "lo" accept', "ct state established,related accept"],
        ["rules input/tcp/8443", "rules input/tcp/8081"],
    ),
    # Networks that hold that of pods, and ports of a range.
    ([DROP, "ip saddr 10.0.0.0/8 tcp dport 8000-9000 accept"], []),
    ([DROP, "ip saddr { 192.0.2.0/24, 10.244.0.0-10.244.255.255 } accept"], []),
    ([DROP, "ip saddr 10.244.0.0/24 accept"], BOTH),
    ([DROP, "ip saddr 10.0.0.0/8 tcp dport { 22, 8000-8100 } accept"], ["rules input/tcp/8443"]),
    ([":INPUT DROP [0:0]", "-A INPUT -s 10.128.0.0/9 -p tcp --dport 8081:8443 -j ACCEPT"], []),
    (
        [":INPUT DROP [0:0]", "-A INPUT -p tcp -m multiport --dports 22,8400:8500 -j ACCEPT"],
        [BOTH[1]],
    ),
    # Nobody can tell whom a set has.
    ([DROP, "ip saddr @friends accept"], []),
    ([DROP, "tcp dport @open accept"], []),
    # A chain that drops at its end, for all or for some.
    ([HOOK, "counter packets 3 bytes 180 drop"], BOTH),
    ([HOOK, 'log prefix "closed: " level info', 'log prefix "x " drop comment "the rest"'], BOTH),
    ([HOOK, "ip saddr 192.0.2.7 drop", "tcp dport 23 reject"], []),
    ([HOOK, "ip saddr 10.244.0.0/16 accept", "reject with icmpx admin-prohibited"], []),
    ([HOOK, "accept", "drop"], []),
    ([HOOK, "drop", "ip saddr 10.244.0.0/16 accept"], BOTH),
    (["-A INPUT -i lo -j ACCEPT", "-A INPUT -j REJECT --reject-with icmp-host-prohibited"], BOTH),
    (['-A INPUT -m comment --comment "the rest" -j DROP'], BOTH),
    (["-A INPUT -s 192.0.2.7/32 -j DROP"], []),
    (["-A INPUT -s 10.0.0.0/8 -j ACCEPT", "-A INPUT -j DROP"], []),
    (["-A INPUT -j DROP", "-A INPUT -s 10.0.0.0/8 -j ACCEPT"], BOTH),
    # A drop by way of another chain, and of all that pods could send.
    (
        ["-A INPUT -j LOGGING", "-A LOGGING -m limit --limit 2/min -j LOG", "-A LOGGING -j DROP"],
        BOTH,
    ),
    (["-A INPUT -g CLOSED", "-A CLOSED -j REJECT --reject-with icmp-port-unreachable"], BOTH),
    ([HOOK, "counter packets 1 bytes 60 jump closed", "}", "chain closed {", "drop"], BOTH),
    (["-A INPUT -j FRIENDS", "-A FRIENDS -s 10.0.0.0/8 -j RETURN", "-A FRIENDS -j DROP"], []),
    (["-A INPUT -p udp -j CLOSED", "-A CLOSED -j DROP"], []),
    (["-A INPUT ! -i lo -j DROP"], BOTH),
    (["-A INPUT -m state --state NEW -j DROP"], BOTH),
    (["-A INPUT -p tcp -m tcp -m conntrack --ctstate INVALID,NEW -j DROP"], BOTH),
    (["-A INPUT -p tcp -j DROP"], BOTH),
    (["-A INPUT -p udp -j DROP"], []),
    (["-A INPUT -m state --state INVALID -j DROP"], []),
    ([HOOK, "ct state new drop"], BOTH),
    ([HOOK, "ct state { new, untracked } reject"], BOTH),
    ([HOOK, "ct state invalid drop"], []),
    ([HOOK, 'iifname != "lo" drop'], BOTH),
    ([HOOK, "meta l4proto tcp reject with tcp reset"], BOTH),
    ([HOOK, "ct state new tcp dport 8000-9000 accept", "ct state new drop"], []),
    # What is for other packets neither closes nor opens.
    (["-A FORWARD -j REJECT", "-A some -j DROP"], []),
    (
        [
            DROP,
            "chain out {",
            "type filter hook output priority filter;",
            "tcp dport 1-65535 accept",
        ],
        BOTH,
    ),
    ([DROP, "ip6 saddr fe80::/10 accept", "udp dport 8081 accept"], BOTH),
    (["table ip6 filter {", "chain input {", DROP], []),
]


@pytest.mark.parametrize(("rules", "closed"), RULES)
def test_a_firewall_is_told_by_the_ports_that_pods_need(
    host: Host, rules: list[str], closed: list[str]
) -> None:
    text = "\n".join(rules)
    host.program("nft" if {DROP, HOOK} & {*rules} else "iptables-save", f"cat <<'END'\n{text}\nEND")
    # By itself, since all questions take ten times as long; the next test asks them all.
    assert host.ask(question="ask_firewall") == ({"firewall": closed} if closed else {})


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("-A CNI-DN-1 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.42.0.8:443", True),
        (
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 443 -j DNAT"
            " --to-destination 172.17.0.2:80",
            True,
        ),
        ("tcp dport 443 counter packets 0 bytes 0 dnat ip to 10.42.0.8:443", True),
        (
            'iifname != "docker0" tcp dport 443 counter packets 0 bytes 0 dnat to 172.17.0.2:80',
            True,
        ),
        ('iifname != "docker0" tcp dport 443 counter packets 0 bytes 0 xt target "DNAT"', True),
        # Another port, another protocol, some addresses or interfaces.
        ("-A CNI-DN-1 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.0.8:443", False),
        ("-A CNI-DN-1 -p tcp -m tcp --dport 4430 -j DNAT --to-destination 10.42.0.8:443", False),
        ("-A CNI-DN-1 -p udp -m udp --dport 443 -j DNAT --to-destination 10.42.0.8:443", False),
        ("-A CNI-DN-1 -s 10.42.0.0/24 -p tcp -m tcp --dport 443 -j CNI-HOSTPORT-SETMARK", False),
        (
            "-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 443 -j DNAT"
            " --to-destination 172.17.0.2:80",
            False,
        ),
        ("-A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.244.0.2:443", False),
        ('iifname "wan0" tcp dport 443 dnat ip to 192.0.2.9', False),
        ("ip daddr 192.0.2.9 tcp dport 443 dnat ip to 192.0.2.10", False),
        ("tcp dport 443 accept", False),
    ],
)
def test_a_port_whose_packets_go_elsewhere_is_told(rule: str, told: bool, host: Host) -> None:
    host.program("iptables-save" if rule.startswith("-A") else "nft", f"cat <<'END'\n{rule}\nEND")
    host.variables |= {"reached_ports": "8081 443", "firewall_ports": ""}
    assert host.ask().get("forwarded", []) == (["443"] if told else [])


def test_rules_of_a_k3s_are_seen_on_a_host_without_iptables(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")  # of this machine, whose iptables is in /usr/sbin
    rule = "-A CNI-DN-1 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.42.0.8:443"
    for name in ("nft", "iptables-save"):
        (host.bin / name).unlink()
    path = host.file("/var/lib/rancher/k3s/data/current/bin/aux/iptables-save")
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{rule}\nEND\n")
    path.chmod(0o755)
    host.variables |= {"reached_ports": "8081 443", "firewall_ports": ""}
    assert host.ask(question="ask_forwarded") == {"forwarded": ["443"]}


def test_a_port_whose_packets_go_elsewhere_has_a_cure() -> None:
    given = {"web_host": "0.0.0.0", "metrics_port": 9187}
    said = shlex.split(variables(Settings.from_data(given), ""))
    assert "reached_ports=8081 443 9187" in said
    assert "reached_ports=8081" in shlex.split(variables(DEFAULTS, ""))
    (finding,) = found({"forwarded": ["443"]}, given)
    assert "port 443 are sent elsewhere" in finding and finding.endswith("with web_https_port")
    # The proxy of a container listens there too, and is named.
    (finding,) = found({"forwarded": ["443"], "port": ["443 77 docker-proxy"]}, given)
    assert "held by docker-proxy" in finding


FORWARD, OUTPUT = (DROP.replace("input", hook) for hook in ("forward", "output"))
TABLE = ("table inet filter {", "chain some {")
FORWARDED, SENT = "rules forward/udp/53", "rules output/tcp/8181"
OTHER_RULES: list[tuple[list[str], list[str]]] = [
    ([*TABLE, FORWARD], [f"{FORWARDED} inet filter some"]),
    ([*TABLE, FORWARD, "ct state established,related accept"], [f"{FORWARDED} inet filter some"]),
    ([*TABLE, FORWARD, 'iifname "lan0" oifname "wan0" accept'], [f"{FORWARDED} inet filter some"]),
    ([*TABLE, FORWARD, "tcp dport 53 accept"], [f"{FORWARDED} inet filter some"]),
    ([*TABLE, FORWARD.replace("drop", "accept"), "drop"], [f"{FORWARDED} inet filter some"]),
    ([*TABLE, FORWARD.replace("drop", "accept")], []),
    ([*TABLE, FORWARD, "ip saddr 10.244.0.0/16 accept"], []),
    ([*TABLE, FORWARD, 'iifname "bridge" accept'], []),
    ([*TABLE, FORWARD, 'oifname "wan0" accept'], []),
    ([*TABLE, FORWARD, "ct status dnat accept"], []),
    ([*TABLE, FORWARD, "udp dport 53 accept"], []),
    (["table bridge filter {", "chain some {", FORWARD], []),
    # The network plugin opens the chain of iptables, which nft lists too.
    (["table ip filter {", "chain FORWARD {", FORWARD], []),
    ([":FORWARD DROP [0:0]", "-A FORWARD -j REJECT"], []),
    (["table inet own {", "chain FORWARD {", FORWARD], [f"{FORWARDED} inet own FORWARD"]),
    (["table inet own {", "chain INPUT {", DROP], [f"{each} inet own INPUT" for each in BOTH]),
    ([*TABLE, OUTPUT], [f"{SENT} inet filter some"]),
    (
        [
            *TABLE,
            OUTPUT,
            'oifname "lo" accept',
            "ct state established accept",
            "udp dport 53 accept",
        ],
        [f"{SENT} inet filter some"],
    ),
    (
        [*TABLE, OUTPUT, "ip daddr 192.0.2.0/24 accept", "tcp dport { 80, 443 } accept"],
        [f"{SENT} inet filter some"],
    ),
    ([*TABLE, OUTPUT, "meta skuid 0 accept"], []),
    ([*TABLE, OUTPUT, "ip daddr 10.0.0.0/8 accept"], []),
    ([*TABLE, OUTPUT, 'oifname "bridge" accept'], []),
    ([*TABLE, OUTPUT, "tcp dport 1024-65535 accept"], []),
    ([":OUTPUT DROP [0:0]", "-A some -i lo -j ACCEPT", "-A open -j ACCEPT"], [SENT]),
    ([":OUTPUT DROP [0:0]", "-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"], [SENT]),
    ([":OUTPUT DROP [0:0]", "-A OUTPUT -d 10.244.0.0/16 -j ACCEPT"], []),
    ([":OUTPUT DROP [0:0]", "-A OUTPUT -m owner --uid-owner 0 -j ACCEPT"], []),
    ([":OUTPUT ACCEPT [0:0]", "-A OUTPUT -j ACCEPT"], []),
    ([*TABLE, DROP], [f"{each} inet filter some" for each in BOTH]),
    (["table ip filter {", "chain INPUT {", DROP], BOTH),
]


@pytest.mark.parametrize(("rules", "closed"), OTHER_RULES)
def test_a_firewall_is_told_by_the_other_ways_of_pods(
    host: Host, rules: list[str], closed: list[str]
) -> None:
    host.variables["firewall_ways"] = "forward/udp/53 output/tcp/8181"
    text = "\n".join(rules)
    host.program("nft" if "hook" in text else "iptables-save", f"cat <<'END'\n{text}\nEND")
    assert host.ask().get("firewall", []) == closed


def test_podmans_dns_is_behind_the_hosts_firewall() -> None:
    podman = {"minikube_driver": "podman"}
    assert variables(Settings.from_data(podman), "").count("input/udp/53") == 1
    assert "input/udp/53" not in variables(DEFAULTS, "")
    (finding,) = found({"firewall": ["ufw input/udp/53"]}, podman)
    assert "`ufw allow from 192.168.49.0/24 to any port 53 proto udp`" in finding
    (finding,) = found({"firewall": ["rules input/udp/53 inet x input"]}, podman)
    rule = "nft insert rule inet x input ip saddr 192.168.49.0/24 udp dport 53 accept"
    assert f"`{rule}`" in finding
    # netavark has its rules for it in a table of its own there, which undo no drop of another one.
    trixie = {"system": ["debian trixie"]}
    assert len(found({**trixie, "firewall": ["ufw input/udp/53"]}, podman)) == 1


# As docker and ufw have them.
DOCKERS = (
    ":FORWARD DROP [0:0]",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
    "-A DOCKER -d 172.17.0.2/32 ! -i br-0123 -o br-0123 -p tcp -m tcp --dport 443 -j ACCEPT",
    "-A DOCKER-USER -j RETURN",
)
UFWS = (
    ":FORWARD DROP [0:0]",
    "-A FORWARD -j ufw-before-forward",
    "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT",
    "-A ufw-user-input -p tcp -m tcp --dport 443 -j ACCEPT",
    "-A ufw-user-limit-accept -j ACCEPT",
)
CLOSED = ["rules forward/tcp/443"]


@pytest.mark.parametrize(
    ("rules", "codename", "engine", "closed"),
    [
        (DOCKERS, "bookworm", "podman", []),
        (DOCKERS, "noble", "podman", []),
        (DOCKERS, "trixie", "podman", CLOSED),
        (DOCKERS, "resolute", "podman", CLOSED),
        (DOCKERS, "trixie", "docker", []),
        ((*DOCKERS, "-A DOCKER-USER -s 192.168.49.0/24 -j ACCEPT"), "trixie", "podman", []),
        ((*DOCKERS, "-A FORWARD -i podman+ -j ACCEPT"), "trixie", "podman", []),
        (UFWS, "bookworm", "podman", []),
        (UFWS, "trixie", "podman", CLOSED),
        (UFWS, "trixie", "docker", []),
        ((*UFWS, "-A ufw-user-forward -s 192.168.49.0/24 -j ACCEPT"), "trixie", "podman", []),
        ((TABLE[0].replace("inet", "ip"), "chain FORWARD {", FORWARD), "trixie", "podman", CLOSED),
        ((TABLE[0].replace("inet", "ip"), "chain FORWARD {", FORWARD), "bookworm", "podman", []),
    ],
)
def test_a_closed_chain_of_iptables_is_told_where_podman_does_not_open_it(
    rules: tuple[str, ...], codename: str, engine: str, closed: list[str], host: Host
) -> None:
    """The network plugin puts a rule on top of it, unless its rules are of nftables."""
    host.variables |= {"node_is_host": "", "node_engine": engine, "firewall_ports": "8081"}
    host.variables |= {"firewall_ways": "forward/tcp/443", "pod_network": "192.168.49.0/24"}
    host.file("/etc/os-release", f"ID=some\nVERSION_CODENAME={codename}\n")
    text = "\n".join(rules)
    host.program("nft" if "hook" in text else "iptables-save", f"cat <<'END'\n{text}\nEND")
    answers = host.ask(question="ask_firewall")
    assert answers == ({"firewall": closed} if closed else {})


def test_a_closed_chain_of_iptables_is_opened_for_both_directions() -> None:
    podman = {"minikube_driver": "podman"}
    (finding,) = found({"firewall": CLOSED}, podman)
    assert "`iptables -I FORWARD -s 192.168.49.0/24 -j ACCEPT && iptables -I" in finding
    assert " -d 192.168.49.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`" in finding
    (finding,) = found({"firewall": ["ufw forward/tcp/443"]}, podman)
    assert "`ufw route allow from 192.168.49.0/24`" in finding  # which lets answers pass


def test_each_way_that_is_asked_about_has_its_words() -> None:
    for given in ({}, {"minikube_driver": "podman"}, {"minikube_driver": "docker"}):
        values = questions.of_cluster(Settings.from_data(given))
        for way in values["firewall_ways"].split():
            assert len(found({"firewall": [f"rules {way}"]}, given)) == 1


def test_firewalld_is_asked_by_its_own_program(host: Host) -> None:
    host.program(
        "firewall-cmd",
        'case "$*" in --state) ;; *zone-of-source*) exit 1 ;; *default-zone) echo public ;;\n'
        "*get-target*) echo default ;; *query-port=8443/tcp) ;; *) exit 1 ;; esac",
    )
    assert host.ask()["firewall"] == ["firewalld input/tcp/8081"]
    host.program(
        "firewall-cmd", 'case "$*" in *zone-of*) echo trusted ;; *target) echo ACCEPT ;; esac'
    )
    assert host.ask() == {}


def test_half_installed_packages_are_told_unless_somebody_installs_now(host: Host) -> None:
    audit = "The following packages are only half configured:\n libfoo:amd64   a library\n bar  two"
    host.program("dpkg", f"cat <<'END'\n{audit}\nEND")
    assert host.ask()["dpkg"] == ["libfoo:amd64 bar"]
    host.program("lslocks", "echo /var/lib/dpkg/lock-frontend")
    assert host.ask() == {}


@pytest.mark.parametrize(
    ("name", "node_is_host", "told"),
    [("old", "yes", []), ("OLD", "yes", []), ("new", "yes", ["old"]), ("new", "", [])],
)
def test_a_host_with_another_name_than_its_node_is_told(
    name: str, node_is_host: str, told: list[str], host: Host
) -> None:
    """Also after the first deploy."""
    host.program("hostname", f"echo {name}")
    host.variables["node_is_host"] = node_is_host
    assert "node_name" not in host.ask()
    host.file(
        "/etc/kubernetes/manifests/etcd.yaml",
        "  - command:\n    - etcd\n    - --name=old\n    - --data-dir=/var/lib/etcd\n",
    )
    passed = Path(host.variables["smoke_passed"])
    passed.parent.mkdir(exist_ok=True)
    passed.write_text("state")
    assert host.ask().get("node_name", []) == told


NETWORKS = """\
case "$*" in *address*) cat <<'END'
2: eth0    inet 192.0.2.5/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever
3: bridge    inet 10.244.0.1/16 brd 10.244.255.255 scope global bridge\\       valid_lft forever
END
;; *) cat <<'END'
default via 192.0.2.1 dev eth0
default via 10.9.0.1 dev tun0 table 51
10.244.0.0/16 dev bridge proto kernel scope link src 10.244.0.1
10.244.7.0/24 via 192.0.2.2 dev tun0
unreachable 10.7.0.0/16 table 52 metric 4
10.8.0.9 \\	nexthop via 192.0.2.3 dev eth1 weight 1 \\	nexthop via inet6 fe80::1 dev eth2
local 192.0.2.5 dev eth0 table local proto kernel scope host src 192.0.2.5
END
;; esac"""


def test_the_networks_of_a_host_are_told_until_it_has_a_cluster(host: Host) -> None:
    host.program("ip", NETWORKS)
    assert host.ask("uses")["uses"] == [
        "address 192.0.2.5 eth0",
        "gateway 10.9.0.1 tun0",
        "gateway 192.0.2.1 eth0",
        "gateway 192.0.2.2 tun0",
        "gateway 192.0.2.3 eth1",
        "network 192.0.2.5/24 eth0",
        "route 10.244.7.0/24 tun0",
        "route 10.7.0.0/16",
        "route 10.8.0.9 eth1",
        "server 192.0.2.53",
    ]
    (host.units / "minikube.service").touch()
    assert "uses" not in host.ask("uses")


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ("address 10.244.3.7 eth0", "the address 10.244.3.7 (eth0), and the cluster's pods"),
        ("route 10.244.0.0/16 tun0", "the route 10.244.0.0/16 (tun0), and the cluster's pods"),
        ("route 10.244.9.9", "the route 10.244.9.9, and the cluster's pods"),
        ("gateway 10.244.0.1 eth0", "minikube_driver"),
        ("server 10.96.0.10", "the server 10.96.0.10, and the cluster's services"),
        ("address 10.111.0.1 eth0", "--service-cluster-ip-range=172.30.0.0/16"),
        # Linux prefers the pods' narrower route; and few of the services' addresses are in use.
        ("route 10.0.0.0/8 tun0", ""),
        ("route 10.100.0.0/16 tun0", ""),
        ("address 10.245.0.1 eth0", ""),
        ("server 192.0.2.53", ""),
    ],
)
def test_a_network_of_the_host_may_not_be_the_clusters(uses: str, said: str) -> None:
    findings = found({"uses": [uses]})
    assert len(findings) == bool(said)
    assert all(said in each for each in findings)


@pytest.mark.parametrize(
    ("engine", "form"), [("docker", '"Subnet": "{}",'), ("podman", '"subnet": "{}",')]
)
def test_the_networks_of_a_nodes_engine_are_told_until_it_has_a_cluster(
    engine: str, form: str, host: Host
) -> None:
    """An engine's network without a container may have no route."""
    host.variables |= {"node_is_host": "", "firewall_ports": "", "node_engine": engine}
    subnets = f"{form.format('fd00::/64')}\n  {form.format('192.168.49.0/24')}"
    host.program(
        engine,
        f"""case "$*" in info) ;; "network ls --format {{{{.Name}}}}") echo theirs ;;
        "network inspect theirs") cat <<'END'
[{{
  {subnets}
}}]
END
        ;; *) exit 1 ;; esac""",
    )
    assert host.ask("uses")["uses"] == [
        "gateway 192.0.2.1 eth0",
        "network 192.168.49.0/24 theirs",
        "server 192.0.2.53",
    ]
    (host.units / "minikube.service").touch()
    assert "uses" not in host.ask("uses")


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ("network 192.168.49.5/24 eth0", "uses the network 192.168.49.5/24 (eth0), and the"),
        # minikube looks at the networks of interfaces, whatever their length.
        ("network 192.168.7.5/16 eth0", "the network 192.168.7.5/16 (eth0), and the cluster's"),
        ("network 192.168.49.0/24 theirs", "(theirs), and the cluster's node has 192.168.49.0/24"),
        ("route 192.168.49.0/25 tun0", '"--subnet=192.168.60.0/24"'),
        ("server 192.168.49.53", "the server 192.168.49.53"),
        ("network 192.168.58.0/24 minikube", "`podman network rm minikube`"),
        ("network 192.168.58.0/24 minikube", '"--subnet=192.168.58.0/24"'),
        ("network 192.168.49.0/24 minikube", ""),  # of an earlier cluster
        ("network 192.168.50.5/24 eth0", ""),
        ("route 192.168.0.0/16 tun0", ""),
        ("address 10.244.0.5 eth0", ""),  # pods have their network within the node
    ],
)
def test_a_network_of_the_host_may_not_be_the_nodes(uses: str, said: str) -> None:
    findings = found({"uses": [uses]}, {"minikube_driver": "podman"})
    assert len(findings) == bool(said)
    assert all(said in each for each in findings)


def test_a_node_can_have_another_network() -> None:
    given = {
        "minikube_driver": "docker",
        "minikube_extra_args": ["--subnet=192.168.58.0/24"],
        "proxy_url": "http://proxy.example:3128",
    }
    assert found({"uses": ["network 192.168.49.5/24 eth0"]}, given) == []
    assert found({"uses": ["network 192.168.58.0/24 minikube"]}, given) == []
    assert questions.of_cluster(Settings.from_data(given))["pod_network"] == "192.168.58.0/24"
    exceptions = fake.settings(given).environment["no_proxy"].split(",")
    assert "192.168.58.0/24" in exceptions and "192.168.49.0/24" not in exceptions
    (finding,) = found({"firewall": ["ufw forward/tcp/443"]}, given)
    assert "`ufw route allow from 192.168.58.0/24`" in finding


def test_many_routes_are_one_finding() -> None:
    (finding,) = found({"uses": [f"route 10.244.{each}.0/24 tun0" for each in range(5)]})
    assert "(tun0) and 2 more, and the cluster's pods" in finding


def test_services_can_have_another_network_and_pods_of_minikubes_bridge_can_not() -> None:
    moved = "--service-cluster-ip-range=172.30.0.0/16"
    assert found({"uses": ["address 10.96.0.5 eth0"]}, {"minikube_extra_args": [moved]}) == []
    moved = "--extra-config=kubeadm.pod-network-cidr=172.29.0.0/16"
    uses = {"uses": ["address 10.244.0.5 eth0"]}
    for network, findings in (("", 1), ("bridge", 1), ("/root/network.yaml", 0)):
        given = {"minikube_extra_args": [moved, *([f"--cni={network}"] if network else [])]}
        assert len(found(uses, given)) == findings


def test_a_host_without_ipv4_is_told(host: Host) -> None:
    host.program("ip", 'case "$*" in *-4*) ;; *) echo default via fe80::1 dev eth0 ;; esac')
    assert host.ask() == {"no_ipv4": ["yes"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nameserver 127.0.0.1\n", {"resolver": ["127.0.0.1"]}),
        ("search example\n", {"no_resolver": ["{}/etc/resolv.conf"]}),
        ("nameserver 2001:db8::53\n", {"no_resolver": ["{}/etc/resolv.conf"]}),
        (None, {"no_resolver": ["{}/etc/resolv.conf"]}),
    ],
)
def test_a_resolver_that_pods_can_not_use_is_told(
    host: Host, text: str | None, told: dict[str, list[str]]
) -> None:
    path = host.file("/etc/resolv.conf", text or "")
    if text is None:
        path.unlink()
    expected = {key: [each.format(host.root) for each in value] for key, value in told.items()}
    assert host.ask() == expected
    # systemd-resolved has the real ones beside its own.
    host.file("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\n")
    assert host.ask() == {}


def test_a_kernel_without_a_module_is_told_with_its_reason(host: Host) -> None:
    for name in ("filesystems", "sys/net/bridge/bridge-nf-call-iptables"):
        Path(f"{host.root}/proc/{name}").unlink()
    Path(f"{host.root}/proc/sys/net/bridge").rmdir()
    host.program("uname", "echo 6.1")
    host.program("modprobe", 'test "$1 $2" = "-nv overlay" || exit 1; echo insmod overlay.ko')
    assert host.ask() == {"no_module": ["overlay gone"]}
    Path(f"{host.root}/lib/modules/6.2").mkdir(parents=True)
    assert host.ask() == {"no_module": ["overlay gone", "br_netfilter gone"]}
    Path(f"{host.root}/lib/modules/6.1").mkdir(parents=True)
    assert host.ask() == {"no_module": ["br_netfilter missing"]}
    # As a hardened host forbids a module: https://www.cisecurity.org/benchmark/debian_linux
    host.program("modprobe", 'test "$2" = overlay && echo install /bin/false')
    assert host.ask() == {"no_module": ["overlay forbidden", "br_netfilter missing"]}
    host.file("/proc/sys/kernel/modules_disabled", "1\n")
    assert host.ask() == {"no_module": ["overlay disabled", "br_netfilter disabled"]}


@pytest.mark.parametrize(
    ("path", "text", "without"),
    [
        (
            "/sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io memory pids\n",
            "cpuset cpu io pids\n",
        ),
        ("/proc/cgroups", "#subsys\nmemory\t0\t177\t1\n", "memory\t0\t1\t0\n"),
        ("/proc/cgroups", "cpu\t1\t51\t1\nmemory\t4\t177\t1\n", "cpu\t1\t51\t1\n"),
    ],
)
def test_a_kernel_without_a_group_for_memory_is_told(
    path: str, text: str, without: str, host: Host
) -> None:
    host.file(path, text)
    assert host.ask() == {}
    host.file(path, without)
    assert host.ask() == {"no_memory_group": ["yes"]}
    host.variables |= {"node_is_host": "", "firewall_ports": "", "node_engine": "podman"}
    host.program("podman", 'test "$1" = info')
    assert host.ask() == {"no_memory_group": ["yes"]}
    host.variables["node_engine"] = ""
    assert host.ask() == {}
    (finding,) = found({"no_memory_group": ["yes"]})
    assert "cgroup_enable=memory" in finding and "cmdline.txt" in finding


NAMESPACES, BRIDGE = "user.max_user_namespaces", "net.bridge.bridge-nf-call-iptables"


@pytest.mark.parametrize("name", [NAMESPACES, BRIDGE])
def test_a_feature_that_is_off_or_will_be_is_told(name: str, host: Host) -> None:
    value = host.file(f"/proc/sys/{name.replace('.', '/')}", "1\n")
    # As systemd reads all files at boot, the last line counts. Debian's hardening-runtime has such.
    program = host.file("/usr/lib/systemd/systemd-sysctl")
    program.chmod(0o755)
    for lines, told in (
        (f"{name} = 0\n{name}=1", []),
        (f"# {name} = 0\n{name}_x = 0\n{name} = 00", []),
        (f"# /etc/sysctl.d/x.conf\n{name} = 1\n{name} = 0\nkernel.panic = 1", [name]),
        (f"- {name.replace('.', '/')}\t=\t0", [name]),
    ):
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
        assert host.ask() == ({"sysctl_off": told} if told else {})
    program.unlink()
    value.write_text("0\n")
    assert host.ask() == {"sysctl_off": [name]}


def test_a_feature_that_is_off_is_refused_where_it_is_needed() -> None:
    (first, second) = found({"sysctl_off": [NAMESPACES, BRIDGE]})
    assert first.startswith(f"{NAMESPACES} is 0") and "airflow-token" in first
    assert second.startswith(f"{BRIDGE} is 0") and f"`{BRIDGE} = 1` into /etc/sysctl.d/" in second
    (only,) = found({"sysctl_off": [NAMESPACES, BRIDGE]}, {"minikube_driver": "podman"})
    assert only == first


def test_a_container_that_kubelet_can_not_run_in_is_told(host: Host) -> None:
    """As one of LXC; that of the sandbox has the rights of its machine."""
    (host.root / "dev/kmsg").unlink()
    panic = host.root / "proc/sys/kernel/panic"
    panic.unlink()
    assert host.ask() == {"closed_to_kubelet": [f"{host.root}/dev/kmsg", str(panic)]}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ("ext4   rw,relatime", ""),
        ("nfs    rw,vers=3", ""),
        ("nfs4   rw,noacl", "nfs4"),
        ("cifs   rw", "cifs"),
        ("fuse.sshfs rw", "fuse.sshfs"),
        ("zfs    rw,xattr,posixacl", ""),
        ("zfs    rw,xattr,noacl", "zfs noacl"),
        ("ext4   noacl,rw", "ext4 noacl"),
    ],
)
def test_a_folder_whose_file_system_has_no_lists_is_told(
    found: str, told: str, host: Host, tmp_path: Path
) -> None:
    """A folder that is not there yet will be on that of the nearest one above."""
    (tmp_path / "dags").mkdir()
    host.program("findmnt", f'case "$*" in *" -T {tmp_path}/dags/") echo "{found}" ;; esac')
    for folder in ("dags", "dags/not/yet"):
        host.variables["acl_folders"] = f"{tmp_path}/{folder} {tmp_path}/elsewhere"
        assert host.ask() == ({"no_acl": [f"{tmp_path}/{folder} {told}"]} if told else {})


def test_a_link_in_the_place_of_a_folder_is_told_at_any_time(host: Host, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("logs", "backups", "missing")]
    host.variables["own_folders"] = " ".join(map(str, folders))
    (tmp_path / "data").mkdir()
    folders[0].mkdir()
    folders[1].symlink_to("data")
    told = {"folder_link": [f"{folders[1]} {tmp_path}/data"]}
    assert host.ask() == told
    passed = Path(host.variables["smoke_passed"])
    passed.parent.mkdir()
    passed.write_text("state")
    assert host.ask() == told


def test_a_host_is_asked_about_the_folders_that_its_deploy_makes() -> None:
    folders = of_places(DEFAULTS)["own_folders"].split()
    assert {layout.LOGS, layout.DAGS, layout.BACKUPS, "/opt/airflow"} <= {*folders}


def test_an_nginx_that_reads_no_sites_is_told(host: Host) -> None:
    # The deploy's own site has no suffix.
    for folder in ("conf.d", "sites-enabled"):
        host.file(
            "/etc/nginx/nginx.conf", f"http {{\n    include /etc/nginx/{folder}/*.conf;\n}}\n"
        )
        assert host.ask() == {"nginx_sites": ["no"]}
    host.file("/etc/nginx/nginx.conf", "http {\n    include /etc/nginx/sites-enabled/*;\n}\n")
    assert host.ask() == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/apt/sources.list", "deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_]/ bookworm main"),
        ("/etc/apt/sources.list.d/dvd.sources", "Types: deb\nURIs: cdrom:[Debian]/"),
    ],
)
def test_a_disc_among_the_sources_of_apt_is_told(host: Host, path: str, text: str) -> None:
    file = host.file(path, f"#{text}\n".replace("\n", "\n#"))
    assert host.ask() == {}
    file.write_text(f"{text}\n")
    answers = host.ask()
    assert answers.pop("disc") == [str(file)]
    assert answers in ({}, {"apt_release": ["bookworm"]})
    if path.endswith(".sources"):  # apt reads no other file there
        file.rename(f"{file}.save")
        assert host.ask() == {}


def test_the_releases_of_apts_sources_are_told(host: Host) -> None:
    host.file(
        "/etc/apt/sources.list",
        "# deb http://a.example bookworm main\ndeb-src http://a.example sid main\n"
        "deb [arch=amd64 signed-by=/x] http://a.example/debian bullseye-updates main\n"
        "deb http://b.example bullseye/updates main contrib\n deb\thttp://b.example  prod main\n",
    )
    host.file(
        "/etc/apt/sources.list.d/own.sources",
        "Types: deb\nURIs: http://a.example\n# Suites: bookworm\nSuites: buster buster-security\n\n"
        "Enabled: no\nTypes: deb\nSuites: trixie\n",
    )
    host.file("/etc/apt/sources.list.d/old.list.save", "deb http://a.example bookworm main\n")
    assert host.ask() == {"apt_release": ["bullseye", "buster", "prod"]}


@pytest.mark.parametrize(
    ("releases", "is_stale"),
    [
        ([], False),
        (["bookworm"], False),
        (["bullseye", "bookworm"], False),
        (["bullseye", "stable"], False),  # which may be the host's
        (["bullseye", "prod"], False),
        (["bullseye", "buster"], True),
        (["trixie"], True),
    ],
)
def test_sources_of_other_releases_alone_are_refused(releases: list[str], is_stale: bool) -> None:
    findings = found({"apt_release": releases})
    assert len(findings) == is_stale
    for finding in findings:
        assert f"of {', '.join(sorted(releases))} only, and the host is bookworm" in finding


def test_the_codenames_of_supported_releases_are_known() -> None:
    assert RELEASES.keys() <= neighbours.CODENAMES


def test_units_of_packages_are_told(host: Host) -> None:
    unit = host.file("/usr/lib/systemd/system/airflow-scheduler.service")
    assert host.ask() == {"foreign_unit": [str(unit)]}
    host.state.mkdir()
    assert host.ask() == {}


def test_folders_of_programs_that_may_not_run_are_told(host: Host) -> None:
    host.program("findmnt", 'case "$*" in */opt) echo rw,noexec ;; *) echo rw ;; esac')
    assert host.ask() == {"noexec": ["/opt"]}


def test_links_out_of_folders_that_pods_mount_are_told(host: Host, tmp_path: Path) -> None:
    dags, plugins, elsewhere = (tmp_path / name for name in ("dags", "plugins", "elsewhere"))
    for folder in (dags / "own", plugins, elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "dag.py").touch()
    (dags / "again").symlink_to("own")
    (dags / "back").symlink_to(dags / "own")
    # As the python of a virtual environment, which the image has too.
    (dags / "own/python").symlink_to(shutil.which("sh") or "")
    host.variables["mounted_folders"] = f"{dags} {plugins}"
    assert host.ask() == {}
    (dags / "team").symlink_to(elsewhere)
    (dags / "zoo.py").symlink_to("../elsewhere/dag.py")
    (plugins / "a module.py").symlink_to(elsewhere / "dag.py")
    told = [f"{dags} {dags}/team", f"{plugins} {plugins}/a module.py"]
    assert host.ask() == {"link_out": told}
    first, second = neighbours.links(Report({"link_out": told}))
    assert first.startswith(f"{dags}/team leads out of {dags}.") and "mount --bind" in first
    assert second.startswith(f"{plugins}/a module.py leads out of {plugins}.")


@pytest.mark.parametrize(
    ("given", "folders"),
    [
        ({}, "/opt/airflow/dags /opt/airflow/plugins"),
        (fake.VARIANTS["git"] | {"dags_source": "git"}, "/opt/airflow/plugins"),
        (fake.VARIANTS["plugins"], "/opt/airflow/dags"),
        (fake.VARIANTS["existing cluster"], ""),
    ],
)
def test_links_are_asked_about_where_pods_mount_the_folders(
    given: dict[str, Any], folders: str
) -> None:
    said = shlex.split(variables(fake.settings(given), ""))
    assert f"mounted_folders={folders}" in said


@pytest.fixture
def index() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_index_is_asked_as_pip_and_uv_find_it(host: Host, tmp_path: Path, index: int) -> None:
    pip, uv = tmp_path / "pip.conf", tmp_path / "uv.toml"
    host.variables |= {"pip_files": str(pip), "index_files": str(uv), "index_servers": "127.0.0.2"}
    assert host.ask() == {"no_index": ["pip 127.0.0.2", "uv 127.0.0.2"]}
    pip.write_text(f"[global]\nindex-url = http://ada:secret@127.0.0.1:{index}/simple\n")
    assert host.ask() == {"index_of": ["pip"], "no_index": ["uv 127.0.0.2"]}
    uv.write_text(f'[[index]]\nurl = "http://127.0.0.1:{index}/simple"\ndefault = true\n')
    assert host.ask() == {"index_of": ["pip", "uv"]}
    uv.write_text('index-url = "http://127.0.0.1:1/simple"\n')
    assert host.ask() == {"index_of": ["pip", "uv"], "no_index": ["uv 127.0.0.1"]}


@pytest.mark.parametrize("key", ["index_url=", "index-url: ", "Index-URL :", "  index-url ="])
def test_an_index_is_found_in_each_spelling_that_pip_reads(
    host: Host, tmp_path: Path, index: int, key: str
) -> None:
    pip = tmp_path / "pip.conf"
    host.variables |= {"pip_files": str(pip), "index_servers": "127.0.0.2"}
    pip.write_text(f"[global]\n{key}http://127.0.0.1:{index}/simple\n")
    assert host.ask() == {"index_of": ["pip"], "no_index": ["uv 127.0.0.2"]}
    pip.write_text(f"[global]\nextra-{key.strip()}http://127.0.0.1:{index}/simple\n")
    assert host.ask() == {"no_index": ["pip 127.0.0.2", "uv 127.0.0.2"]}


@pytest.mark.parametrize("default", [True, False])
def test_the_inventorys_default_index_is_the_only_one(
    default: bool, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the host's files name, and if the public one can't be reached."""
    uv = tmp_path / "uv.toml"
    uv.write_text('index-url = "http://127.0.0.1:1/simple"\n')
    monkeypatch.setattr(questions, "UV_CONFIG", str(uv))
    monkeypatch.setattr(questions, "INDEX_SERVERS", ("127.0.0.2",))
    assert answered(host, {})["no_index"] == ["pip 127.0.0.2", "uv 127.0.0.1"]
    given = {"build_indexes": {"own": {"url": "https://127.0.0.1/simple", "default": default}}}
    told = answered(host, given).get("no_index")
    assert told == (None if default else ["pip 127.0.0.2", "uv 127.0.0.2"])


def answered(host: Host, given: dict[str, Any]) -> dict[str, list[str]]:
    """The answers about indexes, to the variables that preflight gives."""
    text = questions.variables(Settings.from_data(given), "me")
    names = ("pip_files", "index_files", "index_servers")
    shown = "\n".join(f'echo "{name} ${name}"' for name in names)
    done = subprocess.run(
        ["sh"], input=f"{text}\n{shown}\n", text=True, capture_output=True, check=True
    )
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        host.variables[name] = " ".join(
            each for each in value.split() if not each.endswith("pip.conf")
        )
    return host.ask()


USERS = """
create table ab_user (id int, username text, active boolean default true);
create table ab_role as select 1 as id, 'User' as name union select 2, 'Admin';
create table ab_group as select 1 as id, 'inventory' as name union select 2, 'others';
create table ab_user_role (user_id int, role_id int);
create table ab_user_group (user_id int, group_id int);
insert into ab_user values (1, 'admin'), (2, 'tester'), (3, 'ada'), (4, 'Bob'), (5, 'eve');
insert into ab_user_role values (1, 2), (2, 1), (3, 2), (4, 2);
insert into ab_user_group values (3, 1), (4, 2);
"""


def test_users_of_the_web_page_that_people_deleted_changed_or_made(host: Host) -> None:
    host.state.mkdir()
    made = host.state / "users"
    (host.state / "smoke-test-passed").write_text("…")
    host.variables |= {
        "first_user": "admin",
        "test_user": "tester",
        "users_made": str(made),
        "web_users": "ada bob new",
    }
    with postgres.server() as server:
        server.sql("create database airflow")
        server.sql(USERS, "airflow")
        export = " ".join(f"{name}={value}" for name, value in server.environment.items())
        host.program("owner.sh", f'exec env {export} PGDATABASE=airflow "$@"')
        assert host.ask() == {}  # the deploy made none yet
        made.write_text("admin\n")
        assert host.ask() == {"others_user": ["bob"]}
        for change in (
            "insert into ab_user_role values (2, 2)",
            "delete from ab_user_role where user_id = 2",
            "insert into ab_user_role values (2, 1); update ab_user set active = false",
            "delete from ab_user where id = 2",
        ):
            server.sql(change, "airflow")
            assert host.ask() == {"others_user": ["bob"], "test_user": ["changed"]}, change
        server.sql("delete from ab_user where id in (1, 4)", "airflow")
        assert host.ask() == {"first_user": ["deleted"], "test_user": ["changed"]}

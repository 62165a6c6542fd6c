"""Preflight: the findings about a host, and the questions that a host is asked."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import layout
from tasks.cluster import programs, releases
from tasks.preflight import checks, questions
from tasks.preflight.checks import findings
from tasks.preflight.questions import QUESTIONS, SAFE_KEYS, HostReport, Report, variables
from tasks.settings import RELEASES, Settings
from tests.unit import fake
from tests.unit.fake import ANOTHER_DRIVER, DEFAULTS, EXISTING
from tests.unit.reports import GIB, found

LOCAL_IMAGE = {"worker_image": "localhost/worker:1"}
# Without the image, whose registry would be asked.
CLUSTER = {key: value for key, value in EXISTING.items() if key != "worker_image"} | LOCAL_IMAGE
CLOUD = {"kubernetes_context": "cloud"}
REGISTRY = {"worker_registry": {"repository": "registry.example/airflow"}}
OFFLINE = {"offline_dir": "/srv/offline"}
# From Kubernetes 1.33 to the default.
BETWEEN = releases.between("1.33.1", DEFAULTS)

# A kubeconfig of two clusters, one of them reached with a cloud's program.
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: office
clusters:
- name: office
  cluster:
    certificate-authority: /home/ada/ca.crt
    server: https://192.0.2.9:6443
    extensions:
    - extension:
        last-update: today
      name: notes
- name: cloud
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: c2VjcmV0
contexts:
- context:
    cluster: office
    user: ada
  name: office
- context:
    cluster: cloud
    user: cloud
    namespace: data
  name: cloud
users:
- name: ada
  user:
    client-certificate-data: c2VjcmV0
    client-key-data: c2VjcmV0
- name: cloud
  user:
    token: c2VjcmV0
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args:
      - --password
      - c2VjcmV0
      command: no-such-cloud
      env:
      - name: PASSWORD
        value: c2VjcmV0
"""

TOLD = [
    f"|{line}"
    for line in KUBECONFIG.replace("no-such-cloud", "aws").splitlines()
    if line.strip(" -").partition(":")[0] in SAFE_KEYS
]


def test_a_restore_that_was_cut_off_is_all_that_is_told() -> None:
    (finding,) = found({"restore_cut": ["airflow-restore /root/a.tar"], "uid": ["1000"]})
    assert "continue it with sudo airflow-restore /root/a.tar on the host" in finding


# The lock


def test_another_deploy_that_runs_is_all_that_is_told() -> None:
    (finding,) = found({"locked": ["ada@desk (process 7), 10:00:00 UTC"], "uid": ["1000"]})
    assert finding.startswith("another deploy of this host runs, by ada@desk (process 7), 10:00:00")


# Upgrades


def migrated(key: str) -> dict[str, list[str]]:
    """The answers of a host with a deployed Airflow."""
    return {"installed": ["yes"], "migrated": [f"{key} 1234 5678"], "database_kib": [str(2 * GIB)]}


def test_older_airflow_than_the_databases_is_refused() -> None:
    (finding,) = found(migrated("3.3.2-0123"), {"airflow_version": "3.3.1"})
    assert finding.startswith("airflow_version: the database is Airflow 3.3.2's")
    assert "sudo airflow-rollback" in finding and 'write "3.3.2"' in finding
    # As numbers, not as text.
    assert found(migrated("3.10.0-0123"), {"airflow_version": "3.3.2"}) != []
    assert found(migrated("3.3.1-0123"), {"airflow_version": "3.3.2"}) == []


@pytest.mark.parametrize(("gib", "enough"), [(4.9, False), (5.1, True)])
def test_other_packages_need_disk_and_those_that_are_there_do_not(gib: float, enough: bool) -> None:
    free = {"disk_kib": [f"/opt {40 * GIB}", f"/var {int(gib * GIB)}"]}
    others = found({**migrated("3.3.2-0123"), **free})
    assert bool(others) is not enough
    for finding in others:
        assert finding.startswith("4.9 GiB of disk are free in /var") and "need 5.0" in finding
    assert found({**migrated(DEFAULTS.for_release("bookworm").venv_key), **free}) == []


@pytest.mark.parametrize(
    ("answers", "given"),
    [
        ({}, {}),
        *(({"system": [f"{each.distribution} {code}"]}, {}) for code, each in RELEASES.items()),
        ({"architecture": ["arm64"]}, {}),
        ({"node": ["linux/arm64", "linux/amd64", "windows/amd64"]}, {}),
        ({"memory_kib": [str(7 * GIB // 2)]}, {}),
        ({"disk_kib": [f"/opt {10 * GIB}", f"/var {10 * GIB}"]}, {}),
        ({"ahead": ["60"]}, {}),
        ({"ahead": ["-60"]}, {}),
        ({"safe": TOLD, "reached": ["https://192.0.2.9:6443"]}, CLUSTER),
        # The needs of the other contexts do not matter.
        ({"safe": TOLD, "reached": ["https://192.0.2.9:6443"], "no_tool": ["aws"]}, CLUSTER),
        ({"safe": TOLD, "reached": ["https://127.0.0.1:6443"]}, {**CLUSTER, **CLOUD}),
        ({}, OFFLINE),
        ({}, LOCAL_IMAGE),
        # Where Airflow is installed already, space is taken and nothing need be downloaded.
        ({"installed": ["yes"], "disk_kib": ["/opt 1", "/var 1"]}, {}),
        ({"installed": ["yes"], "room": ["/ 262144 0 0", "/var 262144 60000 1000"]}, {}),
        ({"installed": ["yes"], "selinux": ["enforcing"]}, {}),
        ({"room": ["/ 1048576 0 0", "/var 262144 0 0"]}, {}),
        # Programs are elsewhere, or there already.
        ({"room": ["/ 262144 0 0", "/usr 1048576 0 0"]}, {}),
        ({"room": ["/ 262144 0 0"], "packages": ["yes"]}, {}),
        ({"pythons": ["3.11"]}, {}),
        ({"system": ["debian trixie"], "pythons": ["3.11 3.13"]}, {}),
        ({"installed": ["yes"], "unreachable": ["dl.k8s.io"]}, {}),
        ({"installed": ["yes"], "pip_index": ["/etc/pip.conf"]}, {}),
        ({"kubernetes": ["1.33.1"]}, fake.pinned(kubernetes_version="1.33.1")),
        ({"kubernetes": ["1.33.9"]}, fake.pinned(kubernetes_version="1.33.10")),
        ({"kubernetes": ["1.32.13"]}, fake.pinned(kubernetes_version="1.33.1")),
        ({"kubernetes": ["1.33.1"]}, {"kubernetes_version": "1.35.8"}),
        ({"kubernetes": ["1.33.1"], "offline_between": BETWEEN}, OFFLINE),
    ],
)
def test_a_good_host_has_no_finding(answers: dict[str, list[str]], given: dict[str, Any]) -> None:
    assert found(answers, given) == []


@pytest.mark.parametrize(
    ("answers", "given", "thing", "cure"),
    [
        ({"systemd": []}, {}, "systemd", "./tests/sandbox/up"),
        ({"uid": ["1000"]}, {}, "not root", '"_sudo": True'),
        ({"system": ["debian bullseye"]}, {}, "debian bullseye", "Debian 13 (trixie)"),
        ({"system": ["ubuntu jammy"]}, {}, "ubuntu jammy", "Debian 12 (bookworm)"),
        ({"system": ["linuxmint noble"]}, {}, "linuxmint noble", "Ubuntu 24.04 (noble)"),
        ({"no_universe": ["yes"]}, {}, "no universe", "add-apt-repository universe"),
        ({"selinux": ["enforcing"]}, {}, "SELinux is enforcing", "setenforce 0"),
        ({"architecture": ["riscv64"]}, {}, "riscv64", "amd64 or arm64"),
        ({"node": ["linux/arm64"]}, {}, "(linux/arm64)", "add such a node"),
        ({"node": ["windows/amd64"]}, {}, "(windows/amd64)", "its own, linux/amd64"),
        (
            {"architecture": ["arm64"], "node": ["linux/amd64", "linux/amd64"]},
            {},
            "(linux/amd64)",
            "its own, linux/arm64",
        ),
        ({"memory_kib": [str(3 * GIB)]}, {}, "3.0 GiB of memory", "at least 3.5"),
        ({"disk_kib": [f"/opt {9 * GIB}", f"/var {40 * GIB}"]}, {}, "/opt", "free some"),
        (
            {"installed": ["yes"], "room": ["/ 999999 0 0", "/var 262143 60000 50000"]},
            {},
            "255 MiB of disk are free in /var",
            "du -xh /var",
        ),
        (
            {"room": ["/ 1048576 0 0", "/var/log 262143 60000 50000"]},
            {},
            "255 MiB of disk are free in /var/log",
            "du -xh /var/log",
        ),
        ({"room": ["/ 1048575 0 0"]}, {}, "1023 MiB of disk are free in /,", "du -xh /"),
        ({"room": ["/usr 1048575 0 0"]}, {}, "1023 MiB of disk are free in /usr", "du -xh /usr"),
        (
            {"installed": ["yes"], "room": ["/var 262144 60000 999"]},
            {},
            "/var has room for 999 more files",
            "df -i",
        ),
        (
            {"system": ["debian trixie"], "pythons": ["3.11"]},
            {},
            "the host is Debian 13 in part: its Python is 3.11 and not yet 3.13",
            "apt full-upgrade",
        ),
        ({"ahead": ["61"]}, {}, "61 s ahead", "set it"),
        ({"ahead": ["-90"]}, {}, "90 s behind", "set it"),
        ({"port": ["8080 42 nginx"]}, {}, "8080 is held by nginx (process 42)", "web_port"),
        (
            {"port": ["9187 42 nginx"]},
            {"metrics_port": 9187},
            "9187 is held by nginx (process 42)",
            "metrics_port",
        ),
        (
            {"port": ["443 42 apache2"]},
            {"web_host": "0.0.0.0"},
            "443 is held by apache2 (process 42)",
            "web_https_port",
        ),
        ({"port": ["8443 42 k3s server"]}, {}, "8443 is held by k3s server", "stop it"),
        ({"kubeconfig": ["missing"]}, CLUSTER, "/root/cluster.yaml is not there", "copy"),
        ({"safe": TOLD}, CLUSTER, "https://192.0.2.9:6443, which does not", "check the address"),
        ({"safe": TOLD}, {**CLUSTER, **CLOUD}, "https://127.0.0.1:6443", "write its address there"),
        (
            {"safe": TOLD, "reached": ["https://127.0.0.1:6443"], "no_tool": ["aws"]},
            {**CLUSTER, **CLOUD},
            "logs in with the program aws",
            "install it there for root",
        ),
        (
            {"safe": TOLD, "reached": ["https://192.0.2.9:6443"], "no_file": ["/home/ada/ca.crt"]},
            CLUSTER,
            "/home/ada/ca.crt, which is not on the host",
            "--flatten",
        ),
        (
            {"safe": TOLD},
            {**CLUSTER, "kubernetes_context": "lab"},
            "has no context lab",
            "cloud, office",
        ),
        ({"safe": ["|clusters: ["]}, CLUSTER, "is no kubeconfig", "--flatten"),
        ({}, CLUSTER, "is no kubeconfig", "--flatten"),
        (
            {"kubernetes": ["1.33.10"]},
            fake.pinned(kubernetes_version="1.33.9"),
            "the cluster has Kubernetes 1.33.10",
            'write "1.33.10"',
        ),
        (
            {"kubernetes": ["1.31.9"]},
            {"kubernetes_version": "1.35.8"},
            "the deploy does not know every minor version on its way to 1.35.8",
            "one of 1.32 first",
        ),
        (
            {"kubernetes": ["1.33.1"]},
            fake.pinned(kubernetes_version="1.99.0", minikube_version="1.99.0"),
            "the deploy does not know every minor version on its way to 1.99.0",
            "one of 1.34 first",
        ),
        (
            {},
            fake.pinned(kubernetes_version="1.36.3", minikube_version="1.39.0"),
            "kubernetes_version: 1.36.3 needs containerd 2, and Debian 12 has containerd 1",
            "write a version of 1.35",
        ),
        (
            {"kubernetes": ["1.35.8"]},
            fake.pinned(kubernetes_version="1.36.3", minikube_version="1.39.0"),
            "kubernetes_version: 1.36.3 needs containerd 2",
            "write a version of 1.35",
        ),
        (
            {"kubernetes": ["1.33.1"], "offline_between": ["1.33.2"]},
            OFFLINE,
            f"/srv/offline/v{BETWEEN[0]} with kubeadm, kubectl, kubelet and images.tar",
            "add them",
        ),
        (
            {"kubernetes": ["1.35.8"], "minikube_driver": ["none"]},
            {"minikube_driver": "podman"},
            "the cluster was made with the driver none",
            "keep_data=True",
        ),
        (
            {"kubernetes": ["1.35.8"], "minikube_driver": ["docker"], "node_mount": ["missing"]},
            {"minikube_driver": "docker"},
            "was made without the host's /opt/airflow",
            "`sudo -H minikube delete`",
        ),
        ({"registry": ["unreachable"]}, REGISTRY, "registry.example does not answer", "the port"),
        ({"offline": ["kubectl is missing"]}, OFFLINE, "/srv/offline: kubectl", "again"),
        ({"unreachable": ["dl.k8s.io"]}, {}, "dl.k8s.io", "offline_dir"),
        ({"image": ["missing"]}, LOCAL_IMAGE, "localhost/worker:1", "load it first"),
        ({"pip_index": ["/etc/pip.conf"]}, {}, "/etc/pip.conf", "name the index in build_indexes"),
        (
            {"index_unreachable": ["https://pypi.example/simple"]},
            {},
            "https://pypi.example/simple does not answer",
            "check the name",
        ),
    ],
)
def test_a_finding_names_the_thing_and_a_cure(
    answers: dict[str, list[str]], given: dict[str, Any], thing: str, cure: str
) -> None:
    (finding,) = found(answers, given)
    assert thing in finding and cure in finding


def test_a_port_of_the_cluster_has_another_cure_than_that_of_the_web_page() -> None:
    (finding,) = found({"port": ["10250 7 kubelet-other"]})
    assert "web_port" not in finding


def test_all_findings_come_at_once() -> None:
    wrong = {
        "uid": ["1000"],
        "system": ["ubuntu jammy"],
        "architecture": ["armhf"],
        "memory_kib": ["1"],
        "disk_kib": ["/opt 1", "/var 1"],
        "ahead": ["-1800000000"],
        "port": ["8080 1 nginx", "8443 2 k3s"],
        "unreachable": ["dl.k8s.io"],
        "image": ["missing"],
    }
    sentences = found(wrong, LOCAL_IMAGE)
    assert len(sentences) == sum(len(answers) for answers in wrong.values())
    assert len(set(sentences)) == len(sentences)


def test_an_image_that_no_registry_has_is_a_finding(closed_port: int) -> None:
    given = {"worker_image": f"localhost:{closed_port}/worker:1"}
    (finding,) = found({"registry": ["unreachable"]}, given)
    assert finding.startswith("worker_image: the registry localhost:")
    # A laptop may see less than the host.
    assert found({}, given) == []


def test_a_host_of_a_kind_that_was_not_tried_is_told_so_in_one_line() -> None:
    tried = [code for code, each in RELEASES.items() if checks.untried(code, "amd64") is None]
    assert tried == ["bookworm", "trixie"]
    for codename, architecture, named in (
        ("noble", "amd64", "with Ubuntu 24.04;"),
        ("resolute", "arm64", "with Ubuntu 26.04 on arm64;"),
        ("trixie", "arm64", "with arm64;"),
    ):
        assert named in (checks.untried(codename, architecture) or "")


# The questions, asked for real


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens, nor can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def open_port() -> Iterator[int]:
    """A port of this machine where this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete offline folder. With it the questions need no network."""
    folder = tmp_path / "offline"
    folder.mkdir()
    sums = ""
    for download in programs.needed(DEFAULTS, "amd64"):
        (folder / download.file).write_text(download.url)
        sums += f"{hashlib.sha256(download.url.encode()).hexdigest()}  {download.file}\n"
    (folder / "SHA256SUMS").write_text(sums)
    monkeypatch.setattr(layout, "OFFLINE_STAMP", str(tmp_path / "stamp"))
    monkeypatch.setattr(questions, "INDEX_SERVERS", ())
    return folder


# The part of the questions that gives an answer.
ANSWERED_BY = {
    **dict.fromkeys(
        ("kubernetes", "minikube_driver", "node_mount", "node_address"), "ask_minikube"
    ),
    **dict.fromkeys(("kubeconfig", "reached", "no_file", "no_tool"), "ask_kubeconfig"),
    **dict.fromkeys(("index_unreachable", "pip_index"), "ask_packages"),
    "claim": "ask_claims",
    "image": "ask_image",
    "offline": "ask_downloads",
    "port": "ask_ports",
    "web_host": "ask_web_host",
}
DEFINED = "\nask_lock\n"  # the functions end here


class OneAnswer(HostReport):
    """The answers of one part of the questions, which takes a tenth of the time of all."""

    def command(self, variables: str, part: str = "true") -> str:
        """As preflight asks, but for the last lines, which call the parts."""
        functions, _, _ = QUESTIONS.read_text().partition(DEFINED)
        return f"{variables}{functions}\n{part}\ntrue\n"


def ask(
    offline: Path, given: dict[str, Any] | None = None, about: str = "", more: str = ""
) -> Report:
    """The answers of this machine, asked as preflight asks; or those of the part about one."""
    settings = Settings.from_data({"offline_dir": str(offline), **(given or {})})
    values = f"{variables(settings, 'me')}lock_owner=\n{more}"
    if about:
        report = fake.fact(OneAnswer, variables=values, part=ANSWERED_BY[about])
    else:
        report = fake.fact(HostReport, variables=values)
    assert isinstance(report, Report)
    return report


def test_the_parts_that_are_asked_alone_are_asked_by_preflight() -> None:
    _, _, calls = QUESTIONS.read_text().partition(DEFINED)
    assert {*ANSWERED_BY.values()} <= {*calls.splitlines()}


def test_a_machine_answers_the_questions_that_every_machine_can_answer(offline: Path) -> None:
    report = ask(offline)
    assert report.one("uid") == str(os.getuid())
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    assert report.one("architecture") == names[platform.machine()]
    # The last answer: questions may take longer than clocks may differ.
    assert list(report.values)[-2:] == ["time", "ahead"] and -20 < float(report.one("ahead")) <= 0.1
    assert int(report.one("memory_kib")) > 0
    places = {answer.split()[0]: int(answer.split()[1]) for answer in report.all("disk_kib")}
    assert places.keys() == {"/opt", "/var"} and all(free >= 0 for free in places.values())
    rooms = [answer.split() for answer in report.all("room")]
    assert all(Path(place).is_mount() for place, *_ in rooms) and "/" in [room[0] for room in rooms]
    assert len({room[0] for room in rooms}) == len(rooms)
    (there,) = [int(free) for place, free, *_ in rooms if place == "/"]
    assert abs(there - shutil.disk_usage("/").free // 1024) < 2**20
    assert len(report.one("system").split()) == 2
    assert (report.one("systemd") == "yes") == Path("/run/systemd/system").is_dir()


def test_a_complete_offline_folder_is_accepted(offline: Path) -> None:
    assert ask(offline, about="offline").all("offline") == []


def test_all_faults_of_an_offline_folder_are_told_at_once(offline: Path) -> None:
    (offline / "kubectl").write_text("tampered with")
    (offline / "minikube-linux-amd64").unlink()
    sums = offline / "SHA256SUMS"
    sums.write_text("".join(x for x in sums.open() if "crictl" not in x))
    assert sorted(ask(offline, about="offline").all("offline")) == [
        f"SHA256SUMS does not name {programs.crictl(DEFAULTS, 'amd64').file}",
        "kubectl does not have the checksum of SHA256SUMS",
        "minikube-linux-amd64 is missing",
    ]


def test_the_complete_versions_of_an_offline_folder_are_told(offline: Path) -> None:
    """A version on the way is in a folder of its own."""
    sums = offline / "SHA256SUMS"
    without_images, complete, *_ = releases.way(DEFAULTS)
    for version, files in (
        (without_images, ("kubeadm", "kubectl", "kubelet")),
        (complete, ("kubeadm", "kubectl", "kubelet", "images.tar")),
    ):
        for name in files:
            path = offline / f"v{version}" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(version)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with sums.open("a") as lines:
                lines.write(f"{digest}  {path.relative_to(offline)}\n")
    report = ask(offline, about="offline")
    assert report.all("offline_between") == [complete]
    assert report.all("offline") == []
    (offline / f"v{complete}/kubelet").write_text("tampered with")
    told = [f"v{complete}/kubelet does not have the checksum of SHA256SUMS"]
    assert ask(offline, about="offline").all("offline") == told


@pytest.mark.parametrize("there", ["profile", "units/minikube.service", ""])
def test_a_program_with_the_name_of_a_nodes_is_the_nodes_only_if_there_is_one(
    there: str, offline: Path, tmp_path: Path, open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubeadm's kubelet, and Patroni's etcd."""
    own = Path("/proc/self/comm").read_text().strip()
    monkeypatch.setattr(layout, "MINIKUBE_PROFILE", str(tmp_path / "profile"))
    monkeypatch.setattr(layout, "UNITS_DIRECTORY", str(tmp_path / "units"))
    monkeypatch.setattr(questions, "CLUSTER_PORTS", {open_port: own})
    if there:
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).touch()
    told = [f"{open_port} {os.getpid()} {own}"]
    assert ask(offline, about="port").all("port") == ([] if there else told)
    monkeypatch.setattr(questions, "CLUSTER_PORTS", {open_port: "etcd"})
    assert ask(offline, about="port").all("port") == told


def test_an_offline_folder_of_another_kubernetes_is_told(offline: Path) -> None:
    for name, version in (("kubeadm", "v1.33.1"), ("kubelet", "v1.32.5")):
        (offline / name).write_bytes(b"\x7fELF\0" + version.encode() + b"\0")
    there = ["kubelet is not of Kubernetes v1.33.1"]
    assert (
        ask(offline, fake.pinned(kubernetes_version="1.33.1"), about="offline").all("offline")
        == there
    )
    # Of an existing cluster nothing is installed but the client.
    assert ask(offline, CLUSTER, about="offline").all("offline") == []


def test_the_clusters_version_is_told(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "config.json"
    monkeypatch.setattr(layout, "MINIKUBE_PROFILE", str(profile))
    assert ask(offline, about="kubernetes").one("kubernetes") == ""
    known = {
        "KubernetesConfig": {"KubernetesVersion": "v1.32.10", "ClusterName": "minikube"},
        "Nodes": [{"Name": "", "KubernetesVersion": "v1.32.10"}],
    }
    profile.write_text(json.dumps(known, indent="\t"))
    assert ask(offline, about="kubernetes").all("kubernetes") == ["1.32.10"]


@pytest.mark.parametrize(
    ("mounts", "told"),
    [(["/opt/airflow:/opt/airflow"], []), (["/srv:/srv"], ["missing"]), (None, ["missing"])],
)
def test_the_clusters_driver_and_a_missing_mount_are_told(
    mounts: list[str] | None,
    told: list[str],
    offline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = tmp_path / "config.json"
    monkeypatch.setattr(layout, "MINIKUBE_PROFILE", str(profile))
    podman = {"minikube_driver": "podman"}
    # The node has what was mounted when it was made; the other key is what was last asked for.
    known = {
        "Driver": "podman",
        "ContainerVolumeMounts": mounts,
        "MountString": "/opt/airflow:/opt/airflow",
    }
    assert ask(offline, podman, about="node_mount").all("node_mount") == []
    profile.write_text(json.dumps(known, indent="\t"))
    assert ask(offline, podman, about="minikube_driver").all("minikube_driver") == ["podman"]
    assert ask(offline, podman, about="node_mount").all("node_mount") == told
    # A node that is the host needs no mount.
    assert ask(offline, about="node_mount").all("node_mount") == []


def test_a_missing_offline_folder_is_told(tmp_path: Path) -> None:
    assert ask(tmp_path / "nowhere", about="offline").all("offline") == ["the folder is not there"]


def test_an_offline_folder_without_sums_is_told(tmp_path: Path) -> None:
    assert ask(tmp_path, about="offline").all("offline") == ["SHA256SUMS is missing"]


@pytest.mark.parametrize("cluster", [{}, fake.EXISTING], ids=["minikube", "existing"])
def test_a_folder_that_was_used_is_not_read_again_until_it_changes(
    cluster: dict[str, Any], offline: Path
) -> None:
    plan = fake.plan(fake.settings({"offline_dir": str(offline), **cluster}))
    (stamp,) = plan.named("Record that the offline folder").commands
    kubectl = offline / "kubectl"
    kubectl.write_text(kubectl.read_text().upper())  # wrong, but of the same size
    subprocess.run(["sh", "-c", stamp], check=True)
    assert ask(offline, about="offline").all("offline") == []
    kubectl.write_text("longer than before " * 9)
    assert ask(offline, about="offline").all("offline") == [
        "kubectl does not have the checksum of SHA256SUMS"
    ]


def test_a_port_that_is_held_is_told_with_its_holder(offline: Path, open_port: int) -> None:
    (answer,) = ask(offline, {"web_port": open_port}, about="port").all("port")
    port, pid, name = answer.split(maxsplit=2)
    assert (int(port), int(pid)) == (open_port, os.getpid())
    assert name == Path("/proc/self/comm").read_text().strip()


def test_a_free_port_is_not_told(offline: Path, closed_port: int) -> None:
    # Another driver's node is not the host, whose other ports then do not matter.
    given = {**ANOTHER_DRIVER, "web_port": closed_port}
    assert ask(offline, given, about="port").all("port") == []


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("0.0.0.0", []),
        ("::", []),
        ("192.0.2.7", ["192.0.2.7"]),  # nobody has it: https://www.rfc-editor.org/rfc/rfc5737
        ("no-such-name.invalid", ["unknown"]),
    ],
)
def test_an_address_that_nginx_can_not_listen_at_is_told(
    host: str, told: list[str], offline: Path
) -> None:
    assert ask(offline, {"web_host": host}, about="web_host").all("web_host") == told
    findings = found({"web_host": told}, {"web_host": host})
    assert len(findings) == len(told)
    for finding in findings:
        assert finding.startswith(f"web_host: {host} is no") and "ip address" in finding


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        (("127.0.1.1",), ["127.0.1.1"]),
        (("127.0.1.1", "::1"), ["127.0.1.1 ::1"]),
        (("127.0.1.1", "192.0.2.7"), []),
        (("1270::1",), []),
        ((), []),
    ],
)
def test_a_name_of_the_host_that_only_itself_understands_is_told(
    addresses: tuple[str, ...],
    told: list[str],
    offline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "bin/getent"
    program.parent.mkdir()
    lines = "".join(f"echo '{each} STREAM'; echo '{each} DGRAM'\n" for each in addresses)
    program.write_text(f"#!/bin/sh\n{lines}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    given = {"web_host": "big.example"}
    assert ask(offline, given, about="web_host").all("web_host_within") == told
    findings = found({"web_host_within": told}, given)
    assert len(findings) == bool(told)
    assert all("big.example means only 127.0.1.1" in each for each in findings)


def test_a_name_that_means_another_machine_is_a_finding() -> None:
    (finding,) = found({"web_host": ["192.0.2.7"]}, {"web_host": "airflow.example"})
    assert "192.0.2.7, which airflow.example means, is not the host's" in finding


def kubeconfig(path: Path, text: str) -> dict[str, Any]:
    """Settings of an existing cluster with this kubeconfig."""
    path.write_text(text)
    return {**EXISTING, "kubernetes_kubeconfig": str(path)}


def test_a_cluster_that_answers_is_reached(offline: Path, tmp_path: Path, open_port: int) -> None:
    url = f"https://127.0.0.1:{open_port}"
    text = KUBECONFIG.replace("https://192.0.2.9:6443", url)
    assert ask(offline, kubeconfig(tmp_path / "config", text), about="reached").all("reached") == [
        url
    ]


def test_a_cluster_that_does_not_answer_is_not_reached(
    offline: Path, tmp_path: Path, closed_port: int
) -> None:
    text = KUBECONFIG.replace("https://192.0.2.9:6443", f"https://127.0.0.1:{closed_port}")
    assert ask(offline, kubeconfig(tmp_path / "config", text), about="reached").all("reached") == []


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ("https://192.0.2.9", "192.0.2.9 443"),
        ('"https://localhost:6443/k8s"', "localhost 6443"),
        ("'https://[2001:db8::1]:8443'", "2001:db8::1 8443"),
        ("https://[2001:db8::1]/k8s", "2001:db8::1 443"),
    ],
)
def test_a_cluster_is_looked_for_where_its_address_says(
    offline: Path, tmp_path: Path, server: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of the program that would connect.
    timeout = tmp_path / "timeout"
    timeout.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    timeout.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    text = KUBECONFIG.replace("https://192.0.2.9:6443", server)
    report = ask(offline, kubeconfig(tmp_path / "config", text), about="reached")
    assert server.strip("\"'") in report.all("reached")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert any(each.endswith(f" bash -c </dev/tcp/$0/$1 {place}") for each in asked)


def test_a_server_behind_a_proxy_is_not_asked(
    offline: Path, tmp_path: Path, open_port: int
) -> None:
    """It may drop packets from here, and each run would wait for it."""
    server, proxy = f"https://127.0.0.1:{open_port}", f"http://127.0.0.1:{open_port}"
    place = "    server: https://192.0.2.9:6443\n"
    text = KUBECONFIG.replace(place, f"    proxy-url: {proxy}\n    server: {server}\n")
    report = ask(offline, kubeconfig(tmp_path / "config", text), about="reached")
    assert proxy in report.all("reached") and server not in report.all("reached")


@pytest.mark.parametrize(
    "server", ["https://a;touch${IFS}%s;b:1", "https://$(touch${IFS}%s):1", "https://[%s"]
)
def test_an_address_is_no_command(offline: Path, tmp_path: Path, server: str) -> None:
    made = tmp_path / "made"
    text = KUBECONFIG.replace("https://192.0.2.9:6443", server % made)
    given = kubeconfig(tmp_path / "config", text)
    report = ask(offline, given)
    assert not report.all("reached") and not made.exists()
    answers = Report({**report.values, "systemd": ["yes"]})  # this machine may be without
    found = findings(Settings.from_data(given), answers)
    assert any("which does not answer" in each for each in found)


def test_a_proxy_is_not_asked_for_a_node_in_another_network(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """minikube chose it when the cluster was made, and can't change it."""
    profile = tmp_path / "config.json"
    monkeypatch.setattr(layout, "MINIKUBE_PROFILE", str(profile))
    known = {"StaticIP": "", "Nodes": [{"Name": "", "IP": "192.168.58.2", "Port": 8443}]}
    profile.write_text(json.dumps(known, indent="\t"))
    docker = {"minikube_driver": "docker"}
    answers = {"node_address": ask(offline, docker, about="node_address").all("node_address")}
    assert answers == {"node_address": ["192.168.58.2"]}
    assert found(answers, docker) == []
    docker["proxy_url"] = "http://proxy.example:3128"
    (finding,) = found(answers, docker)
    assert 'write "--subnet=192.168.58.0/24" into minikube_extra_args' in finding
    assert found(answers, {**docker, "minikube_extra_args": ["--subnet=192.168.58.0/24"]}) == []
    for exception in ("192.168.58.2", "192.168.0.0/16"):
        given = {**docker, "proxy_extra_exceptions": [".example", exception]}
        assert found(answers, given) == []
    assert found({"node_address": ["192.168.49.2"]}, docker) == []


@pytest.mark.parametrize(
    ("given", "there", "registries"),
    [
        ({}, "", {"registry.k8s.io"}),
        ({}, "1.34.10", {"registry.k8s.io"}),
        ({}, DEFAULTS.kubernetes.version, set()),
        ({"minikube_driver": "podman"}, "", {"registry.k8s.io", "gcr.io"}),
        ({"minikube_driver": "docker"}, "", {"registry.k8s.io", "gcr.io"}),
        (
            {"minikube_driver": "docker", "minikube_extra_args": ["--base-image=r.example/node"]},
            "",
            {"registry.k8s.io"},
        ),
        ({"minikube_extra_args": ["--image-repository=r.example"]}, "", set()),
        (fake.ANOTHER_DRIVER, "", set()),
        (CLUSTER, "", set()),
        (OFFLINE, "", set()),
    ],
)
def test_the_registries_of_a_new_cluster_are_asked(
    given: dict[str, Any],
    there: str,
    registries: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "MINIKUBE_PROFILE", str(tmp_path / "config.json"))
    if there:
        profile = json.dumps({"KubernetesConfig": {"KubernetesVersion": f"v{there}"}}, indent=2)
        (tmp_path / "config.json").write_text(profile)
    program = tmp_path / "bin/timeout"  # no server answers
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    asked = variables(Settings.from_data(given), "me")
    report = fake.fact(OneAnswer, variables=asked, part="ask_downloads")
    assert isinstance(report, Report)
    told = {*report.all("unreachable")}
    assert told & {"registry.k8s.io", "gcr.io"} == registries
    assert ("dl.k8s.io" in told) is (given != OFFLINE)


def test_another_kubernetes_needs_its_servers_again() -> None:
    closed = {"unreachable": ["dl.k8s.io", "gcr.io", "github.com", "registry.k8s.io"]}
    answers = {**closed, "installed": ["yes"], "kubernetes": ["1.34.10"]}
    assert [each.split()[0] for each in found(answers)] == ["dl.k8s.io", "registry.k8s.io"]
    assert found({**answers, "kubernetes": [DEFAULTS.kubernetes.version]}) == []


def test_words_of_others_do_not_drive_the_terminal() -> None:
    report = HostReport().process(["port 8080 17 \033[2J\x9b2Jserver\r"])
    assert report.one("port") == r"8080 17 \x1b[2J\x9b2Jserver\r"


def test_files_and_programs_of_a_kubeconfig_are_looked_for(offline: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.crt").touch()
    text = KUBECONFIG.replace("https://", "http://127.0.0.1:1/")  # nobody to wait for
    given = kubeconfig(tmp_path / "config", text)
    assert ask(offline, given, about="no_file").all("no_file") == ["/home/ada/ca.crt"]
    assert ask(offline, given, about="no_tool").all("no_tool") == ["no-such-cloud"]
    text = text.replace("/home/ada/ca.crt", "beside.crt").replace("no-such-cloud", "sh")
    report = ask(offline, kubeconfig(tmp_path / "config", text), about="no_file")
    assert report.all("no_file") == report.all("no_tool") == []


def test_no_secret_of_a_kubeconfig_leaves_the_host(offline: Path, tmp_path: Path) -> None:
    text = KUBECONFIG.replace("https://", "http://127.0.0.1:1/")  # nobody to wait for
    flow = "- name: eve\n  user: {token: c2VjcmV0}\n"
    report = ask(offline, kubeconfig(tmp_path / "config", text + flow))
    assert report.all("safe")
    assert not [value for values in report.values.values() for value in values if "c2Vj" in value]


@pytest.mark.parametrize(
    ("proxy", "is_refused"),
    [
        ("http://ada:c2VjcmV0@proxy.example:3128", True),
        ('"socks5://ada:c2V@c2VjcmV0@proxy.example"', True),
        ("http://ada@proxy.example/{c2VjcmV0}", True),
        ("http://proxy.example:3128", False),
    ],
)
def test_a_login_to_a_proxy_is_refused_and_stays_on_the_host(
    proxy: str, is_refused: bool, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All users of the host see the arguments of programs.
    arguments = tmp_path / "arguments"
    (tmp_path / "timeout").write_text(f'#!/bin/sh\necho "$@" >>{arguments}\nexit 1\n')
    (tmp_path / "timeout").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = "    server: https://192.0.2.9:6443\n"
    text = KUBECONFIG.replace(place, f"    proxy-url: {proxy}\n{place}")
    text = text.replace("https://", "http://127.0.0.1:1/")  # nobody to wait for
    given = kubeconfig(tmp_path / "config", text)
    report = ask(offline, given)
    told = [value for values in report.values.values() for value in values]
    assert not [value for value in told if "c2V" in value]
    assert "127.0.0.1" in arguments.read_text() and "c2V" not in arguments.read_text()
    answers = Report({**report.values, "systemd": ["yes"]})  # this machine may be without
    found = findings(Settings.from_data(given), answers)
    assert any("has a login in proxy-url" in each for each in found) is is_refused
    # That of a cluster which the context does not name is not copied.
    found = findings(Settings.from_data({**given, **CLOUD}), answers)
    assert not any("proxy-url" in each for each in found)


def test_a_cluster_behind_a_proxy_needs_the_proxy_only(
    offline: Path, tmp_path: Path, open_port: int, closed_port: int
) -> None:
    server = "http://127.0.0.1:1"  # nobody to wait for
    for port in (open_port, closed_port):
        proxy = f"http://127.0.0.1:{port}"
        text = KUBECONFIG.replace("    server: https://192.0.2.9:6443\n", "    server: SERVER\n")
        text = text.replace("SERVER", f"{server}\n    proxy-url: {proxy}")
        given = kubeconfig(tmp_path / "config", text)
        answers = Report({**ask(offline, given).values, "systemd": ["yes"]})
        told = [each for each in findings(Settings.from_data(given), answers) if server in each]
        assert bool(told) is (port == closed_port)
        assert all(f"the proxy {proxy}, which does not answer" in each for each in told)


def test_a_missing_kubeconfig_is_told(offline: Path, tmp_path: Path) -> None:
    given = {**EXISTING, "kubernetes_kubeconfig": str(tmp_path / "nowhere")}
    assert ask(offline, given, about="kubeconfig").all("kubeconfig") == ["missing"]


@pytest.mark.parametrize(
    ("answers", "missing"), [({"logs"}, {"dags"}), (set(), {"dags", "logs"}), (None, set())]
)
def test_claims_and_folders_that_are_not_there_are_told(
    answers: set[str] | None, missing: set[str], offline: Path, tmp_path: Path
) -> None:
    """A cluster that does not answer is asked later. A login's program may read its input."""
    (tmp_path / "there").mkdir()
    claims = {"dags": str(tmp_path / "nowhere"), "logs": str(tmp_path / "there")}
    kubectl = tmp_path / "kubectl"
    known = "|".join(answers or {"none"})
    kubectl.write_text(
        f"#!/bin/sh\ncat >/dev/null\n{'exit 1' if answers is None else ''}\n"
        f'case $4 in {known}) echo "persistentvolumeclaim/$4" ;; esac\n'
    )
    kubectl.chmod(0o755)
    lines = "".join(f"{name}_claim {name} {folder}\n" for name, folder in claims.items())
    given = f"claims={shlex.quote(lines)}\nkubectl='{kubectl} --context=here'\n"
    told = ask(offline, about="claim", more=given).all("claim")
    assert told == [
        f"dags_claim dags {claims['dags']}",
        *(f"{name}_claim {name}" for name in sorted(missing)),
    ]
    folder, *others = found({"claim": told})
    assert claims["dags"] in folder and "mount them there" in folder
    assert len(others) == len(missing) and all("there is no claim" in each for each in others)


def test_a_local_image_that_the_node_lacks_is_told(offline: Path) -> None:
    given = {"worker_image": "localhost/airflow-worker:of-no-node"}
    assert ask(offline, given, about="image").one("image") == "missing"


def test_a_report_keeps_all_answers_and_their_spaces() -> None:
    report = HostReport().process(["port 8080 1 a b", "port 8443 2 c", "systemd yes"])
    assert report.all("port") == ["8080 1 a b", "8443 2 c"]
    assert report.one("systemd") == "yes"
    assert (report.one("image"), report.all("image")) == ("", [])


@pytest.mark.parametrize("line", ["index-url = https://pypi.example/simple", "timeout = 60"])
def test_an_index_that_only_pip_knows_is_found(
    line: str, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This machine may give uv an index of its own.
    monkeypatch.setattr(questions, "UV_CONFIG", str(tmp_path / "uv.toml"))
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\n{line}\n")
    monkeypatch.setattr(layout, "PIP_CONFIG", str(config))
    assert ask(offline, about="pip_index").all("pip_index") == (
        [str(config)] if "index-url" in line else []
    )


def test_an_index_is_asked_whether_it_answers(
    offline: Path, closed_port: int, open_port: int
) -> None:
    closed, opened = (f"http://127.0.0.1:{port}" for port in (closed_port, open_port))
    urls = [f"{closed}/b", f"{opened}/simple", f"{closed}/a"]
    given = {"build_indexes": {f"at-{number}": {"url": url} for number, url in enumerate(urls)}}
    told = ask(offline, given, about="index_unreachable").all("index_unreachable")
    assert told == [f"{closed}/a", f"{closed}/b"]  # asked at once, told in their order

"""Kubernetes' certificates are renewed in time, and their ends are known."""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake, formats, postgres
from tests.unit.stand_ins import Host

# Without a database, whose part takes longer.
KUBERNETES = ("certificates.py", "kubernetes")


@functools.cache
def text_of_certificate(days: int) -> str:
    """A certificate that is valid for so many days from now."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    command = ["openssl", "req", "-x509", *curve, "-noenc", "-keyout", "/dev/null"]
    command += ["-subj", "/CN=a", "-days", str(days)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def certificate(path: Path, days: int) -> None:
    """Have such a certificate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of_certificate(days))


def kubeconfig(path: Path, days: int) -> None:
    """Make a kubeconfig with such a certificate inside."""
    certificate(path, days)
    data = base64.b64encode(path.read_bytes()).decode()
    path.write_text(f"users:\n- user:\n    client-certificate-data: {data}\n")


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A database of Airflow."""
    with postgres.with_exporter() as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, server: postgres.Server) -> Host:
    """A host whose certificates end in a year, and nginx's in ten days."""
    host = Host(tmp_path)
    server.sql("drop schema if exists deploy cascade", "airflow")
    host.program("setpriv", server.setpriv())
    certificate(tmp_path / "certs/apiserver-kubelet-client.crt", 365)
    certificate(tmp_path / "certs/ca.crt", 3650)
    certificate(tmp_path / "certs/etcd/server.crt", 365)
    kubeconfig(tmp_path / "kubernetes/scheduler.conf", 365)
    # It names a file, which kubelet renews by itself.
    (tmp_path / "kubernetes/kubelet.conf").write_text("users:\n- user:\n    client-key: a\n")
    certificate(tmp_path / "server.pem", 10)
    host.values["CLUSTER_CERTIFICATES"] = (
        f"{tmp_path}/certs/*.crt {tmp_path}/certs/etcd/*.crt {tmp_path}/kubernetes/*.conf"
    )
    host.values["WEB_CERTIFICATES"] = f"{tmp_path}/server.pem {tmp_path}/none.pem"
    return host


def give_kubeadm(host: Host, renews: bool) -> None:
    """Have the programs of a node. kubeadm renews the certificates, or only says that it does."""
    certificate(host.folder / "new.crt", 365)
    new = f"cp {host.folder}/new.crt {host.folder}/certs/etcd/server.crt" if renews else ""
    expected = f"certs renew all --config {host.folder}/config"
    host.program("kubeadm", f'test "$*" = "{expected}" || exit 2\n{new}')
    host.program("crictl", "test $1 != ps || echo an-id")
    host.program("kubectl", "")
    host.values["KUBEADM"] = f"{host.bin}/kubeadm"
    (host.folder / "config").write_text("minikube's\n")
    host.values["KUBEADM_CONFIG"] = f"{host.folder}/config"


def days(server: postgres.Server) -> dict[str, int]:
    """The days that the certificates are valid, as the database tells Prometheus."""
    lines = server.sql(
        "set role prometheus; select name, extract(epoch from not_after) from deploy.certificate",
        "airflow",
    ).splitlines()
    ends = dict(line.split("|") for line in lines)
    return {name: round((float(end) - time.time()) / 86400) for name, end in ends.items()}


def test_the_ends_of_certificates_are_recorded(host: Host, server: postgres.Server) -> None:
    assert "does not have the ends" in host.check("certificates.py")
    assert host.apply("certificates.py") == host.check("certificates.py") == ""
    assert days(server) == {"kubernetes": 365, "web": 10}
    certificate(host.folder / "server.pem", 800)
    assert "does not have the ends" in host.check("certificates.py")
    assert host.apply("certificates.py") == ""
    assert days(server) == {"kubernetes": 365, "web": 800}


def test_a_deploy_and_the_timer_may_record_them_at_once(
    host: Host, server: postgres.Server
) -> None:
    assert host.apply("certificates.py") == ""
    server.sql(
        "delete from deploy.certificate; create function deploy.slow() returns trigger language"
        " plpgsql as 'begin perform pg_sleep(2); return new; end'; create trigger slow before"
        " insert on deploy.certificate for each statement execute function deploy.slow()",
        "airflow",
    )
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: host.run("certificates.py", "apply"), range(2)))
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 2
    assert days(server) == {"kubernetes": 365, "web": 10}


def test_a_cluster_elsewhere_has_its_own_certificates(host: Host, server: postgres.Server) -> None:
    host.values["CLUSTER_CERTIFICATES"] = ""
    assert host.apply("certificates.py") == host.check("certificates.py") == ""
    assert days(server) == {"web": 10}


@pytest.mark.parametrize("which", ["certs/etcd/server.crt", "kubernetes/scheduler.conf"])
def test_a_certificate_that_ends_soon_is_named(which: str, host: Host) -> None:
    assert host.apply("certificates.py") == ""
    make = kubeconfig if which.endswith(".conf") else certificate
    make(host.folder / which, 31)
    assert "does not have the ends" in host.check("certificates.py")
    make(host.folder / which, 29)
    assert f"{which} expires on " in host.check("certificates.py")


def test_those_of_a_node_in_a_container_are_renewed_there(
    host: Host, server: postgres.Server
) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=True)
    # It hides from the host what only the node has, and runs what it is given.
    host.program("podman", 'shift 3; IN_NODE=yes exec "$@"')
    for program in ("kubeadm", "crictl"):
        text = (host.bin / program).read_text().partition("\n")[2]
        host.program(program, f'test "${{IN_NODE-}}" = yes || exit 3\n{text}')
    host.values["IN_NODE"] = "podman exec -i minikube"
    assert "server.crt expires on " in host.check("certificates.py")
    done = host.run("certificates.py", "apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert days(server)["kubernetes"] == 365
    assert host.check("certificates.py") == ""
    assert {tuple(call[:3]) for call in host.called("podman")} == {("exec", "-i", "minikube")}


def test_a_node_that_is_away_has_no_certificates(host: Host, server: postgres.Server) -> None:
    host.values["IN_NODE"] = "podman exec -i minikube"
    host.program("podman", "exit 125")
    assert host.apply("certificates.py") == host.check("certificates.py") == ""
    assert days(server) == {"web": 10}


@pytest.mark.parametrize(
    ("given", "has_some"),
    [({}, True), ({"minikube_driver": "podman"}, True), (fake.EXISTING, False)],
)
def test_the_certificates_of_a_cluster_elsewhere_are_not_the_hosts(
    given: dict[str, Any], has_some: bool
) -> None:
    values = formats.host_values(fake.plan(fake.settings(given)))
    assert (values["CLUSTER_CERTIFICATES"] != "") is has_some


def test_certificates_are_renewed_and_read_again(host: Host, server: postgres.Server) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=True)
    done = host.run("certificates.py", "apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Kubernetes' certificates were renewed; the first expires on" in done.stdout
    # The static pods read them when they start.
    assert host.called("crictl")[-1] == ["--timeout=1m", "stop", "an-id"]
    assert days(server)["kubernetes"] == 365
    assert host.check("certificates.py") == ""


def test_components_that_did_not_stop_read_their_certificates_later(host: Host) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=True)
    host.program("crictl", "test $1 = ps || exit 1; echo an-id")
    assert "do not start again with their new certificates" in host.apply("certificates.py")
    assert "not started again since" in host.check("certificates.py")
    host.program("kubeadm", "exit 1")  # they are renewed
    host.program("crictl", "test $1 != ps || echo an-id")
    assert host.apply("certificates.py") == host.check("certificates.py") == ""
    assert host.called("crictl")[-1] == ["--timeout=1m", "stop", "an-id"]


def test_a_node_whose_containerd_is_down_gets_new_certificates_all_the_same(host: Host) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=True)
    host.program("crictl", "exit 1")
    call = ("certificates.py", "kubernetes")
    assert host.apply(*call) == ""
    assert "not started again since" in host.check(*call)
    host.program("crictl", "test $1 != ps || echo an-id")
    assert host.apply(*call) == host.check(*call) == ""
    assert host.called("crictl")[-1] == ["--timeout=1m", "stop", "an-id"]


def test_a_certificate_that_kubeadm_does_not_renew_is_an_error(host: Host) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=False)
    assert "but not " in host.apply("certificates.py")


def test_those_of_kubernetes_alone_need_no_database(host: Host) -> None:
    """As where the cluster has a host of its own, and before a deploy applies its objects."""
    host.program("setpriv", "exit 1")
    assert host.apply(*KUBERNETES) == host.check(*KUBERNETES) == ""
    certificate(host.folder / "certs/etcd/server.crt", 20)
    assert "server.crt expires on " in host.check(*KUBERNETES)
    give_kubeadm(host, renews=True)
    assert "were renewed" in host.run("certificates.py", "apply", "kubernetes").stdout
    assert host.check(*KUBERNETES) == "" and not host.called("setpriv")
    assert (host.folder / "locks/certificates.lock").exists()  # and not that of this machine


@pytest.mark.parametrize("which", ["kubelet.pem", "kubernetes/kubelet.conf"])
def test_kubelets_own_certificate_is_made_again(which: str, host: Host) -> None:
    """It does not start with one that ended while the host was off."""
    own, config = host.folder / "kubelet.pem", host.folder / "kubernetes/kubelet.conf"
    host.values |= {"KUBELET_CERTIFICATE": str(own), "KUBELET_KUBECONFIG": str(config)}
    host.values["CLUSTER_CERTIFICATES"] += f" {own}"
    certificate(own, 100)
    make = kubeconfig if which.endswith(".conf") else certificate
    make(host.folder / which, 20)
    give_kubeadm(host, renews=False)
    kubeconfig(host.folder / "new.conf", 365)
    # kubeadm keeps a file that is there.
    init = f"init phase kubeconfig kubelet --config {host.folder}/config"
    host.program(
        "kubeadm",
        f'test "$*" != "{init}" || test -e {config} || cp {host.folder}/new.conf {config}',
    )
    host.program("systemctl")
    assert host.check(*KUBERNETES) != ""
    assert host.apply(*KUBERNETES) == host.check(*KUBERNETES) == ""
    assert host.called("systemctl") == [["restart", "kubelet"]]
    assert not own.exists()  # kubelet makes it of the other when it starts


def test_minikubes_own_certificates_are_made_again(host: Host) -> None:
    """They are on the host, also where the node is a container."""
    profile = host.folder / "profile"
    host.values["MINIKUBE_CERTIFICATES"] = f"{profile}/*.crt"
    certificate(profile / "client.crt", 20)
    assert "client.crt expires on " in host.check(*KUBERNETES)
    give_kubeadm(host, renews=False)
    new = f"{host.folder}/new.crt"
    # minikube keeps one that has not ended.
    host.program("systemctl", f"test -e {profile}/client.crt || cp {new} {profile}/client.crt")
    assert host.apply(*KUBERNETES) == host.check(*KUBERNETES) == ""
    assert host.called("systemctl") == [["reload-or-restart", "minikube"]]


# Only root can give a file away.
PLANTED = ["nothing", "a link", "no folder", *([] if os.getuid() else ["another's"])]


@pytest.mark.parametrize("found", PLANTED)
def test_a_config_of_kubeadm_that_is_gone_or_planted_is_written_again(
    found: str, host: Host
) -> None:
    certificate(host.folder / "certs/etcd/server.crt", 20)
    give_kubeadm(host, renews=True)
    folder = host.folder / "of-minikube"
    folder.mkdir()
    config = folder / "config"
    host.values["KUBEADM_CONFIG"] = str(config)
    expected = f'test "$(cat {config})" = "minikube\'s"'
    host.program(
        "kubeadm", f"{expected} && cp {host.folder}/new.crt {host.folder}/certs/etcd/server.crt"
    )
    if found == "a link":
        config.symlink_to(host.folder / "planted")
        (host.folder / "planted").write_text("planted\n")
    elif found == "no folder":
        folder.rmdir()
    elif found == "another's":
        config.write_text("planted\n")
        os.chown(config, 65534, -1)
    host.program("systemctl", "exit 1")
    assert "does not write it again" in host.apply(*KUBERNETES)
    assert not host.called("kubeadm")
    assert "server.crt expires on " in host.check(*KUBERNETES)  # and is still to be renewed
    writes = f'rm -rf {folder}; mkdir {folder}; echo "minikube\'s" > {config}'
    host.program("systemctl", "")
    assert "has not written" in host.apply(*KUBERNETES)
    assert not host.called("kubeadm")
    host.program("systemctl", writes)
    assert host.apply(*KUBERNETES) == host.check(*KUBERNETES) == ""
    assert host.called("systemctl")[-1] == ["reload-or-restart", "minikube"]

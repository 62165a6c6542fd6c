"""The kubeconfigs of the host and their tokens, with a kubectl that stands in for the real one."""

from __future__ import annotations

import base64
import grp
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pyinfra.context import ctx_host, ctx_state

from tasks import layout
from tasks.lib import groups, members
from tests.unit import fake
from tests.unit.formats import Unit
from tests.unit.stand_ins import Host

PROGRAM = "kubeconfig.py"
GROUP = grp.getgrgid(os.getegid()).gr_name
DAY = 86400
# Answers like kubectl. $here/uid has the account's identity, $here/token the token that it gives,
# $here/refused names a kubeconfig that the cluster does not accept.
KUBECTL = """
here=${CLUSTER%/*}
refused=$(cat "$here/refused" 2>/dev/null)
[ -z "$refused" ] || case "$*" in *"$refused"*) echo "error: Unauthorized" >&2; exit 1 ;; esac
case "$*" in
*"config view"*) cat "$here/view" ;;
*"-n team-a-control get serviceaccount airflow-control-plane"*) cat "$here/uid" ;;
*"-n team-a-control create token "*"--duration=168h -o json") cat "$here/token" ;;
*"auth whoami"*) cat "$here/whoami" ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""
ACCOUNT = "airflow-control-plane"


def token(issued: float, ends: float, signature: str) -> str:
    """A token as Kubernetes makes them, but for its signature."""
    claims = json.dumps({"iat": int(issued), "exp": int(ends)}).encode()
    return f"head.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"


class Cluster(Host):
    """A host whose cluster gives tokens."""

    def __init__(self, folder: Path, given: dict[str, Any] | None = None) -> None:
        super().__init__(folder, {"kubernetes_namespace": "team-a", **(given or {})})
        self.program("kubectl", KUBECTL)
        self.path = folder / "kubeconfig"
        self.values["CLUSTER_ACCOUNTS"] = f"{ACCOUNT} {self.path} {GROUP}"
        self.values["RENEWAL_KUBECONFIG"] = str(folder / "kubeconfig-renewal")
        self.values["DEPLOY_LOCK"] = str(folder / "lock")
        found = {"server": "https://192.0.2.7:6443", "certificate-authority-data": "Q0E="}
        view = {"clusters": [{"cluster": {**found, "extensions": [{"started": "today"}]}}]}
        (folder / "view").write_text(json.dumps(view))
        self.is_account("uid-1")
        self.gives("first")

    def is_account(self, uid: str) -> None:
        """The cluster has this account, and knows a token of it."""
        name = f"system:serviceaccount:team-a-control:{ACCOUNT}"
        (self.folder / "uid").write_text(uid)
        who = {"status": {"userInfo": {"username": name, "uid": uid}}}
        (self.folder / "whoami").write_text(json.dumps(who))

    def gives(self, signature: str, issued: float = 0, ends: float = 7 * DAY) -> None:
        """The cluster gives this token, which begins and ends so many seconds from now."""
        now = time.time()
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + ends))
        status = {"token": token(now + issued, now + ends, signature), "expirationTimestamp": end}
        (self.folder / "token").write_text(json.dumps({"status": status, "kind": "TokenRequest"}))

    def refuses(self, kubeconfig: str) -> None:
        """The cluster accepts the login of this kubeconfig no longer."""
        (self.folder / "refused").write_text(kubeconfig)

    @property
    def arguments(self) -> tuple[str, str, str, str]:
        """The program and its arguments."""
        return PROGRAM, ACCOUNT, str(self.path), GROUP

    @property
    def signature(self) -> str:
        """The end of the token that the host has."""
        credential = json.loads(Path(f"{self.path}.d/token").read_text())
        return str(credential["status"]["token"]).split(".")[-1]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A host that has its kubeconfig."""
    found = Cluster(tmp_path)
    assert "is not there" in found.check(*found.arguments)
    assert found.apply(*found.arguments) == ""
    assert found.check(*found.arguments) == ""
    return found


@pytest.mark.parametrize(
    ("given", "server"),
    [
        # The node's own address may be another one after a boot.
        ({}, "https://127.0.0.1:6443"),
        (fake.ANOTHER_DRIVER, "https://192.0.2.7:6443"),
    ],
)
def test_the_kubeconfig_is_one(tmp_path: Path, given: dict[str, Any], server: str) -> None:
    host = Cluster(tmp_path, given)
    assert host.apply(*host.arguments) == ""
    written = json.loads(host.path.read_text())
    assert written["clusters"][0]["cluster"] == {
        "server": server,
        "certificate-authority-data": "Q0E=",
    }
    (context,) = (c for c in written["contexts"] if c["name"] == written["current-context"])
    assert context["context"]["namespace"] == "team-a"
    # The token is in a file of its own, and in no argument.
    signed = json.loads((tmp_path / "token").read_text())["status"]["token"]
    assert signed not in host.path.read_text() and signed not in host.calls.read_text()
    for path in (host.path, Path(f"{host.path}.d/token")):
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o644)
        assert "alone" in host.check(*host.arguments)
        path.chmod(0o640)
    assert not list(tmp_path.glob("*.new"))


def test_the_way_to_the_cluster_is_the_deploys(tmp_path: Path) -> None:
    """Its file may name a proxy, or another name than the address for the certificate."""
    host = Cluster(tmp_path, fake.EXISTING)
    way = {
        "server": "https://192.0.2.7:6443",
        "proxy-url": "http://192.0.2.8:3128",
        "tls-server-name": "kubernetes",
        "insecure-skip-tls-verify": True,
    }
    (tmp_path / "view").write_text(json.dumps({"clusters": [{"cluster": way}]}))
    assert host.apply(*host.arguments) == ""
    assert json.loads(host.path.read_text())["clusters"][0]["cluster"] == way


def test_a_group_gives_the_deploys_own_one_to_other_hosts(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete, at the address of the node, and the same after minikube has started again."""
    user = {"client-certificate-data": "Qw==", "client-key-data": "Sw=="}
    view = json.loads((cluster.folder / "view").read_text())
    (cluster.folder / "view").write_text(json.dumps({**view, "users": [{"user": user}]}))
    done = cluster.run(PROGRAM, "print")
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(members, "said_by", lambda *_: done.stdout)
    state = fake.hosts({"airflow": ("@fake/air-1",), "cluster": (fake.CLUSTER_HOST,)})
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host("@fake/air-1")):
        given = groups.printed("cluster")
    assert given and given.keys() == {"kubeconfig"}
    content = json.loads(given["kubeconfig"])
    (named,), (whose,), (context,) = (content[key] for key in ("clusters", "users", "contexts"))
    server = {"server": "https://192.0.2.7:6443", "certificate-authority-data": "Q0E="}
    assert named["cluster"] == server and whose["user"] == user
    assert context["context"] == {
        "cluster": named["name"],
        "user": whose["name"],
        "namespace": "default",
    }
    assert context["name"] == content["current-context"]
    assert "Sw==" not in cluster.calls.read_text()


def test_the_deploy_writes_one_for_each_account() -> None:
    plan = fake.plan(fake.settings({"kubernetes_pod_operator": True}))
    for account, path, group in (
        (ACCOUNT, layout.KUBECONFIG, "airflow"),
        ("airflow-triggerer", layout.TRIGGERERS_KUBECONFIG, "airflow-dags"),
        ("airflow-renewal", layout.RENEWAL_KUBECONFIG, "root"),
    ):
        (command,) = plan.named(f"Write the kubeconfig of {account}").commands
        assert command == f"{layout.LIB}/kubeconfig.py apply {account} {path} {group}"
        for each in (path, f"{path}.d"):
            assert each in layout.NOT_BACKED_UP


def test_airflows_client_takes_the_next_token_without_a_restart(cluster: Cluster) -> None:
    """It asks for it again five minutes before the end, which is past the half of any week."""
    cluster.gives("old", ends=303)
    assert cluster.apply(*cluster.arguments) == ""
    from kubernetes import client, config  # takes longer to load than the test itself

    held = client.Configuration()
    text = json.loads(cluster.path.read_text())
    text["clusters"][0]["cluster"].pop("certificate-authority-data")  # which is none
    config.load_kube_config_from_dict(text, client_configuration=held)
    assert held.get_api_key_with_prefix("BearerToken").endswith(".old")
    cluster.gives("next")
    assert cluster.apply(*cluster.arguments) == ""
    deadline = time.monotonic() + 20
    while held.get_api_key_with_prefix("BearerToken").endswith(".old"):
        assert time.monotonic() < deadline, "the client keeps the token of before"
        time.sleep(0.2)
    assert held.get_api_key_with_prefix("BearerToken").endswith(".next")


def test_a_token_is_renewed_at_the_half_of_its_life(cluster: Cluster) -> None:
    cluster.gives("next")
    assert cluster.run(PROGRAM, "renew").stdout == ""
    assert cluster.signature == "first"
    # Those that clusters give who allow a day at most have their half earlier.
    for issued, ends, is_old in (
        *((-3 * DAY, 4 * DAY, False), (-4 * DAY, 3 * DAY, True)),
        *((-0.4 * DAY, 0.6 * DAY, False), (-0.6 * DAY, 0.4 * DAY, True)),
    ):
        cluster.gives("old", issued, ends)
        cluster.apply(*cluster.arguments)
        before = cluster.path.read_bytes()
        assert ("half of its life" in cluster.check(*cluster.arguments)) is is_old
        cluster.gives("next")
        done = cluster.run(PROGRAM, "renew")
        assert done.returncode == 0 and ("was renewed" in done.stdout) is is_old
        assert cluster.signature == ("next" if is_old else "old")
        # Services read it again by themselves: none of their inputs changes.
        assert cluster.path.read_bytes() == before


@pytest.mark.parametrize("damage", ["", "{}", '{"status": {"token": "no"}}', "\0"])
def test_a_damaged_token_is_replaced(cluster: Cluster, damage: str) -> None:
    Path(f"{cluster.path}.d/token").write_text(damage)
    assert "half of its life" in cluster.check(*cluster.arguments)
    assert cluster.run(PROGRAM, "renew").returncode == 0
    assert cluster.check(*cluster.arguments) == ""


def test_the_renewal_needs_no_login_of_the_deploy_and_has_it_after_a_long_absence(
    cluster: Cluster,
) -> None:
    for refused in ("--context=here", cluster.values["RENEWAL_KUBECONFIG"]):
        Path(f"{cluster.path}.d/token").write_text("")
        cluster.refuses(refused)
        done = cluster.run(PROGRAM, "renew")
        assert (done.returncode, done.stderr) == (0, ""), refused
        assert cluster.signature == "first"
    Path(f"{cluster.path}.d/token").write_text("")
    cluster.refuses("create token")
    assert "Unauthorized" in cluster.run(PROGRAM, "renew").stderr


def test_the_renewal_waits_for_a_deploy(cluster: Cluster) -> None:
    (cluster.folder / "lock").touch()
    Path(f"{cluster.path}.d/token").write_text("")
    with subprocess.Popen(
        ["flock", cluster.folder / "lock", "sh", "-c", "echo; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as deploy:
        assert deploy.stdout and deploy.stdin
        deploy.stdout.readline()
        assert cluster.run(PROGRAM, "renew").returncode == 0
        assert Path(f"{cluster.path}.d/token").read_text() == ""
    cluster.run(PROGRAM, "renew")
    assert cluster.signature == "first"


def test_services_start_again_with_another_account(cluster: Cluster) -> None:
    """They hold a token that the cluster refuses now, until its end."""
    before = cluster.path.read_bytes()
    cluster.refuses("whoami")
    assert "Unauthorized" in cluster.check(*cluster.arguments)
    cluster.refuses("")
    cluster.is_account("uid-2")
    assert "an earlier account" in cluster.check(*cluster.arguments)
    assert cluster.apply(*cluster.arguments) == ""
    assert cluster.check(*cluster.arguments) == ""
    assert cluster.path.read_bytes() != before


def test_a_right_that_is_missing_leads_to_the_list_of_rights(cluster: Cluster) -> None:
    cluster.program("kubectl", "echo 'Error from server (Forbidden): no' >&2; exit 1")
    assert "apply cluster-rights.yaml again" in cluster.apply(*cluster.arguments)


def test_the_timer_finds_the_program() -> None:
    plan = fake.plan(fake.settings())
    service = Unit.of(plan, "airflow-token.service")
    assert service.one("Service.ExecStart").endswith(f" {layout.LIB}/kubeconfig.py renew")

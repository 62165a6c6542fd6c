"""A second host whose Airflow uses the cluster of the first one, as the README has it.

It is also the host of the settings that no other test changes: its first deploy is one anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tasks.layout import ROOT
from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL
from tests.e2e.examples import example
from tests.e2e.runs import Runs, dag, tries
from tests.e2e.servers import RegistryServer, S3Server
from tests.e2e.support import (
    DAGS,
    REMOVAL,
    SLACK,
    Airflow,
    Browser,
    Deploy,
    bring_dag,
    deploy,
    inventory_with,
    log_in,
    write_file,
)
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine
from tests.support import wait_for

NAMESPACE = "other"
KUBECONFIG = "/root/cluster.yaml"
LOGIN = "/usr/local/bin/e2e-login"
ACCOUNT = "system:serviceaccount:people:deployer"
BUCKET = "other-logs"
# A proxy on the first host, which reaches the cluster's API there.
PROXY_PORT = 3128
PROXY = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends tinyproxy >/dev/null 2>&1
cat > /etc/tinyproxy/tinyproxy.conf <<'END'
User tinyproxy
Group tinyproxy
Port {PROXY_PORT}
LogLevel Connect
ConnectPort 8443
END
systemctl restart tinyproxy
"""
LEFT_OUT = object()  # in place of a setting's value
RUNNING, LOOKING = "e2e_running", "e2e_elsewhere"
RESOURCES = {
    "requests": {"cpu": "60m", "memory": "300Mi"},
    "limits": {"cpu": "900m", "memory": "900Mi"},
}
DEBIANS_POSTGRES = {"bookworm": 15, "trixie": 17}  # https://packages.debian.org/postgresql


@pytest.fixture(scope="module")
def rights(shell: Shell) -> str:
    """The token of a user of the cluster who has just the rights that the README wants."""
    text = (ROOT / "inventories/cluster-rights.yaml").read_text()
    documents = yaml.safe_load_all(text)
    for_it = yaml.safe_dump_all(
        yaml.safe_load(
            yaml.safe_dump(each)
            .replace("airflow-control", f"{NAMESPACE}-control")
            .replace("name: airflow\n", f"name: {NAMESPACE}\n")
            .replace("namespace: airflow\n", f"namespace: {NAMESPACE}\n")
            .replace("- airflow\n", f"- {NAMESPACE}\n")
            .replace("airflow-pods-airflow", f"airflow-pods-{NAMESPACE}")
            .replace("kind: User\n  name: airflow-deploy", f"kind: User\n  name: {ACCOUNT}")
        )
        for each in documents
    )
    shell(
        "kubectl create namespace people && kubectl -n people create serviceaccount deployer"
        f" && kubectl apply -f - <<'END'\n{for_it}\nEND"
    )
    return shell("kubectl -n people create token deployer --duration=3h")


@pytest.fixture(scope="module")
def other(machine: Machine, shell: Shell, rights: str) -> Iterator[Machine]:
    """A bare machine whose kubeconfig logs in with a program, in a context that one must name."""
    it = machines.create(f"{machine.name}-other", machine.release)
    shown = shell("kubectl config view --kubeconfig=/root/.kube/config --minify --flatten --raw")
    cluster = yaml.safe_load(shown)["clusters"][0]["cluster"]
    cluster = {key: cluster[key] for key in ("server", "certificate-authority-data")}
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": Path(LOGIN).name,
        "interactiveMode": "Never",
    }
    nowhere = {"server": "https://192.0.2.1:6443"}  # https://www.rfc-editor.org/rfc/rfc5737
    contexts = {name: {"cluster": name, "user": name} for name in ("laptop", "production")}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": _named("cluster", {"laptop": nowhere, "production": cluster}),
        "users": _named("user", {"laptop": {}, "production": {"exec": program}}),
        "contexts": _named("context", contexts),
        "current-context": "laptop",
    }
    credential = {
        "apiVersion": program["apiVersion"],
        "kind": "ExecCredential",
        "status": {"token": rights},
    }
    write_file(it, KUBECONFIG, yaml.safe_dump(kubeconfig), "600")
    write_file(it, LOGIN, f"#!/bin/sh\ncat <<'END'\n{yaml.safe_dump(credential)}END\n", "700")
    yield it
    machines.remove(it.name)


def _named(kind: str, entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, kind: entry} for name, entry in entries.items()]


@pytest.fixture(scope="module")
def there(other: Machine) -> Shell:
    """Runs a shell command on the second host."""
    return lambda command: machines.run(other, command).stdout.strip()


@pytest.fixture(scope="module")
def settings(
    machine: Machine, other: Machine, shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The second host's settings: those of the README's example, and those of no other test."""
    s3, registry = S3Server(machine).start(), RegistryServer(machine).start()
    s3.create_bucket(BUCKET)
    # The node of another host is not for the deploy to change.
    shell(
        f"cat > /usr/local/share/ca-certificates/e2e.crt <<'END'\n{registry.ca_certificate}\nEND\n"
        "update-ca-certificates && systemctl restart containerd"
    )
    home = tmp_path_factory.mktemp("home")
    folder = home / "dags"
    folder.mkdir()
    (folder / f"{RUNNING}.py").write_text(dag(RUNNING, "hello"))
    (folder / f"{LOOKING}.py").write_text((DAGS / f"{LOOKING}.py").read_text())
    names = {
        "airflow.example.com": other.address,
        "registry.example.com": registry.address,
        "s3://my-bucket": f"s3://{BUCKET}",
        "eu-central-1": s3.region,
    }
    login = {"S3_ACCESS_KEY": s3.access_key, "S3_SECRET_KEY": s3.secret_key}
    given = example("existing_cluster", names, home=home, environ=login)
    # A registry and a store of the sandbox's own, and the first host's Airflow beside this one.
    given["worker_registry"] |= {
        "username": registry.user,
        "password": registry.password,
        "ca_certificate": registry.ca_certificate,
    }
    given["airflow_connections"]["s3_logs"]["extra"]["endpoint_url"] = s3.endpoint
    return {
        **given,
        "kubernetes_namespace": NAMESPACE,
        "web_admin_user": "ada",
        "retention_backups": 1,
        "web_base_url": f"https://{other.address}:8444/data",
        "airflow_examples": False,
        "retention_history_days": 30,
        "web_https_port": 8444,
        "execution_api_port": 8091,
        "airflow_smoke_test": False,
        "airflow_uid": 50123,
        "web_port": 8090,
        "postgres_version": DEBIANS_POSTGRES[machine.release],
        "worker_resources": RESOURCES,
    }


@pytest.fixture(scope="module")
def deployed(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, other: Machine, there: Shell
) -> Iterator[Callable[..., Deploy]]:
    """Deploys to the second host, with settings that differ from those above."""
    folder = tmp_path_factory.mktemp("inventory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_SANDBOX", other.name)

        def deploying(what: Sequence[str] = ("deploy.py",), **more: object) -> Deploy:
            chosen = {key: value for key, value in (settings | more).items() if value != LEFT_OUT}
            path = inventory_with(chosen, folder)
            return deploy(inventory=path, what=what)

        yield deploying


def objects(shell: Shell) -> str:
    """Names of all that the first host's Airflow has in the cluster."""
    kinds = "pods,serviceaccounts,secrets,configmaps,roles,rolebindings"
    return shell(f"kubectl -n airflow get {kinds} -o name")


@pytest.fixture(scope="module")
def before(shell: Shell) -> str:
    """The same before the second host's deploy."""
    return objects(shell)


@pytest.fixture(scope="module")
def elsewhere(before: str, deployed: Callable[..., Deploy], other: Machine) -> Airflow:
    """Airflow on the second host."""
    run = deployed()
    assert run.code == 0, run.output
    assert "smoke" not in " ".join(run.changed).lower()
    assert deployed().changed == []
    return log_in(other, "ada", ":8444/data")


@pytest.fixture(scope="module")
def running(elsewhere: Airflow, everything: client.CoreV1Api) -> dict[str, Any]:
    """The pod of a task that ran there, as it was while it did."""
    runs = Runs(elsewhere)
    runs.hold(RUNNING)
    run = runs.begin(RUNNING, "hello")
    (pod,) = everything.list_namespaced_pod(NAMESPACE, label_selector=f"dag_id={RUNNING}").items
    runs.release(RUNNING)
    runs.end(RUNNING, run, "hello")
    return dict(everything.api_client.sanitize_for_serialization(pod))


def test_what_the_first_host_has_in_the_cluster_stays_as_it_is(
    before: str, elsewhere: Airflow, shell: Shell
) -> None:
    assert objects(shell) == before


def test_a_task_has_the_resources_the_user_and_the_ports_of_the_settings(
    running: dict[str, Any], other: Machine, there: Shell
) -> None:
    spec = running["spec"]
    (base,) = spec["containers"]
    assert base["resources"] == RESOURCES
    assert spec["securityContext"]["runAsUser"] == 50123
    assert "minikube" not in there("ls /usr/local/bin /etc/systemd/system")
    environment = {each["name"]: each.get("value") for each in base["env"]}
    url = environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert url == f"https://{other.address}:8091/execution/"
    assert there("id -u airflow-dags") == "50123"
    listening = 'ss -Hltnp | awk \'/nginx|airflow/ {sub(".*:", "", $4); print $4}\''
    ports = there(listening)
    assert set(ports.split()) == {"78", "8091", "8444"}
    # systemd holds this one for Airflow.
    assert "127.0.0.1:8090" in there("ss -Hltn sport = :8090")


def test_airflow_itself_has_nothing_of_the_persons_login(
    running: dict[str, Any], elsewhere: Airflow, other: Machine, there: Shell
) -> None:
    """A task runs, and links to itself, while the kubeconfig and its program are away."""
    there(f"mv {LOGIN} {LOGIN}.away && mv {KUBECONFIG} {KUBECONFIG}.away")
    try:
        run = elsewhere.trigger(LOOKING)
        wait_for(lambda: elsewhere.run_state(LOOKING, run) == "success", 120, "it succeeds")
        said = f"uid 50123 link https://{other.address}:8444/data/dags/{LOOKING}/runs/"
        wait_for(lambda: said in elsewhere.log(LOOKING, run, "look"), 60, "the log is in S3")
    finally:
        there(f"mv {LOGIN}.away {LOGIN} && mv {KUBECONFIG}.away {KUBECONFIG}")


def test_tasks_of_both_hosts_run_at_the_same_time(
    before: str, airflow: Airflow, elsewhere: Airflow, everything: client.CoreV1Api, shell: Shell
) -> None:
    """Also if their DAGs have the same name."""
    bring_dag(RUNNING, shell, dag(RUNNING, "hello"))
    both = (airflow, elsewhere)
    for each in both:
        Runs(each).hold(RUNNING)
    # The first one waits until its new DAG is known.
    triggered = [(each, each.trigger(RUNNING)) for each in both]

    def both_run() -> bool:
        firsts = [tries(each, RUNNING, run).get("first") for each, run in triggered]
        return firsts == [("running", 1), ("running", 1)]

    wait_for(both_run, 120 + SLACK, "a task of each runs")
    pods = everything.list_pod_for_all_namespaces(label_selector=f"dag_id={RUNNING}").items
    assert {pod.metadata.namespace for pod in pods} == {"airflow", NAMESPACE}
    for each in both:
        Runs(each).release(RUNNING)
    for each, run in triggered:
        Runs(each).end(RUNNING, run, "hello")
        assert tries(each, RUNNING, run) == {"first": ("success", 1), "second": ("success", 1)}
    wait_for(lambda: objects(shell) == before, 60 + SLACK, "the first one's pods are gone")


def test_the_page_has_the_address_and_the_user_of_the_settings(
    elsewhere: Airflow, there: Shell
) -> None:
    """Airflow sends a browser there after the login."""
    password = there("cat /etc/airflow/secrets/admin-password")
    assert Browser(elsewhere, password, "ada").is_known


def test_examples_and_the_smoke_test_are_left_out(elsewhere: Airflow) -> None:
    dags = {each["dag_id"] for each in elsewhere.request("GET", "/dags")["dags"]}
    assert dags == {RUNNING, LOOKING}


def test_history_ends_after_the_days_of_the_settings(elsewhere: Airflow, there: Shell) -> None:
    ids = [elsewhere.trigger(LOOKING) for _ in range(3)]

    def ended() -> bool:
        return all(elsewhere.run_state(LOOKING, run) == "success" for run in ids)

    wait_for(ended, 120, "all of them succeed")
    for run, days in zip(ids, (40, 20, 0), strict=True):
        for table, columns in (
            ("dag_run", ("run_after", "start_date", "end_date", "queued_at")),
            ("task_instance", ("start_date", "end_date")),
        ):
            earlier = ", ".join(f"{name} = {name} - interval '{days} days'" for name in columns)
            there(f"{PSQL} \"update {table} set {earlier} where run_id = '{run}'\"")
    there("systemctl start airflow-cleanup-history")
    left = elsewhere.request("GET", f"/dags/{LOOKING}/dagRuns?limit=100")["dag_runs"]
    kept = {each["dag_run_id"] for each in left}
    assert [run in kept for run in ids] == [False, True, True]


def test_as_many_nightly_backups_are_kept_as_the_settings_say(there: Shell) -> None:
    kept = []
    for _ in range(2):
        there("systemctl start airflow-backup")
        kept.append(there("ls /var/backups/airflow"))
    assert len(kept[0].split()) == len(kept[1].split()) == 1
    assert kept[0] != kept[1]


def test_postgresql_is_of_the_version_of_the_settings(
    settings: dict[str, Any], elsewhere: Airflow, there: Shell
) -> None:
    number = there(f"{PSQL} 'show server_version_num'")
    assert int(number) // 10000 == settings["postgres_version"]


def test_own_pod_template(
    deployed: Callable[..., Deploy],
    elsewhere: Airflow,
    everything: client.CoreV1Api,
    there: Shell,
    tmp_path: Path,
) -> None:
    """Made of the one on the host, as the README says."""
    pod = yaml.safe_load(there("cat /etc/airflow/pod_template.yaml"))
    pod["metadata"]["labels"] = {"team": "elsewhere"}
    base = pod["spec"]["containers"][0]
    del base["image"], base["env"], base["resources"]
    path = tmp_path / "own-pod.yaml"
    path.write_text(yaml.safe_dump(pod))
    run = deployed(worker_pod_template=str(path), worker_resources=LEFT_OUT)
    assert run.code == 0, run.output
    elsewhere.trigger(LOOKING)
    which = f"dag_id={LOOKING},team=elsewhere"
    wait_for(
        lambda: everything.list_namespaced_pod(NAMESPACE, label_selector=which).items,
        90,
        "a pod is made of the own template",
        every=0.1,
    )


def test_the_cluster_may_be_behind_the_proxy_of_its_kubeconfig(
    deployed: Callable[..., Deploy],
    elsewhere: Airflow,
    machine: Machine,
    other: Machine,
    shell: Shell,
    there: Shell,
) -> None:
    """At an address at which only the proxy finds it; the removal goes the same way."""
    shell(PROXY)
    kubeconfig = yaml.safe_load(there(f"cat {KUBECONFIG}"))
    (cluster,) = (
        each["cluster"] for each in kubeconfig["clusters"] if each["name"] == "production"
    )
    cluster["server"] = "https://127.0.0.1:8443"
    cluster["proxy-url"] = f"http://{machine.address}:{PROXY_PORT}"
    write_file(other, KUBECONFIG, yaml.safe_dump(kubeconfig), "600")
    run = deployed()
    assert run.code == 0, run.output
    assert deployed().changed == []
    task = elsewhere.trigger(LOOKING)
    wait_for(lambda: elsewhere.run_state(LOOKING, task) == "success", 120, "it succeeds")
    assert int(shell("journalctl -u tinyproxy -o cat | grep -c 'CONNECT 127.0.0.1:8443'")) > 0


def test_removal_takes_the_namespace_and_leaves_the_other_airflow(
    before: str, deployed: Callable[..., Deploy], elsewhere: Airflow, shell: Shell, there: Shell
) -> None:
    run = deployed(what=REMOVAL)
    assert run.code == 0, run.output
    assert "Remove | Delete Airflow's objects in the cluster" in run.changed
    assert shell(f"kubectl get namespace {NAMESPACE} {NAMESPACE}-control --ignore-not-found") == ""
    assert there("ls -d /etc/airflow /opt/airflow /usr/local/bin/airflow* 2>/dev/null; true") == ""
    assert there(f"ls {KUBECONFIG}") == KUBECONFIG
    assert deployed(what=REMOVAL).changed == []
    assert objects(shell) == before
    assert "a task ran as a pod" in shell("airflow-smoke-test")

"""Kubernetes becomes two minor versions newer under running tasks, one after the other."""

from __future__ import annotations

import re
from secrets import token_urlsafe
from typing import Any

import pytest

from tasks.settings import Settings
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag
from tests.e2e.support import (
    BETWEEN_FOLDER,
    OLDER_FOLDER,
    bring_dag,
    bring_offline_folders,
    deploy,
    log_in,
)
from tests.sandbox import offline
from tests.sandbox.machine import Machine

OLDER: dict[str, Any] = {
    "kubernetes_version": offline.OLDER.kubernetes.lstrip("v"),
    "minikube_version": str(offline.OLDER.minikube).lstrip("v"),
    "minikube_crictl_version": offline.CRICTL.lstrip("v"),
    "offline_dir": OLDER_FOLDER,
}
CURRENT: dict[str, Any] = {"offline_dir": BETWEEN_FOLDER}
DAG = "e2e_kubernetes"
SECRET = token_urlsafe(16)
# Objects that a person has put into the cluster.
OWN = f"""
kubectl create namespace kept
kubectl -n kept create configmap kept --from-literal=word={SECRET}
kubectl -n kept create secret generic kept --from-literal=word={SECRET}
"""
KUBEADM = "/var/tmp/minikube/kubeadm.yaml"  # minikube saves this before it acts


@pytest.fixture(scope="module")
def runs(machine: Machine, shell: Shell) -> Runs:
    """Airflow with a cluster of the older version, in which a person has something."""
    bring_offline_folders(machine)
    run = deploy(settings=OLDER)
    assert run.code == 0, run.output
    bring_dag(DAG, shell, dag(DAG, "one"))
    shell(OWN)
    return Runs(log_in(machine))


def versions(shell: Shell) -> set[str]:
    """Of Kubernetes: what the processes that run say, the node, the API and the client."""
    names = ("kubelet", "kube-apiserver", "kube-controller", "kube-scheduler", "kube-proxy")
    said = shell(
        f"for name in {' '.join(names)}; do"
        " echo $name $(/proc/$(pgrep -ox $name)/exe --version); done;"
        " kubectl get nodes -o jsonpath='node node {.items[*].status.nodeInfo.kubeletVersion}';"
        """ echo; kubectl version -o json | sed -n 's/"gitVersion": "\\(.*\\)",/api api \\1/p'"""
    ).splitlines()
    assert len(said) == len(names) + 3, said
    return {line.split()[2] for line in said}


def of_etcd(shell: Shell) -> str:
    """The version of etcd's process."""
    said = shell("/proc/$(pgrep -ox etcd)/exe --version").splitlines()[0]
    return f"{said.split()[-1]}-0"  # as its image has it


def objects(shell: Shell) -> str:
    """The objects of Airflow and of the person: the id and the content of each."""
    kinds = "serviceaccounts,secrets,configmaps,roles,rolebindings"
    form = "{range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.data}{'\\n'}{end}"
    return shell(
        f"for namespace in airflow kept; do kubectl get namespace $namespace -o"
        f" jsonpath='{{.metadata.uid}}'; kubectl -n $namespace get {kinds} -o jsonpath=\"{form}\";"
        " done"
    )


def steps(shell: Shell, since: str) -> list[str]:
    """The versions that minikube went through since then, as its unit's log has them."""
    said = shell(f"journalctl -u minikube -o cat --since='{since}'")
    return re.findall(r"Kubernetes \S+ becomes (\S+) on its way", said)


def becomes_current(runs: Runs, shell: Shell, under_way: str) -> None:
    """Deploy; then the version is the current one, and a run that is under way ends well."""
    run = deploy(settings=CURRENT)
    assert run.code == 0, run.output
    assert deploy(settings=CURRENT).changed == []
    wanted = Settings.from_data({})
    assert versions(shell) == {f"v{wanted.kubernetes.version}"}
    assert of_etcd(shell) == offline.CURRENT.etcd
    assert shell("minikube version --short") == f"v{wanted.minikube.version}"
    runs.release(DAG)
    runs.end(DAG, under_way, "one")
    tries = {t["task_id"]: t["try_number"] for t in runs.airflow.tasks(DAG, under_way)}
    assert tries == {"first": 1, "second": 1}
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def test_upgrade_while_a_task_runs(runs: Runs, shell: Shell) -> None:
    assert versions(shell) == {offline.OLDER.kubernetes}
    assert of_etcd(shell) == offline.OLDER.etcd
    assert shell("minikube version --short") == offline.OLDER.minikube
    before = runs.begin(DAG, "one")
    runs.end(DAG, before, "one")
    kept = objects(shell)
    runs.hold(DAG)
    since = shell("date '+%F %T'")
    becomes_current(runs, shell, runs.begin(DAG, "one"))
    assert steps(shell, since) == [offline.BETWEEN.kubernetes.lstrip("v")]
    assert objects(shell) == kept
    assert runs.airflow.run_state(DAG, before) == "success"
    assert "second says one" in runs.airflow.log(DAG, before, "second")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (OLDER, "minikube can't change it to an older one"),
        (
            {"kubernetes_version": "1.99.0", "minikube_version": "1.99.0"},
            "does not know every minor version on its way to 1.99",
        ),
    ],
)
def test_what_kubernetes_does_not_support_is_refused(
    wanted: dict[str, Any], said: str, runs: Runs, shell: Shell
) -> None:
    there = Settings.from_data({}).kubernetes.version
    run = deploy(settings=wanted)
    assert run.code != 0
    assert f"kubernetes_version: the cluster has Kubernetes {there}" in run.output
    assert said in run.output and "Starting operation" not in run.output
    assert versions(shell) == {f"v{there}"}


def test_a_version_on_the_way_that_is_not_there_is_told_first(runs: Runs, shell: Shell) -> None:
    """On a cluster that was made again, which is the way back to the older version."""
    shell("HOME=/root minikube delete")
    run = deploy(settings=OLDER)
    assert run.code == 0, run.output
    assert versions(shell) == {offline.OLDER.kubernetes}
    run = deploy()  # with the folder of the current version alone
    assert run.code != 0 and "Starting operation" not in run.output
    assert f"/{offline.BETWEEN.kubernetes} with kubeadm" in run.output


@pytest.mark.parametrize("version", [offline.BETWEEN.kubernetes, offline.CURRENT.kubernetes])
def test_killed_upgrade_is_healed_by_the_next_deploy(
    version: str, runs: Runs, shell: Shell
) -> None:
    """Killed on the way, and again in the last step, with a run under way each time."""
    if versions(shell) != {offline.OLDER.kubernetes}:
        shell("HOME=/root minikube delete")
        assert deploy(settings=OLDER).code == 0
    shell(OWN)
    kept = objects(shell)
    runs.hold(DAG)
    under_way = runs.begin(DAG, "one")
    # At the moment that minikube itself does not come back from: when it has noted the version that
    # it is about to make. systemd learns from the kernel that the file is written.
    wanted = f"kubernetesVersion: {version}"
    kill = (
        f"grep -qF '{wanted}' {KUBEADM} && systemctl kill --signal=KILL minikube && touch /run/e2e"
    )
    shell(
        "systemd-run --quiet --collect --unit=e2e-kill --service-type=oneshot"
        f' --path-property=PathModified={KUBEADM} sh -c "{kill}"'
    )
    since = shell("date '+%F %T'")
    killed = deploy(settings=CURRENT)
    shell("systemctl stop e2e-kill.path; rm /run/e2e")
    assert killed.code != 0
    assert "minikube does not run Kubernetes" in killed.output
    becomes_current(runs, shell, under_way)
    # The step that was cut off is made again, and none before it.
    between = offline.BETWEEN.kubernetes
    assert steps(shell, since) == [between.lstrip("v")] * (2 if version == between else 1)
    assert objects(shell) == kept

"""DAGs from each source are seen by the host and run in pods, also while they change or are away.

In the order of the file: a deploy costs half a minute, so that most of them serve several tests.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from kubernetes import client

from tests.e2e.attacks import pods
from tests.e2e.conftest import Shell
from tests.e2e.examples import example
from tests.e2e.runs import Runs, dag
from tests.e2e.servers import GitServer
from tests.e2e.support import Airflow, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

FROM_YOURS = "/opt/airflow/dags/e2e_yours.py"


@pytest.fixture(scope="module")
def runs(airflow: Airflow) -> Runs:
    """Runs on the machine."""
    return Runs(airflow)


@pytest.fixture(scope="module")
def git(machine: Machine, shell: Shell) -> Iterator[GitServer]:
    """A git server with the repositories of the bundles; one has moved."""
    server = GitServer(machine).start()
    for name in ("keyed", "token", "moving", "moved"):
        server.create(name)
    for name in ("keyed", "token", "moving"):
        server.push(name, {f"dags/e2e_{name}.py": dag(f"e2e_{name}", "one")})
    server.push("moved", {"dags/e2e_moving.py": dag("e2e_moving", "two")})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def git_settings(git: GitServer) -> dict[str, Any]:
    """Bundles read with a deploy key, and with a token."""
    given = example(
        "git",
        {
            "ssh://git@git.example.com/team/dags.git": git.ssh_url("keyed"),
            "https://git.example.com/partner/dags.git": git.http_url("token"),
            "https://git.example.com/public/dags.git": git.http_url("moved"),
        },
        environ={"GIT_DEPLOY_KEY": git.private_key, "GIT_TOKEN": git.token},
    )
    assert given["airflow_connections"]["git_partner"]["login"] == git.user
    bundles = given["dags_git_bundles"]
    for bundle in bundles.values():
        bundle |= {"folder": "dags", "refresh_seconds": 5}
    bundles["partner"]["branch"] = "production"
    bundles["public"]["connection"] = "git_partner"  # the sandbox's server has no public ones
    # A try that could not fetch its repository counts as lost only then; 5 minutes by default.
    timeout = {"scheduler": {"task_instance_heartbeat_timeout": "30"}}
    return {**given, "airflow_config": timeout}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAGs on the machine that the deploy is run from."""
    top = tmp_path_factory.mktemp("home") / "dags"
    (top / "team").mkdir(parents=True)
    (top / "team/e2e_brought.py").write_text(dag("e2e_brought", "one"))
    return top


def test_folder_is_brought_and_repositories_that_say_no_are_told(
    git: GitServer, git_settings: dict[str, Any], folder: Path, runs: Runs, shell: Shell
) -> None:
    shell(f"cat > {FROM_YOURS} <<'END'\n{dag('e2e_yours', 'one')}\nEND")
    # Another key than the one that the server lets in; and there is no branch production yet.
    other = dataclasses.replace(git, private_key=GitServer(git.machine).private_key).private_key
    wrong = copy.deepcopy(git_settings)
    del wrong["dags_source"]
    wrong["airflow_connections"]["git_team"]["extra"]["private_key"] = other
    bundles = wrong["dags_git_bundles"]
    bundles["nobody"] = {"url": f"http://{git.machine.address}:1/x.git"}
    bundles["elsewhere"] = {**bundles["public"], "folder": "dags/nowhere"}
    bundles["public"]["url"] = git.http_url("moving")
    run = deploy(settings={**wrong, **example("dags_folder", home=folder.parent)})
    print(run.output)
    assert run.code != 0
    assert f"team: {git.ssh_url('keyed')}: git@" in run.output
    assert "Permission denied" in run.output
    assert "partner" in run.output and "it has no branch or tag production, but: main" in run.output
    assert "nobody" in run.output and "Failed to connect" in run.output
    nowhere = f"elsewhere: {git.http_url('moved')}: its branch main has no folder dags/nowhere"
    assert nowhere in run.output
    assert "dags_git_bundles: public:" not in run.output
    # Everything else works.
    for name in ("e2e_brought", "e2e_yours", "e2e_moving"):
        runs.whole(name, "one")
    assert not any(secret in run.output for secret in (git.token, other.splitlines()[2]))


def test_git_alone(git: GitServer, git_settings: dict[str, Any], runs: Runs) -> None:
    git.push("token", {"dags/e2e_token.py": dag("e2e_token", "one")}, branch="production")
    run = deploy(settings=git_settings)
    assert run.code == 0, run.output
    # The smoke test's DAG is in a bundle of the deploy's own.
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed
    assert deploy(settings=git_settings).changed == []
    runs.whole("e2e_token", "one")


def wait_until_read(repository: str, name: str, airflow: Airflow, shell: Shell) -> None:
    """Wait until the repository's last commit is the one that new runs of a DAG are of."""
    commit = shell(f"runuser -u git -- git -C /srv/git/{repository}.git rev-parse main")

    def read() -> bool:
        # Later than the bundle's own version: the dag-processor fetches first, then reads.
        return bool(airflow.request("GET", f"/dags/{name}")["bundle_version"] == commit)

    wait_for(read, 120, f"{repository}'s last commit is read", every=1)


def test_a_bundle_whose_url_changed_is_cloned_again(
    runs: Runs, airflow: Airflow, shell: Shell
) -> None:
    wait_until_read("moved", "e2e_moving", airflow, shell)
    runs.whole("e2e_moving", "two")


def test_a_run_keeps_its_commit_and_pods_hold_no_secret(
    git: GitServer, runs: Runs, shell: Shell
) -> None:
    runs.hold("e2e_keyed")
    under_way = runs.begin("e2e_keyed", "one")
    pods = shell("kubectl -n airflow get pods -l dag_id=e2e_keyed -o yaml")
    assert "e2e_keyed" in pods
    git.push("keyed", {"dags/e2e_keyed.py": dag("e2e_keyed", "two")})
    wait_until_read("keyed", "e2e_keyed", runs.airflow, shell)
    later = runs.begin("e2e_keyed", "two")
    runs.release("e2e_keyed")
    runs.end("e2e_keyed", later, "two")
    runs.end("e2e_keyed", under_way, "one")
    files = shell("cat /etc/airflow/pod_template.yaml /etc/airflow/airflow.cfg")
    for secret in (git.token, git.private_key.splitlines()[2]):
        assert secret not in pods and secret not in files


def test_a_repository_that_is_down(
    git: GitServer, runs: Runs, airflow: Airflow, shell: Shell
) -> None:
    git.stop()
    # Worse than a repository that the dag-processor has a clone of: one that it starts without.
    shell("systemctl restart airflow-dag-processor")
    run = airflow.trigger("e2e_token")

    def failed() -> bool:
        first = [t for t in airflow.tasks("e2e_token", run) if t["task_id"] == "first"]
        return bool(first) and first[0]["state"] == "up_for_retry"

    wait_for(failed, 180, "the task's first try fails", every=0.5)
    path = f"/dags/e2e_token/dagRuns/{quote(run)}/taskInstances/first/logs/1?full_content=true"
    log = json.dumps(airflow.request("GET", path))  # git's words are in the same line
    assert "Failed to connect" in log
    assert "first says" not in log
    # Known DAGs stay known.
    said = "journalctl -u airflow-dag-processor -o cat --since -5min"
    wait_for(lambda: "Error initializing bundle partner" in shell(said), 60, "no clone", every=1)
    assert airflow.request("GET", "/dags/e2e_token")["is_stale"] is False
    git.start()
    runs.end("e2e_token", run, "one")


def test_a_claim_that_is_not_there_is_told_first(shell: Shell) -> None:
    before = shell("sha256sum $(find /etc/airflow -maxdepth 1 -type f -name '*.*')")
    claim = {"name": "e2e-nobodys", "host_path": "/srv/e2e-nothing"}
    run = deploy(settings={"dags_source": "volume_claim", "dags_claim": claim})
    assert run.code != 0
    assert "Starting operation" not in run.output
    assert "there is no claim e2e-nobodys in the namespace airflow" in run.output
    assert "the host has no folder /srv/e2e-nothing," in run.output
    assert shell("sha256sum $(find /etc/airflow -maxdepth 1 -type f -name '*.*')") == before


# What an admin of the storage makes: a volume for each claim of the example, and one of its claims.
VOLUMES = """
apiVersion: v1
kind: PersistentVolume
metadata: {name: e2e-dags}
spec:
  capacity: {storage: 10Mi}
  accessModes: [ReadWriteMany]
  storageClassName: e2e
  hostPath: {path: /srv/nfs, type: Directory}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: dags, namespace: airflow}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: e2e
  volumeName: e2e-dags
  resources: {requests: {storage: 10Mi}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: e2e-logs}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteMany]
  storageClassName: nfs
  hostPath: {path: /srv/nfs/logs, type: Directory}
"""


def test_a_claim_that_is_there_and_one_that_the_deploy_makes(runs: Runs, shell: Shell) -> None:
    shell(
        "mkdir -p /srv/nfs/dags && install -d -o 50000 /srv/nfs/logs"
        f" && cat > /srv/nfs/dags/e2e_claim.py <<'END'\n{dag('e2e_claim', 'given')}\nEND"
    )
    shell(f"kubectl apply -f - <<'END'\n{VOLUMES}\nEND")
    run = deploy(settings=example("claims"))
    assert run.code == 0, run.output
    runs.whole("e2e_claim", "given")
    assert shell("find /srv/nfs/logs -path '*e2e_claim*' -name '*.log' | wc -l") == "2"
    # A task that mounts the claim again cannot write the DAGs of others.
    template = yaml.safe_load(shell("cat /etc/airflow/pod_template.yaml"))
    ask = "kubectl -n airflow create --dry-run=server -f - 2>&1 <<'END' || true\n"
    for claim, is_refused in (("dags", True), ("logs", False)):
        pod = pods.changed(template, pods.volume(persistentVolumeClaim={"claimName": claim}))
        said = shell(f"{ask}{json.dumps(pod)}\nEND")
        assert (pods.READ_ONLY in said) is is_refused, said
        assert is_refused or said.endswith("created (server dry run)"), said


def test_another_image_while_a_task_runs(
    folder: Path, runs: Runs, cluster: client.CoreV1Api, shell: Shell
) -> None:
    given = example("image_dags", home=folder.parent)
    del given["retention_worker_images"]  # the default is what is counted below
    run = deploy(settings=given)
    assert run.code == 0, run.output
    runs.hold("e2e_brought")
    under_way = runs.begin("e2e_brought", "one")

    (folder / "team/e2e_brought.py").write_text(dag("e2e_brought", "two"))
    run = deploy(settings=given)
    assert run.code == 0, run.output
    restarted = [name for name in run.changed if name.startswith("Services | Run ")]
    assert restarted == ["Services | Run airflow-dag-processor"]
    later = runs.begin("e2e_brought", "two")
    pods = cluster.list_namespaced_pod("airflow", label_selector="dag_id=e2e_brought").items
    images = {pod.spec.containers[0].image for pod in pods}
    assert len(images) == 2
    # There is a list of packages for each image that is kept by default; the older one's is gone.
    lists = shell("cd /opt/airflow/image && ls -d */").split()
    assert {f"localhost/airflow-worker:{each.rstrip('/')}" for each in lists} == images
    runs.release("e2e_brought")
    runs.end("e2e_brought", later, "two")
    # Its first task ended in the pod that it began in.
    wait_for(lambda: runs.airflow.run_state("e2e_brought", under_way) == "success", 120, "it ends")
    first = runs.airflow.log("e2e_brought", under_way, "first")
    assert "first says one" in first and "first says two" not in first
    tries = {t["task_id"]: t["try_number"] for t in runs.airflow.tasks("e2e_brought", under_way)}
    assert tries == {"first": 1, "second": 1}


def test_without_the_settings_only_your_own_files_are_left(shell: Shell) -> None:
    run = deploy()
    assert run.code == 0, run.output
    left = shell("cd /opt/airflow/dags && find . -name e2e_yours.py -o -name e2e_brought.py")
    assert left == "./e2e_yours.py"
    assert deploy().changed == []

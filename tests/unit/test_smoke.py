"""When a deploy runs the smoke test again: after a change on the way of a task."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.host import host_values
from tests.unit import fake, programs

# The files of the test's state, each with a fault that would be unseen without it.
STATE = {
    "/etc/airflow/airflow.cfg": "other options",
    "/etc/airflow/pod_template.yaml": "another image, shape or environment of the pods",
    "/etc/airflow/pod-policy.yaml": "other pods that the cluster admits",
    "/etc/airflow/kubeconfig": "another cluster, or another token for it",
    "/etc/airflow/secrets/objects.json": "another connection, as that of the logs' store",
    "/etc/nginx/sites-available/airflow": "another way of pods to the Execution API",
    "/etc/airflow/tls/pods-ca.pem": "another authority, which pods should trust",
    "/etc/systemd/system/airflow-.service.d/10-sandbox.conf": "another sandbox of the services",
    **{
        f"/etc/systemd/system/airflow-{name}.service.d/30-host.conf": "another version or setting"
        for name in ("api-server", "scheduler", "dag-processor", "triggerer")
    },
    "/etc/systemd/system/airflow-api-server.service": "another way to run a service",
    "/etc/systemd/system/airflow-scheduler.service": "another way to run a service",
    "/etc/systemd/system/airflow-dag-processor.service": "another way to run a service",
    "/etc/systemd/system/airflow-triggerer.service": "another way to run a service",
}
PUBLIC = fake.VARIANTS["page with TLS"]
# Settings before and after a change, and whether it has to be proved.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "option": ({}, {"airflow_config": {"core": {"parallelism": "8"}}}, True),
    "Debian packages of the image": ({}, {"worker_extra_apt_packages": ["jq"]}, True),
    "Python packages": ({}, {"airflow_extra_requirements": ["cowsay"]}, True),
    "environment of pods": ({}, {"dags_env": {"COLOUR": "green"}}, True),
    "shape of pods": (
        {},
        {"worker_pod_override": {"spec": {"nodeSelector": {"disk": "ssd"}}}},
        True,
    ),
    "DAGs of the image": (
        {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"},
        {"dags_source": "image", "dags_local_folder": "tests/bench/dags"},
        True,
    ),
    "context": (fake.EXISTING, {**fake.EXISTING, "kubernetes_context": "other"}, True),
    "connections": ({}, {"airflow_connections": {"api": {"conn_type": "http"}}}, True),
    "proxy": (PUBLIC, {**PUBLIC, "web_logins_per_minute": 5}, True),
    "executor": ({}, {"airflow_executor": "KubernetesExecutor,LocalExecutor"}, True),
    "retention": ({}, {"retention_log_days": 1, "retention_backups": 1}, False),
    "metrics": ({}, fake.VARIANTS["metrics"], False),
    "PostgreSQL": ({}, {"postgres_config": {"work_mem": "8MB"}}, False),
}


FILES_OF_STATE = host_values.values(fake.settings())["SMOKE_TEST_INPUTS"].split()


def test_the_state_is_all_that_a_task_depends_on(plan: fake.Plan) -> None:
    assert sorted(FILES_OF_STATE) == sorted(STATE)
    (run,) = plan.named("Run a tiny DAG as a pod").commands
    assert run == "/usr/local/lib/airflow/smoke-test.sh apply"


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    """The programs, with a smoke test that only counts how often it runs, and may fail."""
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    lib = tmp_path / "usr/local/lib/airflow"
    lib.mkdir(parents=True)
    for name in ("smoke-test.sh", "lib.sh"):
        (lib / name).write_text((programs.LIB / name).read_text())
    (lib / "smoke-test.sh").chmod(0o755)
    program = tmp_path / "usr/local/bin/airflow-smoke-test"
    program.write_text(f"#!/bin/sh\necho >>{tmp_path}/runs\ntest ! -e {tmp_path}/broken\n")
    program.chmod(0o755)
    for name in (*STATE, "/var/lib/airflow-deploy/some"):
        path = tmp_path / f"root{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return lib


def test_it_runs_again_when_the_state_changed_or_it_failed(lib: Path, tmp_path: Path) -> None:
    env = programs.host_env(tmp_path, fake.settings())

    def call(verb: str) -> int:
        done = subprocess.run([lib / "smoke-test.sh", verb], env=env, text=True, stderr=-1)
        assert done.stderr.count("\n") == (verb == "check" and done.returncode)
        return done.returncode

    assert (call("check"), call("apply"), call("check")) == (1, 0, 0)
    for name in STATE:
        (tmp_path / f"root{name}").write_text("changed")
        assert (call("check"), call("apply"), call("check")) == (1, 0, 0), name
    (tmp_path / "root/etc/airflow/secrets/objects.json").unlink()  # an inventory without objects
    (tmp_path / "broken").touch()
    assert (call("check"), call("apply"), call("check")) == (1, 1, 1)
    (tmp_path / "broken").unlink()
    assert (call("apply"), call("check")) == (0, 0)
    # Anybody can compute the state, as the host's tests do.
    files = " ".join(f"{tmp_path}/root{name}" for name in FILES_OF_STATE)
    state = subprocess.check_output(["sh", "-c", f"cat {files} 2>/dev/null | sha256sum"])
    assert (tmp_path / "root/var/lib/airflow-deploy/smoke-test-passed").read_bytes() == state


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_on_the_way_of_a_task_is_tested_again(change: str) -> None:
    before, after, proved = CHANGES[change]
    contents = [
        plan.contents(FILES_OF_STATE)
        for plan in (fake.plan(fake.settings(before)), fake.plan(fake.settings(after)))
    ]
    assert (contents[0] != contents[1]) is proved


def test_the_pod_of_a_task_that_fails_at_once_is_found() -> None:
    """Between two looks Airflow can make a pod and give it up, since its image can't be had."""
    run_task = runpy.run_path(str(programs.BIN / "airflow-smoke-test"))["run_task"]
    parts = run_task.__globals__
    pods: list[dict[str, Any]] = []

    def kubectl(*command: str) -> str:
        return json.dumps({"items": pods}) if command[:2] == ("get", "pods") else ""

    def request(method: str, path: str, body: object = None, token: str = "") -> dict[str, Any]:
        waiting = {"state": {"waiting": {"reason": "ErrImagePull"}}}
        status = {"phase": "Pending", "containerStatuses": [waiting]}
        if method == "GET":  # of the task, which was not scheduled yet when it was triggered
            pods[:] = [{"metadata": {"name": "greet-1"}, "status": status}]
        return {"state": "failed"}

    parts |= {"kubectl": kubectl, "request": request}
    with pytest.raises(parts["Broken"], match=r"^image: the pod greet-1 .*: ErrImagePull"):
        run_task("a token")

"""Parts that are broken come back with the next deploy; until then they are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, deploy, properties
from tests.support import wait_for

# Waits if a service has just started; whether it has to is the machine's speed.
WAIT = "Services | Wait until Airflow is healthy"
POD_TEMPLATE = "/etc/airflow/pod_template.yaml"
SERVICES = [f"airflow-{name}" for name in ("api-server", "scheduler", "dag-processor", "triggerer")]
TIMERS = [
    f"airflow-{name}.timer"
    for name in (
        *("backup", "certificate", "liveness"),
        *("cleanup-history", "cleanup-images", "cleanup-logs", "cleanup-pods"),
    )
]
# Edits on the host and in the cluster, and the operations that undo them.
EDITS = {
    "echo '# by hand' >> /etc/airflow/airflow.cfg": ["Airflow | Write airflow.cfg"],
    # It started with the edited file, the others with the right one.
    "systemctl restart airflow-triggerer": ["Services | Run airflow-triggerer"],
    "systemctl stop airflow-dag-processor": ["Services | Run airflow-dag-processor"],
    f"echo '# by hand' >> {POD_TEMPLATE}": ["Airflow | Write pod_template.yaml"],
    "echo '# by hand' >> /etc/systemd/system/airflow-api-server.service": [
        "Services | Install the units",
        "Services | Make systemd load and enable the units",
    ],
    "echo '# by hand' >> $(ls /etc/postgresql/*/main/pg_hba.conf)": [
        "PostgreSQL | Write pg_hba.conf",
        "PostgreSQL | Make PostgreSQL load its configuration",
    ],
    "echo '# by hand' >> /usr/local/bin/crictl": ["minikube | Install crictl"],
    "kubectl -n airflow delete rolebinding --all": [
        "Kubernetes | Apply Airflow's objects in the cluster"
    ],
    "rm /opt/airflow/dags/example_bash.py": ["DAGs | Copy the DAGs"],
    "systemctl disable --quiet airflow-backup.timer": ["Timers | Start the timers"],
}


def test_edits_by_hand_are_put_back_and_only_their_readers_restart(shell: Shell) -> None:
    for edit in EDITS:
        shell(edit)
    wanted = {name for names in EDITS.values() for name in names}
    run = deploy()
    assert run.code == 0, run.output
    # Without its rights in the cluster a scheduler ends, and is started again.
    assert set(run.changed) - {WAIT, "Services | Run airflow-scheduler"} == wanted
    assert deploy().changed == []


def test_target_stops_starts_and_restarts_all_of_airflow(shell: Shell, airflow: Airflow) -> None:
    units = [*SERVICES, *TIMERS]

    def are(state: str) -> bool:
        states = shell(f"systemctl is-active {' '.join(units)} || true").splitlines()
        return states == [state] * len(units)

    def starts() -> dict[str, str]:
        return {unit: properties(shell, unit, "ActiveEnterTimestamp")[0] for unit in units}

    assert are("active")
    before = starts()
    shell("systemctl restart airflow.target")
    # The api-server may take two minutes to be ready, and the others start after it.
    wait_for(lambda: all(before[u] != now for u, now in starts().items()), 180, "all are restarted")
    wait_for(lambda: are("active"), 180, "all are active")
    wait_for(lambda: {*airflow.health().values()} == {"healthy"}, 120, "Airflow is healthy")

    shell("systemctl stop airflow.target")
    # One that did not end in time would be killed, and be "failed".
    wait_for(lambda: are("inactive"), 60, "all are stopped")
    told, ended = properties(
        shell,
        "airflow-scheduler",
        "ActiveExitTimestampMonotonic",
        "InactiveEnterTimestampMonotonic",
    )
    assert (int(ended) - int(told)) / 1e6 < 20, "by itself it waits 20 s for its watcher"
    shell("systemctl start airflow.target")
    wait_for(lambda: are("active"), 180, "all are active again")
    wait_for(lambda: {*airflow.health().values()} == {"healthy"}, 120, "Airflow is healthy again")


def test_stopped_cluster_comes_back_with_the_deploy(shell: Shell) -> None:
    shell("systemctl stop minikube")
    assert shell("crictl pods --state ready --quiet") == ""
    run = deploy()
    assert run.code == 0, run.output
    assert "minikube | Start minikube in the background" in run.changed
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    wait_for(lambda: deploy().changed == [], 120, "a further run changes nothing", every=5)


def smoke_test(shell: Shell) -> str:
    """The output of the smoke test, which must not pass."""
    return shell("! airflow-smoke-test 2>&1")


def test_a_scheduler_that_hangs_is_named(shell: Shell, airflow: Airflow) -> None:
    """At first its last sign of life is fresh, and only a task that waits shows that it hangs."""
    shell(
        "systemctl stop airflow-liveness.timer airflow-liveness;"
        " systemctl kill --signal=SIGSTOP --kill-whom=main airflow-scheduler"
    )
    with ThreadPoolExecutor() as at_once:
        no_pod = at_once.submit(smoke_test, shell)
        # Airflow's threshold is 30 s.
        wait_for(lambda: airflow.health().get("scheduler") == "unhealthy", 60, "it is silent")
        unhealthy, run = at_once.submit(smoke_test, shell), at_once.submit(deploy)
    assert "failed at scheduler: the task is " in no_pod.result()
    assert "failed at services: not healthy: {'scheduler': 'unhealthy'}" in unhealthy.result()
    assert run.result().code != 0
    assert "Airflow is not healthy after a minute: " in run.result().output
    shell("systemctl kill --signal=SIGKILL --kill-whom=main airflow-scheduler")
    healed = deploy()
    assert healed.code == 0, healed.output
    assert "Timers | Start the timers" in healed.changed


# How the pod template is broken, and what the smoke test must say of it.
BROKEN_PODS = {
    "s|image: localhost/.*|image: localhost/airflow-worker:not-there|": [
        "failed at image:",
        "localhost/airflow-worker:not-there",
        "the pod's events:",
    ],
    "s|https://$(HOST_IP):|https://127.0.0.1:|": [
        "failed at pod to Execution API:",
        "the pod's last lines:",
        "the pod's events:",
    ],
}


def test_smoke_test_names_the_reason_that_keeps_a_pod_from_its_task(shell: Shell) -> None:
    right = "/root/pod_template.yaml"
    shell(f"cp {POD_TEMPLATE} {right}")
    for edit, said in BROKEN_PODS.items():
        shell(f"sed '{edit}' {right} > {POD_TEMPLATE}; ! cmp -s {right} {POD_TEMPLATE}")
        output = smoke_test(shell)
        shell("kubectl -n airflow delete pods --all --wait=false")
        assert [words for words in said if words not in output] == [], output
    run = deploy()
    assert run.code == 0, run.output
    assert "Airflow | Write pod_template.yaml" in run.changed
    assert "a task ran as a pod" in shell("airflow-smoke-test")

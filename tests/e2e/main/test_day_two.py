"""Years with the host: edits by hand, lost data, a new key, a broken link, a reboot, the end."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.data import SECRET, connection, counts, decrypted
from tests.e2e.support import REMOVAL, Airflow, bring_dag, deploy, machine_name
from tests.sandbox import machine as machines
from tests.support import wait_for

DAG = "e2e_interrupted"
KEPT = "e2e_kept"


def test_edits_by_hand_are_put_back(shell: Shell) -> None:
    shell("echo '# by hand' >> /etc/airflow/airflow.cfg; systemctl stop airflow-triggerer")
    run = deploy()
    assert run.code == 0, run.output
    assert {"Airflow | Write airflow.cfg", "Services | Run airflow-triggerer"} <= {*run.changed}
    assert deploy().changed == []


def test_a_replaced_key_reads_values_of_the_old_one(airflow: Airflow, shell: Shell) -> None:
    airflow.request("POST", "/connections", connection(KEPT))
    old = shell("cat /etc/airflow/secrets/fernet-key")
    shell("airflow-rotate fernet-key")
    assert shell("cat /etc/airflow/secrets/fernet-key") != old
    assert decrypted(shell, KEPT) == SECRET


def test_lost_data_comes_back_from_a_backup(airflow: Airflow, shell: Shell) -> None:
    file, before = shell("airflow-backup"), counts(shell)
    airflow.request("DELETE", f"/connections/{KEPT}")
    assert counts(shell) != before
    shell(f"airflow-restore {file}")
    assert counts(shell) == before
    assert decrypted(shell, KEPT) == SECRET


def test_the_smoke_test_names_a_broken_link(shell: Shell) -> None:
    shell(
        "sed -i 's|image: localhost/.*|image: localhost/airflow-worker:not-there|'"
        " /etc/airflow/pod_template.yaml"
    )
    said = shell("! airflow-smoke-test 2>&1")
    assert "failed at image:" in said and "localhost/airflow-worker:not-there" in said
    shell("kubectl -n airflow delete pods --all --wait=false")
    run = deploy()
    assert run.code == 0, run.output
    assert "Airflow | Write pod_template.yaml" in run.changed


@pytest.fixture
def running(airflow: Airflow, shell: Shell) -> str:
    """A run whose task is running, and would for longer than the machine."""
    bring_dag(DAG, shell)
    run = airflow.trigger(DAG)
    wait_for(lambda: "try 1 began" in airflow.log(DAG, run, "interrupted"), 60, "it runs")
    return run


def test_reboot_while_a_task_runs(running: str, airflow: Airflow, shell: Shell) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestamp"
    before = shell(boot)
    machines.reboot(machine_name())
    assert before != shell(boot)
    wait_for(lambda: shell("systemctl is-active minikube || true") == "active", 180, "minikube")
    wait_for(
        lambda: set(airflow.health().values()) == {"healthy"}, 120, "all components are healthy"
    )
    # Its pod ended with the machine; it has one more try.
    wait_for(lambda: airflow.run_state(DAG, running) in ("success", "failed"), 180, "the run ends")
    (task,) = airflow.tasks(DAG, running)
    assert (task["state"], task["try_number"]) == ("success", 2)
    assert "try 2 began" in airflow.log(DAG, running, "interrupted", 2)
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    run = deploy()
    assert run.code == 0, run.output
    assert run.changed == []


def test_removed_with_one_command(shell: Shell) -> None:
    # The servers of the tests need packages that came with the deploy, which would rather end.
    shell(
        "apt-get -qq purge -y apache2-utils docker-registry lighttpd && apt-get -qq autoremove -y"
    )
    run = deploy(what=REMOVAL)
    assert run.code == 0, run.output
    left = shell(
        "systemctl list-unit-files --no-legend 'airflow*' minikube.service kubelet.service || true;"
        " ls -d /opt/airflow /etc/airflow /var/lib/airflow* /root/.minikube 2>/dev/null || true;"
        " getent passwd airflow airflow-dags || true; ss -Hltn '( sport = :8080 or sport = :8081 )'"
    )
    assert left == ""
    run = deploy(what=REMOVAL)
    assert (run.code, run.changed) == (0, [])

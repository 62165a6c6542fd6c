"""All DAGs of this folder run together, with a plugin and settings that reach all DAG code."""

from __future__ import annotations

import urllib.error
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.runs import ENDED, tries
from tests.e2e.servers import IndexServer, MailServer
from tests.e2e.support import SEEN_SECONDS, SLACK, START_SECONDS, Airflow, Deploy, deploy
from tests.sandbox.machine import Machine
from tests.support import wait_for

HERE = "tests/e2e/operators"
KINDS = quote("e2e_kinds_größe")
LONG = "l" * 247
# They start when the test says so; e2e_consumer starts by itself.
TRIGGERED = (
    *("e2e_plugins", "e2e_surroundings", "e2e_sensors", "e2e_producer"),
    *("e2e_mails", "e2e_users", "e2e_root_first", "e2e_ends", "e2e_many"),
)
KNOWN_SECONDS = SEEN_SECONDS + START_SECONDS + SLACK
ALL_END_SECONDS = 480  # some 50 pods on two cores
# What systemd, sh and Kubernetes each write in another way.
QUOTES = """it's "one" \\ `two` $HOME 100% größe"""
BACKEND = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
PAGE = "https://page.example.com"
XCOMS = "/var/log/airflow/e2e-xcoms"
DAYS = ("2025-06-01", "2025-06-02", "2025-06-03")


def settings(mail: MailServer, index: IndexServer) -> dict[str, object]:
    """The settings of this story."""
    login = {"username": index.user, "password": index.password}
    closed = {"conn_type": "package_index", "host": index.url("closed"), "login": index.user}
    connection = {
        "conn_type": "smtp",
        "host": mail.machine.address,
        "port": mail.port,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"},
    }
    return {
        "airflow_executor": "KubernetesExecutor,LocalExecutor",
        "airflow_config": {
            "core": {
                "default_timezone": "Europe/Berlin",
                "sensitive_var_conn_names": "locker",
                # Pods at a time: the machine has two cores.
                "parallelism": "8",
                "xcom_backend": BACKEND,
            },
            # Larger XComs are files in a folder that the host and pods share.
            "common.io": {
                "xcom_objectstorage_path": f"file://{XCOMS}",
                "xcom_objectstorage_threshold": "6000000",
            },
        },
        "airflow_connections": {
            "smtp_default": connection,
            "e2e_index": {**closed, "password": index.password},
        },
        # Airflow's own packages are there already.
        "build_indexes": {
            "open": {"url": index.url("open"), "default": True},
            "closed": {"url": index.url("closed"), **login},
        },
        "build_ca_certificate": index.ca_certificate,
        "airflow_variables": {"locker_code": "4711-hidden"},
        "dags_env": {"DEPLOY_ENV": "prod", "E2E_QUOTES": QUOTES},
        "dags_local_folder": f"{HERE}/dags",
        "plugins_local_folder": f"{HERE}/plugins",
        "kubernetes_allowed_users": [0, 65534],
        "web_base_url": PAGE,
    }


@pytest.fixture(scope="module")
def mail(machine: Machine) -> MailServer:
    """A server that takes every mail."""
    return MailServer(machine).start()


@pytest.fixture(scope="module")
def index(machine: Machine) -> IndexServer:
    """Indexes of Python packages, one with a login, whose certificates nobody trusts by itself."""
    return IndexServer(machine).start()


@pytest.fixture(scope="module")
def deployed(mail: MailServer, index: IndexServer) -> Deploy:
    """The deploy with the settings for all that follows."""
    run = deploy(settings=settings(mail, index))
    assert run.code == 0, run.output
    return run


def known(airflow: Airflow, dag: str) -> bool:
    """Whether a DAG was read; it is started to run then."""
    try:
        airflow.request("PATCH", f"/dags/{dag}", {"is_paused": False})
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False
    return True


def runs_of(airflow: Airflow, dag: str) -> dict[str, str]:
    """The states of a DAG's runs, by their ids."""
    found = airflow.request("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]
    return {run["dag_run_id"]: run["state"] for run in found}


@pytest.fixture(scope="module")
def runs(deployed: Deploy, airflow: Airflow) -> dict[str, str]:
    """A run of each DAG by the DAG's id, when all of them ended, however they did."""
    started = {dag: airflow.trigger(dag) for dag in TRIGGERED}
    wait_for(lambda: known(airflow, KINDS), KNOWN_SECONDS, "the DAG with umlauts is known")
    green = {"logical_date": None, "conf": {"colour": "green"}}
    started[KINDS] = airflow.request("POST", f"/dags/{KINDS}/dagRuns", green)["dag_run_id"]
    wait_for(lambda: known(airflow, "e2e_backfill"), KNOWN_SECONDS, "the daily DAG is known")
    # @daily is midnight in the zone of the settings.
    backfill = {
        "dag_id": "e2e_backfill",
        "from_date": f"{DAYS[0]}T00:00:00+02:00",
        "to_date": f"{DAYS[-1]}T00:00:00+02:00",
        "max_active_runs": 2,
    }
    airflow.request("POST", "/backfills", backfill)

    def ended() -> bool:
        states = [airflow.run_state(dag, run) for dag, run in started.items()]
        states += runs_of(airflow, "e2e_backfill").values()
        consumed = runs_of(airflow, "e2e_consumer").values()
        return bool(consumed) and all(state in ENDED for state in (*states, *consumed))

    wait_for(ended, ALL_END_SECONDS + SLACK, "all runs end", every=3)
    (started["e2e_consumer"],) = runs_of(airflow, "e2e_consumer")
    return started


def states(airflow: Airflow, dag: str, run: str) -> dict[str, str]:
    """The state of each task; mapped ones have their number."""
    return {
        f"{each['task_id']}{each['map_index'] if each['map_index'] >= 0 else ''}": each["state"]
        for each in airflow.tasks(dag, run)
    }


def test_the_settings_are_deployed_once(
    deployed: Deploy, mail: MailServer, index: IndexServer
) -> None:
    assert deploy(settings=settings(mail, index)).changed == []


def test_a_broken_file_of_root_hides_no_login_to_an_index(deployed: Deploy, shell: Shell) -> None:
    """As the deploy itself asks for the packages of Airflow's environment."""
    program = "/usr/local/lib/airflow/venv.sh"
    asks = ". ${0%/*}/lib.sh; uv pip compile --quiet --no-header --python /usr/bin/python3 -"
    shell("printf 'machine a.example login b password two words\\n' > /root/.netrc")
    try:
        said = shell(f"echo e2e-closed | sh -c '{asks}' {program} 2>&1")
    finally:
        shell("rm /root/.netrc")
    assert "e2e-closed==1.0" in said and "/root/.netrc is left out: line " in said, said
    assert "words" not in said


def test_what_reads_dags_has_their_variables(
    deployed: Deploy, airflow: Airflow, shell: Shell
) -> None:
    wait_for(lambda: known(airflow, "e2e_surroundings"), KNOWN_SECONDS, "the DAG is known")
    found = airflow.request("GET", "/dags/e2e_surroundings")
    assert (found["description"], [tag["name"] for tag in found["tags"]]) == (QUOTES, ["prod"])
    for unit in ("dag-processor", "triggerer", "scheduler"):
        process = f"/proc/$(systemctl show -P MainPID airflow-{unit})/environ"
        lines = shell(f"tr '\\0' '\\n' < {process}").splitlines()
        assert f"E2E_QUOTES={QUOTES}" in lines, unit
    said = shell(
        "/usr/local/lib/airflow/run python -c 'import os; print(os.environ[\"E2E_QUOTES\"])'"
    )
    assert said == QUOTES


def test_a_dag_can_be_tried_where_it_is_read(
    deployed: Deploy, airflow: Airflow, shell: Shell
) -> None:
    wait_for(lambda: known(airflow, "e2e_surroundings"), KNOWN_SECONDS, "the DAG is known")
    for command in ("dags test e2e_surroundings", "tasks test e2e_surroundings on_the_host"):
        said = shell(f"airflow {command} 2>&1")
        assert f"runs in prod with {QUOTES!r}" in said
        assert "zone Europe/Berlin code " in said
    # Nothing of it is in Airflow's own database.
    assert runs_of(airflow, "e2e_surroundings") == {}
    assert shell("ls -d /tmp/dags-test-* || true") == ""


# Once all runs have ended


@pytest.mark.parametrize("dag", sorted({*TRIGGERED, KINDS, "e2e_consumer"}))
def test_the_run_ends_well(dag: str, runs: dict[str, str], airflow: Airflow) -> None:
    assert airflow.run_state(dag, runs[dag]) == "success", states(airflow, dag, runs[dag])


# Words of each task's log in the web page.
SAID = {
    ("e2e_plugins", "module"): ["module says HELLO!", "listener saw module"],
    ("e2e_plugins", "macro"): ["macro says MACRO!"],
    ("e2e_plugins", "operator"): ["operator says E2E_PLUGINS!"],
    **{
        ("e2e_surroundings", task): [
            f"runs in prod with {QUOTES!r}",
            "zone Europe/Berlin code ***",
        ]
        for task in ("in_a_pod", "on_the_host")
    },
    (KINDS, "virtualenv"): ["prefix /tmp/"],
    (KINDS, "index_of_the_host"): ["from open"],
    (KINDS, "index_with_login"): ["from closed"],
    (KINDS, "external_python"): ["prefix /usr"],
    (KINDS, "bash"): ["curl 7", "git version", "airflow supervi"],
    (KINDS, "kubernetes"): ["in a pod of its own"],
    (KINDS, "params"): ["colour green"],
    (KINDS, LONG): ["long 247"],
    (KINDS, quote("größe")): ["schön 漢字 🎉"],
    (KINDS, "outer.inner.leaf"): ["leaf outer.inner.leaf"],
    (KINDS, "total"): ["total 55"],
    ("e2e_sensors", "take"): ["sensor found it"],
    ("e2e_producer", "update"): ["received 5000000 and 7000000"],
    ("e2e_many", "after"): ["all of them ended"],
    ("e2e_consumer", "consume"): ["events 1"],
    ("e2e_mails", "succeeds"): ["callback of succeeds"],
    ("e2e_mails", "fails"): ["callback of fails"],
    ("e2e_users", "usual"): ["user 50000 group 50000"],
    ("e2e_users", "nobody"): ["user 65534 group 50000"],
    ("e2e_users", "root"): ["user 0 group 50000"],
    ("e2e_users", "again"): ["user 50000 group 50000"],
    ("e2e_root_first", "root"): ["user 0 group 50000"],
    ("e2e_root_first", "usual"): ["user 50000 group 50000"],
    ("e2e_ends", "last"): ["went on"],
}


@pytest.mark.parametrize(("dag", "task"), SAID)
def test_the_task_says_in_its_log(
    dag: str, task: str, runs: dict[str, str], airflow: Airflow
) -> None:
    log = airflow.log(dag, runs[dag], task)
    # Debian 13 has curl 8.
    log = log.replace("curl 8", "curl 7")
    assert [words for words in SAID[dag, task] if words not in log] == [], log


def test_hidden_values_are_in_no_log(
    runs: dict[str, str], index: IndexServer, shell: Shell
) -> None:
    for hidden in ("4711-hidden", index.password):
        assert shell(f"grep -rl {hidden} /var/log/airflow || true") == ""


def test_the_login_to_the_index_is_in_no_image_and_no_pod(
    runs: dict[str, str], index: IndexServer, shell: Shell
) -> None:
    hidden = f"-e {index.password} -e {b64encode(index.password.encode()).decode()}"
    objects = "kubectl get pods,configmaps,secrets -A -o yaml"
    assert shell(f"{objects} | grep -c {hidden} || true") == "0"
    image = shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml")
    shell(f"mkdir -p /mnt/e2e-image && ctr -n k8s.io images mount {image} /mnt/e2e-image")
    try:
        assert index.url("open") in shell("cat /mnt/e2e-image/etc/pip.conf")
        assert shell(f"grep -rlF {hidden} /mnt/e2e-image/etc /mnt/e2e-image/opt || true") == ""
    finally:
        shell("ctr -n k8s.io images unmount --rm /mnt/e2e-image")
    # Others on the host can't read it either.
    where = "/etc /opt/airflow /usr/local /var/lib/airflow /var/lib/airflow-dags /var/log /tmp /run"
    readable = f"find {where} -xdev -type f -perm -004 -size -2048"
    assert shell(f"{readable} -exec grep -lF {hidden} {{}} + || true") == ""


def test_tasks_on_the_host_name_the_image_as_pods_do(
    runs: dict[str, str], airflow: Airflow, shell: Shell
) -> None:
    image = shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml")
    for task in ("in_a_pod", "on_the_host"):
        log = airflow.log("e2e_surroundings", runs["e2e_surroundings"], task)
        assert f"image {image} of pods" in log


def test_an_executor_that_a_task_names_runs_it(runs: dict[str, str], airflow: Airflow) -> None:
    by_task = {
        each["task_id"]: each
        for each in airflow.tasks("e2e_surroundings", runs["e2e_surroundings"])
    }
    assert by_task["on_the_host"]["executor"] == "LocalExecutor"


def test_a_parameter_of_another_value_is_refused(runs: dict[str, str], airflow: Airflow) -> None:
    blue = {"logical_date": None, "conf": {"colour": "blue"}}
    with pytest.raises(urllib.error.HTTPError) as error:
        airflow.request("POST", f"/dags/{KINDS}/dagRuns", blue)
    assert error.value.code == 400


def test_a_rescheduled_sensor_leaves_its_pod_between_looks(
    runs: dict[str, str], shell: Shell
) -> None:
    run = runs["e2e_sensors"]
    said = shell(f"cat '/var/log/airflow/dag_id=e2e_sensors/run_id={run}/task_id=reschedule/'*")
    assert said.count("listener saw reschedule") > 1


def test_a_backfill_makes_up_for_each_day(runs: dict[str, str], airflow: Airflow) -> None:
    found = runs_of(airflow, "e2e_backfill")
    backfilled = {run: state for run, state in found.items() if run.startswith("backfill__")}
    assert set(backfilled.values()) == {"success"}
    said = "".join(airflow.log("e2e_backfill", run, "day") for run in backfilled)
    assert [day for day in DAYS if f"day {day}" not in said] == []


def test_large_xcoms_are_in_the_store_and_others_in_the_database(
    runs: dict[str, str], shell: Shell
) -> None:
    (found,) = shell(f"find {XCOMS} -type f -printf '%s %p\\n'").splitlines()
    size, path = found.split(maxsplit=1)
    assert int(size) > 7_000_000 and "larger" in path


def test_hundreds_of_mapped_tasks_end(runs: dict[str, str], airflow: Airflow) -> None:
    path = f"/dags/e2e_many/dagRuns/{quote(runs['e2e_many'])}/taskInstances/each/listMapped"
    found = airflow.request("GET", f"{path}?state=success&limit=1")
    assert found["total_entries"] == 501


def test_tasks_wait_for_a_person_and_a_deadline_calls_back(
    runs: dict[str, str], airflow: Airflow, shell: Shell
) -> None:
    run = airflow.trigger("e2e_people")

    def waits() -> bool:
        return states(airflow, "e2e_people", run).get("approve") == "awaiting_input"

    wait_for(waits, START_SECONDS + 60, "a task waits for a person")
    path = f"/dags/e2e_people/dagRuns/{quote(run)}/taskInstances/approve/-1/hitlDetails"
    airflow.request("PATCH", path, {"chosen_options": ["Approve"]})
    wait_for(
        lambda: airflow.run_state("e2e_people", run) in ENDED, 120 + SLACK, "it goes on", every=2
    )
    assert airflow.run_state("e2e_people", run) == "success", states(airflow, "e2e_people", run)
    assert "chosen ['green']" in airflow.log("e2e_people", run, "chosen")

    def called_back() -> bool:
        sql = "select state, output from callback where type = 'triggerer'"
        said = shell(f'cd / && runuser -u airflow -- psql -XAtqd airflow -c "{sql}"')
        return said == "success|GRÖSSE!"

    wait_for(called_back, 60 + SLACK, "the triggerer has called back")


def test_mails_of_an_operator_and_of_a_callback_arrive(
    runs: dict[str, str], mail: MailServer
) -> None:
    assert sorted(mail.subjects()) == ["mail by operator", "notice of fails"]
    # The pod made the link.
    run = quote(runs["e2e_mails"])
    link = f"{PAGE}/dags/e2e_mails/runs/{run}/tasks/fails?try_number=1"
    assert mail.text("notice of fails").strip() == link


def test_tasks_that_end_by_force_fail_and_the_run_goes_on(
    runs: dict[str, str], airflow: Airflow
) -> None:
    """Without retries: the first try is the last one. The log tells the reason."""
    run = runs["e2e_ends"]
    assert tries(airflow, "e2e_ends", run) == {
        "memory": ("failed", 1),
        "killed": ("failed", 1),
        "crashed": ("failed", 1),
        "disk": ("failed", 1),
        "last": ("success", 1),
    }
    said = airflow.log("e2e_ends", run, "memory")
    assert "takes memory" in said and "out of memory" in said, said
    assert "SIGSEGV" in airflow.log("e2e_ends", run, "crashed")


# A deadline's callback that only an executor with callbacks could run
SYNC = """
from datetime import timedelta

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback, dag
from e2e_team import shout


@dag(
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=SyncCallback(shout, kwargs={"text": "late"}),
    ),
)
def e2e_sync(): ...


e2e_sync()
"""


def errors_of(airflow: Airflow, name: str) -> list[str]:
    """The import errors of a file."""
    found = airflow.request("GET", "/importErrors")["import_errors"]
    return [each["stack_trace"] for each in found if each["filename"].endswith(name)]


def test_a_callback_that_would_end_the_scheduler_is_an_import_error(
    deployed: Deploy, airflow: Airflow, shell: Shell
) -> None:
    file = "/opt/airflow/dags/e2e_sync.py"
    shell(f"cat > {file} <<'EOF'\n{SYNC}\nEOF")
    (said,) = wait_for(
        lambda: errors_of(airflow, "e2e_sync.py"), KNOWN_SECONDS, "the page shows an import error"
    )
    assert "e2e_sync: a SyncCallback of a deadline needs" in said
    shell(f"rm {file}")


# Files of people with another umask

DAG = """
from airflow.sdk import dag, task


@dag(dag_id="{name}", schedule=None)
def one_task():
    @task
    def only():
        print("read")

    only()


one_task()
"""


def bring(shell: Shell, name: str, command: str) -> None:
    """Let a command write a DAG file of this name from its standard input."""
    text = DAG.format(name=name)
    shell(f"{command} <<'EOF'\n{text}\nEOF")


def test_a_file_of_a_strict_umask_is_read(deployed: Deploy, airflow: Airflow, shell: Shell) -> None:
    bring(
        shell,
        "e2e_strict",
        "umask 077; mkdir /opt/airflow/dags/strict; cat > /opt/airflow/dags/strict/e2e_strict.py",
    )
    wait_for(lambda: known(airflow, "e2e_strict"), KNOWN_SECONDS, "it is read")


def test_a_closed_file_is_told_in_the_journal_until_the_next_deploy(
    runs: dict[str, str], airflow: Airflow, shell: Shell, mail: MailServer, index: IndexServer
) -> None:
    file = Path("/opt/airflow/dags/e2e_closed.py")
    bring(shell, "e2e_closed", f"install -m 600 /dev/stdin {file}")

    said = (
        f"journalctl -u airflow-dag-processor -o cat | grep \"Permission denied: '{file}'\" || true"
    )
    wait_for(lambda: shell(said), KNOWN_SECONDS, "the journal has it")
    run = deploy(settings=settings(mail, index))
    assert run.code == 0, run.output
    assert run.changed == ["System | Let Airflow read the files in /opt/airflow/dags"]
    wait_for(lambda: known(airflow, "e2e_closed"), KNOWN_SECONDS, "it is read")
    assert errors_of(airflow, file.name) == []


def test_a_plugin_that_the_inventory_no_longer_has_goes(
    runs: dict[str, str], mail: MailServer, index: IndexServer, shell: Shell
) -> None:
    without = {
        key: value
        for key, value in settings(mail, index).items()
        if key not in ("plugins_local_folder", "dags_local_folder")
    }
    run = deploy(settings=without)
    assert run.code == 0, run.output
    left = shell("ls /opt/airflow/plugins /opt/airflow/dags")
    assert "e2e_team.py" not in left and "e2e_plugins.py" not in left
    assert deploy(settings=without).changed == []

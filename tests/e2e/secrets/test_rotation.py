"""Keys and passwords are replaced one after the other; the task that runs meanwhile ends well."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from secrets import token_urlsafe

import pytest

from tasks.airflow.services import SERVICES
from tasks.layout import SECRETS
from tests.e2e.conftest import Shell
from tests.e2e.runs import Runs, dag, ends_well, tries
from tests.e2e.support import SLACK, Airflow, Browser, bring_dag, deploy
from tests.support import wait_for

SECRET = token_urlsafe(16)
DAG = CONNECTION = "e2e_rotation"
ALL = {service.name for service in SERVICES}
# A task that waits in the triggerer until the file is there.
DEFERRED = "e2e_rotation_deferred"
AWAITED = "/var/lib/airflow-dags/e2e-rotation"
WAITING = f"""
from airflow.providers.standard.triggers.file import FileTrigger
from airflow.sdk import BaseOperator, dag


class Deferred(BaseOperator):
    def execute(self, context):
        self.defer(trigger=FileTrigger("{AWAITED}", poke_interval=1), method_name="go_on")

    def go_on(self, context, event=None):
        print("went on after", event)


@dag(schedule=None, catchup=False)
def {DEFERRED}():
    Deferred(task_id="wait")


{DEFERRED}()
"""
BEFORE = "/root/secrets-before"
BACKUP = "/root/e2e-backup"  # the path of one
# Seconds that a task's token is valid while the jwt-secret is replaced, instead of ten minutes: the
# token, which is not new, should outlive a restart of the api-server.
VALID = 90 + SLACK
HASTY = " ".join(
    f"AIRFLOW__{option}={VALID}"
    for option in ("EXECUTION_API__JWT_EXPIRATION_TIME", "SCHEDULER__TASK_QUEUED_TIMEOUT")
)


@pytest.fixture(scope="module")
def runs(airflow: Airflow, shell: Shell) -> Runs:
    """Airflow with some data, and its secrets of before aside."""
    bring_dag(DAG, shell, dag(DAG, "one"))
    shell(f"cp -r {SECRETS} {BEFORE}")
    shell(f"cp /etc/airflow/kubeconfig.d/token {BEFORE}/cluster-token")
    # As it was, with the token of before.
    change = f"s|/etc/airflow/kubeconfig.d/token|{BEFORE}/cluster-token|"
    shell(f"sed '{change}' /etc/airflow/kubeconfig > {BEFORE}/kubeconfig")
    body = {"connection_id": CONNECTION, "conn_type": "http", "password": SECRET}
    airflow.request("POST", "/connections", body)
    return Runs(airflow)


@pytest.fixture(scope="module")
def under_way(runs: Runs) -> str:
    """A run whose first task asks for a variable each second; it should do so on its first try."""
    runs.hold(DAG)
    return runs.begin(DAG, "one")


@pytest.fixture
def deferred(airflow: Airflow, shell: Shell) -> Iterator[str]:
    """A run whose task waits in the triggerer."""
    bring_dag(DEFERRED, shell, WAITING)
    run = airflow.trigger(DEFERRED)

    def waits() -> bool:
        return [task["state"] for task in airflow.tasks(DEFERRED, run)] == ["deferred"]

    wait_for(waits, 120 + SLACK, "the task waits in the triggerer")
    yield run
    shell(f"rm -f /opt/airflow/dags/{DEFERRED}.py {AWAITED}")


@pytest.fixture
def hasty(runs: Runs, shell: Shell) -> str:
    """A run as that one, with tokens that are short-lived."""
    units = ("airflow-api-server", "airflow-scheduler")
    files = " ".join(f"/run/systemd/system/{unit}.service.d/e2e.conf" for unit in units)
    shell(
        f"for file in {files}; do mkdir -p $(dirname $file) &&"
        f" printf '[Service]\\nEnvironment={HASTY}\\n' > $file; done;"
        f" systemctl daemon-reload; systemctl restart {' '.join(units)}"
    )
    runs.hold(DAG)
    return runs.begin(DAG, "one")


def ends_on_its_first_try(runs: Runs, run: str) -> None:
    """Let a run end, and look whether its tasks were tried once."""
    runs.release(DAG)
    runs.end(DAG, run, "one")
    found = {t["task_id"]: t["try_number"] for t in runs.airflow.tasks(DAG, run)}
    assert found == {"first": 1, "second": 1}


def nothing_to_do(shell: Shell) -> None:
    """A deploy finds nothing to do, and a task runs."""
    run = deploy()
    assert (run.code, run.changed) == (0, []), run.output
    assert "a task ran as a pod" in shell("airflow-smoke-test")


def invocations(shell: Shell) -> dict[str, str]:
    """The id of each service's last start."""
    units = " ".join(f"airflow-{name}" for name in sorted(ALL))
    found = shell(f"systemctl show -P InvocationID {units}").split()
    return dict(zip(sorted(ALL), found, strict=True))


def rotate(shell: Shell, name: str, restarted: set[str], environment: str = "") -> str:
    """Replace a secret, which restarts only these services; returns the output."""
    before, began = invocations(shell), time.monotonic()
    said = shell(f"{environment} airflow-rotate {name} 2>&1")
    print(f"{said}\n{time.monotonic() - began:.1f} s")
    after = invocations(shell)
    assert {service for service in ALL if before[service] != after[service]} == restarted
    shell("cat /run/airflow/*.service | sha256sum --check --quiet")
    file = "/etc/airflow/kubeconfig.d/token" if name == "cluster-token" else f"{SECRETS}/{name}"
    mode = "640" if name == "cluster-token" else "600"
    assert shell(f"cmp -s {BEFORE}/{name} {file} || stat -c %U:%a {file}") == f"root:{mode}"
    values = shell(
        f"for f in {BEFORE}/{name} {file}; do sed -E '1!d; s/^[A-Z_]+=//' $f; done;"
        f' sed -nE \'s/.*"token": "([^"]*)".*/\\1/p\' {BEFORE}/cluster-token'
        " /etc/airflow/kubeconfig.d/token"
    )
    assert len(values.split()) > 3 and not [value for value in values.split() if value in said]
    return said


def holds_new(shell: Shell, service: str, name: str) -> bool:
    """Whether a service's process has a secret as it is now in its environment."""
    pid = shell(f"systemctl show -P MainPID airflow-{service}")
    count = shell(f"tr '\\0' '\\n' < /proc/{pid}/environ | grep -cxFf {SECRETS}/{name} || true")
    return int(count) > 0


def status(airflow: Airflow, token: str) -> int:
    """How the REST API answers to a token."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{airflow.url}/api/v2/connections", headers=headers)
    try:
        return int(urllib.request.urlopen(request, timeout=20, context=airflow.trusting).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_fernet_key(under_way: str, deferred: str, airflow: Airflow, shell: Shell) -> None:
    # A backup that is asked for while the file has both keys.
    asking = f"until grep -q , {SECRETS}/fernet-key; do sleep 0.1; done; airflow-backup"
    shell(
        f"systemd-run --quiet --unit=e2e-backup --property=StandardOutput=file:{BACKUP}"
        f" --property=RuntimeMaxSec=300 sh -c '{asking}'"
    )
    rotate(shell, "fernet-key", ALL)
    assert holds_new(shell, "triggerer", "fernet-key")
    assert airflow.request("GET", f"/variables/{DAG}")["value"] == "wait"
    assert SECRET in shell(f"airflow connections get {CONNECTION} -o json")
    # The data of the database, read with the old key and with the new one.
    script = """
import subprocess, sys
from cryptography.fernet import Fernet, InvalidToken
raw = sys.stdin.read().split()
for path in sys.argv[1:]:
    fernet = Fernet(open(path).read().strip().partition("=")[2])
    for text in raw:
        try:
            print(fernet.decrypt(text).decode())
        except InvalidToken:
            print("unreadable")
"""
    query = (
        f"select password from connection where conn_id = '{CONNECTION}'"
        f" union all select val from variable where key = '{DAG}'"
    )
    said = shell(
        f'cd / && runuser -u postgres -- psql -XAtqd airflow -c "{query}" | /opt/airflow/venv/bin/'
        f"python -c '{script}' {BEFORE}/fernet-key {SECRETS}/fernet-key"
    )
    assert said.split() == ["unreadable", "unreadable", SECRET, "wait"]
    # It waited for the end of all that: it has the new key alone, and the data that this one reads.
    wait_for(lambda: shell("systemctl is-active e2e-backup || true") == "inactive", 60, "it ends")
    assert shell(
        f"tar -xOf $(cat {BACKUP}) host.tar | tar -xO etc/airflow/secrets/fernet-key"
    ) == shell(f"cat {SECRETS}/fernet-key")
    encrypted = shell(f'cd / && runuser -u postgres -- psql -XAtqd airflow -c "{query}"').split()
    dump = shell(f"tar -xOf $(cat {BACKUP}) database.dump | pg_restore --data-only -f -")
    assert len(encrypted) == 2 and [text for text in encrypted if text not in dump] == []
    # The deferred task waited all the time, and goes on.
    assert tries(airflow, DEFERRED, deferred) == {"wait": ("deferred", 1)}
    shell(f"runuser -u airflow-dags -- touch {AWAITED}")
    ends_well(airflow, DEFERRED, deferred)
    assert "went on after True" in airflow.log(DEFERRED, deferred, "wait")


def test_api_secret_key(under_way: str, airflow: Airflow, shell: Shell) -> None:
    browser = Browser(airflow, shell(f"cat {SECRETS}/admin-password"))
    assert browser.is_known
    rotate(shell, "api-secret-key", {"api-server"})
    assert not browser.is_known


def test_cluster_token(under_way: str, shell: Shell) -> None:
    rotate(shell, "cluster-token", ALL - {"dag-processor"})
    get = "kubectl -n airflow get pods --request-timeout=10s"
    # The cluster remembers an accepted token for some seconds.
    wait_for(
        lambda: "Unauthorized" in shell(f"{get} --kubeconfig={BEFORE}/kubeconfig 2>&1 || true"),
        30,
        "the old token is refused",
    )
    assert DAG.replace("_", "-") in shell(f"{get} --kubeconfig=/etc/airflow/kubeconfig")


def test_admin_password(under_way: str, airflow: Airflow, shell: Shell) -> None:
    browser = Browser(airflow, old := shell(f"cat {SECRETS}/admin-password"))
    rotate(shell, "admin-password", set())
    with pytest.raises(urllib.error.HTTPError, match="401"):
        airflow.log_in(old)
    assert status(airflow, airflow.log_in(shell(f"cat {SECRETS}/admin-password"))) == 200
    assert status(airflow, airflow.token) == 200  # as the README says
    assert not browser.is_known


def test_the_task_ended_well_and_a_deploy_has_nothing_to_do(
    under_way: str, runs: Runs, shell: Shell
) -> None:
    ends_on_its_first_try(runs, under_way)
    nothing_to_do(shell)


def test_jwt_secret_with_an_interruption(
    hasty: str, runs: Runs, airflow: Airflow, shell: Shell
) -> None:
    old, before = airflow.token, invocations(shell)
    # Ended by force while the old one is accepted as well.
    options = " ".join(f"--setenv={each}" for each in HASTY.split())
    shell(f"systemd-run --quiet --unit=e2e-rotate {options} airflow-rotate jwt-secret")
    said = "journalctl -o cat -u e2e-rotate"
    try:
        both = "the old one is accepted as well"
        wait_for(lambda: both in shell(said), 60 + SLACK, "both are accepted")
    finally:
        shell("systemctl stop e2e-rotate")
    new = airflow.log_in(shell(f"cat {SECRETS}/admin-password"))
    assert (status(airflow, old), status(airflow, new)) == (200, 200)
    after = invocations(shell)
    assert {name for name in ALL if before[name] != after[name]} == {"api-server", "scheduler"}
    refused = shell("! airflow-restore /dev/null 2>&1")
    assert "a change of the jwt-secret was interrupted" in refused
    assert "it continues" in rotate(shell, "jwt-secret", {"api-server"}, HASTY)
    assert holds_new(shell, "scheduler", "jwt-secret")
    assert (status(airflow, old), status(airflow, new)) == (403, 200)
    assert shell(f"ls {SECRETS}") == shell(f"ls {BEFORE} | grep -vx -e cluster-token -e kubeconfig")
    ends_on_its_first_try(runs, hasty)
    nothing_to_do(shell)

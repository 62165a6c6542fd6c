"""Linux user airflow-dags, as which the code of DAGs runs, looks for the keys of others."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.e2e import runs
from tests.e2e.conftest import Shell
from tests.e2e.support import SLACK, Airflow, bring_dag, host_tests
from tests.sandbox.machine import Machine
from tests.support import wait_for

ENVIRON = r"cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n'"


def variables(shell: Shell, user: str) -> dict[str, str]:
    """The variables of all processes that the user can look into."""
    lines = shell(f"runuser -u {user} -- sh -c {shlex.quote(ENVIRON)}").splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_it_finds_the_fernet_key_and_no_other(shell: Shell) -> None:
    found = variables(shell, "airflow-dags")
    assert "AIRFLOW__CORE__FERNET_KEY" in found  # otherwise it could not look
    assert "AIRFLOW__API__SECRET_KEY" not in found
    assert "AIRFLOW__API_AUTH__JWT_SECRET" not in found


class _Stay(urllib.request.HTTPRedirectHandler):
    """The answer itself has the cookie, not the page that it leads to."""

    def redirect_request(self, *_args: object, **_named: object) -> None:
        """Do not follow."""


def token_of(airflow: Airflow, key: str) -> bool:
    """Whether the web page gives the first user's token to a cookie that is signed with a key."""
    signature = hmac.new(key.encode(), b"1", hashlib.sha512).hexdigest()
    opener = urllib.request.build_opener(
        _Stay, urllib.request.HTTPSHandler(context=airflow.trusting)
    )
    request = urllib.request.Request(
        f"{airflow.url}/auth/", headers={"Cookie": f"remember_token=1|{signature}"}
    )
    try:
        answer = opener.open(request, timeout=20)
        headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    cookies = [each.partition(";")[0] for each in headers.get_all("Set-Cookie") or []]
    return any(each.startswith("_token=") and each.count(".") == 2 for each in cookies)


@pytest.mark.parametrize(
    "name", ["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY"], ids=["fernet", "api"]
)
def test_no_key_that_it_finds_signs_a_login(name: str, airflow: Airflow, shell: Shell) -> None:
    assert not token_of(airflow, variables(shell, "airflow-dags").get(name, ""))


def test_the_right_key_would_have_signed_one(airflow: Airflow, shell: Shell) -> None:
    """Otherwise the cookie would be refused for another reason."""
    key = shell("sed 's/^[A-Z_]*=//' /etc/airflow/secrets/api-secret-key")
    assert token_of(airflow, key)


# Looks at all that a local user may see of processes, as fast as it can, until it is stopped.
WATCH = """
import glob, signal
found, tasks, stop = set(), set(), []
# An exception could come where Python drops it, as while it cleans up.
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
while not stop:
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            text = open(path, "rb").read()
        except OSError:
            continue
        if b"AIRFLOW_DEPLOY_WORKLOAD" in text:
            tasks.add(path)
        if b'"token":' in text:
            found.add(path)
print(len(tasks), sorted(found))
"""


@contextlib.contextmanager
def watched(shell: Shell, processes: int) -> Iterator[None]:
    """A local user looks on, sees this many processes of tasks or more, and no token."""
    # In no argument, where it would find its own words.
    shell(f"cat > /tmp/e2e-watch.py <<'END'\n{WATCH}\nEND")
    start = "systemd-run --quiet --collect --unit=e2e-watch --uid=nobody"
    start += " -p StandardOutput=file:/tmp/e2e-seen"
    shell(f"{start} python3 /tmp/e2e-watch.py")
    try:
        yield
    finally:
        shell("systemctl stop e2e-watch")
    tasks, found = shell("cat /tmp/e2e-seen; rm /tmp/e2e-watch.py /tmp/e2e-seen").split(maxsplit=1)
    assert int(tasks) >= processes
    assert found == "[]"


def test_no_local_user_sees_the_token_of_a_task_that_begins(shell: Shell) -> None:
    with watched(shell, 1):
        assert "a task ran as a pod" in shell("airflow-smoke-test")


# Its pod is there for some seconds.
BEGINS = """
import time
from airflow.sdk import dag, task


@dag(schedule=None)
def e2e_begins():
    @task
    def wait():
        time.sleep(10)

    wait()


e2e_begins()
"""
STARTS = 60  # each takes two seconds of a processor
# In a pod: begins the task of its environment again and again, which Airflow then refuses.
BEGIN = f"""
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
task = ["python", "/usr/local/lib/airflow/start-task", *sys.argv[1:]]
with ThreadPoolExecutor(3) as side_by_side:
    list(side_by_side.map(lambda _: subprocess.run(task, capture_output=True), range({STARTS})))
"""


def test_nor_that_of_many(airflow: Airflow, shell: Shell) -> None:
    """They begin as in as many pods, without the time that these would take."""
    bring_dag("e2e_begins", shell, BEGINS)
    run = airflow.trigger("e2e_begins")
    pods = "kubectl -n airflow get pods -l dag_id=e2e_begins -o json"
    pod = wait_for(lambda: json.loads(shell(pods))["items"], 60 + SLACK, "it has a pod")[0]
    runs.ends_well(airflow, "e2e_begins", run)
    (task,) = airflow.tasks("e2e_begins", run)
    pod["spec"].pop("nodeName", None)
    (container,) = pod["spec"]["containers"]
    container["command"] = ["python", "-c", BEGIN]
    container["resources"] = {"requests": {"memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    pod |= {"metadata": {"name": "e2e-begins", "namespace": "airflow"}, "status": {}}
    shell(f"umask 077; cat > /tmp/e2e-begins.json <<'END'\n{json.dumps(pod)}\nEND")
    since = time.time()
    with watched(shell, STARTS):
        shell("kubectl create -f /tmp/e2e-begins.json")
        ended = "kubectl -n airflow get pod e2e-begins -o jsonpath='{.status.phase}'"
        wait_for(lambda: shell(ended) == "Succeeded", 600 + SLACK, "all have begun")
    asked = f"journalctl -u airflow-api-server --since=@{since:.0f} -o cat"
    assert int(shell(f"{asked} | grep -c 'task-instances/{task['id']}/run'")) >= STARTS
    shell("kubectl -n airflow delete pod e2e-begins")
    shell("rm /tmp/e2e-begins.json /opt/airflow/dags/e2e_begins.py")


# At its top level, as it is read: who reads it, and with which keys.
CURIOUS = """
import os
import pwd
from airflow.sdk import dag

who, keys = pwd.getpwuid(os.getuid()).pw_name, [k for k in os.environ if "SECRET" in k]
print("READ BY", who, keys, os.access("/etc/airflow/kubeconfig", os.R_OK))


@dag(schedule=None)
def e2e_curious(): ...


e2e_curious()
"""


def test_the_command_line_reads_dags_with_the_rights_of_their_code(shell: Shell) -> None:
    bring_dag("e2e_curious", shell, CURIOUS)
    said = shell("airflow dags report 2>&1")
    assert "READ BY airflow-dags [] False" in said
    assert "READ BY airflow " not in said
    said = shell("airflow dags test e2e_curious 2>&1")
    assert "READ BY airflow-dags [] False" in said
    assert "READ BY airflow " not in said
    shell("rm /opt/airflow/dags/e2e_curious.py")


def test_the_command_line_still_lists_dags_and_errors(shell: Shell) -> None:
    assert "airflow_smoke_test" in shell("airflow dags list -o plain")
    assert "Traceback" not in shell("airflow dags list-import-errors 2>&1 || true")
    shell("airflow dags reserialize")


def test_the_host_passes_its_tests_of_secrets(machine: Machine) -> None:
    done = host_tests(machine, "tests/host/test_secrets.py")
    assert done.returncode == 0, done.stdout

"""No secret value is in what the deploy prints or leaves behind, also when it fails."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import pytest

from tasks.layout import ROOT
from tests.e2e import watcher
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow, bring_dag, host_tests, machine_name
from tests.sandbox.machine import Machine
from tests.support import wait_for

# As in the README: secrets come from the environment of the command that deploys.
INVENTORY = """\
import json
import os
import sys

sys.path.insert(0, {root!r})
from tests.sandbox import inventory

name, data = inventory.host({name!r})
hosts = [(name, data | json.loads(os.environ["E2E_LEAKS"]))]
"""
# The part that each place would show, however it is quoted: no character that anything escapes.
NEEDLES = {
    name: token_hex(12)
    for name in (
        *("password", "login", "extra", "variable", "registry"),
        *("another password", "another login", "another variable"),
    )
}
AWKWARD = "a/b %c\\\"$'ö"
ARGUMENTS = "/root/e2e-arguments"
HISTORY, FERNET_KEY = "/root/.bash_history", "/etc/airflow/secrets/fernet-key"
# The children of these run everything that a deploy starts: its commands, the services, the pods.
WATCHED = "1 $(systemctl show -P MainPID ssh containerd)"
SHORT = 200  # processes of a millisecond, of which none may be missed
KUBECONFIGS = ("/etc/airflow/kubeconfig", "/etc/airflow/kubeconfig-triggerer")
# The administrator's of the cluster, and those of its authority, of the host's and of nginx.
PRIVATE_KEYS = (
    "/root/.minikube/profiles/minikube/client.key",
    "/var/lib/minikube/certs/ca.key",
    "/etc/airflow/tls/ca-key.pem",
    "/etc/airflow/tls/server.pem",
)


def forms(value: str) -> set[str]:
    """A secret as it is, in a URL, in JSON, and within something that is Base64."""
    found = {value, quote(value, safe=""), json.dumps(value)[1:-1]}
    raw = value.encode()
    for before in range(3):
        text = b64encode(b"\0" * before + raw).decode()
        # Without the characters that hold bits of their neighbours.
        inner = text[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return found


def found_in(text: str, secrets: dict[str, str]) -> list[str]:
    """Names of the secrets whose values a text has in any form."""
    return [name for name, value in secrets.items() if any(each in text for each in forms(value))]


def settings() -> dict[str, Any]:
    """An inventory with secrets."""
    connection = {
        "conn_type": "generic",
        "login": NEEDLES["login"],
        "password": AWKWARD + NEEDLES["password"],
        "extra": {"api_key": AWKWARD + NEEDLES["extra"]},
    }
    return {
        "airflow_connections": {"e2e_leaks": connection},
        "airflow_variables": {"e2e_leaks": AWKWARD + NEEDLES["variable"]},
    }


def changed(**fields: object) -> dict[str, Any]:
    """The same, with other fields of the connection."""
    values = settings()
    values["airflow_connections"]["e2e_leaks"] |= fields
    return values


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An inventory outside of the repository."""
    path = tmp_path_factory.mktemp("inventory") / "inventory.py"
    path.write_text(INVENTORY.format(root=str(ROOT), name=machine_name()))
    return str(path)


@pytest.fixture(scope="module")
def secrets(shell: Shell) -> dict[str, str]:
    """All secret values: those that the host made, and those that the inventory gave."""
    names = (
        *("fernet-key", "jwt-secret", "api-secret-key"),
        *("admin-password", "smoke-test-password"),
    )
    values = {
        name: shell(f"sed '1!d; s/^AIRFLOW[A-Z_]*=//' /etc/airflow/secrets/{name}")
        for name in names
    }
    for path in KUBECONFIGS:
        values[path] = json.loads(shell(f"cat {path}.d/token"))["status"]["token"]
    for path in PRIVATE_KEYS:
        values[path] = shell(f"sed -n '/PRIVATE KEY/ {{n; n; p; q}}' {path}")
    assert min(map(len, values.values())) >= 20, [*values]
    return values | NEEDLES


def run(
    inventory: str, values: dict[str, object], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the deploy with secrets in its environment."""
    return subprocess.run(
        ["pyinfra", *arguments, inventory, "deploy.py"],
        cwd=ROOT,
        env=os.environ | {"E2E_LEAKS": json.dumps(values)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def watched(shell: Shell) -> Iterator[None]:
    """Meanwhile the arguments of all processes are recorded."""
    bring_dag("e2e_leaks", shell)
    program = Path(watcher.__file__).read_text()
    shell(
        f"cat > /root/e2e-watcher.py <<'EOF'\n{program}\nEOF\n"
        "systemd-run --quiet --collect --nice=-5 --unit=e2e-watcher"
        f" python3 /root/e2e-watcher.py {ARGUMENTS} {WATCHED};"
        f" timeout 60 sh -c 'until test -e {ARGUMENTS}; do sleep 0.1; done'"
    )
    yield
    shell("systemctl stop e2e-watcher")


def test_no_process_is_too_short_to_be_seen(shell: Shell) -> None:
    """Of a session, and of a service; if this fails the search of arguments proves nothing."""
    many = f"for i in $(seq {SHORT}); do /bin/true e2e-{{}}-$i-; done"
    shell(many.format("session"))
    shell(f"systemd-run --quiet --collect --wait sh -c '{many.format('service')}'")
    seen = shell(f"cat -v {ARGUMENTS}")
    for where in ("session", "service"):
        each = [f"e2e-{where}-{number}-" for number in range(1, SHORT + 1)]
        assert [words for words in each if f"/bin/true^@{words}^@" not in seen] == []


def test_the_search_finds_a_planted_secret(secrets: dict[str, str]) -> None:
    for name, value in secrets.items():
        awkward = AWKWARD + value
        for text in (
            f"password={value}\n",
            json.dumps({"password": awkward}),
            f"https://user:{quote(awkward, safe='')}@example.com/",
            repr([awkward]),
            *(b64encode(f"{user}:{awkward}".encode()).decode() for user in ("u", "us", "use")),
        ):
            assert found_in(f"before{text}after", secrets) == [name]


@pytest.fixture(scope="module")
def outputs(inventory: str, machine: Machine) -> dict[str, str]:
    """The output of runs of the deploy, after their end."""
    values = settings()
    said: dict[str, str] = {}

    def keep(name: str, ends_well: bool, wanted: str, values: Any, *arguments: str) -> None:
        done = run(inventory, values, *arguments)
        said[name] = done.stdout + done.stderr
        assert (done.returncode == 0) == ends_well, said[name]
        assert wanted in said[name], said[name]

    tell_all = ("--diff", "-vvv", "--debug")
    dump = ("--debug-facts", "--debug-operations")  # they print and change nothing
    keep("dry", True, "objects.json", values, "--dry", "--diff", "-vvv")
    keep("dry, with all that pyinfra tells", True, "objects.json", values, *tell_all, *dump)
    keep("deployed", True, "objects.json", values, "--yes", "--diff", "-vvv")
    # The database refuses the connection for the length of one of its fields.
    refused = changed(
        login=NEEDLES["another login"],
        password=AWKWARD + NEEDLES["another password"],
        schema="x" * 501,
    )
    refused["airflow_variables"] = {"e2e_leaks": NEEDLES["another variable"]}
    words = "connection e2e_leaks: value too long for type character varying(500)"
    keep("failed in its midst", False, words, refused, "--yes", "--json", *tell_all)
    # Found before anything is touched.
    registry = {
        "repository": f"{machine.address}:9/airflow",
        "username": "deploy",
        "password": NEEDLES["registry"],
    }
    unready = {**values, "worker_registry": registry}
    keep("not ready", False, f"{machine.address}:9", unready, "--yes", *tell_all)
    wrong = {**values, "airflow_variables": {"e2e_leaks": [NEEDLES["variable"]]}}
    keep("wrong variable", False, "airflow_variables", wrong, "--yes", "-vvv")
    wrong = changed(password=[NEEDLES["password"]])
    keep("wrong connection", False, "airflow_connections", wrong, "--yes", "-vvv")
    return said


def test_no_secret_is_in_the_output_of_the_deploy(
    outputs: dict[str, str], secrets: dict[str, str]
) -> None:
    assert {name: found_in(text, secrets) for name, text in outputs.items()} == {
        name: [] for name in outputs
    }


def test_no_secret_was_ever_an_argument_of_a_process(
    outputs: dict[str, str], secrets: dict[str, str], shell: Shell
) -> None:
    arguments = shell(f"systemctl is-active e2e-watcher && cat -v {ARGUMENTS}")
    assert "/usr/local/lib/airflow/sync-objects.py" in arguments
    assert found_in(arguments, secrets) == []


def test_no_secret_is_in_the_output_of_a_task(
    outputs: dict[str, str], secrets: dict[str, str], airflow: Airflow, shell: Shell
) -> None:
    run = airflow.trigger("e2e_leaks")
    wait_for(lambda: airflow.run_state("e2e_leaks", run) == "failed", 90, "the task fails", every=1)
    log = airflow.log("e2e_leaks", run, "tell")
    assert "password *** extra" in log  # Airflow hides it
    assert found_in(log, secrets) == []


def test_no_secret_is_anywhere_else_on_the_host(
    outputs: dict[str, str], inventory: str, machine: Machine, shell: Shell
) -> None:
    environment = {"AIRFLOW_INVENTORY": inventory, "E2E_LEAKS": json.dumps(settings())}
    shell(f"echo ls >> {HISTORY}")
    done = host_tests(machine, "tests/host/test_secrets.py", **environment)
    assert done.returncode == 0, done.stdout
    assert "no shell of this host has a history" not in done.stdout
    # One that a person typed is found.
    shell(f"cp {HISTORY} {HISTORY}.e2e && sed 's/^[A-Z_]*=/export KEY=/' {FERNET_KEY} >> {HISTORY}")
    what = "tests/host/test_secrets.py::test_no_secret_is_in[histories of shells]"
    done = host_tests(machine, what, **environment)
    shell(f"mv {HISTORY}.e2e {HISTORY}")
    assert done.returncode == 1 and "Extra items in the left set" in done.stdout, done.stdout


def test_no_secret_is_in_the_repository(outputs: dict[str, str], secrets: dict[str, str]) -> None:
    texts = {
        path: path.read_text(errors="replace")
        for path in Path(ROOT).rglob("*")
        if path.is_file() and not {".venv", ".git"} & {*path.relative_to(ROOT).parts}
    }
    assert Path(ROOT, "deploy.py") in texts
    assert {path: found for path, text in texts.items() if (found := found_in(text, secrets))} == {}

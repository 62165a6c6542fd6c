"""A bare host becomes a working Airflow; a second run changes nothing."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tasks.layout import DEPLOY_LOCK, ROOT, UV
from tasks.settings import Settings
from tasks.worker.image import SBOM
from tests.e2e.conftest import Shell
from tests.e2e.snapshots import HOST_BEFORE, LOOK_AT_HOST
from tests.e2e.support import (
    Airflow,
    as_data,
    deploy,
    host_tests,
    machine_name,
)
from tests.sandbox import inventory
from tests.sandbox.machine import Machine
from tests.support import wait_for


@pytest.fixture(scope="module")
def outputs() -> list[str]:
    """The output of each run, to search for secrets."""
    return []


def test_fresh_deploy(shell: Shell, outputs: list[str]) -> None:
    shell(f"test -e /opt/airflow || {LOOK_AT_HOST} > {HOST_BEFORE}")
    run = deploy()
    outputs.append(run.output)
    assert run.code == 0, run.output
    assert "Smoke test | Run a tiny DAG as a pod (about 10 s)" in run.changed


def test_second_run_changes_nothing(outputs: list[str]) -> None:
    run = deploy("-vvv", "--diff")
    outputs.append(run.output)
    assert run.code == 0, run.output
    assert run.json["results"]["totals"]["hosts"] > 0
    assert run.changed == []


def test_a_second_deploy_at_the_same_time_is_refused(shell: Shell) -> None:
    """And the lock of a deploy that was killed is free."""
    command = ["pyinfra", "inventories/sandbox.py", "deploy.py"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as first:  # waits for a yes
        held = f"! flock --nonblock {DEPLOY_LOCK} true && echo held || true"
        wait_for(lambda: shell(held) == "held", 30, "it holds the lock")
        second = deploy()
        assert second.code != 0
        assert f"another deploy of this host runs, by {getpass.getuser()}@" in second.output
        assert f"(process {first.pid})" in second.output
        first.kill()
    assert deploy().changed == []


def test_dry_run_then_plans_nothing() -> None:
    run = deploy("--dry")
    assert run.code == 0, run.output
    assert run.planned == []


def test_no_secret_is_in_the_output(shell: Shell, outputs: list[str]) -> None:
    secrets = [
        line.partition("=")[2] or line
        for line in shell("tail -qn 1 /etc/airflow/secrets/*").splitlines()
    ]
    credential = json.loads(shell("cat /etc/airflow/kubeconfig.d/token"))
    secrets.append(credential["status"]["token"])
    assert len(secrets) == 6
    assert len(outputs) == 2, "the deploys above were not run"
    for secret in secrets:
        assert len(secret) >= 20
        assert not any(secret in output for output in outputs)


def test_the_hosts_own_tests_pass(machine: Machine) -> None:
    done = host_tests(machine, AIRFLOW_INVENTORY="inventories/sandbox.py")
    assert done.returncode == 0, done.stdout
    assert machine_name() == machine.name


def test_from_the_host_itself(machine: Machine, shell: Shell) -> None:
    """inventories/local.py, from a checkout on the machine, finds nothing to do either."""
    archive = subprocess.run(
        ["sh", "-c", "git ls-files -z | tar -cz --null --files-from=-"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    unpack = "rm -rf /root/checkout && mkdir /root/checkout && tar -xzC /root/checkout"
    subprocess.run(
        ["ssh", "-F", machine.ssh_config, machine.name, unpack], input=archive.stdout, check=True
    )
    given = inventory.settings(machine)
    data = " ".join(shlex.quote(f"--data={key}={as_data(value)}") for key, value in given.items())
    printed = shell(
        "cd /root/checkout && UV_SYSTEM_CERTS=true /opt/airflow/uv/bin/uv run --quiet --frozen"
        f" --no-dev pyinfra --yes --json {data} inventories/local.py deploy.py"
    )
    results = json.loads(printed.splitlines()[-1])["results"]
    assert results["totals"]["hosts"] > 0
    assert [each["name"] for each in results["operations"] if each["success"]] == []


def test_as_a_person_with_sudo(machine: Machine, shell: Shell) -> None:
    """A user other than root with sudo can run the deploy."""
    shell(
        "id ops 2>/dev/null || useradd --create-home ops;"
        " echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops;"
        " install -D -o ops -m 600 /root/.ssh/authorized_keys /home/ops/.ssh/authorized_keys;"
        " chown ops /home/ops/.ssh; echo '# by hand' >> /etc/airflow/pod_template.yaml"
    )
    refused = deploy(settings={"ssh_user": "ops"})
    assert refused.code != 0
    assert 'not root: log in as root, or give the host the inventory data "_sudo": True' in (
        refused.output
    )
    run = deploy(settings={"ssh_user": "ops", "_sudo": True})
    assert run.code == 0, run.output
    assert run.changed == ["Airflow | Write pod_template.yaml"]


def test_login_page_is_found_under_the_name_that_was_asked(airflow: Airflow) -> None:
    asked = f"{airflow.url}/api/v2/auth/login"
    with urllib.request.urlopen(asked, timeout=20, context=airflow.trusting) as page:
        assert page.url.startswith(f"{airflow.url}/auth/login")
        assert 'name="password"' in page.read().decode()


def test_smoke_test_by_hand(shell: Shell) -> None:
    assert "a task ran as a pod" in shell("airflow-smoke-test")


@pytest.fixture
def image_root(shell: Shell) -> Iterator[str]:
    """Where the worker image's file system lies on the machine, for a while."""
    image = shell("awk '$1 == \"image:\" {print $2}' /etc/airflow/pod_template.yaml")
    root = shell("mktemp -d")
    shell(f"ctr -n k8s.io images mount {image} {root}")
    yield root
    shell(f"ctr -n k8s.io images unmount --rm {root}")


# Run by the image's Python and by the one that has what wrote the lists.
PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({each.name: each.version for each in distributions()}))
"""
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))
"""


def test_the_worker_image_lists_its_packages(shell: Shell, image_root: str) -> None:
    lists = {}
    for kind in ("debian", "python"):
        path = f"{image_root}{SBOM}/{kind}.cdx.json"
        lists[kind] = json.loads(shell(f"cat {path}"))
        assert (lists[kind]["bomFormat"], lists[kind]["specVersion"]) == ("CycloneDX", "1.6")
        assert shell(f"{UV}/bin/python -c {shlex.quote(VALIDATE)} {path}") == "None"
        shell(f"cmp {path} $(ls -dt /opt/airflow/image/*/ | head -n 1){kind}.cdx.json")

    def normal(packages: dict[str, str]) -> dict[str, str]:
        return {re.sub("[-_.]+", "-", name).lower(): packages[name] for name in packages}

    asked = f"chroot {image_root} $(readlink /opt/airflow/venv)/bin/python -c"
    there = normal(json.loads(shell(f"{asked} {shlex.quote(PACKAGES)}")))
    listed = normal({each["name"]: each["version"] for each in lists["python"]["components"]})
    assert listed == there
    assert listed["apache-airflow"] == Settings.from_data({}).airflow.version
    query = f"dpkg-query --admindir={image_root}/var/lib/dpkg -Wf '${{Package}} ${{Version}}\n'"
    components = [
        each for each in lists["debian"]["components"] if "arch=source" not in each["purl"]
    ]
    listed = {each["name"]: each["version"] for each in components}
    assert listed == dict(line.split() for line in shell(query).splitlines())
    assert "python3" in listed

"""The first command of the README: a machine appears, does what the command says, and goes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tasks import layout
from tasks.layout import ROOT
from tests.e2e.support import REMOVAL, Airflow, deploy, machine_name
from tests.sandbox import disks
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine

# Files that a deploy or a restart would write again, and the processes of all services.
STATE = (
    "systemctl show -P InvocationID airflow-api-server airflow-scheduler airflow-dag-processor"
    " airflow-triggerer minikube containerd kubelet nginx 'postgresql@*';"
    " find /etc /opt/airflow /usr/local -type f -printf '%p %i %T@\\n' | sort"
)


def command(
    name: str, *options: str, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `up` or `down`, as a person does from the checkout; with a cache of its own."""
    own = {"AIRFLOW_SANDBOX_CACHE": str(cache), "AIRFLOW_SANDBOX": "airflow-nowhere"}
    return subprocess.run(
        [f"./tests/sandbox/{name}", *options],
        cwd=ROOT,
        env=os.environ | (own if cache else {}),
        capture_output=True,
        text=True,
        check=False,
    )


def is_there() -> bool:
    """Whether the machine runs or has left something."""
    container = subprocess.run(["podman", "container", "exists", machine_name()], check=False)
    if container.returncode not in (0, 1):
        raise RuntimeError("podman does not say whether there is a container")
    return container.returncode == 0 or (disks.folder() / machine_name()).exists()


@pytest.fixture(scope="module")
def release() -> str:
    """The Debian release of the machine that the story was given."""
    return machines.load(machine_name()).release


@pytest.fixture(scope="module")
def printed(release: str) -> str:
    """The last words of `up`, about a machine that was not there before."""
    assert is_there()
    assert command("down").returncode == 0
    assert not is_there()
    done = command("up", "--release", release)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout[done.stdout.index("Smoke test passed") :]


def line(printed: str, name: str) -> str:
    """The words of the block after a heading."""
    found = re.findall(rf"^  {name}  +(.*)$", printed, re.MULTILINE)
    assert len(found) == 1, printed
    return str(found[0])


def run(words: str) -> str:
    """The output of a command that was printed."""
    done = subprocess.run(
        shlex.split(words), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def test_the_printed_address_and_login_are_right(printed: str) -> None:
    assert re.match(r"Smoke test passed in [\d.]+ s: a task ran as a pod\.\n", printed)
    look = line(printed, "Log in")
    assert run(f"{look} hostname") == machine_name()
    address, said = line(printed, "Web page").split(" ", 1)
    assert said == "(the browser warns: the machine has a CA of its own)"
    page = Airflow(
        address,
        line(printed, "User"),
        lambda: run(line(printed, "Password")),
        lambda: run(f"{look} cat {layout.AUTHORITY}"),
    )
    with urllib.request.urlopen(address, timeout=20, context=page.trusting) as answer:
        assert "<title>Airflow" in answer.read().decode()
    assert page.request("GET", "/pools")["total_entries"] == 1
    with pytest.raises(urllib.error.HTTPError, match="401"):
        page.log_in("not the password")


def test_run_again_it_changes_nothing(printed: str) -> None:
    machine = machines.load(machine_name())
    before = machines.run(machine, STATE).stdout
    done = command("up", "--release", machine.release)
    assert done.returncode == 0, done.stdout + done.stderr
    after = machines.run(machine, STATE).stdout
    assert before.count("\n") > 1000
    assert after.splitlines() == before.splitlines()
    assert line(done.stdout, "Web page") == line(printed, "Web page")


@pytest.mark.parametrize(
    "words",
    ["up --nonsense", "up --cache", "up bookworm", "down --nonsense", "down --release trixie"],
)
def test_what_is_no_option_is_an_error(words: str, printed: str) -> None:
    done = command(*words.split())
    assert done.returncode == 2
    assert f"usage: ./tests/sandbox/{words.split(maxsplit=1)[0]} " in done.stderr
    assert "unrecognized arguments: " in done.stderr
    assert is_there()


def test_the_printed_command_removes_it(printed: str) -> None:
    assert line(printed, "Remove") == "./tests/sandbox/down"
    run(line(printed, "Remove"))
    assert not is_there()
    again = command("down")
    assert again.returncode == 0, again.stderr


@pytest.fixture(scope="module")
def in_podman(release: str, printed: str) -> Machine:
    """A machine whose deploy brought podman and made a node in it; the one before is gone."""
    done = command("up", "--release", release, "--driver", "podman")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a task ran as a pod" in done.stdout
    return machines.load(machine_name())


def test_a_node_in_podman(in_podman: Machine) -> None:
    assert machines.run(in_podman, "podman ps --format '{{.Names}}'").stdout == "minikube\n"
    done = command("up", "--release", in_podman.release)
    assert done.returncode == 1
    assert "was made for minikube's driver podman, not none" in done.stderr


def test_an_engine_that_came_with_the_deploy_goes_with_it(in_podman: Machine) -> None:
    done = deploy(what=REMOVAL)
    assert done.code == 0, done.output
    assert machines.run(in_podman, "command -v podman || echo none").stdout == "none\n"


def test_down_with_the_cache_leaves_nothing(tmp_path: Path) -> None:
    """A cache of its own, whose file system of machines is mounted, with a machine's disk."""
    cache = tmp_path / "cache"
    assert command("down", cache=cache).returncode == 0
    mounted = cache / "disks"
    assert mounted.is_mount()
    disks.create(mounted / "a-machine")
    (mounted / "a-machine" / "file").touch()
    done = command("down", "--cache", cache=cache)
    assert done.returncode == 0, done.stderr
    assert not cache.exists()
    assert str(cache) not in Path("/proc/mounts").read_text()
    loops = subprocess.run(["losetup", "--list"], stdout=subprocess.PIPE, text=True, check=True)
    assert str(cache) not in loops.stdout

"""The commands ./tests/pins/check and ./tests/pins/renew."""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

import yaml

from tasks.layout import ROOT
from tests.pins import actions, ends, kubernetes, modules, python
from tests.pins.pin import NotReached, Pin, Refused, Row, write

# In the order of their renewal: each sees what those before it wrote.
PINS = (
    Pin(
        "uv",
        "`requirements/uv.txt`, and `uv_build` in `pyproject.toml`",
        "the index of Python packages",
        python.look_at_uv,
    ),
    Pin(
        "releases",
        "`RELEASES` in `tasks/cluster/releases.py`",
        "kubernetes/website `schedule.yaml`, dl.k8s.io",
        kubernetes.look_at_releases,
    ),
    Pin(
        "kubernetes",
        "`kubernetes_version` with the checksums of kubectl",
        "dl.k8s.io",
        kubernetes.look_at_kubernetes,
    ),
    Pin(
        "minikube",
        "`minikube_version` with its checksums, and the Kubernetes that it starts",
        "minikube's `releases-v2.json`, its Go module",
        kubernetes.look_at_minikube,
    ),
    Pin(
        "crictl",
        "`minikube_crictl_version` with its checksums",
        "GitHub",
        kubernetes.look_at_crictl,
    ),
    Pin(
        "airflow",
        "`airflow_version`, `pyproject.toml`, a new lock file in `requirements`",
        "the index of Python packages",
        python.look_at_airflow,
        only_by_name=True,
    ),
    Pin(
        "bounds",
        "upper bounds in `pyproject.toml`",
        "the index of Python packages",
        python.look_at_bounds,
    ),
    Pin(
        "locks",
        "`uv.lock`, and the other files of `requirements`",
        "the index of Python packages",
        python.look_at_locks,
    ),
    Pin(
        "modules",
        "`CURRENT` and `BETWEEN` in `tests/sandbox/offline.py`, and their Go modules",
        "the settings, `cmd/kubeadm/app/constants` of Kubernetes",
        modules.look_at_modules,
    ),
    Pin(
        "programs",
        "`tests/sandbox/kube_router.py` and `versitygw.py`, and their Go modules",
        "the Go module proxy",
        modules.look_at_programs,
    ),
    Pin("actions", "`.github/workflows`", "GitHub", actions.look_at_actions),
)
NEWER, NOT_REACHED = 1, 2


def line(pin: str, row: Row) -> str:
    """A row of the table as text."""
    change = row.after if row.is_newer else "="
    return f"{pin:11} {row.name:32} {row.before:26} {change:26} {row.note}".rstrip()


def run(root: Path, pins: list[Pin], is_check: bool, named: list[str]) -> int:
    """Check pins or renew them, print the table, and return the exit code."""

    def waits(pin: Pin) -> bool:
        return pin.only_by_name and pin.name not in named

    code = 0
    print(line("pin", Row("", "before", "after")), flush=True)
    for position, pin in enumerate(pins):
        try:
            found = pin.look(root)
            newer = [row for row in found.rows if row.is_newer]
            if newer and not is_check and not waits(pin):
                write(root, found.files())
        except Refused as why:
            print(f"{pin.name:11} not renewed: {why}", flush=True)
            code = max(code, NEWER)
            continue
        except NotReached as why:
            print(f"{pin.name:11} not reached: {why}", flush=True)
            code = NOT_REACHED
            continue
        except (LookupError, TypeError, ValueError, yaml.YAMLError) as why:
            print(f"{pin.name:11} not reached: {pin.source} gave something else: {why!r}")
            code = NOT_REACHED
            continue
        for row in found.rows if is_check else newer:
            print(line(pin.name, row), flush=True)
        if newer and is_check:
            code = max(code, NEWER)
        elif newer and waits(pin):
            print(f"{pin.name:11} has a newer version: ./tests/pins/renew {pin.name}", flush=True)
        elif newer and pin.name == "uv" and (rest := pins[position + 1 :]):
            # The locks are those of the uv that they are checked with.
            return max(code, _again(root, [each.name for each in rest if not waits(each)]))
    today = date.today()
    for sentence in (*kubernetes.overdue(root, today), *ends.overdue(today)):
        print(sentence)
        code = max(code, NEWER)
    return code


def _again(root: Path, names: list[str]) -> int:
    return subprocess.run([root / "tests/pins/renew", *names]).returncode


def main() -> int:
    """Read the command line."""
    names = [pin.name for pin in PINS]
    parser = argparse.ArgumentParser(prog="./tests/pins/", description=__doc__)
    parser.add_argument("command", choices=("check", "renew"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    given = parser.parse_args()
    for name in given.names:
        if name not in names:
            parser.error(f"there is no pin {name}; there are: {', '.join(names)}")
    chosen = [pin for pin in PINS if not given.names or pin.name in given.names]
    return run(ROOT, chosen, given.command == "check", given.names)


if __name__ == "__main__":
    sys.exit(main())

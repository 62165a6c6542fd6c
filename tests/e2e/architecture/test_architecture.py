"""There is no arm64 machine here. Its programs run one by one in QEMU's emulator of processes.

The packages are those of the worker image, and the Python packages those of the lock. What packages
do when they are installed is left out, and so is everything of Kubernetes and systemd.
"""

from __future__ import annotations

import re

import pytest

from tasks import layout
from tasks.layout import ROOT
from tasks.settings import Settings
from tests.e2e.conftest import Shell
from tests.e2e.support import UV, bring_uv
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine

ARM = "/srv/arm64"
PACKAGES = "/opt/packages"  # Python packages, below ARM
LOCK = ROOT / f"files{layout.REQUIREMENTS}/{Settings.from_data({}).airflow.version}.txt"
LOCK_THERE = "/srv/lock.txt"
ASKED = ("apache-airflow", "kubernetes", "psycopg2-binary")
# The modules of a task's process, and those whose code is compiled.
VERSIONS = f"""
import importlib.metadata
import platform

import airflow, asyncpg, cryptography.fernet, greenlet, psycopg2, pydantic_core
from airflow.sdk.execution_time import execute_workload

print(platform.machine(), *(importlib.metadata.version(name) for name in {ASKED!r}))
"""


@pytest.fixture(scope="module")
def emulated(machine: Machine, shell: Shell) -> str:
    """The beginning of a command that runs a program for arm64."""
    bring_uv(machine)
    fill = (ROOT / f"files{layout.LIB}/image-fill.sh").read_text()
    (packages,) = re.findall(r"^packages=([a-z0-9,-]+)$", fill, re.MULTILINE)
    machines.run(machine, f"cat > {LOCK_THERE}", stdin=LOCK.read_bytes())
    # As part of a minimal Debian, which the image has, apt brings the library of C++.
    shell(f"""set -e
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq install --yes --no-install-recommends mmdebstrap \\
            qemu-user-static >/dev/null 2>&1
        mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 \\
            --include={packages},apt {machine.release} {ARM}
        python=$(ls {ARM}/usr/bin | sed -n 's/^python\\(3[.][0-9]*\\)$/\\1/p')
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt {UV} pip install --quiet \\
            --target {ARM}{PACKAGES} --python-platform aarch64-manylinux_2_28 \\
            --python-version "$python" --require-hashes --only-binary :all: -r {LOCK_THERE}""")
    return f"qemu-aarch64-static -L {ARM} -E PYTHONPATH={ARM}{PACKAGES}"


def test_a_tasks_modules_have_the_versions_of_the_lock(emulated: str, shell: Shell) -> None:
    """Those of the host's architecture have the same hashes in the same file."""
    said = shell(f"{emulated} $(ls {ARM}/usr/bin/python3.*) - <<'END'\n{VERSIONS}\nEND")
    lock = LOCK.read_text()
    pinned = [re.findall(rf"^{name}==(\S+)", lock, re.MULTILINE)[0] for name in ASKED]
    assert said.splitlines()[-1].split() == ["aarch64", *pinned]


@pytest.mark.parametrize("program", ["curl --version", "git --version", "ssh -V", "free --version"])
def test_a_program_for_tasks_runs(program: str, emulated: str, shell: Shell) -> None:
    name, option = program.split()
    assert re.search(r"\d+\.\d+", shell(f"{emulated} {ARM}/usr/bin/{name} {option} 2>&1"))

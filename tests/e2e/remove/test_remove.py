"""The deploy is removed, with its data and without, and a backup comes back."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Shell
from tests.e2e.data import PSQL, SECRET, connection, counts, decrypted
from tests.e2e.snapshots import HOST_BEFORE, LEFT, LOOK_AT_HOST
from tests.e2e.support import (
    REMOVAL,
    Airflow,
    deploy,
    inventory_with,
    killed_at,
    log_in,
)
from tests.sandbox.machine import Machine
from tests.support import free_port, wait_for

# Some of its steps, in order: it is killed in each of them.
INTERRUPTED_AT = (
    "Stop and remove Airflow's units",
    "Remove nginx's site airflow",
    "Delete the cluster",
    "Remove Kubernetes' files from the host",
    "Remove the database and the roles",
    "Purge the Debian packages",
)
# In the sandbox's inventory, but not in one without settings.
NOT_DEFAULT = ("web_host", "kubernetes_pod_operator")
# Data that can't be made again, apart from the database.
KEPT = "/opt/airflow/dags /opt/airflow/plugins /etc/airflow/secrets /var/log/airflow*"
GROWING = "/var/log/airflow-dag-processor"  # until Airflow stops, so only the names stay
OTHER_SITE = "/etc/nginx/sites-enabled/e2e"


@pytest.fixture(scope="module")
def backup(machine: Machine, shell: Shell) -> str:
    """A backup with a connection, where no removal looks."""
    log_in(machine).request("POST", "/connections", connection("e2e_kept"))
    return shell("cp $(airflow-backup) /srv/kept.tar && echo /srv/kept.tar")


@pytest.fixture(scope="module")
def rows(shell: Shell, backup: str) -> str:
    """How much is in the database."""
    return counts(shell)


def files(shell: Shell) -> str:
    """Checksums of the files that should stay, and of the backups."""
    return shell(
        f"{{ find {KEPT} /var/backups/airflow -type f ! -path '{GROWING}/*' -exec sha256sum {{}} +;"
        f" find {GROWING} -type f; }} | sort"
    )


def test_removal_that_keeps_data(rows: str, shell: Shell) -> None:
    shell(
        "echo '# mine' > /opt/airflow/dags/mine.py; echo '# mine' > /opt/airflow/plugins/mine.py;"
        f" echo 'server {{ listen 8090; return 200 mine; }}' > {OTHER_SITE}"
    )
    before = files(shell)
    for kind in ("mine.py", "fernet-key", "attempt=1.log", ".tar"):
        assert f"{kind}\n" in f"{before}\n"
    run = deploy(what=(*REMOVAL, "keep_data=True"))
    assert run.code == 0, run.output
    assert shell(
        "ls -d /opt/airflow/* /etc/airflow/* /usr/local/bin/airflow* 2>/dev/null || true"
    ).splitlines() == ["/etc/airflow/secrets", "/opt/airflow/dags", "/opt/airflow/plugins"]
    assert (
        shell(
            "systemctl list-unit-files 'airflow*' minikube.service kubelet.service"
            " --no-legend || true"
        )
        == ""
    )
    assert files(shell) == before
    assert shell(f"{PSQL} 'select count(*) from connection'") != "0"
    # nginx continues to serve other sites.
    assert shell("curl -s http://127.0.0.1:8090/") == "mine"
    shell(f"rm {OTHER_SITE}")
    run = deploy()
    assert run.code == 0, run.output
    assert counts(shell) == rows
    assert decrypted(shell, "e2e_kept") == SECRET


def test_removal_leaves_the_host_as_it_was(backup: str, shell: Shell) -> None:
    """Also if it is killed, over and over, and run again."""
    missed = [each for each in INTERRUPTED_AT if not killed_at(f"Remove | {each}", what=REMOVAL)]
    assert missed == []
    run = deploy(what=REMOVAL)
    assert run.code == 0, run.output
    changed = shell(f"{LOOK_AT_HOST} | diff {HOST_BEFORE} - || true").splitlines()
    left = [line for line in changed if line[0] in "<>" and not re.match(LEFT, line)]
    assert left == [], left
    run = deploy(what=REMOVAL)
    assert run.code == 0, run.output
    assert run.changed == []


@contextlib.contextmanager
def forwarded(machine: Machine, port: int) -> Iterator[int]:
    """A port of this machine that SSH forwards to one that only the host itself reaches."""
    number = free_port()
    words = ["-N", "-L", f"{number}:127.0.0.1:{port}", machine.name]

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", number), 5):
            return True
        return False

    with subprocess.Popen(["ssh", "-F", machine.ssh_config, *words]) as ssh:
        try:
            wait_for(answers, 20, "SSH forwards the port")
            yield number
        finally:
            ssh.terminate()


def test_backup_is_restored_on_an_empty_host(
    backup: str, rows: str, machine: Machine, shell: Shell, tmp_path: Path
) -> None:
    """One that was deployed with nothing but the defaults."""
    inventory = inventory_with({}, tmp_path, left_out=NOT_DEFAULT)
    run = deploy(inventory=inventory)
    assert run.code == 0, run.output
    assert "ssh -L 8080:127.0.0.1:8080 the-host" in run.output
    assert shell("ss -Hltn sport = :443; ls /etc/airflow | grep triggerer || true") == ""
    assert shell(f"{PSQL} 'select count(*) from connection'") == "0"
    # The key that has signed it is gone with the host that has made it.
    assert "is not as this host has made it" in shell(f"! airflow-restore {backup} 2>&1")
    print(shell(f"airflow-restore --trust {backup}"))
    assert counts(shell) == rows
    assert decrypted(shell, "e2e_kept") == SECRET
    # With the password of then.
    password = shell(f"tar -xOf {backup} host.tar | tar -xO etc/airflow/secrets/admin-password")
    with forwarded(machine, 8080) as port:
        page = Airflow(f"http://localhost:{port}", "admin", lambda: password, lambda: "")
        assert page.request("GET", "/connections/e2e_kept")["conn_type"] == "http"
    assert deploy(inventory=inventory).code == 0
    assert deploy(inventory=inventory).changed == []

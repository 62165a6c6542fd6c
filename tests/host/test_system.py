"""Packages, the user, folders and files."""

from __future__ import annotations

import shlex

import pytest

from tasks import airflow
from tasks.kubernetes import KUBECONFIG
from tasks.settings import CONTROL_USER, DAGS_USER, MEMORY, Settings
from tests.host.conftest import owned_paths
from tests.host.support import Attributes, Host

CLOSED = [KUBECONFIG, airflow.CONFIG, airflow.POD_TEMPLATE, airflow.ADMIN_PASSWORD]


@pytest.fixture(scope="module")
def installed(host: Host) -> set[str]:
    """Names of the packages that are completely installed."""
    return set(
        host.check_output(
            "dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii //p'"
        ).splitlines()
    )


def test_package_is_installed(package: str, installed: set[str]) -> None:
    assert package in installed


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        # Who has the keys may read what DAGs' code writes, and not the other way round.
        (CONTROL_USER, [CONTROL_USER, DAGS_USER]),
        (DAGS_USER, [DAGS_USER]),
    ],
)
def test_user_can_not_log_in(user: str, groups: list[str], host: Host, settings: Settings) -> None:
    passwd, shadow, group_names = host.check_output(
        f"getent passwd {user} && getent shadow {user} && id -Gn {user}"
    ).splitlines()
    _, _, uid, gid, _, home, shell = passwd.split(":")
    assert (int(uid) == int(gid) == settings.airflow_uid) is (user == DAGS_USER)
    assert (home, shell) == (f"/var/lib/{user}", "/usr/sbin/nologin")
    assert shadow.split(":")[1][:1] in ("!", "*")  # no password
    assert group_names.split() == groups


@pytest.fixture(scope="module")
def attributes(host: Host, settings: Settings) -> dict[str, Attributes]:
    """Owner, group and mode of the deploy's files; those that are missing are left out."""
    paths = " ".join(map(shlex.quote, owned_paths(settings)))
    lines = host.run(f"stat -c '%n %U %G %a' {paths}").stdout.splitlines()
    return {path: Attributes(*rest) for path, *rest in (line.split() for line in lines)}


def test_owner_and_mode(
    owned_path: str, attributes: dict[str, Attributes], settings: Settings
) -> None:
    assert attributes.get(owned_path) == owned_paths(settings)[owned_path]


@pytest.mark.parametrize("user", [CONTROL_USER, DAGS_USER])
def test_nothing_that_runs_can_be_changed_by(user: str, host: Host, settings: Settings) -> None:
    changeable = f"! -type l \\( -user {user} -o -perm -o+w -o -group {user} -perm -g+w \\)"
    folders = f"{settings.venv} {MEMORY} /usr/local/bin /etc/airflow /etc/systemd/system"
    # The last folder is Airflow's to write: it shows that the search finds what there is.
    found = host.check_output(
        f"find {folders} {changeable} && find /var/lib/{user} -maxdepth 0 {changeable}"
    )
    assert found == f"/var/lib/{user}"


@pytest.mark.parametrize(
    ("user", "readable"),
    [
        ("nobody", []),
        (CONTROL_USER, [KUBECONFIG, airflow.CONFIG, airflow.POD_TEMPLATE]),
        (DAGS_USER, [airflow.CONFIG]),
        ("postgres", []),
        ("root", CLOSED),
    ],
)
def test_who_can_read_what_is_closed(user: str, readable: list[str], host: Host) -> None:
    script = f"for path in {' '.join(CLOSED)}; do test -r $path && echo $path; done; true"
    command = f"cd / && runuser -u {user} -- sh -c {shlex.quote(script)}"
    assert host.check_output(command).splitlines() == readable

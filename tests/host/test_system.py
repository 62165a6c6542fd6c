"""Packages, the users, folders and files."""

from __future__ import annotations

import shlex

import pytest

from tasks import layout
from tasks.host import system
from tasks.settings import HostSettings
from tests.host import expected
from tests.host.expected import Attributes
from tests.host.support import OWN_POSTGRES, Host

CLOSED = [
    "/etc/airflow/kubeconfig",
    "/etc/airflow/airflow.cfg",
    "/etc/airflow/pod_template.yaml",
    "/etc/airflow/secrets/admin-password",
    "/etc/airflow/secrets/smoke-test-password",
]
each_user = pytest.mark.parametrize("user", expected.USERS)


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


def test_every_package_of_the_deploy_has_a_reason(settings: HostSettings) -> None:
    # On a host, a package that the deploy forgot may be there for another package's sake.
    asked = {name.partition("|")[0] for name in system.package_names(settings)}
    asked |= {layout.METRICS_PACKAGE} if settings.metrics.port else set()
    assert asked == set(expected.packages(settings))


@each_user
def test_user_can_not_log_in(user: str, host: Host, settings: HostSettings) -> None:
    passwd, shadow, group_names = host.check_output(
        f"getent passwd {user} && getent shadow {user} && id -Gn {user}"
    ).splitlines()
    _, _, uid, gid, _, home, shell = passwd.split(":")
    assert (int(uid) == int(gid) == settings.airflow.uid) is (user == "airflow-dags")
    assert (home, shell) == (f"/var/lib/{user}", "/usr/sbin/nologin")
    assert shadow.split(":")[1][:1] in ("!", "*")  # no password
    assert group_names.split() == expected.USERS[user]


@pytest.fixture(scope="module")
def attributes(host: Host, settings: HostSettings) -> dict[str, Attributes]:
    """Owner, group and mode of the deploy's files; those that are missing are left out."""
    paths = " ".join(shlex.quote(path) for path in expected.paths(settings))
    lines = host.run(f"stat -c '%n %U %G %a' {paths}").stdout.splitlines()
    return {path: Attributes(*rest) for path, *rest in (line.split() for line in lines)}


def test_owner_and_mode(
    path: str, attributes: dict[str, Attributes], settings: HostSettings
) -> None:
    assert attributes.get(path) == expected.paths(settings)[path]


def test_every_folder_of_the_deploy_has_a_reason(settings: HostSettings) -> None:
    assert set(layout.DIRECTORIES) <= set(expected.paths(settings))


def test_only_root_reads_files_among_the_secrets(host: Host) -> None:
    # Also a file that no table knows of, as one that a killed run left behind.
    mine = "-user root -group root -perm 600"
    found = host.check_output(
        f"cd /etc/airflow/secrets && find . -mindepth 1 ! \\( {mine} \\) && find . -name jwt-secret"
    )
    assert found == "./jwt-secret"


def test_links_lead_to_the_right_places(host: Host, settings: HostSettings) -> None:
    links = expected.links(settings)
    found = host.check_output(f"readlink {' '.join(links)}").splitlines()
    assert dict(zip(links, found, strict=True)) == links


@each_user
def test_files_that_people_put_there_can_be_read_by(user: str, host: Host) -> None:
    for folder in ("/opt/airflow/dags", "/opt/airflow/plugins"):
        acl = host.check_output(f"getfacl -cp {folder}").splitlines()
        assert f"default:user:{user}:r-x" in acl  # whatever the umask of a file's author
        closed = host.run(f"cd / && runuser -u {user} -- find {folder} ! -type l ! -readable")
        assert closed.stdout == "", "the next deploy opens it"


@each_user
def test_nothing_that_runs_can_be_changed_by(user: str, host: Host, settings: HostSettings) -> None:
    changeable = f"! -type l \\( -user {user} -o -perm -o+w -o -group {user} -perm -g+w \\)"
    folders = [
        *("/opt/airflow/venv/", "/opt/airflow/uv", "/opt/airflow/plugins", "/etc/systemd/system"),
        *("/usr/local/bin", "/usr/local/lib/airflow", "/etc/airflow", "/etc/nginx"),
        "/var/lib/airflow-deploy",
        # People may change their files here, and the user that runs them may not.
        *(["/opt/airflow/dags"] if user == "airflow-dags" else []),
    ]
    # libpq takes a file with a password only from the user who reads it.
    others = "! -path '/etc/airflow/database-*.login'"
    # The last folder is the user's own: it shows that the search finds such folders.
    found = host.check_output(
        f"find {' '.join(folders)} {changeable} {others}"
        f" && find /var/lib/{user} -maxdepth 0 {changeable}"
    )
    assert found == f"/var/lib/{user}"


@pytest.mark.parametrize(
    ("user", "readable"),
    [
        ("nobody", []),
        ("airflow", CLOSED[:3]),
        ("airflow-dags", ["/etc/airflow/airflow.cfg"]),
        pytest.param("postgres", [], marks=OWN_POSTGRES),
        ("root", CLOSED),
    ],
)
def test_only_their_users_can_read_closed_files(user: str, readable: list[str], host: Host) -> None:
    script = f"for path in {' '.join(CLOSED)}; do test -r $path && echo $path; done; true"
    command = f"cd / && runuser -u {user} -- sh -c {shlex.quote(script)}"
    assert host.check_output(command).splitlines() == readable

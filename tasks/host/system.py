"""The base of the rest: Debian packages, Airflow's two users, directories."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import deploy, operation
from pyinfra.facts.server import Command
from pyinfra.operations import files, server

from tasks import layout
from tasks.host import database, host_values, postgres
from tasks.layout import CONTROL_USER, DAGS_USER, DIRECTORIES, HOMES, PACKAGES_RECORD
from tasks.lib.operations import ensure, packages, run_unless
from tasks.settings import HostSettings

# Programs that build the worker image.
IMAGE_PACKAGES = [
    "buildah",
    "mmdebstrap",
    "netavark",  # buildah of Debian 13 does not start without it, though it only recommends it
]


def package_names(settings: HostSettings) -> list[str]:
    """Every Debian package that the deploy installs, by name."""
    names = [
        "acl",
        "ca-certificates",
        "curl",
        "diffutils",  # kubectl diff calls it
        "git",  # GitDagBundle calls it
        "iproute2",
        "nginx",
        "openssh-client",  # git calls it
        "openssl",
        "python3",
        "python3-venv",
    ]
    names += database.packages(settings)
    if settings.node_is_host:
        names += layout.NODE_PACKAGES
    if settings.node_engine:
        names += layout.engine_packages(settings.node_engine, settings.codename)
    if settings.worker.image is None:
        names += IMAGE_PACKAGES
    if settings.worker.registry:
        names.append("skopeo")  # asks the registry, and copies the image there
    if settings.retention.backup_recipient:
        names.append("age")  # encrypts backups
    # A DAG that imports a library of Debian is read on the host, and runs in a pod.
    names += settings.worker.extra_apt_packages
    return list(dict.fromkeys([*names, *settings.build.apt_packages]))


def install(settings: HostSettings) -> None:
    """The host has the packages, the users and the directories that the other tasks use."""
    _install(settings)
    if not settings.postgres.is_debians:
        # The services that run log in with them. The database may refuse the earlier ones by now,
        # so nothing that can fail comes between.
        postgres.log_in(settings)


@deploy("System")
def _install(settings: HostSettings) -> None:
    packages(
        name="Install Debian packages (about a minute the first time)",
        packages=package_names(settings),
        record=PACKAGES_RECORD,
    )
    run_unless(
        name=f"Give {DAGS_USER} the id that was {CONTROL_USER}'s",  # when there was one user
        test=f'test "$(id -u {CONTROL_USER} 2>/dev/null)" != {settings.airflow.uid}',
        commands=[
            "systemctl stop airflow.target || true",
            f"sed -i '/^{CONTROL_USER}:/s|{HOMES[CONTROL_USER]}:|{HOMES[DAGS_USER]}:|' /etc/passwd",
            # The test reads /etc/passwd, so it changes last: a killed run is repeated.
            f"sed -i 's/^{CONTROL_USER}:/{DAGS_USER}:/' /etc/group /etc/gshadow /etc/shadow",
            f"sed -i 's/^{CONTROL_USER}:/{DAGS_USER}:/' /etc/passwd",
        ],
        already=f"{CONTROL_USER} has another id",
    )
    _create_user(DAGS_USER, "Apache Airflow, code of DAGs", settings.airflow.uid)
    _create_user(CONTROL_USER, "Apache Airflow", groups=[DAGS_USER])
    # The control plane's user is in the other user's group, so it may read all that the other one
    # may, but not vice versa.
    for path, (owner, group, mode) in DIRECTORIES.items():
        files.directory(name=f"Create {path}", path=path, user=owner, group=group, mode=mode)
    host_values.install(settings)
    run_unless(
        name=f"Give DAG files to the group {CONTROL_USER}",
        test=f'test -z "$(find {layout.DAGS} -group {DAGS_USER} -print -quit 2>/dev/null)"',
        commands=[f"chgrp -hR {CONTROL_USER} {layout.DAGS}"],
        already="none belongs to the group that runs them and could change them",
    )
    for folder in (layout.DAGS, layout.PLUGINS):
        ensure(
            name=f"Let Airflow read the files in {folder}",
            program="readable.sh",
            args=[folder, DAGS_USER, CONTROL_USER],
            already="both users can read all of it",
        )


def _create_user(
    name: str, comment: str, uid: int | None = None, groups: list[str] | None = None
) -> None:
    server.group(name=f"Create group {name}", group=name, gid=uid, system=True)
    _user(name=f"Create user {name}", user=name, comment=comment, uid=uid, groups=groups)


@operation()
def _user(
    user: str, comment: str, uid: int | None, groups: list[str] | None
) -> Generator[str, None, None]:
    """
    Create a user of the system, as pyinfra's own operation does, which asks for the last login of
    each user of the host.

    + user, comment, uid, groups: like those of `server.user`
    """
    home, shell = HOMES[user], "/usr/sbin/nologin"
    question = f"getent passwd {user} && id -gn {user} && id -Gn {user} || true"
    found = (host.get_fact(Command, command=question) or "").splitlines()
    if len(found) == 3:
        entry, group, all_groups = found
        _, _, number, _, *rest = entry.split(":")
        if (
            (rest, group) == ([comment, home, shell], user)
            and (uid is None or number == str(uid))
            and (groups is None or {*all_groups.split()} == {user, *groups})
        ):
            host.noop(f"{user} is as it should be")
            return
    yield from server.user._inner(
        user=user,
        uid=uid,
        group=user,
        groups=groups,
        home=home,
        shell=shell,
        comment=comment,
        ensure_home=False,
        system=True,
    )

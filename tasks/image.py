"""The worker image: a small Debian of the host's release with the host's own venv in it.

Host and pods thus run the same Python and the same packages. The image's tag names its content:
a pod can't get another version than its template asks for, and running pods keep theirs.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.operations import settled
from tasks.settings import Settings, digest

DIRECTORY = "/opt/airflow/image"
LOCAL_REPOSITORY = "localhost/airflow-worker"
CONTAINER = "airflow-worker-build"  # buildah's working container, gone when the image is built

# What Airflow's task runner needs beside the venv.
PACKAGES = ["ca-certificates", "git", "media-types", "netbase", "openssh-client", "python3"]


def reference(settings: Settings) -> str:
    """The image that task pods run: the one given, or the built one under its content's name."""
    if settings.worker_image:
        return settings.worker_image
    content = digest(settings.venv_key, *_recipe(settings))
    repository = (
        settings.worker_registry.repository if settings.worker_registry else LOCAL_REPOSITORY
    )
    return f"{repository}:{settings.airflow_version}-{content}"


def _recipe(settings: Settings) -> list[str]:
    """Shell commands that fill the container; `$root` is its file system."""
    uid, venv = settings.airflow_uid, settings.venv
    packages = ",".join([*PACKAGES, *settings.worker_apt_packages])
    unneeded = " ".join(
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")
    )
    return [
        # The host's own apt sources: a mirror that serves the host serves the image.
        f"mmdebstrap --quiet --variant=minbase --mode=root --format=directory {unneeded}"
        f' --include={packages} {settings.codename} "$root" $(ls /etc/apt/sources.list'
        " /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null)",
        f'echo airflow:x:{uid}:{uid}::/tmp:/usr/sbin/nologin >> "$root/etc/passwd"',
        f'echo airflow:x:{uid}: >> "$root/etc/group"',
        # A pod gets its options as environment. Without any file Airflow would write one with all
        # defaults at each start, which takes a worker 0.2 s.
        'mkdir "$root/etc/airflow" && touch "$root/etc/airflow/airflow.cfg"',
        f'mkdir -p "$root{venv}" && cp -a {venv}/. "$root{venv}"',
        f"buildah config --user {uid}:{uid} --env PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin"
        " --env LANG=C.UTF-8 --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1"
        f" --env AIRFLOW_CONFIG=/etc/airflow/airflow.cfg {CONTAINER}",
    ]


def _archive(settings: Settings) -> str:
    return f"{DIRECTORY}/{reference(settings).rpartition(':')[2]}.tar"


def _in_cluster(settings: Settings) -> str:
    """Shell test whether the cluster's node has the image."""
    if settings.node_is_host:
        return f"ctr -n k8s.io images ls -q name=={reference(settings)} | grep -q ."
    return f"HOME=/root minikube image ls | grep -qx {reference(settings)}"


@deploy("Worker image")
def build(settings: Settings) -> None:
    """The image lies in an archive, unless the cluster has it already."""
    if settings.worker_image is not None:
        return
    files.directory(name=f"Create {DIRECTORY}", path=DIRECTORY, mode="755")
    archive = _archive(settings)
    script = [
        "set -e",
        # What a killed run may have left.
        f"rm -rf {DIRECTORY}/*; buildah rm {CONTAINER} >/dev/null 2>&1 || true",
        f"buildah from --name {CONTAINER} scratch >/dev/null",
        f"root=$(buildah mount {CONTAINER})",
        *_recipe(settings),
        f"buildah commit --quiet --rm {CONTAINER}"
        f" docker-archive:{archive}.new:{reference(settings)} >/dev/null",
        f"mv {archive}.new {archive}",
    ]
    settled(
        name="Build the worker image (about a minute)",
        test=f"test -e {archive} || {_in_cluster(settings)}",
        commands=["\n".join(script)],
        because="the image was built before",
    )


@deploy("Worker image")
def load(settings: Settings) -> None:
    """The cluster's node has the image."""
    if settings.worker_image is not None:
        return
    archive = _archive(settings)
    load = (
        f"ctr -n k8s.io images import {archive} >/dev/null"
        if settings.node_is_host
        else f"HOME=/root minikube image load {archive}"
    )
    settled(
        name="Load the worker image into the cluster (about 15 s)",
        test=_in_cluster(settings),
        commands=[load, f"rm {archive}"],
        because="the cluster has it",
    )

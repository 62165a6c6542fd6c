"""The worker image: a small Debian of the host's release with the host's own venv in it.

Host and pods thus run the same Python and the same packages. The image's tag names its content:
a pod can't get another version than its template asks for, and running pods keep theirs.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.operations import settled
from tasks.settings import Settings

DIRECTORY = "/opt/airflow/image"

# What Airflow's task runner needs beside the venv.
PACKAGES = ["ca-certificates", "git", "media-types", "netbase", "openssh-client", "python3"]


def _archive(settings: Settings) -> str:
    return f"{DIRECTORY}/{settings.worker_image_ref.rpartition(':')[2]}.tar"


def _in_cluster(settings: Settings) -> str:
    """Shell test whether the cluster's node has the image."""
    if settings.node_is_host:
        return f"ctr -n k8s.io images ls -q name=={settings.worker_image_ref} | grep -q ."
    return f"HOME=/root minikube image ls | grep -qx {settings.worker_image_ref}"


@deploy("Worker image")
def build(settings: Settings) -> None:
    """The image lies in an archive, unless the cluster has it already."""
    if settings.worker_image is not None:
        return
    files.directory(name=f"Create {DIRECTORY}", path=DIRECTORY, mode="755")
    files.template(
        name="Write the image's Containerfile",
        src="files/opt/airflow/image/Containerfile.j2",
        dest=f"{DIRECTORY}/Containerfile",
        mode="644",
        settings=settings,
    )
    archive = _archive(settings)
    packages = ",".join([*PACKAGES, *settings.worker_apt_packages])
    uid = settings.airflow_uid
    account = f"airflow:x:{uid}:{uid}::/tmp:/usr/sbin/nologin"
    settled(
        name="Build the worker image (about a minute)",
        test=f"test -e {archive} || {_in_cluster(settings)}",
        commands=[
            f"rm -rf {DIRECTORY}/*.tar {DIRECTORY}/*.new",
            # The host's own apt sources: a mirror that serves the host serves the image.
            "mmdebstrap --quiet --variant=minbase --mode=root"
            f" --include={packages} --dpkgopt=path-exclude=/usr/share/man/*"
            " --dpkgopt=path-exclude=/usr/share/locale/* --dpkgopt=path-exclude=/usr/share/doc/*"
            f" --customize-hook='echo {account} >> \"$1/etc/passwd\"'"
            f" --customize-hook='echo airflow:x:{uid}: >> \"$1/etc/group\"'"
            f" {settings.debian_release} {DIRECTORY}/root.tar"
            " $(ls /etc/apt/sources.list /etc/apt/sources.list.d/*.list"
            " /etc/apt/sources.list.d/*.sources 2>/dev/null)",
            f"buildah build --quiet --tag {settings.worker_image_ref}"
            f" --file {DIRECTORY}/Containerfile /opt/airflow >/dev/null",
            f"buildah push --quiet {settings.worker_image_ref}"
            f" docker-archive:{archive}.new:{settings.worker_image_ref}"
            f" && mv {archive}.new {archive}",
            # The archive and then the cluster hold the image; no third copy is needed.
            f"buildah rmi {settings.worker_image_ref} >/dev/null; rm {DIRECTORY}/root.tar",
        ],
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

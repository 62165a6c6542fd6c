"""The worker image: a small Debian of the host's release with the host's own venv in it.

Host and pods thus run the same Python and the same packages. The image's tag names its content:
a pod can't get another version than its template asks for, and running pods keep theirs.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.host import tools
from tasks.layout import IMAGES, ROOT, STATE, UV
from tasks.lib.operations import settled
from tasks.settings import HostSettings, computed_once
from tasks.settings.types import Registry, digest
from tasks.worker import dags, pod, registry

LOCAL_REPOSITORY = "localhost/airflow-worker"
# In buildah's store: what images that differ only in their DAGs are made of.
BASE_REPOSITORY = "localhost/airflow-worker-base"
START_TASK = "/usr/local/lib/airflow/start-task"  # in the image
# In the image: what is in it, in the format CycloneDX; on the host in a folder named as its tag.
SBOM = "/usr/share/sbom"
PRUNE = "/usr/local/lib/airflow/prune-images"
CONTAINER = "airflow-worker-build"  # buildah's working container, gone when the image is built

# What Airflow's task runner needs beside the venv.
PACKAGES = ["ca-certificates", "git", "media-types", "netbase", "openssh-client", "python3"]


@computed_once
def reference(settings: HostSettings) -> str:
    """The image that task pods run: the one given, or the built one under its content's name."""
    if settings.worker.image:
        return settings.worker.image
    content = _base(settings)
    if settings.dags.source == "image":
        content = digest(content, dags.version(settings))
    repository = (
        settings.worker.registry.repository if settings.worker.registry else LOCAL_REPOSITORY
    )
    return f"{repository}:{settings.airflow.version}-{content}"


@computed_once
def _base(settings: HostSettings) -> str:
    """Names all of the image's content but DAGs."""
    return digest(settings.venv_key, *_recipe(settings))


def _recipe(settings: HostSettings) -> list[str]:
    """Shell commands that fill the container; `$root` is its file system."""
    uid, venv = settings.airflow.uid, settings.venv
    start_task = Path(ROOT, "files/image/start_task.py").read_text()
    packages = ",".join([*PACKAGES, *settings.worker.extra_apt_packages])
    unneeded = " ".join(
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")
    )
    return [
        # The host's own apt sources: a mirror that serves the host serves the image.
        # With --quiet it would not say why apt ended.
        f"mmdebstrap --variant=minbase --mode=root --format=directory {unneeded}"
        f' --include={packages} {settings.codename} "$root" $(ls /etc/apt/sources.list'
        " /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null)",
        f'echo airflow:x:{uid}:{uid}::/tmp:/usr/sbin/nologin >> "$root/etc/passwd"',
        f'echo airflow:x:{uid}: >> "$root/etc/group"',
        # A pod gets its options as environment. Without any file Airflow would write one with all
        # defaults at each start, which takes a worker 0.2 s.
        'mkdir "$root/etc/airflow" && touch "$root/etc/airflow/airflow.cfg"',
        f'mkdir -p "$root{venv}" && cp -a {venv}/. "$root{venv}"',
        f'mkdir -p "$root$(dirname {START_TASK})" && printf %s {shlex.quote(start_task)}'
        f' > "$root{START_TASK}"',
        f'mkdir "$root{SBOM}" && {UV}/bin/debsbom generate --sbom-type cdx --cdx-schema-version 1.6'
        f" --distro-name debian --distro-version {settings.release.number}"
        f' --root "$root" --out "$root{SBOM}/debian"',
        # To look whether what it wrote is valid would take it 16 s.
        f"{UV}/bin/cyclonedx-py environment --no-validate --output-reproducible"
        f' --output-file "$root{SBOM}/python.cdx.json" {venv}',
        f"buildah config --user {uid}:{uid} --env PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin"
        " --env LANG=C.UTF-8 --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1"
        " --env AIRFLOW_CONFIG=/etc/airflow/airflow.cfg"
        f""" --entrypoint '["python", "{START_TASK}"]' {CONTAINER}""",
    ]


def _archive(settings: HostSettings) -> str:
    return f"{IMAGES}/{_tag(settings)}.tar"


def _tag(settings: HostSettings) -> str:
    return reference(settings).rpartition(":")[2]


def _in_cluster(settings: HostSettings) -> str:
    """Shell test whether the cluster's node has the image."""
    if settings.node_is_host:
        return f"ctr -n k8s.io images ls -q name=={reference(settings)} | grep -q ."
    return f"HOME=/root minikube image ls | grep -qx {reference(settings)}"


def _filled_container(settings: HostSettings) -> list[str]:
    """Shell commands that make the container and fill it."""
    from_scratch = [
        f"buildah from --name {CONTAINER} scratch >/dev/null",
        f"root=$(buildah mount {CONTAINER})",
        *_recipe(settings),
    ]
    if settings.dags.source != "image":
        return from_scratch
    # A change of DAGs is to take seconds: Debian and the venv are kept, the DAGs lie on top.
    base = f"{BASE_REPOSITORY}:{_base(settings)}"
    return [
        f"if ! buildah images {base} >/dev/null 2>&1; then",
        f"buildah images -q {BASE_REPOSITORY} | sort -u | xargs -r buildah rmi --force >/dev/null",
        *from_scratch,
        f"buildah commit --quiet --rm {CONTAINER} {base} >/dev/null",
        "fi",
        f"buildah from --name {CONTAINER} {base} >/dev/null",
        f"root=$(buildah mount {CONTAINER})",
        f'mkdir -p "$root{layout.DAGS}"',
        f'cp -a {layout.IMAGE_DAGS}/{dags.version(settings)}/. "$root{layout.DAGS}"',
    ]


@deploy("Worker image")
def build(settings: HostSettings) -> None:
    """The image lies in an archive or in the registry, unless the cluster has it already."""
    registry.prepare_host(settings)
    if settings.worker.image is not None:
        return
    files.directory(name=f"Create {IMAGES}", path=IMAGES, mode="755")
    tools.install_listers()
    archive = _archive(settings)
    if settings.worker.registry:
        _push(settings, settings.worker.registry)
        return
    settled(
        name="Build the worker image (about a minute)",
        test=f"test -e {archive} || {_in_cluster(settings)}",
        commands=[_script(settings)],
        because="the image was built before",
    )


def _push(settings: HostSettings, server: Registry) -> None:
    archive, image = _archive(settings), reference(settings)
    settled(
        name="Build the worker image and push it (about 2 minutes)",
        test=registry.has(server, image),
        commands=[
            registry.refused(server, image),
            f"test -e {archive} || {{ {_script(settings)}\n}}",
            registry.push(server, archive, image),
            f"rm {archive}",
        ],
        because="the registry has it",
    )


def _script(settings: HostSettings) -> str:
    """Shell commands that build the image as an archive."""
    archive, listed = _archive(settings), f"{IMAGES}/{_tag(settings)}"
    script = [
        "set -e",
        # What a killed run may have left.
        f"rm -rf {IMAGES}/*.tar* {listed}; buildah rm {CONTAINER} >/dev/null 2>&1 || true",
        *_filled_container(settings),
        f'cp -r "$root{SBOM}" {listed}',
        f"ls -dt {IMAGES}/*/ | tail -n +{settings.retention.worker_images + 1} | xargs -r rm -r",
        f"buildah commit --quiet --rm {CONTAINER}"
        f" docker-archive:{archive}.new:{reference(settings)} >/dev/null",
        f"mv {archive}.new {archive}",
    ]
    return "\n".join(script)


@deploy("Worker image")
def load(settings: HostSettings) -> None:
    """The cluster has the image, or can pull it, and it is one for this host's Airflow."""
    registry.give_cluster_login(settings)
    if settings.worker.image or settings.worker.registry:
        _try(settings)
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


# Printed by the image's Python: the versions that pods and host must share.
VERSIONS = """
import sys
from importlib.metadata import version
import airflow.sdk.execution_time.execute_workload
print(version("apache-airflow-core"), "%d.%d" % sys.version_info[:2])
"""
TRIED = f"{STATE}/worker-image-tried"
# Repositories of registries that built images came from, now or earlier.
REPOSITORIES = f"{STATE}/worker-image-repositories"
TRIAL_POD = "airflow-image-trial"
TRIAL_MINUTES = 10  # to pull the image in


def _try(settings: HostSettings) -> None:
    """A pod of the image has the host's versions; an image of the same name is tried once."""
    image, python = reference(settings), settings.release.python
    wanted = f"{settings.airflow.version} {python}"
    kubectl = f"{settings.kubectl} -n {settings.kubernetes.namespace}"
    manifest = pod.template(settings, image, {}, [])
    manifest["metadata"]["name"] = TRIAL_POD
    container = {**manifest["spec"]["containers"][0], "args": ["python", "-c", VERSIONS]}
    manifest["spec"]["containers"] = [container]  # one beside it might never end
    state = (
        "{.status.phase} {.status.containerStatuses[0].state.*.reason}"
        " {.status.containerStatuses[0].state.*.message}"
    )
    cure = (
        "build it from the same versions, or leave worker_image out to have it built"
        if settings.worker.image
        else "the registry and the certificates that the nodes trust are to be looked at"
    )
    script = f"""
fail() {{
    echo "{image}: $1: {cure}" >&2
    {kubectl} delete pod {TRIAL_POD} --now >/dev/null
    exit 1
}}
{kubectl} delete pod {TRIAL_POD} --ignore-not-found --now >/dev/null || exit
printf %s {shlex.quote(json.dumps(manifest))} | {kubectl} create -f - >/dev/null || exit
for i in $(seq {60 * TRIAL_MINUTES}); do
    state=$({kubectl} get pod {TRIAL_POD} -o jsonpath='{state}')
    case "$state" in
    *ErrImage* | *ImagePullBackOff* | *InvalidImageName*) fail "the node can't pull it: $state" ;;
    *"executable file not found"* | *"no such file"*) fail "there is no python in it" ;;
    *CreateContainer* | *RunContainer* | *StartError*) fail "it does not start: $state" ;;
    Succeeded* | Failed*) break ;;
    esac
    sleep 1
done
said=$({kubectl} logs {TRIAL_POD} --tail=1)
case "$state $said" in
Succeeded*" {wanted}") ;;
Succeeded*) fail "it has Airflow and Python $said, the host has {wanted}" ;;
Failed*) fail "its python can't run Airflow's tasks: $said" ;;
*) fail "its pod did not end within {TRIAL_MINUTES} minutes: $state" ;;
esac
{kubectl} delete pod {TRIAL_POD} --now >/dev/null"""
    remember = []
    if settings.worker.registry:
        repository = settings.worker.registry.repository
        remember.append(
            f"grep -qxF {repository} {REPOSITORIES} 2>/dev/null"
            f" || echo {repository} >> {REPOSITORIES}"
        )
    settled(
        name="Try the worker image in a pod (about 10 s)",
        test=f'test "$(cat {TRIED})" = "{image} {wanted}"',
        commands=[script, *remember, f"echo '{image} {wanted}' > {TRIED}"],
        because="it was tried before",
    )


def pruning(settings: HostSettings, action: str) -> str:
    """Command that lists or removes the built images that the node can do without."""
    kept, current = settings.retention.worker_images, reference(settings)
    # minikube's own is in /root, which the timer does not see.
    kubectl = "/usr/local/bin/kubectl --kubeconfig=/etc/kubernetes/admin.conf"
    return f"{PRUNE} {action} {kept} {current} {REPOSITORIES} {kubectl}"


@deploy("Worker image")
def prune(settings: HostSettings) -> None:
    """The node has no more built images than are wanted, and none is missed."""
    if not settings.node_is_host:
        return
    files.put(name="Write what removes old images", src=f"files{PRUNE}", dest=PRUNE, mode="755")
    settled(
        name="Remove old worker images",
        test=f'surplus=$({pruning(settings, "list")}) && test -z "$surplus"',
        commands=[pruning(settings, "remove")],
        because="there are no more than are wanted",
    )

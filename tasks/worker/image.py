"""The worker image: a small Debian of the host's release with the host's own venv in it.

So host and pods run the same Python and the same packages. The image's tag names its content: a pod
can't get another version than its template asks for, and running pods keep theirs.
"""

from __future__ import annotations

import json
from io import StringIO

from pyinfra.api import deploy
from pyinfra.api.host import Host
from pyinfra.facts.server import Command
from pyinfra.operations import files

from tasks.host import tools
from tasks.layout import HOST_AUTHORITIES, IMAGES, LOCAL_REPOSITORY, ROOT, START_TASK, TRIAL_POD
from tasks.lib import members, whole_file
from tasks.lib.operations import ensure
from tasks.settings import ARCHITECTURES, HostSettings, computed_once
from tasks.settings.types import digest
from tasks.worker import dags, plugins, pod, registry

# In the image: lists of its packages, in the format CycloneDX; on the host they are in a folder
# named as the image's tag.
SBOM = "/usr/share/sbom"
STARTER = ROOT / "files/image/start_task.py"
RECIPE = ROOT / "files/usr/local/lib/airflow/image-fill.sh"
PRUNE = "prune-images.sh"
# image-fill.sh copies these files.
LIST_AUTHORITIES = (
    f"find -L {HOST_AUTHORITIES} -type f -name '*.crt' -exec sha256sum {{}} + 2>/dev/null"
    " | LC_ALL=C sort"
)


def authorities(builder: Host) -> str:
    """A name for the authorities that people gave the host that builds the image; empty if there
    are none."""
    return name_of_authorities(builder.get_fact(Command, command=LIST_AUTHORITIES) or "")


def name_of_authorities(listed: str) -> str:
    """The same, of the output of LIST_AUTHORITIES."""
    return digest(listed.strip()) if listed.strip() else ""


@computed_once
def reference(settings: HostSettings) -> str:
    """The image that task pods run: the given one, or the built one under its content's name."""
    if settings.worker.image:
        return settings.worker.image
    content = digest(_base(settings), *_layer(settings)) if _layer(settings) else _base(settings)
    repository = (
        settings.worker.registry.repository if settings.worker.registry else LOCAL_REPOSITORY
    )
    return f"{repository}:{settings.airflow.version}-{content}"


@computed_once
def _base(settings: HostSettings) -> str:
    """A name for the image's content except DAGs and plugins."""
    index = settings.build.default_index
    return digest(
        settings.venv_key,
        settings.venv,
        settings.codename,
        str(settings.airflow.uid),
        *settings.worker.extra_apt_packages,
        STARTER.read_text(),
        RECIPE.read_text(),
        # pip of the image asks it.
        *([index, settings.build.ca_certificate or ""] if index else []),
        *([f"edition {settings.worker.image_edition}"] if settings.worker.image_edition else []),
        *([f"authorities {settings.authorities}"] if settings.authorities else []),
        # Hosts of several architectures may share a registry. The first architecture is not named,
        # so that images keep their tags.
        *([] if settings.architecture == ARCHITECTURES[0] else [settings.architecture]),
    )


def _layer(settings: HostSettings) -> list[str]:
    """The layers on top of the base: the versions of DAGs and of plugins that it holds."""
    found = [dags.version(settings)] if settings.dags.source == "image" else []
    if settings.plugins.source == "image":
        found.append(f"plugins-{plugins.version(settings)}")
    return found


def _parts(settings: HostSettings) -> list[str]:
    """The arguments of the programs that build the image: its tag and its parts."""
    found = [reference(settings).rpartition(":")[2], settings.venv.rpartition("/")[2]]
    # The image has them on top of a base, so that a change of them takes seconds.
    return [*found, _base(settings), *layer] if (layer := _layer(settings)) else found


@deploy("Worker image")
def build(settings: HostSettings) -> None:
    """The image lies in an archive or in the registry, unless the cluster has it already."""
    dags.stage(settings)
    plugins.stage(settings)
    registry.prepare_host(settings)
    if settings.worker.image is not None or not settings.is_first:
        return
    files.directory(name=f"Create {IMAGES}", path=IMAGES, mode="755")
    tools.install_listers(settings)
    whole_file.put(
        name="Write the program that starts a task in a pod",
        src=str(STARTER.relative_to(ROOT)),
        dest=START_TASK,
        mode="644",
    )
    if settings.worker.registry:
        ensure(
            name="Build the worker image and push it (about 2 minutes)",
            program="image-push.sh",
            args=_parts(settings),
            already="the registry has it",
        )
        return
    ensure(
        name="Build the worker image (about a minute)",
        program="image-build.sh",
        args=_parts(settings),
        already="the image was built before",
    )


@deploy("Worker image")
def load(settings: HostSettings) -> None:
    """The cluster has the image, or can pull it, and it fits this host's Airflow."""
    if settings.worker.image or settings.worker.registry:
        if settings.is_first:
            _try(settings)
        if settings.members:
            members.copy_from_first(name="Copy the digests that the first host knows", kind="image")
        return
    ensure(
        name="Load the worker image into the cluster (about 15 s)",
        program="image-load.sh",
        args=[reference(settings)],
        already="the cluster has it",
    )


# The image's Python prints the versions that pods and host must share.
VERSIONS = """
import sys
from importlib.metadata import version
import airflow.sdk.execution_time.execute_workload
print(version("apache-airflow-core"), "%d.%d" % sys.version_info[:2])
"""


def _try(settings: HostSettings) -> None:
    """A pod of the image has the host's versions; an image of the same name is tried once."""
    image = reference(settings)
    manifest = pod.template(settings, image, {}, [])
    manifest["metadata"]["name"] = "airflow-image-trial"
    container = {**manifest["spec"]["containers"][0], "args": ["python", "-c", VERSIONS]}
    manifest["spec"]["containers"] = [container]  # a container beside it might never end
    whole_file.put(
        name="Write the trial pod",
        src=StringIO(json.dumps(manifest, indent=2) + "\n"),
        dest=TRIAL_POD,
        mode="600",
    )
    ensure(
        name="Try the worker image in a pod (about 10 s)",
        program="image-trial.sh",
        args=[image, settings.airflow.version, settings.release.python],
        already="it was tried before",
    )


def _kept(settings: HostSettings) -> list[str]:
    """The arguments that say which built images the node keeps."""
    return [str(settings.retention.worker_images), reference(settings)]


@deploy("Worker image")
def prune(settings: HostSettings) -> None:
    """The node keeps only the wanted number of built images, and all that pods need."""
    if settings.node_sees_folders:
        ensure(
            name="Remove old worker images",
            program=PRUNE,
            args=_kept(settings),
            already="there are no more than there should be",
        )

"""Where DAGs come from: the same bundles for the dag-processor on the host and for the pods."""

from __future__ import annotations

import json
from pathlib import Path

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.cluster import builtin_dags
from tasks.layout import (
    BUILTIN_DAGS,
    BUILTIN_DAGS_CONFIG_MAP,
    DAGS,
    DAGS_RECORD,
    DEPLOY_DAGS_RECORD,
    IMAGE_DAGS,
)
from tasks.lib.manifests import Volume, claimed, host_folder
from tasks.lib.operations import checksums, ensure, synced_folder
from tasks.settings import HostSettings, computed_once
from tasks.settings.types import digest
from tasks.worker import git
from tasks.worker import local as local_folder

# Seconds until the dag-processor reads a folder again. It checks this only every 5 s, and then
# needs time to read: the sum stays within the 30 s that README.md promises.
REFRESH_SECONDS = 15


def bundles(settings: HostSettings) -> str:
    """The DAG bundles as JSON. Host and pods have the same, since they must agree on names."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    found: list[tuple[str, str, dict[str, object]]] = []
    if settings.dags.source != "git":
        found.append(("dags-folder", local, {"refresh_interval": REFRESH_SECONDS}))
    if builtin_dags.bundled(settings):
        found.append(("deploy", local, {"path": BUILTIN_DAGS, "refresh_interval": REFRESH_SECONDS}))
    for name, bundle in settings.dags.git_bundles.items():
        options: dict[str, object] = {
            "repo_url": bundle.url,
            "tracking_ref": bundle.branch,
            "subdir": bundle.folder,
            "git_conn_id": bundle.connection,
            "refresh_interval": bundle.refresh_seconds,
            "submodules": bundle.submodules or None,
        }
        given = {key: value for key, value in options.items() if value is not None}
        found.append((name, "airflow.providers.git.bundles.git.GitDagBundle", given))
    return json.dumps(
        [{"name": name, "classpath": path, "kwargs": given} for name, path, given in found]
    )


def folder_on_host(settings: HostSettings) -> str:
    """The folder in which the dag-processor finds the files that pods have in DAGS."""
    if settings.dags.claim:
        return settings.dags.claim.host_path
    return f"{IMAGE_DAGS}/current" if settings.dags.source == "image" else DAGS


def volumes(settings: HostSettings) -> list[Volume]:
    """The volumes that give a pod the DAGs."""
    found = []
    if settings.dags.source == "host":
        found.append(host_folder("dags", DAGS, read_only=True))
    if settings.dags.claim:
        found.append(claimed("dags", settings.dags.claim, DAGS, read_only=True))
    if builtin_dags.bundled(settings):
        # A pod should start even while the ConfigMap is deleted.
        source = {"name": BUILTIN_DAGS_CONFIG_MAP, "optional": True}
        found.append(
            Volume(
                {"name": "deploy-dags", "configMap": source},
                {"name": "deploy-dags", "mountPath": BUILTIN_DAGS, "readOnly": True},
            )
        )
    return found


@computed_once
def given(settings: HostSettings) -> dict[str, Path]:
    """The files of dags_local_folder, by their path in there."""
    return local_folder.files("dags_local_folder", settings.dags.local_folder)


@computed_once
def version(settings: HostSettings) -> str:
    """A name for the content of dags_local_folder."""
    return digest(checksums(given(settings)))


@deploy("DAGs")
def stage(settings: HostSettings) -> None:
    """The host has the DAGs that the worker image will hold."""
    local_folder.say_left_out("dags_local_folder", settings.dags.local_folder)
    if settings.dags.source != "image":
        return
    files.directory(
        name=f"Create {IMAGE_DAGS}", path=IMAGE_DAGS, user="root", group="airflow", mode="755"
    )
    name = version(settings)
    synced_folder(
        name=f"Copy the version {name} of the DAGs",
        sources=given(settings),
        dest=f"{IMAGE_DAGS}/{name}",
        record=f"{IMAGE_DAGS}/{name}.sums",
    )


def publish(settings: HostSettings) -> None:
    """The dag-processor finds the deploy's DAGs, and can read the repositories."""
    _publish(settings)
    git.prepare(settings)


def verify(settings: HostSettings) -> None:
    """The repositories answered with the settings as they are."""
    git.verify(settings, bundles(settings))


@deploy("DAGs")
def _publish(settings: HostSettings) -> None:
    if settings.dags.source == "host":
        synced_folder(
            name="Copy the DAGs",
            # Of two files with the same name, the inventory's wins.
            sources={**builtin_dags.shipped(settings), **given(settings)},
            dest=DAGS,
            record=DAGS_RECORD,
        )
        return
    files.directory(
        name=f"Create {BUILTIN_DAGS}", path=BUILTIN_DAGS, user="root", group="airflow", mode="2755"
    )
    synced_folder(
        name="Copy the deploy's own DAGs",
        sources=builtin_dags.bundled(settings),
        dest=BUILTIN_DAGS,
        record=DEPLOY_DAGS_RECORD,
    )
    if settings.dags.source == "image":
        version_name = version(settings)
        ensure(
            name=f"Switch to the version {version_name} of the DAGs",
            program="dags-switch.sh",
            args=[version_name],
            already="the dag-processor reads it",
        )

"""Where plugins come from: the same ones for the services on the host and for the pods."""

from __future__ import annotations

from pathlib import Path

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import IMAGE_PLUGINS, IMAGE_PLUGINS_RECORD, PLUGINS, PLUGINS_RECORD
from tasks.lib.manifests import Volume, host_folder
from tasks.lib.operations import checksums, synced_folder
from tasks.settings import HostSettings, Settings, computed_once
from tasks.settings.types import digest
from tasks.worker import local


def are_mounted(settings: Settings) -> bool:
    """Whether pods mount the host's folder of plugins."""
    source = settings.plugins.source or ("host" if settings.node_sees_folders else None)
    return source == "host"


def volumes(settings: HostSettings) -> list[Volume]:
    """The volumes that give a pod the plugins."""
    return [host_folder("plugins", PLUGINS, read_only=True)] if are_mounted(settings) else []


@computed_once
def given(settings: HostSettings) -> dict[str, Path]:
    """The files of plugins_local_folder, by their path in there."""
    return local.files("plugins_local_folder", settings.plugins.local_folder)


@computed_once
def version(settings: HostSettings) -> str:
    """A name for the content of plugins_local_folder."""
    return digest(checksums(given(settings)))


@deploy("Plugins")
def stage(settings: HostSettings) -> None:
    """The host has the plugins that the worker image will hold."""
    local.say_left_out("plugins_local_folder", settings.plugins.local_folder)
    if settings.plugins.source != "image":
        return
    files.directory(
        name=f"Create {IMAGE_PLUGINS}", path=IMAGE_PLUGINS, user="root", group="root", mode="755"
    )
    synced_folder(
        name="Copy the plugins for the worker image",
        sources=given(settings),
        dest=IMAGE_PLUGINS,
        record=IMAGE_PLUGINS_RECORD,
    )


def publish(settings: HostSettings) -> None:
    """The plugins of the inventory are where Airflow's services load them."""
    synced_folder(
        name="Copy the plugins",
        sources=given(settings),
        dest=PLUGINS,
        record=PLUGINS_RECORD,
    )

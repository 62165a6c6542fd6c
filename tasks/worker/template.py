"""The pod template: the manifest that Airflow fills in with each task."""

from __future__ import annotations

from tasks.lib import manifests
from tasks.settings import HostSettings, computed_once
from tasks.worker import authority, dags, image, logs, plugins, pod, variables


@computed_once
def manifest(settings: HostSettings) -> manifests.Manifest:
    """The template for these settings."""
    return pod.template(
        settings,
        image.reference(settings),
        variables.of_pods(settings),
        [*dags.volumes(settings), *plugins.volumes(settings), *logs.volumes(settings)],
        [authority.volume()],
    )

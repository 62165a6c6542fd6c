"""Old worker images and virtual environments go, once the new ones are in use."""

from __future__ import annotations

from tasks.airflow import venv
from tasks.settings import HostSettings
from tasks.worker import image


def run(settings: HostSettings) -> None:
    """No more images and virtual environments are kept than the settings say."""
    image.prune(settings)
    venv.prune(settings)

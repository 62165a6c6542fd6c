"""The minor versions of Kubernetes that the deploy knows."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from tasks.settings import Settings
from tasks.settings.types import numbers


class Release(NamedTuple):
    """A minor version: a patch release of it, and the day after which it gets no more."""

    patch: str
    end_of_life: date
    source: str  # of the day


# A cluster goes through each of them on its way to a newer one. ./tests/pins/renew corrects them.
RELEASES = {
    "1.33": Release("1.33.13", date(2026, 6, 28), "https://kubernetes.io/releases/1.33/"),
    "1.34": Release("1.34.10", date(2026, 10, 27), "https://kubernetes.io/releases/1.34/"),
    "1.35": Release("1.35.8", date(2027, 2, 28), "https://kubernetes.io/releases/1.35/"),
    "1.36": Release("1.36.3", date(2027, 6, 28), "https://kubernetes.io/releases/1.36/"),
    "1.37": Release("1.37.2", date(2027, 10, 28), "https://kubernetes.io/releases/1.37/"),
}


def minor_of(version: str) -> str:
    """The minor version that a version belongs to."""
    return version.rpartition(".")[0]


def way(settings: Settings) -> list[str]:
    """The wanted version at the end, and before it one of each older minor version."""
    wanted = numbers(minor_of(settings.kubernetes.version))
    older = [each.patch for minor, each in RELEASES.items() if numbers(minor) < wanted]
    return [*older, settings.kubernetes.version]


def between(there: str, settings: Settings) -> list[str]:
    """The versions of `way` that a cluster goes through, from one that it has already."""
    now = numbers(minor_of(there))
    return [each for each in way(settings)[:-1] if numbers(minor_of(each)) > now]

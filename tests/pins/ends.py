"""The ends of life of the defaults that no pin can renew: PostgreSQL, Debian, Ubuntu and Airflow.

A host has the PostgreSQL of its release, and a new release or a new Airflow is a person's choice.
Those of Kubernetes are in tasks/cluster/releases.py, since the deploy needs its versions.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from tasks.settings import RELEASES, Settings

POSTGRES = "https://www.postgresql.org/support/versioning/"
# Debian's long term support counts: eol-lts in debian.csv, and eol in ubuntu.csv.
DISTRO_INFO = "https://salsa.debian.org/debian/distro-info-data"
AIRFLOW = (
    "https://airflow.apache.org/docs/apache-airflow/stable/installation/supported-versions.html"
)


class End(NamedTuple):
    """The day after which a version gets no more fixes; none if it was not announced yet."""

    day: date | None
    source: str


ENDS = {
    "PostgreSQL 15": End(date(2027, 11, 11), POSTGRES),
    "PostgreSQL 16": End(date(2028, 11, 9), POSTGRES),
    "PostgreSQL 17": End(date(2029, 11, 8), POSTGRES),
    "PostgreSQL 18": End(date(2030, 11, 14), POSTGRES),
    "Debian 12": End(date(2028, 6, 30), DISTRO_INFO),
    "Debian 13": End(date(2030, 6, 30), DISTRO_INFO),
    "Ubuntu 24.04": End(date(2029, 5, 31), DISTRO_INFO),
    "Ubuntu 26.04": End(date(2031, 5, 29), DISTRO_INFO),
    "Airflow 3": End(None, AIRFLOW),
}


def defaults() -> set[str]:
    """What a host gets from the defaults of the settings, on each release."""
    airflow, _, _ = Settings.from_data({}).airflow.version.partition(".")
    found = {f"Airflow {airflow}"}
    for release in RELEASES.values():
        found |= {release.name, f"PostgreSQL {release.postgres}"}
    return found


def overdue(today: date) -> list[str]:
    """The sentences about defaults that get no more fixes."""
    return [
        f"{name}, a default, had its end of life on {end.day}: {end.source}"
        for name, end in ENDS.items()
        if end.day and end.day < today
    ]

"""The minor versions of Kubernetes that the deploy knows."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from tasks.cluster import releases
from tasks.settings.types import numbers
from tests.unit import fake

DEFAULTS = fake.settings()


def test_the_default_still_gets_patches() -> None:
    """After this day, choose a newer default: the source says which ones there are."""
    minor = releases.minor_of(DEFAULTS.kubernetes.version)
    known = releases.RELEASES[minor]
    assert date.today() <= known.end_of_life, (
        f"Kubernetes {minor} had its end of life on {known.end_of_life}: {known.source}"
    )


def test_the_table_skips_no_minor_version() -> None:
    found = [numbers(minor) for minor in releases.RELEASES]
    first = found[0][1]
    assert found == [[1, first + number] for number in range(len(found))]
    for minor, known in releases.RELEASES.items():
        assert releases.minor_of(known.patch) == minor
        assert known.source.startswith("https://kubernetes.io/releases/")
    ends = [known.end_of_life for known in releases.RELEASES.values()]
    # There are three minor versions a year: https://kubernetes.io/releases/release/
    assert all(b - a > timedelta(days=90) for a, b in pairwise(ends))


def test_the_way_has_one_of_each_minor_version() -> None:
    settings = fake.settings(fake.pinned(kubernetes_version="1.36.0", minikube_version="1.39.0"))
    assert releases.way(settings)[-1] == "1.36.0"
    minors = [releases.minor_of(each) for each in releases.between("1.33.1", settings)]
    assert minors == ["1.34", "1.35"]
    assert releases.between("1.36.0", settings) == releases.between("1.35.3", settings) == []

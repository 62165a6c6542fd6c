"""Fixtures that several tests share."""

from __future__ import annotations

import pytest

from tests.unit import fake


@pytest.fixture(scope="session")
def plan() -> fake.Plan:
    """The plan of a deploy on a bare host with default settings."""
    return fake.plan(fake.settings())


@pytest.fixture(params=fake.VARIANTS)
def variant(request: pytest.FixtureRequest) -> fake.Plan:
    """The plan of a deploy on a bare host, for one variant of the settings after the other."""
    return fake.plan(fake.settings(fake.VARIANTS[request.param]))


@pytest.fixture(scope="session")
def variants() -> dict[str, fake.Plan]:
    """The plans of a deploy on a bare host, for all variants of the settings by name."""
    return {name: fake.plan(fake.settings(given)) for name, given in fake.VARIANTS.items()}

"""What several tests share."""

from __future__ import annotations

import pytest

from tests.unit import fake


@pytest.fixture(scope="session")
def plan() -> fake.Plan:
    """What the deploy does on a bare host with default settings."""
    return fake.plan(fake.settings())


@pytest.fixture(params=fake.VARIANTS)
def variant(request: pytest.FixtureRequest) -> fake.Plan:
    """What the deploy does on a bare host, with different settings one after the other."""
    return fake.plan(fake.settings(fake.VARIANTS[request.param]))


@pytest.fixture(scope="session")
def variants() -> dict[str, fake.Plan]:
    """What the deploy does on a bare host, with all of these settings, by their names."""
    return {name: fake.plan(fake.settings(given)) for name, given in fake.VARIANTS.items()}

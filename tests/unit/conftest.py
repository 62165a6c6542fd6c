"""Fixtures that several tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tasks import layout
from tasks.lib import operations
from tests.unit import fake

# Tests ask servers of this machine alone, to which the proxy of whoever runs them does not lead.
for _name in [*os.environ]:
    if _name.lower().endswith("_proxy"):
        del os.environ[_name]


def pytest_collection_finish() -> None:
    """Look for garbage less often, and not in what the modules hold: it was a tenth of the time."""
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself fails: it would pass as one that looked at something."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = "a unit test may not skip: install what it needs, or make a stand-in"
    return report


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of commands: a file of the test's own, so that it waits for no deploy here.

    A test that runs the deploy's operations for real needs it.
    """
    path = tmp_path / "busy"
    alone = operations.ALONE.replace(layout.COMMAND_LOCK, str(path))
    monkeypatch.setattr(operations, "ALONE", alone.replace(layout.LOCKS, str(tmp_path)))
    return path


@pytest.fixture(scope="session")
def plan() -> fake.Plan:
    """The plan of a deploy on a bare host with default settings."""
    return fake.plan(fake.settings())


@pytest.fixture(params=fake.every_variant())
def variant(request: pytest.FixtureRequest) -> fake.Plan:
    """The plan of a deploy on a bare host, for one variant of the settings after the other."""
    return fake.plan_of(request.param)


@pytest.fixture(params=fake.every_host())
def any_host(request: pytest.FixtureRequest) -> fake.Plan:
    """The same for each kind of host, also one without Airflow."""
    return fake.plan_of(request.param)


@pytest.fixture(params=[each for each in fake.every_variant() if each != "another of several"])
def of_cluster(request: pytest.FixtureRequest) -> fake.Plan:
    """The plan of a host that makes Airflow's objects in the cluster, for each such variant."""
    return fake.plan_of(request.param)


@pytest.fixture(scope="session")
def variants() -> dict[str, fake.Plan]:
    """The plans of a deploy on a bare host, for all variants of the settings by name."""
    return {name: fake.plan_of(name) for name in fake.every_variant()}

"""Fixtures of the tests of logins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import browser
from tests.e2e.support import Airflow, evidence_folder


@pytest.fixture
def page(request: pytest.FixtureRequest, airflow: Airflow) -> Iterator[browser.Browser]:
    """A browser in which nobody has logged in yet; its last picture is kept as evidence."""
    airflow.request("PATCH", "/dags/example_bash", {"is_paused": False})
    with browser.started() as started:
        yield started
        if folder := evidence_folder():
            started.driver.save_screenshot(str(folder / f"{request.node.name}.png"))

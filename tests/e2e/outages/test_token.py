"""The cluster's token of the host is no longer valid.

A module of its own: the fixture `cluster` reads the token once for each module.
"""

from __future__ import annotations

from tests.e2e.conftest import Shell
from tests.e2e.support import deploy


def test_a_token_that_is_no_longer_valid_is_replaced_by_the_deploy(
    patient: str, shell: Shell
) -> None:
    shell("kubectl -n airflow-control delete serviceaccount/airflow-control-plane")
    run = deploy()
    assert run.code == 0, run.output
    assert "Kubernetes | Write the kubeconfig of airflow-control-plane" in run.changed
    assert "a task ran as a pod" in shell("airflow-smoke-test")

"""Fixtures: the machine, Airflow on it, and its cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from kubernetes import client, config

from tests.e2e.support import Airflow, log_in, machine_name
from tests.sandbox import machine as machines
from tests.sandbox.machine import Machine

Shell = Callable[[str], str]


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The machine under test; an error, not a skip, if there is none."""
    return machines.load(machine_name())


@pytest.fixture(scope="session")
def shell(machine: Machine) -> Shell:
    """Runs a shell command on the machine as root and returns what it prints."""
    return lambda command: machines.run(machine, command).stdout.strip()


@pytest.fixture(scope="session")
def airflow(machine: Machine) -> Airflow:
    """The REST API of Airflow on the machine."""
    return log_in(machine)


@pytest.fixture(scope="module")  # one of the modules replaces the token
def cluster(shell: Shell) -> client.CoreV1Api:
    """The cluster as Airflow itself may see it."""
    kubeconfig = yaml.safe_load(shell("cat /etc/airflow/kubeconfig"))
    return client.CoreV1Api(config.new_client_from_config_dict(kubeconfig))

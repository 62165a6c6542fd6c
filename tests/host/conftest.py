"""The host, the settings it was deployed with, and what several tests read of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import testinfra
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory

from tasks import airflow, downloads, services, system, timers, tls
from tasks.dags import EXAMPLES, FOLDER, OWN, wanted
from tasks.kubernetes import KUBECONFIG, TRIGGERERS_KUBECONFIG
from tasks.services import SERVICES, UNITS_DIRECTORY
from tasks.settings import CONTROL_USER, DAGS_USER, RELEASES, ROOT, Settings
from tests.host.support import Attributes, Host, Listener, Process, properties, python

INVENTORY = "inventories/local.py"
HOST = pytest.StashKey[Host]()
SETTINGS = pytest.StashKey[Settings]()


def pytest_configure(config: pytest.Config) -> None:
    """Connect, and find the host's settings: they decide which tests there are."""
    chosen = config.option.hosts
    # Without it testinfra takes the machine that the tests are run on.
    if not chosen or "," in chosen:
        raise pytest.UsageError(
            "tests/host: name the one host to test: --hosts=ssh://root@my-server, or"
            " --hosts=local:// as root on the host itself"
        )
    options = ("connection", "ssh_config", "ssh_extra_args", "ssh_identity_file", "sudo")
    host = testinfra.get_host(chosen, **{name: config.getoption(name) for name in options})
    codename = _codename(host, chosen)
    try:
        settings = Settings.from_data(_inventory_data(host.backend.hostname or ""))
    except PyinfraError as error:
        raise pytest.UsageError(f"tests/host: {error}") from None
    config.stash[HOST] = host
    config.stash[SETTINGS] = settings.on_release(codename)


def _codename(host: Host, chosen: str) -> str:
    try:
        done = host.run("id -u && . /etc/os-release && echo $VERSION_CODENAME")
    except RuntimeError as error:
        why = getattr(error.args[0], "stderr", str(error)).strip()
        raise pytest.UsageError(f"tests/host: {chosen} can't be reached: {why}") from None
    uid, _, codename = done.stdout.strip().partition("\n")
    if uid != "0":
        raise pytest.UsageError(f"tests/host: log in to {chosen} as root, or add --sudo")
    if codename not in RELEASES:
        raise pytest.UsageError(f"tests/host: {chosen} is no Debian that the deploy knows")
    return str(codename)


def _inventory_data(name: str) -> dict[str, Any]:
    """Data of the inventory's only host, or of the one with this name or SSH address."""
    path = Path(ROOT, os.environ.get("AIRFLOW_INVENTORY", INVENTORY))
    if not path.is_file():
        raise pytest.UsageError(f"tests/host: AIRFLOW_INVENTORY: there is no file {path}")
    with ctx_state.use(State()):
        hosts = {host.name: host.data.dict() for host in make_inventory(str(path), cwd=str(ROOT))}
    if len(hosts) == 1:
        return next(iter(hosts.values()))
    for key, data in hosts.items():
        if name in (key, key.removeprefix("@ssh/"), data.get("ssh_hostname")):
            return dict(data)
    raise pytest.UsageError(f"tests/host: {path} has no host {name}, but {', '.join(hosts)}")


def dags(settings: Settings) -> list[str]:
    """The DAGs that the deploy brings with these settings."""
    return [path.stem for path in EXAMPLES.glob("*.py") if wanted(path.stem, settings)]


def owned_paths(settings: Settings) -> dict[str, Attributes]:
    """Whose the deploy's folders and files must be. Only secrets of units are root's alone."""
    version = settings.postgres_version
    postgres = f"/etc/postgresql/{version}/main"
    secrets = [*(f"{airflow.SECRETS}/{name}" for name in airflow.SECRET_FILES)]
    units = [
        "airflow.target",
        *(service.unit for service in SERVICES),
        *(unit for timer in timers.timers(settings) if timer.wanted for unit in timer.units),
    ]
    programs = ["/usr/local/bin/kubectl", services.STOP_SCHEDULER]
    programs += [timers.LIVENESS, timers.CLEAN_HISTORY]
    own = FOLDER if settings.airflow_dags_source == "host" else OWN
    triggerers = [TRIGGERERS_KUBECONFIG] if settings.kubernetes_pod_operator else []
    secrets += sorted({tls.AUTHORITYS_KEY, tls.MADE, tls.of_page(settings)})
    programs.append(tls.PROGRAM)
    smoke_test = ["/usr/local/bin/airflow-smoke-test"] if settings.airflow_smoke_test else []
    paths = {path: Attributes(*wanted) for path, wanted in system.DIRECTORIES.items()}
    for group, attributes in (
        ([airflow.CONFIG], ("root", DAGS_USER, "640")),
        ([airflow.POD_TEMPLATE, KUBECONFIG], ("root", CONTROL_USER, "640")),
        (triggerers, ("root", DAGS_USER, "640")),
        ([*secrets, airflow.ADMIN_PASSWORD], ("root", "root", "600")),
        ([f"{UNITS_DIRECTORY}/{unit}" for unit in units], ("root", "root", "644")),
        ([airflow.CLI, *programs, *smoke_test], ("root", "root", "755")),
        ([f"{own}/{dag}.py" for dag in dags(settings)], ("root", "airflow", "644")),
        ([f"{postgres}/pg_hba.conf"], ("postgres", "postgres", "600")),
        ([f"{postgres}/conf.d/airflow.conf"], ("postgres", "postgres", "640")),
        ([f"/var/lib/postgresql/{version}/main"], ("postgres", "postgres", "700")),
        ([f"/var/log/postgresql/postgresql-{version}-main.log"], ("postgres", "adm", "640")),
        (["/root/.kube/config"] if settings.uses_minikube else [], ("root", "root", "600")),
    ):
        paths |= {path: Attributes(*attributes) for path in group}
    return paths


# Arguments of tests that the settings decide on.
PARAMETERS: dict[str, Callable[[Settings], Sequence[Any]]] = {
    "dag": dags,
    "download": lambda settings: [
        download for download in downloads.needed(settings) if "crictl" not in download.file
    ],
    "owned_path": lambda settings: list(owned_paths(settings)),
    "package": system.packages,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each package, file and so on of this host's settings."""
    for name, values in PARAMETERS.items():
        if name in metafunc.fixturenames:
            given = values(metafunc.config.stash[SETTINGS])
            metafunc.parametrize(name, given, ids=lambda value: getattr(value, "file", str(value)))


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config) -> Host:
    """The one host; for the whole session, unlike testinfra's, since reads are kept."""
    return pytestconfig.stash[HOST]


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """The settings that the host was deployed with."""
    return pytestconfig.stash[SETTINGS]


@pytest.fixture(scope="session")
def units(host: Host, settings: Settings) -> dict[str, dict[str, str]]:
    """What systemd says of the deploy's units."""
    names = [service.unit for service in SERVICES]
    others = ["airflow.target", "airflow-webserver.service", "postgresql.service"]
    cluster = f"postgresql@{settings.postgres_version}-main.service"
    return properties(host, *names, *others, cluster, "minikube.service")


@pytest.fixture(scope="session")
def running(host: Host) -> dict[str, Any]:
    """Processes of Airflow's units, and who listens, read in one go."""
    return dict(python(host, "processes", *(service.unit for service in SERVICES)))


@pytest.fixture(scope="session")
def processes(running: dict[str, Any]) -> dict[str, Process]:
    """Airflow's processes by unit."""
    return {unit: Process(**seen) for unit, seen in running["units"].items()}


@pytest.fixture(scope="session")
def listeners(running: dict[str, Any]) -> list[Listener]:
    """All that accept TCP connections."""
    return [Listener(*each) for each in running["listeners"]]


@pytest.fixture(scope="session")
def api(host: Host, settings: Settings) -> dict[str, Any]:
    """What Airflow's REST API says."""
    return dict(
        python(
            host,
            "airflow_api",
            settings.web_url,
            settings.airflow_admin_user,
            airflow.ADMIN_PASSWORD,
            f"{airflow.SECRETS}/jwt-secret",
            *dags(settings),
        )
    )

"""The host, the settings it was deployed with, and the data that several tests read of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import testinfra
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory

from tasks import layout
from tasks.layout import ROOT
from tasks.settings import RELEASES, HostSettings, Settings
from tasks.worker import image
from tests.host import expected, mergers
from tests.host.given import not_searched_for
from tests.host.support import Facts, Host, InVenv, Listener, Process, properties, python

INVENTORY = "inventories/local.py"
HOST = pytest.StashKey[Host]()
FACTS = pytest.StashKey[Facts]()
LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()  # names of tests, by why


def pytest_configure(config: pytest.Config) -> None:
    """Connect, and find the host's settings: they decide which tests there are."""
    config.addinivalue_line("markers", "only_if(condition, otherwise): see support.only_if")
    config.stash[LEFT_OUT] = {}
    chosen = config.option.hosts
    # Without it testinfra takes the machine that the tests are run on.
    if not chosen or "," in chosen:
        raise pytest.UsageError(
            "tests/host: name the one host to test: --hosts=ssh://root@my-server, or"
            " --hosts=local:// as root on the host itself"
        )
    options = ("connection", "ssh_config", "ssh_extra_args", "ssh_identity_file", "sudo")
    host = testinfra.get_host(
        chosen,
        **{name: config.getoption(name) for name in options},
        controlpath=_shared_connection(config),
    )
    codename = _codename(host, chosen)
    architecture = host.run("dpkg --print-architecture").stdout.strip()
    try:
        given = Settings.from_data(_inventory_data(host.backend.hostname or ""))
    except PyinfraError as error:
        raise pytest.UsageError(f"tests/host: {error}") from None
    config.stash[HOST] = host
    settings = given.for_release(
        codename,
        _postgres(host),
        architecture=architecture,
        authorities=image.name_of_authorities(host.run(image.LIST_AUTHORITIES).stdout),
    )
    config.stash[FACTS] = Facts(settings, given, **python(host, "facts"))


def _postgres(host: Host) -> tuple[int, int] | None:
    """Version and port of the cluster that the deploy chose; an upgraded Debian keeps its own."""
    values = host.run("cat /etc/airflow/host.env").stdout
    found = re.search(r"(?m)^PGCLUSTER='?(\d+)/main(?s:.*)^DATABASE_PORT='?(\d+)", values)
    return (int(found[1]), int(found[2])) if found else None


def _shared_connection(config: pytest.Config) -> str:
    """Path of the socket through which all SSH sessions share one connection, until the end."""
    folder = tempfile.TemporaryDirectory(prefix="tests-host-")
    path = f"{folder.name}/ssh"

    def close() -> None:
        if Path(path).exists():
            # The socket says which connection; the name only has to be there.
            leave = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "host"]
            subprocess.run(leave, stderr=subprocess.DEVNULL, check=False)
        folder.cleanup()

    config.add_cleanup(close)
    return path


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
        raise pytest.UsageError(f"tests/host: {chosen} has no release that the deploy knows")
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


# Arguments of tests that the settings decide on, by their names.
PARAMETERS: dict[str, Callable[[HostSettings], Sequence[str]]] = {
    "dag": lambda settings: [dag.name for dag in expected.wanted(expected.DAGS, settings)],
    "path": lambda settings: list(expected.paths(settings)),
    "package": expected.packages,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each package, file and so on of this host's settings."""
    for name, values in PARAMETERS.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values(metafunc.config.stash[FACTS].settings))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that have nothing to look at on this host, and remember why."""
    left_out = config.stash[LEFT_OUT]
    kept, gone = [], []
    for item in items:
        for mark in item.iter_markers("only_if"):
            condition, otherwise = mark.args
            if not condition(config.stash[FACTS]):
                file, _, name = item.nodeid.rpartition("::")
                left_out.setdefault(otherwise, []).append(f"{Path(file).name}::{name}")
                gone.append(item)
                break
        else:
            kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=gone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself fails: whoever reads the exit code would not know of it."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = "a host's tests may not skip: mark the test with only_if"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """List the tests that were left out, and why."""
    lines = []
    for otherwise, names in config.stash[LEFT_OUT].items():
        lines.append(f"{otherwise}:")
        # Not each of a test's parameters, unless it is the only one.
        tests = Counter(name.partition("[")[0] for name in names)
        for test, count in tests.items():
            whole = [name for name in names if name.partition("[")[0] == test]
            lines.append(f"    {whole[0]}" if count == 1 else f"    {test}, {count} times")
    if FACTS in config.stash:
        lines += not_searched_for(config.stash[FACTS].settings)
    if lines:
        terminalreporter.section("not looked at")
        terminalreporter.write("\n".join([*lines, ""]))


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config) -> Host:
    """The one host; for the whole session, unlike testinfra's, since reads are kept."""
    return pytestconfig.stash[HOST]


@pytest.fixture(scope="session")
def facts(pytestconfig: pytest.Config) -> Facts:
    """The facts of the host that decide which tests it has."""
    return pytestconfig.stash[FACTS]


@pytest.fixture(scope="session")
def settings(facts: Facts) -> HostSettings:
    """The settings that the host was deployed with."""
    return facts.settings


@pytest.fixture(scope="session")
def units(host: Host, settings: HostSettings) -> dict[str, dict[str, str]]:
    """systemd's properties of the deploy's units, and of those that it should not know."""
    return properties(
        host,
        *expected.UNITS,
        *(unit for timer in expected.TIMERS for unit in (timer.timer, timer.service)),
        *("airflow.target", "airflow-webserver.service", "minikube.service", "nginx.service"),
        *("postgresql.service", f"postgresql@{settings.postgres.version}-main.service"),
        "prometheus-postgres-exporter.service",
    )


@pytest.fixture(scope="session")
def running(host: Host) -> dict[str, Any]:
    """Processes of Airflow's units, and all listeners, read at once."""
    return dict(python(host, "processes", *expected.UNITS))


@pytest.fixture(scope="session")
def processes(running: dict[str, Any]) -> dict[str, Process]:
    """Airflow's processes by unit."""
    return {unit: Process(**seen) for unit, seen in running["units"].items()}


@pytest.fixture(scope="session")
def listeners(running: dict[str, Any]) -> list[Listener]:
    """All processes that listen."""
    return [Listener(*each) for each in running["listeners"]]


def _user(settings: HostSettings) -> tuple[str, str]:
    """A user of the web page and the file of its password: the deploy's own, if it is there."""
    if settings.airflow.smoke_test:
        return layout.SMOKE_TEST_USER, layout.SMOKE_TEST_PASSWORD
    return settings.web.admin_user, layout.ADMIN_PASSWORD


@pytest.fixture(scope="session")
def api(host: Host, settings: HostSettings) -> dict[str, Any]:
    """The answers of Airflow's REST API."""
    return dict(
        python(
            host,
            "airflow_api",
            "http://127.0.0.1:78",
            *_user(settings),
            "/etc/airflow/secrets/jwt-secret",
            *PARAMETERS["dag"](settings),
        )
    )


@pytest.fixture(scope="session")
def proxy(host: Host, settings: HostSettings) -> dict[str, Any]:
    """The certificates and answers of nginx."""
    # Where this host reaches nginx, and whether the host's own authority vouches for it there.
    ports = {"pods": ("127.0.0.1", settings.execution_api.port, True)}
    if expected.page_is_open(settings):
        everywhere = settings.web.host in ("0.0.0.0", "::")
        address = "127.0.0.1" if everywhere else settings.web.host
        # The inventory's certificate may be for a name that this host does not know.
        own = expected.page_has_own_certificate(settings)
        ports["page"] = (address, settings.web.https_port, not own)
    return dict(python(host, "proxy", json.dumps(ports)))


@pytest.fixture(scope="session")
def in_venv(host: Host, settings: HostSettings) -> InVenv:
    """The answers of Airflow's own Python, run as the services run it."""
    options = [(option.section, option.name) for option in expected.OPTIONS]
    options.append(("dag_processor", "dag_bundle_config_list"))
    pairs = [[mergers.BASE, more] for more in mergers.MERGED.values()]
    variables = list(settings.airflow.variables)
    given = json.dumps({"options": options, "pods": pairs, "variables": variables})
    answer = python(host, "in_venv", given, interpreter="/usr/local/lib/airflow/run python")
    return InVenv(
        options=dict(zip(options, answer["options"], strict=True)),
        pods=dict(zip(mergers.MERGED, answer["pods"], strict=True)),
        hidden=set(answer["hidden"]),
    )


@pytest.fixture(scope="session")
def pod(host: Host, settings: HostSettings) -> dict[str, Any]:
    """The pod that the cluster would make of the template; it checks all and creates nothing."""
    create = "create --dry-run=server -f /etc/airflow/pod_template.yaml -o json"
    return dict(json.loads(host.check_output(f"{settings.kubectl} {create}")))

"""A database on a host of its own: the settings, the plans, the way to it, and what it refuses.

The PostgreSQL is a real one, with the deploy's own pg_hba.conf, certificate and passwords.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyinfra
import pytest
from pyinfra import logger
from pyinfra.api import DeployError
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

import deploy
from tasks import layout
from tasks.host import database, serving
from tasks.lib import groups, lock, members
from tasks.preflight import database as preflight_database
from tasks.preflight import serving as preflight
from tasks.preflight.questions import Report
from tasks.settings import HostSettings, Settings
from tests.support import free_port
from tests.unit import fake, formats, postgres, reports, stand_ins
from tests.unit.fake import DATABASE_HOST, FILES

AIRFLOW = ("@fake/air-1", "@fake/air-2")
HBA = "/etc/postgresql/15/main/pg_hba.conf"
CONFIG = "/etc/postgresql/15/main/conf.d/airflow.conf"
SECRETS = ("owner-pass", "dags-pass")


DATABASE = {"database": DATABASE_HOST}
BOTH = {"airflow": AIRFLOW, "database": (DATABASE_HOST,)}


# The settings


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (fake.EXISTING_DATABASE, "postgres_provider: the deploy sets the PostgreSQL of the group"),
        ({"postgres_database": "team"}, "postgres_database belongs to an existing PostgreSQL"),
        ({"postgres_sslmode": "verify-ca"}, "postgres_sslmode belongs to an existing PostgreSQL"),
        ({"postgres_hosts": ["db:5433"]}, "write one name or address without a port"),
        ({"postgres_hosts": ["db-1", "db-2"]}, "write one name or address without a port"),
        ({"postgres_config": {"ssl": "off"}}, "decides ssl: use postgres_certificate"),
        ({"postgres_config": {"port": "1"}}, "postgres_config: the deploy itself decides port"),
        ({"postgres_ca_certificate": fake.PAIR["certificate"]}, "makes a CA of its own"),
        ({"postgres_certificate": fake.PAIR}, "write one of the certificate's into postgres_hosts"),
        (
            {"postgres_certificate": fake.PAIR, "postgres_hosts": ["other.example"]},
            "certificate is not for other.example",
        ),
        (
            {
                "postgres_certificate": {**fake.PAIR, "key": fake.pair()["key"]},
                "postgres_hosts": ["airflow.example"],
            },
            "postgres_certificate: key does not belong to the certificate",
        ),
    ],
)
def test_settings_that_can_not_work_there_are_refused(there: dict[str, Any], said: str) -> None:
    with pytest.raises(DeployError) as error:
        Settings.of_server(DATABASE_HOST, fake.servers(there))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_settings_of_airflow_mean_nothing_there() -> None:
    data = {**fake.SEVERAL, "postgres_provider": "debian", "web_port": "wrong"}
    for key in fake.EXISTING_DATABASE:
        data.pop(key)
    assert Settings.of_server(DATABASE_HOST, fake.servers(data)).web.port == 8080
    with pytest.raises(DeployError, match="postgres_vesion is not a setting"):
        Settings.of_server(DATABASE_HOST, fake.servers({**data, "postgres_vesion": 17}))


@pytest.mark.parametrize(
    ("own", "there", "said"),
    [
        (
            {"postgres_config": {"work_mem": "8MB"}},
            {},
            "postgres_config is a setting of @fake/db-1",
        ),
        ({"metrics_port": 9187}, {}, "metrics_port is a setting of @fake/db-1"),
        ({"metrics_port": 9187}, {"metrics_port": 9187}, ""),
        ({"postgres_version": 17}, {"postgres_version": 17}, ""),
        ({"postgres_provider": "existing"}, {}, "postgres_provider: the deploy sets the Post"),
    ],
)
def test_airflows_hosts_have_no_settings_of_their_own_for_it(
    own: dict[str, Any], there: dict[str, Any], said: str
) -> None:
    if not said:
        settings = Settings.from_data(own, (), fake.servers(there))
        assert not settings.postgres.is_debians and settings.metrics.port is None
        return
    with pytest.raises(DeployError, match=said):
        Settings.from_data(own, (), fake.servers(there))


def test_a_certificate_needs_the_group() -> None:
    given = {"postgres_certificate": fake.PAIR}
    assert "belongs to the host of a group database" in fake.refusal(given)


# The plan of the database's host


def test_it_has_postgresql_and_nothing_of_airflow() -> None:
    plan = fake.plan(fake.with_database())
    (command,) = plan.operations[0].commands
    packages = command.splitlines()[1]  # the arguments, below the first line
    assert "postgresql-15" in packages and "nginx" not in packages and "buildah" not in packages
    said = " ".join(command for each in plan.operations for command in each.commands)
    assert "useradd" not in said and "minikube" not in said.replace("minikube_", "")
    assert layout.CONFIG not in plan.uploads and layout.CLI not in plan.uploads
    programs = serving.programs(fake.with_database())
    # Each program that it calls is there, with those that it sources.
    called = set(re.findall(rf"{layout.LIB}/([\w.-]+)", said))
    assert called <= programs
    for name in programs:
        text = plan.uploads[f"{layout.LIB}/{name}"]
        used = set(re.findall(r"(?:\$here|\)\")/([\w.-]+\.(?:sh|py|yaml))", text))
        assert used <= programs, name


def test_pg_hba_names_the_hosts_and_nobody_else() -> None:
    rules = [
        line.split()
        for line in fake.plan(fake.with_database()).uploads[HBA].splitlines()
        if not line.startswith("#")
    ]
    assert rules == [
        ["local", "all", "postgres", "peer"],
        *(
            ["hostssl", "airflow", role, f"192.0.2.{number}/32", "scram-sha-256"]
            for number in (1, 2)
            for role in ("airflow", "airflow-dags")
        ),
    ]
    ipv6 = fake.with_database().model_copy(update={"database_clients": ("2001:db8::7",)})
    assert " 2001:db8::7/128 scram-sha-256\n" in fake.plan(ipv6).uploads[HBA]
    exporter = fake.plan(fake.with_database({"metrics_port": 9187})).uploads[HBA]
    assert re.search("^local +airflow +prometheus +peer$", exporter, re.M)


def test_it_speaks_tls_and_allows_as_many_connections_as_its_hosts_need() -> None:
    given = {"postgres_config": {"work_mem": "16MB"}}
    options = formats.postgres_config(fake.plan(fake.with_database(given)).uploads[CONFIG])
    assert (options["listen_addresses"], options["ssl"], options["work_mem"]) == ("*", "on", "16MB")
    assert options["max_connections"] == "100"
    more = formats.postgres_config(fake.plan(fake.with_database({}, 5)).uploads[CONFIG])
    assert int(more["max_connections"]) == database.connections(5) == 150
    plan = fake.plan(fake.settings())
    alone = formats.postgres_config(plan.uploads[CONFIG])
    assert alone["listen_addresses"] == "" and {"ssl", "max_connections"}.isdisjoint(alone)
    # The code of DAGs leaves some for the others.
    for made, most in ((plan, 30), (fake.plan(fake.with_database({}, 5)), 70)):
        (command,) = made.named("Create role airflow-dags").commands
        assert command == f"/usr/local/lib/airflow/postgres-make.sh apply role airflow-dags {most}"


def test_a_certificate_of_the_inventory_is_in_nothing_that_pyinfra_shows() -> None:
    there = {"postgres_certificate": fake.PAIR, "postgres_hosts": ["airflow.example"]}
    plan = fake.plan(fake.with_database(there))
    written = plan.named("Write PostgreSQL's certificate")
    assert written.inputs == [f"{fake.PAIR['certificate'].rstrip()}\n{fake.PAIR['key']}"]
    assert "/airflow.pem postgres:postgres 600\n" in written.commands[1]
    key = fake.PAIR["key"].splitlines()[1]
    shown = [*plan.names, *plan.facts, *plan.uploads.values()]
    shown += [command for each in plan.operations for command in each.commands]
    assert not [text for text in shown if key in text]
    # Airflow's hosts trust its authority, or those that they trust anyway.
    url = database.url("psycopg", fake.beside_database({}, there))
    assert "host=airflow.example&" in url and f"sslrootcert={database.TRUSTED}&" in url
    own = {**there, "postgres_ca_certificate": fake.PAIR["certificate"]}
    plan = fake.plan(fake.beside_database({}, own))
    assert plan.uploads[layout.DATABASE_AUTHORITY] == fake.PAIR["certificate"]
    assert not [each for each in plan.names if "Copy the CA of the database" in each]


# The plan of Airflow's hosts


@pytest.mark.parametrize(
    "settings", [fake.beside_database(), fake.several_beside_database(1)], ids=["one", "several"]
)
def test_airflow_reaches_it_as_an_existing_one(settings: HostSettings) -> None:
    plan = fake.plan(settings)
    owner, dags = layout.DATABASE_LOGINS.values()
    config = plan.uploads[layout.CONFIG]
    for part in (
        "://airflow@/airflow?host=192.0.2.9&port=5432&sslmode=verify-full",
        f"sslrootcert={layout.DATABASE_AUTHORITY}",
        f"passfile={owner}",
    ):
        assert config.count(part) == 2, part
    unit = plan.uploads["/etc/systemd/system/airflow-triggerer.service.d/30-host.conf"]
    assert unit.count(f"passfile={dags}") == 2
    assert not [path for path in plan.uploads if path.startswith("/etc/postgresql")]
    assert plan.names[:3] == [
        "Serving host | Wait for the hosts of the groups database and cluster",
        "Database | Install PostgreSQL's client",
        "Database | Check the existing database",
    ]
    values = formats.host_values(plan)
    assert (values["PGCLUSTER"], values["METRICS_ROLE"]) == ("", "prometheus")
    assert "postgresql@*' on @fake/db-1" in values["DATABASE_HELP"]


def test_the_logins_are_copied_before_anything_that_can_fail() -> None:
    """Until then the services that run can't log in, if the logins are new."""
    names = fake.plan(fake.beside_database()).names
    (copied,) = (number for number, name in enumerate(names) if "Copy the CA" in name)
    assert {each.partition(" |")[0] for each in names[:copied]} <= {
        *("Database", "Serving host", "System", "PostgreSQL")
    }


def test_the_logins_are_copied_and_shown_nowhere() -> None:
    plan = fake.plan(fake.beside_database())
    for user, password in zip(layout.DATABASE_LOGINS, SECRETS, strict=True):
        copied = plan.named(f"PostgreSQL | Copy the login of {user}")
        assert copied.inputs == [f"*:*:*:{user}:{password}\n"]
        assert f" {user}:root 400\n" in copied.commands[1]
    said = [*plan.names, *plan.facts, *plan.uploads.values()]
    said += [command for each in plan.operations for command in each.commands]
    assert not [text for text in said for secret in SECRETS if secret in text]


COPIED = {
    "group": "database",
    "part": "owner",
    "path": "/etc/airflow/x",
    "user": "airflow",
    "mode": "400",
}


def test_no_option_of_pyinfra_shows_a_copy(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    responses = {DATABASE_HOST: {"database-logins.py print": fake.MADE}}
    state = fake.hosts(BOTH, responses)
    state.print_input = state.print_output = True
    state.print_fact_info = state.print_fact_input = state.print_fact_output = True
    state.config.DIFF = True
    logger.setLevel(logging.DEBUG)
    airflow = [state.inventory.get_host(name) for name in AIRFLOW]
    add_op(state, groups.copied_file, name="Copy", host=airflow, **COPIED)
    run_ops(state)
    assert not state.failed_hosts
    captured = capfd.readouterr()
    assert SECRETS[0] not in captured.out + captured.err + caplog.text


@pytest.mark.parametrize("answer", [{"success": False}, "# dags\n*:*:*:airflow-dags:x\n"])
def test_nothing_is_copied_of_a_host_that_gives_nothing(answer: object) -> None:
    responses = {
        DATABASE_HOST: {"database-logins.py print": answer},
        AIRFLOW[0]: {re.compile(r"printf .*>&2; exit 1"): {"success": False}},
    }
    state = fake.hosts({"airflow": AIRFLOW[:1], "database": (DATABASE_HOST,)}, responses)  # type: ignore[arg-type]
    airflow = state.inventory.get_host(AIRFLOW[0])
    add_op(state, groups.copied_file, name="Copy", host=airflow, **COPIED)
    run_ops(state)
    assert {each.name for each in state.failed_hosts} == {AIRFLOW[0]}


def test_the_database_is_ready_before_airflows_hosts_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the order in which pyinfra's command line runs the operations of all hosts."""
    responses = dict.fromkeys((*fake.MEMBERS, DATABASE_HOST), fake.BARE_HOST)
    state = fake.hosts({"airflow": fake.MEMBERS, "database": (DATABASE_HOST,)}, responses)
    state.current_deploy_filename = str(layout.ROOT / "deploy.py")
    state.set_stage(StateStage.Prepare)
    monkeypatch.setattr(pyinfra, "is_cli", True)
    roles = [fake.several_beside_database(place) for place in range(3)] + [fake.with_database()]
    for host, settings in zip(state.inventory, roles, strict=True):
        with ctx_state.use(state), ctx_host.use(host):
            deploy.deploy_role(settings)
    order = [
        {each.name for each in state.inventory if key in state.ops[each]}
        for key in state.get_op_order()
    ]
    waiting = order.index({*fake.MEMBERS, DATABASE_HOST})
    assert waiting > 10
    assert all(where == {DATABASE_HOST} for where in order[:waiting])
    assert not [where for where in order[waiting + 1 :] if DATABASE_HOST in where]


INVENTORY = """
broken = {"fake_responses": {"false": {"success": False}}}
airflow = [("@fake/air-1", {})]
database = [("@fake/db-1", broken)]
"""
DEPLOY = """
from pyinfra import host
from pyinfra.operations import server
from tasks.lib import groups, members

groups.end_with_the_first_failure()
if host.name == "@fake/db-1":
    server.shell(name="Fail", commands=["false"])
members.in_step(name="Wait")
server.shell(name="Go on", commands=["true"])
"""


def test_airflow_stays_as_it_is_if_the_database_fails(tmp_path: Path) -> None:
    (tmp_path / "inventory.py").write_text(INVENTORY)
    (tmp_path / "deploy.py").write_text(DEPLOY)
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--yes", "inventory.py", "deploy.py"],
        env={**os.environ, "PYTHONPATH": str(layout.ROOT), "PYINFRA_FAKE_DELAY": "0"},
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "Starting operation: Fail" in done.stderr
    assert "Starting operation: Wait" not in done.stderr and "Go on" not in done.stderr


# Preflight


def checked(
    there: Mapping[str, Any] | None = None,
    away: tuple[str, ...] = (),
    data: Mapping[str, Any] | None = None,
    clients: Mapping[str, Any] | None = None,
) -> HostSettings:
    """The settings of the database's host after preflight."""
    responses = {DATABASE_HOST: there or reports.of_serving()}
    for number, name in enumerate(AIRFLOW, start=1):
        responses[name] = {**reports.of_serving(number), **(clients or {})}
    state = fake.hosts(BOTH, responses, {DATABASE_HOST: data or {}})
    for name in away:
        state.inventory.get_host(name).connected = False
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(DATABASE_HOST)):
        return preflight.check(groups.settings())


@pytest.fixture(autouse=True)
def _no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "take", lambda: "the test's")


def test_the_addresses_of_airflows_hosts_are_those_of_their_way_to_it() -> None:
    settings = checked()
    assert settings.database_clients == ("192.0.2.1", "192.0.2.2")
    assert (settings.postgres_cluster, settings.postgres_port) == ("15/main", 5432)
    assert {"host-9", "192.0.2.9"} <= {*settings.own_names}
    both = {"port=543": ["to db", "from 10.0.0.5", "from 2001:db8::5", "from 9.0.0.1"]}
    assert checked(clients=both).database_clients == ("9.0.0.1", "10.0.0.5", "2001:db8::5")


@pytest.mark.parametrize(
    ("more", "without", "behind", "said"),
    [
        ((), "systemd", 0, "systemd does not run here"),
        ((), "uid", 0, "not root"),
        (("room /var 900 1000000 900000",), "", 0, "MiB of disk are free in /var"),
        ((), "", 3600, "s behind this machine's"),
        (("dpkg libc6 ",), "", 0, "are installed only in part (libc6)"),
        (("installed yes",), "", 0, "this host has an Airflow of its own"),
        (
            ("masked kubelet.service", "masked postgresql.service"),
            *("", 0, "does not start them: postgresql.service:"),
        ),
        (
            ("postgres 15 main 5432 online others database-shop",),
            *("", 0, "has the database shop, which this deploy did not make"),
        ),
        (
            ("migrated of the group airflow", "postgres_due yes"),
            *("", 0, f"delete {layout.DATABASE_MADE} on the host and {layout.MIGRATED} on Airflow"),
        ),
    ],
)
def test_a_host_that_can_not_have_it_is_refused(
    more: tuple[str, ...], without: str, behind: int, said: str
) -> None:
    with pytest.raises(DeployError) as error:
        checked(reports.of_serving(9, *more, without=without, behind=behind))
    first, *lines = str(error.value).splitlines()
    assert first.startswith(f"{DATABASE_HOST} is not ready for the deploy; nothing was changed")
    assert [said in line for line in lines] == [True], lines


def test_another_port_of_the_cluster_is_known_to_all() -> None:
    there = reports.of_serving(9, "postgres 15 other 5432 online others database-shop")
    assert checked(there).postgres_port == 5433
    state = fake.hosts(
        BOTH, {DATABASE_HOST: there, **{name: reports.of_serving(1) for name in AIRFLOW}}
    )
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(AIRFLOW[0])):
        settings = preflight.reached(Settings.from_data({}, (), fake.servers({})))
    assert settings.postgres.servers == [("192.0.2.9", 5433)]


def test_hosts_that_are_not_in_the_run_are_named() -> None:
    with pytest.raises(DeployError, match="@fake/air-2 is not in this run"):
        checked(away=AIRFLOW[1:])


@pytest.mark.parametrize("option", ["--serial", "--no-wait"])
def test_hosts_wait_for_the_database(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyinfra", option])
    with pytest.raises(DeployError, match=f"{option} can't be used with the group database"):
        checked()


def test_a_host_that_knows_no_way_to_it_is_named() -> None:
    with pytest.raises(DeployError, match="postgres_hosts: @fake/air-1 knows no way to nowhere"):
        checked(data={"postgres_hosts": ["nowhere"]}, clients={"port=543": []})


def found(report: Mapping[str, list[str]], there: str | None, away: bool) -> list[str]:
    """The findings about the one host of Airflow, and its database."""
    responses = {
        DATABASE_HOST: reports.of_serving(9, *([there] if there else [])),
        AIRFLOW[0]: reports.of_serving(1),
    }
    state = fake.hosts({"airflow": AIRFLOW[:1], "database": (DATABASE_HOST,)}, responses)
    state.inventory.get_host(DATABASE_HOST).connected = not away
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(AIRFLOW[0])):
        settings = preflight.reached(groups.settings())
        given = {"system": ["debian bookworm"], **report}
        return list(preflight.findings(settings, Report(given)))


@pytest.mark.parametrize(
    ("report", "there", "away", "said"),
    [
        ({}, None, False, ""),
        ({"migrated": ["3.3.2-x a b"]}, None, False, "this host's Airflow has data, and @fake/db"),
        ({"migrated": ["3.3.2-x a b"]}, "migrated of the group airflow", False, ""),
        ({}, None, True, "@fake/db-1 is not in this run"),
        ({"system": ["debian trixie"]}, None, False, "has PostgreSQL 15, and the release of this"),
    ],
)
def test_airflows_host_is_looked_at_as_well(
    report: dict[str, list[str]], there: str | None, away: bool, said: str
) -> None:
    assert [said in each for each in found(report, there, away)] == ([True] if said else [])


def test_a_host_tells_the_address_from_which_it_reaches_another_one() -> None:
    done = subprocess.run(
        ["sh", "-c", preflight.RouteReport().command(server="127.0.0.1", port=1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["to 127.0.0.1", "from 127.0.0.1"]


# The removal


def test_the_database_goes_with_the_data_only() -> None:
    kept, gone = (fake.removal_beside(DATABASE, keep, 1) for keep in (True, False))
    said = " ".join(command for each in kept.operations for command in each.commands)
    assert "dropdb" not in said and "purge" not in said
    (command,) = gone.named("Remove the database and the roles").commands
    arguments = command.splitlines()[1]
    assert arguments.startswith("set -- apply /etc/postgresql/15/main airflow prometheus,")
    assert arguments.endswith(" /etc/postgresql/15/main/airflow.pem")
    assert gone.names[0].endswith("Wait until no host of this run has Airflow's services")
    assert gone.names[-1].endswith("Remove the deploy's state")
    airflow = fake.removal_beside(DATABASE, False, 0)
    assert airflow.position("Stop and remove Airflow's units") < airflow.position("Wait until no")
    assert not [name for name in airflow.names if "database" in name]


def test_the_database_is_not_taken_from_a_host_that_is_not_in_the_run() -> None:
    with pytest.raises(DeployError, match="has the database of @fake, and the removal would take"):
        fake.removal_beside(DATABASE, False, 1, in_run=(1,))
    assert fake.removal_beside(DATABASE, True, 1, in_run=(1,)).names
    assert fake.removal_beside(DATABASE, False, 0, in_run=(0,)).names


# With a real server

PASSWORDS = "database-logins.py"
OPEN = "local all postgres trust\n"  # for the tests themselves


class Running(NamedTuple):
    """A host with a database, and its PostgreSQL."""

    host: stand_ins.Host
    server: postgres.Server
    authority: Path
    logins: dict[str, Path]

    def let_in(self, *addresses: str) -> None:
        """Use the deploy's pg_hba.conf for hosts with these addresses."""
        settings = fake.with_database().model_copy(update={"database_clients": addresses})
        rules = fake.plan(settings).uploads[HBA]
        (self.server.folder / "data/pg_hba.conf").write_text(OPEN + rules)
        self.server.reload()

    def ask(self, user: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Ask over the network as a host of Airflow does."""
        words = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": user,
            "PGDATABASE": "airflow",
            "PGPASSFILE": str(self.logins.get(user, "/nowhere")),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.authority),
            **variables,
        }
        return subprocess.run(
            ["psql", "-XAtqwc", "select current_user"],
            env={"PATH": self.server.environment["PATH"], **words},
            text=True,
            capture_output=True,
        )


def with_certificate(folder: Path, server: Path | None = None) -> stand_ins.Host:
    """A folder that stands for the host, with programs instead of those of its users."""
    host = stand_ins.Host(folder)
    cluster, tls = folder / "postgresql/15/main", folder / "tls"
    for each in (cluster, tls):
        each.mkdir(parents=True)
    host.program("install", 'shift 6; cp "$1" "$2"')
    host.program("stat", "echo postgres 600")
    logins = [folder / name for name in ("owner.login", "dags.login")]
    host.values |= {
        "POSTGRES_CONFIG": str(folder / "postgresql"),
        "DATABASE_LOGINS": " ".join(map(str, logins)),
        "DATABASE_SERVER_AUTHORITY": str(tls / "pods-ca.pem"),
    }
    return host


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A host after its deploy, whose PostgreSQL has the certificate that the host made."""
    folder = tmp_path_factory.mktemp("host")
    host = with_certificate(folder)
    assert host.apply("postgres-certificate.sh", "15", str(folder / "tls")) == ""
    pair = (folder / "postgresql/15/main/airflow.pem").read_text()
    port = free_port()
    with postgres.server(port, {"certificate": pair, "key": pair}) as server:
        server.sql(
            "set password_encryption = 'md5'; create role airflow login;"
            ' create role "airflow-dags" login connection limit 30'
        )
        server.sql("create database airflow owner airflow")
        place = f"PGHOST={server.folder} PGPORT={port} PGUSER=postgres"
        path = server.environment["PATH"]
        host.program("runuser", f'unset PGCLUSTER; shift 3; exec env {place} PATH={path} "$@" 2>&1')
        assert host.apply(PASSWORDS) == ""
        words = host.values["DATABASE_LOGINS"].split()
        logins = dict(zip(layout.DATABASE_LOGINS, map(Path, words), strict=True))
        yield Running(host, server, folder / "tls/pods-ca.pem", logins)


def test_both_roles_get_in_with_their_passwords_over_tls(running: Running) -> None:
    running.let_in("127.0.0.1")
    for user in layout.DATABASE_LOGINS:
        done = running.ask(user)
        assert (done.stdout, done.stderr) == (f"{user}\n", "")
    assert running.host.check(PASSWORDS) == ""
    for file in running.logins.values():
        assert file.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(
    ("addresses", "user", "variables", "said"),
    [
        # A stranger's address.
        (("192.0.2.1",), "airflow", {}, 'no pg_hba.conf entry for host "127.0.0.1"'),
        # Without TLS.
        (("127.0.0.1",), "airflow", {"PGSSLMODE": "disable"}, "no pg_hba.conf entry"),
        # Others, and other databases.
        (("127.0.0.1",), "postgres", {}, "no pg_hba.conf entry"),
        (("127.0.0.1",), "airflow", {"PGDATABASE": "postgres"}, "no pg_hba.conf entry"),
        (("127.0.0.1",), "airflow", {"PGPASSFILE": "/nowhere"}, "no password supplied"),
    ],
)
def test_nobody_else_gets_in(
    addresses: tuple[str, ...],
    user: str,
    variables: dict[str, str],
    said: str,
    running: Running,
) -> None:
    running.let_in(*addresses)
    done = running.ask(user, **variables)
    assert done.returncode != 0 and said in done.stderr


def test_another_authority_is_not_trusted(running: Running, tmp_path: Path) -> None:
    running.let_in("127.0.0.1")
    (tmp_path / "other.pem").write_text(fake.PAIR["certificate"])
    said = running.ask("airflow", PGSSLROOTCERT=str(tmp_path / "other.pem")).stderr
    assert "certificate verify failed" in said
    said = running.ask("airflow", PGHOST="other.invalid", PGHOSTADDR="127.0.0.1").stderr
    assert "does not match host name" in said


def test_postgresql_keeps_a_verifier_and_not_the_password(running: Running) -> None:
    kept = running.server.sql("select rolpassword from pg_authid where rolname = 'airflow'")
    password = running.logins["airflow"].read_text().strip().rpartition(":")[2]
    assert kept.startswith("SCRAM-SHA-256$4096:") and password not in kept
    calls = running.host.calls.read_text()
    assert len(password) > 40 and password not in calls


@pytest.mark.parametrize("accident", ["the role's", "the file", "half a file"])
def test_a_password_that_was_changed_is_set_again(accident: str, running: Running) -> None:
    running.let_in("127.0.0.1")
    file = running.logins["airflow-dags"]
    before = file.read_text()
    if accident == "the role's":
        running.server.sql("alter role \"airflow-dags\" password 'other'")
    else:
        file.unlink()
        if accident == "half a file":
            file.write_text("*:*:*:air")
    assert "the role airflow-dags has another password" in running.host.check(PASSWORDS)
    assert running.host.apply(PASSWORDS) == "" == running.host.check(PASSWORDS)
    assert (file.read_text() == before) is (accident == "the role's")
    assert running.ask("airflow-dags").returncode == 0


def test_what_is_printed_is_what_airflows_hosts_read(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = running.host.run(PASSWORDS, "print").stdout
    monkeypatch.setattr(members, "said_by", lambda *_: printed)
    state = fake.hosts(BOTH)
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(AIRFLOW[0])):
        parts = groups.printed("database")
    assert parts == {
        "owner": running.logins["airflow"].read_text(),
        "dags": running.logins["airflow-dags"].read_text(),
        "authority": running.authority.read_text(),
    }


def test_the_database_is_asked_as_an_existing_one(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the questions of preflight, with the files that came from the database's host."""
    printed = running.host.run(PASSWORDS, "print").stdout
    monkeypatch.setattr(members, "said_by", lambda *_: printed)
    settings = Settings.from_data({}, (), fake.servers({}))
    settings = settings.reaching("127.0.0.1", running.server.port, 15)
    text = preflight_database.variables(settings) + preflight_database.PROGRAM.read_text()
    for place in (layout.SECRETS, layout.STATE, "/run/airflow-ask"):
        text = text.replace(place, f"{tmp_path}{place}")
    (tmp_path / "run").mkdir()
    state = fake.hosts(BOTH)

    def asked() -> list[str]:
        with ctx_state.use(state), ctx_host.use(state.inventory.get_host(AIRFLOW[0])):
            files = preflight_database.files(settings)
        done = subprocess.run(
            ["sh", "-c", text],
            input=files,
            env={"PATH": running.server.environment["PATH"]},
            text=True,
            capture_output=True,
        )
        report = Report({})
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            report.values.setdefault(key, []).append(value)
        return list(preflight_database.findings(settings, report))

    running.let_in("127.0.0.1")
    assert asked() == []
    running.let_in("192.0.2.1")
    (said,) = asked()
    assert "without NAT between" in said and "pg_hba.conf entry" in said
    assert "postgres_owner_login" not in said


def test_the_certificate_lasts_until_a_deploy_of_the_last_year(tmp_path: Path) -> None:
    host = with_certificate(tmp_path)
    arguments = ("15", str(tmp_path / "tls"), "db.example")
    assert "is missing" in host.check("postgres-certificate.sh", *arguments)
    assert host.apply("postgres-certificate.sh", *arguments) == ""
    assert host.check("postgres-certificate.sh", *arguments) == ""
    pair = tmp_path / "postgresql/15/main/airflow.pem"

    def lasts(days: int) -> bool:
        seconds = str(days * 86400)
        asked = ["openssl", "x509", "-noout", "-in", str(pair), "-checkend", seconds]
        return subprocess.run(asked, capture_output=True).returncode == 0

    assert lasts(3649) and not lasts(3651)
    authority = (tmp_path / "tls/pods-ca.pem").read_bytes()
    # One with another name, and one that ends soon, is made again, of the same authority.
    assert host.apply("postgres-certificate.sh", *arguments, "other.example") == ""
    pair.write_text("lost")
    assert "is not the certificate in" in host.check("postgres-certificate.sh", *arguments)
    assert host.apply("postgres-certificate.sh", *arguments) == ""
    assert (tmp_path / "tls/pods-ca.pem").read_bytes() == authority
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-in", pair, "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"DNS:db.example", "DNS:other.example"} <= {
        each.strip() for each in done.stdout.replace("\n", ",").split(",")
    }


def test_postgresql_loads_a_new_certificate(tmp_path: Path) -> None:
    """Its file counts among those that PostgreSQL must have loaded."""
    text = (FILES / "usr/local/lib/airflow/postgres.sh").read_text()
    (line,) = re.findall(r"^files=.*$", text, re.MULTILINE)
    (tmp_path / "airflow.pem").touch()
    for folder, count in ((tmp_path, 3), (tmp_path / "none", 2)):
        shown = f'folder={folder}; {line}; set -- $files; echo "$#"'
        done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(count)

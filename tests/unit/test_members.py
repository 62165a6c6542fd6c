"""Several hosts that are one Airflow: what they need, share and do one after the other."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyinfra
import pytest
import yaml
from pyinfra import logger
from pyinfra.api import Config, DeployError, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.connectors.fake import FakeConnector
from pyinfra.context import ctx_host, ctx_state

import deploy
from tasks import layout, remove
from tasks import preflight as all_of_preflight
from tasks.host import host_values
from tasks.lib import groups, lock, members
from tasks.preflight import checks, database
from tasks.preflight import members as preflight
from tasks.preflight.questions import Report
from tasks.settings import Settings
from tasks.worker import image
from tests.unit import fake, postgres, programs, reports, stand_ins
from tests.unit.fake import MEMBERS, SEVERAL, Plan
from tests.unit.formats import Unit

FIRST, SECOND, THIRD = MEMBERS
FAILING = re.compile(r"^(sh -c ')?printf .*>&2; exit 1")  # a command that says what is wrong
SECRET = "c2VjcmV0LW9mLXRoZS1maXJzdC1ob3N0"


# The settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"postgres_provider": "debian"}, "postgres_provider: the hosts of the group airflow"),
        ({"kubernetes_provider": "minikube"}, "kubernetes_provider: the hosts of the group"),
        ({"dags_source": "host", "dags_git_bundles": {}}, "dags_source: the hosts of the group"),
        ({"logs_store": "host", "logs_s3": None}, "logs_store: the hosts of the group airflow"),
    ],
)
def test_what_only_one_host_has_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DeployError, match=said):
        Settings.from_data({**SEVERAL, **given}, MEMBERS)
    # Of one host it is no reason.
    try:
        Settings.from_data({**SEVERAL, **given, "execution_api_host": "192.0.2.7"})
    except DeployError as error:
        assert said not in str(error)


def test_pods_reach_all_hosts_by_one_name_unless_the_inventory_has_an_address() -> None:
    name = "airflow-api.airflow-control.svc"
    assert fake.several(0).execution_api_url == f"https://{name}:8081/execution/"
    given = {"execution_api_host": "airflow.example"}
    assert fake.several(0, given).execution_api_url == "https://airflow.example:8081/execution/"
    assert _objects(fake.plan(fake.several(0, given))).keys().isdisjoint({"Service"})


# The hosts


def hosts(
    responses: Mapping[str, Mapping[str, Any]],
    names: tuple[str, ...] = MEMBERS,
    data: Mapping[str, Mapping[str, Any]] | None = None,
) -> State:
    """Hosts of one group that answer their commands with `responses`."""
    given = [
        (
            name,
            {
                "fake_responses": {**responses.get(name, {}), FAILING: {"success": False}},
                **((data or {}).get(name, {})),
            },
        )
        for name in names
    ]
    quick = {"fake_delay": 0, "fake_delay_jitter": 0}
    state = State(inventory=Inventory((given, quick), airflow=(names, {})), config=Config())
    state.cwd = str(layout.ROOT)
    connect_all(state)
    return state


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_group_is_one_airflow_if_it_has_several_hosts(count: int) -> None:
    state = hosts({}, MEMBERS[:count])
    for host in state.inventory:
        with ctx_state.use(state), ctx_host.use(host):
            assert members.names() == (MEMBERS[:count] if count > 1 else ())


def test_a_host_beside_the_group_is_alone() -> None:
    state = State(
        inventory=Inventory((["@fake/alone", *MEMBERS], {}), airflow=(MEMBERS, {})), config=Config()
    )
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host("@fake/alone")):
        assert members.names() == ()


ANSWERS = {
    "hostname": "air-1",
    "name": "air-1.example",
    "address": "192.0.2.1",
    "system": "debian bookworm on amd64",
}


def answers(number: int, **other: object) -> dict[str, Any]:
    """How a member answers preflight."""
    given: dict[str, object] = {
        **{key: value.replace("1", str(number), 1) for key, value in ANSWERS.items()},
        "system": ANSWERS["system"],
        "address": f"192.0.2.{number}",
        "time": time.time(),
        **other,
    }
    return {"say hostname": [f"{key} {value}" for key, value in given.items()]}


def found(
    second: Mapping[str, object], data: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str]:
    """The findings about the second of two hosts, whose first one is as it should be."""
    responses = {FIRST: answers(1), SECOND: answers(2, **second)}
    state = hosts(responses, (FIRST, SECOND), data)
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(SECOND)):
        return list(preflight.findings(preflight.ask()))


def test_hosts_that_agree_are_accepted() -> None:
    assert found({}) == []
    # Each of them may show its page in its own way.
    data = {FIRST: {"web_host": "192.0.2.1"}, SECOND: {"web_host": "192.0.2.2", "ssh_user": "me"}}
    assert found({}, data) == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"hostname": "air-1.other"}, "several hosts of the group airflow have the name air-1"),
        ({"system": "debian trixie on amd64"}, "this host is debian trixie on amd64, and @fake/"),
        ({"system": "debian bookworm on arm64"}, "choose hosts of one release and one archit"),
    ],
)
def test_hosts_that_differ_are_refused(second: dict[str, object], said: str) -> None:
    (finding,) = found(second)
    assert said in finding


@pytest.mark.parametrize(("seconds", "said"), [(8, ""), (12, "12 s ahead"), (-12, "12 s behind")])
def test_clocks_more_than_ten_seconds_apart_are_refused(seconds: int, said: str) -> None:
    findings = found({"time": time.time() + seconds})
    assert [said in each for each in findings] == ([True] if said else [])


def test_hosts_with_other_settings_are_refused() -> None:
    data: dict[str, dict[str, Any]] = {
        FIRST: {"airflow_uid": 50001, "web_port": 8090},
        SECOND: {"airflow_uid": 50002, "web_host_names": ["air.example"]},
    }
    differ = ["airflow_uid", "web_host_names", "web_port"]
    assert [each.partition(" ")[0] for each in found({}, data)] == differ


def test_a_host_that_is_not_in_the_run_is_told() -> None:
    state = hosts({name: answers(number) for number, name in enumerate(MEMBERS, start=1)})
    state.inventory.get_host(THIRD).connected = False
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(FIRST)):
        (finding,) = preflight.findings(preflight.ask())
    assert finding.startswith(f"{THIRD} of the group airflow is not in this run")


@pytest.mark.parametrize("option", ["--serial", "--no-wait"])
def test_hosts_stay_in_step(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyinfra", option, "inventory.py", "deploy.py"])
    (finding,) = found({})
    assert finding.startswith(f"{option} can't be used with the group airflow")


def test_a_member_answers_with_what_is_compared() -> None:
    asked = preflight.MemberReport().command("")
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    keys = {line.partition(" ")[0] for line in done.stdout.splitlines()}
    assert keys == {"hostname", "name", "address", "node", "system", "time"}
    assert f"name {socket.gethostname()}\n" in done.stdout


# The database knows other hosts


@pytest.mark.parametrize(
    ("answers", "is_first", "said"),
    [
        # A new host of the group, which gets its keys from the first one.
        ({"schema": ["yes"], "strangers": ["air-1.example, air-3"]}, False, ""),
        ({"schema": ["yes"], "strangers": ["air-1, old"]}, False, "the Airflow of old runs"),
        # One that was deployed before.
        ({"schema": ["yes"], "migrated": ["yes"], "strangers": ["air-2"]}, True, ""),
        ({"schema": ["yes"], "migrated": ["yes"], "strangers": ["old"]}, True, "of old runs"),
        # A new host in front would make new keys, with which nobody could read the data.
        ({"schema": ["yes"], "alive": ["air-2"]}, True, "name one first that has it"),
    ],
)
def test_hosts_of_one_airflow_may_share_its_database(
    answers: dict[str, list[str]], is_first: bool, said: str
) -> None:
    report = Report(
        {
            "version": ["150000"],
            "client": ["15"],
            "encoding": ["UTF8"],
            "owner": ["team_owner"],
            "clock": ["0"],
            "time": ["0"],
            **answers,
        }
    )
    settings = Settings.from_data(SEVERAL, MEMBERS)
    names = ("air-1", "air-2.example", "air-3")
    sentences = [*database.findings(settings, report, names, is_first)]
    assert [said in each for each in sentences] == ([True] if said else [])


@pytest.mark.parametrize(
    ("keys", "runs", "refused"),
    [
        # By host: its keys.
        (("old", "new"), (1,), [SECOND]),  # the first one came back, and is stopped
        (("old", "new", "new"), (0, 1, 2), [SECOND, THIRD]),  # it was started as well
        (("new", "old"), (0, 1), [SECOND]),  # it came back behind the other one
        (("new", "new"), (0, 1), []),
        (("new", ""), (0, 1), []),  # a new host
        (("", "new", "old"), (1, 2), [THIRD]),
        (("old", "new"), (0,), []),  # after a restore
        # A rotation was cut off before and after the keys were copied, and at its end.
        (("old next", "old"), (0, 1), []),
        (("next old", "old next"), (0, 1), []),
        (("next", "next old"), (0, 1), []),
        # The other one continued it without the first one.
        (("old", "next old"), (0, 1), [SECOND]),
    ],
)
def test_keys_of_an_airflow_that_runs_are_not_replaced_by_others(
    keys: tuple[str, ...], runs: tuple[int, ...], refused: list[str]
) -> None:
    names = MEMBERS[: len(keys)]
    given = {
        name: answers(number + 1, **({"runs": "yes"} if number in runs else {}))
        for number, name in enumerate(names)
    }
    for name, each in zip(names, keys, strict=True):
        given[name]["say hostname"] += [f"key {key}" for key in each.split()]
    state, said = hosts(given, names), {}
    for host in state.inventory:
        with ctx_state.use(state), ctx_host.use(host):
            said[host.name] = [*preflight.findings(preflight.ask())]
    assert [name for name in names if said[name]] == refused
    for (finding,) in (said[name] for name in refused):
        assert "List the host with the right keys first in the group airflow" in finding


def test_a_member_tells_digests_of_its_keys_and_whether_it_runs(host: stand_ins.Host) -> None:
    host.program("systemctl", 'test "$*" = "is-active airflow.target" && echo active')
    keys = ("b2xkLWtleQ==", "bmV3LWtleQ==")
    file = host.folder / "fernet-key"
    file.write_text(f"AIRFLOW__CORE__FERNET_KEY={','.join(keys)}\n")
    asked = preflight.MemberReport().command("")
    asked = asked.replace(f"{layout.SECRETS}/fernet-key", str(file))
    path = f"{host.bin}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", asked], capture_output=True, text=True, check=True, env={"PATH": path}
    )
    assert "runs yes" in done.stdout.splitlines()
    lines = [line for line in done.stdout.splitlines() if line.startswith("key ")]
    assert lines == [f"key {hashlib.sha256(key.encode()).hexdigest()}" for key in keys]


JWT, CA = f"{layout.SECRETS}/jwt-secret", f"{layout.TLS}/ca-key.pem"


@pytest.mark.parametrize(
    ("first", "second", "runs", "refused"),
    [
        # By host: its files, each with its time and its digest.
        ((f"{JWT} 100 old", f"{CA} 100 a"), (f"{JWT} 200 new", f"{CA} 100 a"), True, [JWT]),
        ((f"{JWT} 100 a", f"{CA} 100 old"), (f"{JWT} 90 a", f"{CA} 200 new"), True, [CA]),
        ((f"{JWT} 1 a", f"{CA} 1 b"), (f"{JWT} 2 c", f"{CA} 2 d"), True, [JWT, CA]),
        # A rotation was cut off, or it is the other one that came back.
        ((f"{JWT} 200 new",), (f"{JWT} 100 old",), True, []),
        ((f"{JWT}.next 200 new", f"{JWT} 100 old"), (f"{JWT} 100 old",), True, []),
        # The other one has made and begun a change without the first one.
        ((f"{JWT}.next 100 a",), (f"{JWT}.next 200 b",), True, [f"{JWT}.next"]),
        ((f"{JWT} 100 old",), (f"{JWT} 200 new",), False, []),  # after a restore
        ((f"{JWT} 100 same",), (f"{JWT} 200 same",), True, []),
        ((f"{JWT} 0 copy",), (f"{JWT} 200 new",), True, []),  # nobody knows
        ((), (f"{JWT} 200 new",), True, []),  # it was lost, and is made again
        ((f"{JWT} 200 new",), (), True, []),  # a new host
    ],
)
def test_newer_files_of_an_airflow_that_runs_are_not_replaced_by_older_ones(
    first: tuple[str, ...], second: tuple[str, ...], runs: bool, refused: list[str]
) -> None:
    responses = {FIRST: answers(1), SECOND: answers(2, **({"runs": "yes"} if runs else {}))}
    for name, lines in ((FIRST, first), (SECOND, second)):
        responses[name]["say hostname"] += ["key same", *(f"shared {line}" for line in lines)]
    state, said = hosts(responses, (FIRST, SECOND)), {}
    for host in state.inventory:
        with ctx_state.use(state), ctx_host.use(host):
            said[host.name] = [*preflight.findings(preflight.ask())]
    assert said[FIRST] == []
    assert bool(refused) == bool(said[SECOND])
    for finding in said[SECOND]:
        assert f"and {', '.join(refused)} differs here from that of {FIRST}" in finding


def told(host: stand_ins.Host) -> dict[str, list[str]]:
    """What a member tells of its shared files, by their names."""
    secrets = host.folder / "secrets"
    asked = preflight.MemberReport().command("").replace(layout.SECRETS, str(secrets))
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = (line.split() for line in done.stdout.splitlines() if line.startswith("shared "))
    return {Path(path).name: rest for _, path, *rest in lines}


def test_a_member_tells_the_ages_and_digests_of_files_and_hides_weak_ones(
    sharing: stand_ins.Host,
) -> None:
    secrets = sharing.folder / "secrets"
    weak = secrets / "admin-password"
    weak.write_text("admin\n")
    for path in (secrets / "users", weak):
        os.utime(path, (1000, 1000))
    before = told(sharing)
    assert before.keys() == {"fernet-key", "users", "admin-password"}
    assert before["users"][0] == before["admin-password"][0] == "1000"
    (secrets / "users/bob").write_text("another one")
    (secrets / "fernet-key").write_text("AIRFLOW__CORE__FERNET_KEY=two")
    after = told(sharing)
    # That of a password is also one of the key, so nobody can guess the password from it.
    assert not [name for name in before if before[name][1] == after[name][1]]


def test_preflight_compares_the_files_that_are_copied() -> None:
    """But for the certificate of the authority, which each host makes again before its end."""
    values = host_values.values(fake.several(1))
    kinds = ("SHARED_SECRETS", "SHARED_AUTHORITY", "SHARED_USERS", "BACKUP_KEY")
    copied = {path for kind in kinds for path in values[kind].split()}
    assert {*preflight.SHARED} == copied - {layout.PODS_AUTHORITY}


THERE = {"postgres_hosts": ["db-1.example", "db-2.example:5433"], "postgres_database": "team"}


@pytest.mark.parametrize(
    ("given", "runs", "refused"),
    [
        ({}, (0, 1), False),
        ({"postgres_hosts": ["db-2.example", "db-3.example"]}, (0, 1), False),  # a new standby
        ({"postgres_hosts": ["db-3.example"]}, (0, 1), True),
        ({"postgres_hosts": ["db-3.example"]}, (0,), False),  # the others are stopped
        ({"postgres_database": "copy"}, (0, 1), True),
    ],
)
def test_several_hosts_stop_before_another_database(
    given: dict[str, Any], runs: tuple[int, ...], refused: bool
) -> None:
    names = (FIRST, SECOND)
    responses = {
        name: answers(number + 1, database="team", **({"runs": "yes"} if number in runs else {}))
        for number, name in enumerate(names)
    }
    for each in responses.values():
        each["say hostname"] += ["server db-1.example", "server db-2.example"]
    state = hosts(responses, names)
    settings = Settings.from_data({**SEVERAL, **THERE, **given}, names)
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(FIRST)):
        findings = [*preflight.database_findings(settings, preflight.ask())]
    assert [bool("on each host first" in each) for each in findings] == [True] * refused


def test_a_member_tells_where_its_database_is(host: stand_ins.Host) -> None:
    settings = fake.several(0)
    file = host.folder / "host.env"
    file.write_text(host_values.render(settings))
    asked = preflight.MemberReport().command("").replace(layout.HOST_ENV, str(file))
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert f"database {settings.postgres.database}" in lines
    told = {line.removeprefix("server ") for line in lines if line.startswith("server ")}
    assert told == {name for name, _ in settings.postgres.servers}


# What is done once


ONCE = (
    "Create the secrets that are missing",
    "Build the worker image",
    "Try the worker image",
    "Apply Airflow's objects",
    "Admit only safe task pods",
    "Find out whether a backup can be made",
    "Back Airflow up",
    "Migrate the database's schema",
    "Give the role",
    "Create the web page's user",
    "Make the smoke test's user",
    "Make users and roles",
    "Delete Airflow's old accounts",
)
COPIED = (
    "Copy the CA of the first host",
    "Copy the secrets of the first host",
    "Copy the digests that the first host knows",
    "Copy the key that signs backups",
    "Copy the first host's record of users",
)


def test_the_first_host_does_what_should_be_done_once() -> None:
    first, second = (fake.plan(fake.several(position)) for position in (0, 1))
    for name in ONCE:
        first.named(name)
        assert not [each for each in second.names if name in each], name
    for name in COPIED:
        assert second.named(name).commands and not first.named(name).commands, name
    second.named("Record the schema that the first host has made")
    second.named("Compare configuration and packages")
    timers = {"backup", "cleanup-pods", "cleanup-history"}
    enabled = [
        {name for name in timers if f"/etc/systemd/system/airflow-{name}.timer" in plan.uploads}
        for plan in (first, second)
    ]
    assert enabled == [timers, set()]


def test_the_others_find_done_what_they_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which pyinfra's command line runs the operations of all hosts."""
    state = hosts(dict.fromkeys(MEMBERS, fake.BARE_HOST))
    state.current_deploy_filename = str(layout.ROOT / "deploy.py")
    state.set_stage(StateStage.Prepare)
    monkeypatch.setattr(pyinfra, "is_cli", True)
    for position, host in enumerate(state.inventory):
        with ctx_state.use(state), ctx_host.use(host):
            deploy.deploy(fake.several(position))
    order = [
        ({each.name for each in state.inventory if key in state.ops[each]}, name)
        for key in state.get_op_order()
        for name in state.get_op_meta(key).names
    ]
    every, others = {*MEMBERS}, {SECOND, THIRD}

    def place(name: str, of: set[str]) -> int:
        (found,) = (
            place
            for place, (where, each) in enumerate(order)
            if where == of and each.partition(" | ")[2].startswith(name)
        )
        return found

    for done, copied in (
        ("Create the host's certificate", "Copy the CA of the first host"),
        ("Create the secrets", "Copy the secrets of the first host"),
        ("Build the worker image", "Copy the digests that the first host knows"),
        ("Try the worker image", "Copy the digests that the first host knows"),
        ("Find out whether a backup", "Stop the other hosts"),
        ("Migrate the database's schema", "Record the schema that the first host has made"),
        ("Give the role", "Record the schema that the first host has made"),
        ("Create the web page's user", "Copy the first host's record of users"),
        ("Make users and roles", "Copy the first host's record of users"),
    ):
        assert place(done, {FIRST}) < place(copied, every), copied
    assert place("Stop the other hosts", every) < place("Back Airflow up", {FIRST})
    assert place("Copy the CA", every) < place("Create the host's certificate", others)
    assert place("Create the key that signs", every) < place("Copy the key that signs", every)
    assert place("Apply Airflow's objects", {FIRST}) < place(
        "Write the kubeconfig of airflow-renewal", every
    )
    # What is not copied is done at the same time.
    assert place("Install Airflow", every) < place("Run Airflow, one host after", every)


def test_hosts_with_the_same_settings_have_the_same_configuration() -> None:
    first, second = (fake.plan(fake.several(position)) for position in (0, 1))
    for path in (layout.CONFIG, layout.DAGS_ENV, layout.POD_CANDIDATE):
        assert first.uploads[path] == second.uploads[path], path


def _objects(plan: Plan) -> dict[str, Any]:
    items = json.loads(plan.uploads[layout.KUBERNETES_OBJECTS])["items"]
    return {each["kind"]: each for each in items}


def test_the_name_for_pods_has_the_addresses_of_all_hosts() -> None:
    found = _objects(fake.plan(fake.several(0, {"kubernetes_network_policy": True})))
    service, slices = found["Service"], found["EndpointSlice"]
    assert service["spec"]["clusterIP"] == "None" and "selector" not in service["spec"]
    place = {"name": "airflow-api", "namespace": "airflow-control"}
    assert place.items() <= service["metadata"].items() & slices["metadata"].items()
    assert slices["metadata"]["labels"]["kubernetes.io/service-name"] == "airflow-api"
    addresses = [address for each in slices["endpoints"] for address in each["addresses"]]
    assert addresses == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert {each["port"] for each in slices["ports"]} == {8081}
    allowed = found["NetworkPolicy"]["spec"]["egress"][1]
    assert [each["ipBlock"]["cidr"] for each in allowed["to"]] == [f"{a}/32" for a in addresses]
    # The admin of an existing cluster gives the right to make them.
    rights = (layout.ROOT / "inventories/cluster-rights.yaml").read_text()
    (role,) = (
        each
        for each in yaml.safe_load_all(rights)
        if each["kind"] == "Role" and each["metadata"]["namespace"] == "airflow-control"
    )
    resources = {name for rule in role["rules"] for name in rule["resources"]}
    assert {"services", "endpointslices"} <= resources


def test_the_certificate_of_each_host_has_the_names_of_all() -> None:
    for position in (0, 1):
        (command,) = (
            fake.plan(fake.several(position)).named("Create the host's certificate").commands
        )
        assert {"air-1", "air-2", "192.0.2.3", "airflow-api.airflow-control.svc"} <= {
            *command.split()
        }


def test_each_nginx_passes_tasks_on_to_the_other_hosts() -> None:
    site = fake.plan(fake.several(1)).uploads["/etc/nginx/sites-available/airflow"]
    upstream = site.partition("upstream airflow_other_hosts {")[2].partition("}")[0]
    assert upstream.split() == ["server", "192.0.2.1:8081;", "server", "192.0.2.3:8081;"]
    assert "proxy_ssl_verify on;" in site and "proxy_ssl_name air-1;" in site
    # A request that comes from another host goes no further: it would go round for ever.
    _, _, location = site.partition("    location @other_hosts {\n")
    first, _, rest = location.partition("        }\n")
    assert first.split() == ["if", "($http_x_airflow_passed_on)", "{", "return", "502;"]
    assert "proxy_set_header X-Airflow-Passed-On yes;" in rest.partition("    }\n")[0]
    alone = fake.plan(fake.settings(fake.EXISTING)).uploads["/etc/nginx/sites-available/airflow"]
    assert "other_hosts" not in alone


def test_the_dag_processor_of_one_host_works_and_the_others_wait() -> None:
    plan = fake.plan(fake.several(1))
    unit = Unit.of(plan, "airflow-dag-processor.service")
    ((program, *arguments),) = unit.commands("Service.ExecStart")
    assert (program, arguments) == (f"{layout.LIB}/one-active.py", ["airflow", "dag-processor"])
    assert program in unit.environment["INPUTS"].split()
    assert unit.all("Service.ExecStop") == [f"{layout.LIB}/stop-dag-processor.sh $MAINPID"]


# What is copied


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Each command that hosts ran, in its order: the host, the command and its input."""
    calls: list[tuple[str, str, str]] = []
    original = FakeConnector.run_shell_command

    def noting(self: Any, command: Any, *rest: Any, **given: Any) -> Any:
        text = getattr(given.get("_stdin"), "getvalue", str)()
        shown = command if isinstance(command, str) else str(command.get_raw_value())
        calls.append((self.host.name, shown, text))
        return original(self, command, *rest, **given)

    monkeypatch.setattr(FakeConnector, "run_shell_command", noting)
    monkeypatch.setattr(members, "_turns", {})
    return calls


def test_a_copy_is_shown_nowhere(
    ran: list[tuple[str, str, str]],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = hosts({FIRST: {"shared-files.sh print secrets": SECRET}})
    # As with -vvv, --debug and --diff.
    state.print_input = state.print_output = True
    state.print_fact_info = state.print_fact_input = state.print_fact_output = True
    state.config.DIFF = True
    logger.setLevel(logging.DEBUG)
    others = [state.inventory.get_host(name) for name in (SECOND, THIRD)]
    add_op(state, members.copy_from_first, name="Copy", kind="secrets", host=others)
    run_ops(state)
    logger.setLevel(logging.NOTSET)
    for name in (SECOND, THIRD):
        inputs = [given for host, command, given in ran if host == name and "apply" in command]
        assert inputs == [f"{SECRET}\n"]
    said = "".join(capfd.readouterr()) + caplog.text
    assert "shared-files.sh" in said
    assert SECRET not in said and not [command for _, command, _ in ran if SECRET in command]


def test_a_copy_that_is_there_is_left_alone(ran: list[tuple[str, str, str]]) -> None:
    answers = {"shared-files.sh print users": SECRET, "shared-files.sh check users": "yes"}
    state = hosts({FIRST: answers, SECOND: answers, THIRD: answers})
    second = state.inventory.get_host(SECOND)
    (result,) = add_op(
        state, members.copy_from_first, name="Copy", kind="users", host=second
    ).values()
    run_ops(state)
    assert not result.did_change() and not [each for each in ran if "apply" in each[1]]


def test_nothing_is_copied_from_a_host_that_has_nothing(ran: list[tuple[str, str, str]]) -> None:
    state = hosts({FIRST: {"shared-files.sh print": {"success": False}}}, (FIRST, SECOND))
    second = state.inventory.get_host(SECOND)
    add_op(state, members.copy_from_first, name="Copy", kind="secrets", host=second)
    run_ops(state)
    assert state.failed_hosts == {second}
    assert not [each for each in ran if "apply" in each[1]]


SHARED = {
    "fernet-key": ("600", "AIRFLOW__CORE__FERNET_KEY=one"),
    "users/bob": ("600", "a password"),
}


@pytest.fixture
def sharing(tmp_path: Path) -> stand_ins.Host:
    """A host with secrets."""
    host = stand_ins.Host(tmp_path)
    secrets = tmp_path / "secrets"
    for name, (mode, text) in SHARED.items():
        path = secrets / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(int(mode, 8))
    host.values |= {
        "SHARED_SECRETS": f"{secrets}/fernet-key {secrets}/missing",
        "SHARED_USERS": f"{secrets}/users",
    }
    host.run("secrets.sh")  # writes the values
    return host


def shared(
    host: stand_ins.Host, action: str, kind: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the program with an input."""
    return subprocess.run(
        [programs.LIB / "shared-files.sh", action, kind],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOST_ENV": str(host.folder / "host.env")},
        input=text,
        text=True,
        capture_output=True,
    )


@pytest.mark.parametrize(("kind", "name"), [("secrets", "fernet-key"), ("users", "users")])
def test_a_copy_has_the_time_at_which_the_file_was_made(
    kind: str, name: str, sharing: stand_ins.Host
) -> None:
    path = sharing.folder / "secrets" / name
    os.utime(path, (1000.5, 1000.5))
    archive = shared(sharing, "print", kind).stdout
    assert shared(sharing, "check", kind, archive).returncode == 0
    os.utime(path, (0, 0))  # as an earlier deploy copied it
    assert shared(sharing, "check", kind, archive).returncode == 1
    assert shared(sharing, "apply", kind, archive).returncode == 0
    assert path.stat().st_mtime == 1000
    assert shared(sharing, "check", kind, archive).returncode == 0
    os.utime(path, (2000, 2000))
    assert shared(sharing, "check", kind, archive).returncode == 0


@pytest.mark.parametrize(("kind", "name"), [("secrets", "fernet-key"), ("users", "users/bob")])
def test_files_of_the_first_host_replace_others(
    kind: str, name: str, sharing: stand_ins.Host
) -> None:
    """Both hosts have the same paths, so one folder stands for the one and then for the other."""
    path = sharing.folder / "secrets" / name
    archive = shared(sharing, "print", kind).stdout
    assert archive and shared(sharing, "check", kind, archive).returncode == 0
    path.write_text("another one")
    assert shared(sharing, "check", kind, archive).returncode == 1
    path.unlink()
    assert shared(sharing, "check", kind, archive).returncode == 1
    done = shared(sharing, "apply", kind, archive)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    mode, text = SHARED[name]
    assert path.read_text() == text and path.stat().st_mode & 0o777 == int(mode, 8)
    assert [*(sharing.folder / "locks").iterdir()] == []
    assert not [*(sharing.folder / "secrets").rglob("*.new")]


def test_a_lock_is_copied_unless_its_environment_is_there(sharing: stand_ins.Host) -> None:
    lock, venv = sharing.folder / "lock.txt", sharing.folder / "venv"
    sharing.values["EXTRA_LOCK"] = str(lock)
    sharing.run("secrets.sh")  # writes the values
    lock.write_text(f"# For {venv}\nboto3==1\n")
    archive = shared(sharing, "print", "requirements").stdout
    lock.write_text(f"# For {venv}\nboto3==2\n")
    assert shared(sharing, "check", "requirements", archive).returncode == 1
    venv.mkdir()
    (venv / ".complete").touch()
    assert shared(sharing, "check", "requirements", archive).returncode == 0
    (venv / ".complete").unlink()
    assert shared(sharing, "apply", "requirements", archive).returncode == 0
    assert "boto3==1" in lock.read_text()


def test_the_lock_of_another_environment_makes_no_difference(sharing: stand_ins.Host) -> None:
    """A host that joins has none, and the others keep theirs when the requirements are gone."""
    lock, venv = sharing.folder / "lock.txt", sharing.folder / "venv"
    venv.mkdir()
    for name in ("CONFIG", "DAGS_ENV", "POD_TEMPLATE"):
        file = sharing.folder / name
        file.touch()
        sharing.values[name] = str(file)
    sharing.values |= {"EXTRA_LOCK": str(lock), "VENV": str(venv)}
    sharing.run("secrets.sh")  # writes the values
    without = shared(sharing, "sums", "").stdout
    assert len(without.splitlines()) == 4
    lock.write_text("# For /opt/airflow/venvs/another\nboto3==1\n")
    assert shared(sharing, "sums", "").stdout == without
    lock.write_text(f"# For {venv}\nboto3==1\n")
    assert str(lock) in shared(sharing, "sums", "").stdout


def test_additional_requirements_are_locked_once() -> None:
    given = {"airflow_extra_requirements": ["boto3"]}
    first, second = (fake.plan(fake.several(position, given)) for position in (0, 1))
    copy, install = "Copy the lock of the first host", "Install Airflow"
    assert second.position(copy) < second.position(install)
    assert first.position(install) < first.position(copy)


@pytest.mark.parametrize("archive", ["", "bm90IGFuIGFyY2hpdmU=\n"])
def test_no_file_is_replaced_by_a_broken_archive(archive: str, sharing: stand_ins.Host) -> None:
    assert shared(sharing, "apply", "secrets", archive).returncode != 0
    assert (sharing.folder / "secrets/fernet-key").read_text() == SHARED["fernet-key"][1]


def test_hosts_that_differ_do_not_start(ran: list[tuple[str, str, str]]) -> None:
    theirs = [f"{'a' * 64}  {layout.CONFIG}", f"{'b' * 64}  {layout.VENV}"]
    own = [theirs[0], f"{'c' * 64}  {layout.VENV}"]
    state = hosts({FIRST: {"sums": theirs}, SECOND: {"sums": theirs}, THIRD: {"sums": own}})
    add_op(state, members.agree, name="Compare")
    run_ops(state)
    assert {each.name for each in state.failed_hosts} == {THIRD}
    (said,) = (command for name, command, _ in ran if name == THIRD and "printf" in command)
    assert f"this host differs from {FIRST}: {layout.VENV}" in said


@pytest.mark.parametrize(
    ("may_go_on", "unchanged", "stopped"),
    [(True, (), []), (False, (), [SECOND, THIRD]), (False, (THIRD,), [SECOND])],
)
def test_the_others_stop_if_the_first_one_says_so(
    may_go_on: bool,
    unchanged: tuple[str, ...],
    stopped: list[str],
    ran: list[tuple[str, str, str]],
) -> None:
    answers: dict[str, dict[str, Any]] = {name: {"same": "yes"} for name in unchanged}
    answers[FIRST] = {"rolling": {"success": may_go_on}}
    answers[SECOND] = {"rolling": {"success": not may_go_on}}  # it is not asked
    state = hosts(answers)
    add_op(
        state,
        members.unless_first,
        name="Stop the others",
        **{"question": "rolling", "test": "same", "commands": ["stop it"], "already": "they go on"},
    )
    run_ops(state)
    assert not state.failed_hosts
    assert sorted(name for name, command, _ in ran if "stop it" in command) == stopped


@pytest.mark.parametrize(
    ("answering", "unchanged", "made"),
    [((), False, [FIRST]), ((SECOND,), False, []), ((THIRD,), False, []), ((), True, [])],
)
def test_the_first_one_is_changed_unless_another_one_objects(
    answering: tuple[str, ...], unchanged: bool, made: list[str], ran: list[tuple[str, str, str]]
) -> None:
    answers: dict[str, dict[str, Any]] = {
        name: {"question": {"success": name in answering}} for name in (SECOND, THIRD)
    }
    answers[FIRST] = {"question": {"success": True}}  # it is not asked
    answers[FIRST] |= {"same": "yes"} if unchanged else {}
    state = hosts(answers)
    add_op(
        state,
        members.unless_others,
        name="Change the first one",
        **{"question": "question", "test": "same", "commands": ["do it"], "already": "no"},
    )
    run_ops(state)
    assert not state.failed_hosts
    assert [name for name, command, _ in ran if "do it" in command] == made


# One host after the other


def test_each_host_waits_for_those_before_it(ran: list[tuple[str, str, str]]) -> None:
    state = hosts({})
    add_op(state, members.ensure_in_turn, name="Run", program="services.sh", already="it runs")
    run_ops(state)
    assert [name for name, command, _ in ran if "services.sh apply" in command] == [*MEMBERS]
    assert not state.failed_hosts


def test_each_host_waits_again_when_the_same_program_comes_again(
    ran: list[tuple[str, str, str]],
) -> None:
    state = hosts({}, data={FIRST: {"fake_delay": 0.2}})
    for name in ("Run", "Run again"):
        add_op(state, members.ensure_in_turn, name=name, program="services.sh", already="it runs")
    run_ops(state)
    assert [name for name, command, _ in ran if "services.sh apply" in command] == [*MEMBERS] * 2


def test_a_host_behind_one_that_fails_stays_as_it_is(ran: list[tuple[str, str, str]]) -> None:
    state = hosts({SECOND: {"services.sh apply": {"success": False}}})
    host = state.inventory.get_host(FIRST)
    with ctx_state.use(state), ctx_host.use(host):
        groups.end_with_the_first_failure()
    add_op(state, members.ensure_in_turn, name="Run", program="services.sh", already="it runs")
    add_op(state, members.ensure_in_turn, name="Test", program="smoke-test.sh", already="it ran")
    with pytest.raises(PyinfraError, match="of hosts failed"):
        run_ops(state)
    assert [name for name, command, _ in ran if "services.sh apply" in command] == [FIRST, SECOND]
    (said,) = (command for name, command, _ in ran if name == THIRD and "printf" in command)
    assert f"{SECOND} failed: this host stays as it is" in said
    assert not [each for each in ran if "smoke-test.sh" in each[1] and "apply" in each[1]]


INVENTORY = """
broken = {"fake_responses": {"services.sh apply": {"success": False}}}
airflow = [("@fake/air-1", {}), ("@fake/air-2", broken), ("@fake/air-3", {})]
"""
DEPLOY = """
from tasks.lib import groups, members, operations

groups.end_with_the_first_failure()
members.ensure_in_turn(name="Run", program="services.sh", already="it runs")
operations.ensure(name="Go on", program="later.sh", already="it went on")
"""


def test_the_first_failure_ends_the_run_of_the_command_line(tmp_path: Path) -> None:
    """pyinfra's command line takes options back that a deploy sets while it is loaded."""
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
    assert "Starting operation: Run" in done.stderr and "Go on" not in done.stderr
    assert "[@fake/air-1] Success" in done.stderr and "[@fake/air-2] Error" in done.stderr


def test_hosts_that_are_as_they_should_be_do_nothing(ran: list[tuple[str, str, str]]) -> None:
    state = hosts({name: {"services.sh check": "yes"} for name in MEMBERS})
    results = add_op(
        state, members.ensure_in_turn, name="Run", program="services.sh", already="it runs"
    )
    run_ops(state)
    assert not any(result.did_change() for result in results.values())
    assert not [each for each in ran if "apply" in each[1]]


# The removal


def removed(connected: tuple[str, ...], of: str, **facts: str) -> list[str]:
    """The names of the operations that remove one host, in a run with these."""
    responses = {name: {"VERSION_CODENAME": "bookworm", **facts} for name in MEMBERS}
    state = hosts(responses, data=dict.fromkeys(MEMBERS, SEVERAL))
    for host in state.inventory:
        host.connected = host.name in connected
    add_deploy(state, remove.airflow, host=state.inventory.get_host(of))
    return [name for meta in state.op_meta.values() for name in meta.names]


@pytest.mark.parametrize(
    ("connected", "of", "deletes"),
    [((SECOND,), SECOND, False), ((FIRST,), FIRST, False), (MEMBERS, FIRST, True)],
)
def test_what_the_other_hosts_need_stays(
    connected: tuple[str, ...], of: str, deletes: bool
) -> None:
    names = removed(connected, of)
    assert "Remove | Remove Airflow's files" in names
    assert ("Remove | Delete Airflow's objects in the cluster" in names) is deletes


def test_the_only_backups_do_not_go_while_another_host_stays() -> None:
    there = {f"find {layout.BACKUPS}": f"{layout.BACKUPS}/daily-20261128T103000Z.tar"}
    with pytest.raises(DeployError, match=f"{SECOND} goes on without them"):
        removed((FIRST,), FIRST, **there)
    assert removed(MEMBERS, FIRST, **there)


def test_one_of_several_is_not_removed_by_an_inventory_with_it_alone() -> None:
    given = {**SEVERAL, "execution_api_host": "192.0.2.7"}
    responses = {"SEVERAL_HOSTS": "yes", "VERSION_CODENAME": "bookworm"}
    state = hosts({FIRST: responses}, (FIRST,), {FIRST: given})
    with pytest.raises(DeployError, match="deployed as one of several hosts"):
        add_deploy(state, remove.airflow)


# Programs of the host


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """The database of several hosts."""
    with postgres.server() as running:
        running.sql(
            "create table job (job_type text, state text, hostname text,"
            " latest_heartbeat timestamptz)"
        )
        yield running


@pytest.fixture
def host(tmp_path: Path, server: postgres.Server) -> stand_ins.Host:
    """One of several hosts."""
    found = stand_ins.Host(tmp_path)
    found.program("setpriv", 'while case $1 in --*) ;; *) false ;; esac; do shift; done; exec "$@"')
    place = {**server.environment, "PGDATABASE": "postgres"}
    found.values |= {
        "SEVERAL_HOSTS": "other",
        "ROOT": "/",
        "OWNER_CONNECTION": " ".join(f"{key}={value}" for key, value in place.items()),
        "WEB_URL": "http://127.0.0.1:78",
        "PGCLUSTER": "",
    }
    parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    healthy = ",".join(f'"{name}":{{"status":"healthy"}}' for name in parts)
    found.program("curl", f"echo '{{{healthy}}}'")
    return found


# As Airflow itself finds it (utils/net.py).
OWN = socket.getaddrinfo(socket.gethostname(), None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)[
    0
][3]
HEALTHY = {
    ("SchedulerJob", OWN): 1,
    ("TriggererJob", f"{OWN.partition('.')[0]}.example"): 1,
    ("DagProcessorJob", "another"): 1,
}


@pytest.mark.parametrize(
    ("change", "sick"),
    [
        ({}, []),
        ({("DagProcessorJob", "another"): 40}, ["dag_processor"]),
        # The scheduler of another host is no sign of life of this one's.
        ({("SchedulerJob", OWN): 40, ("SchedulerJob", "another"): 1}, ["scheduler"]),
        ({("SchedulerJob", OWN): None, ("SchedulerJob", "another"): 1}, ["scheduler"]),
        ({("TriggererJob", f"{OWN.partition('.')[0]}.example"): None}, ["triggerer"]),
        ({("TriggererJob", f"{OWN.partition('.')[0]}.example"): 31}, ["triggerer"]),
    ],
)
def test_each_host_knows_the_health_of_its_own_services(
    change: dict[tuple[str, str], int | None],
    sick: list[str],
    host: stand_ins.Host,
    server: postgres.Server,
) -> None:
    server.sql("delete from job")
    for (kind, name), age in {**HEALTHY, **change}.items():
        if age is not None:
            beat = f"now() - interval '{age} seconds'"
            server.sql(f"insert into job values ('{kind}', 'running', '{name}', {beat})")
    # One that has ended just now is no sign of life of the one that runs.
    server.sql(f"insert into job values ('SchedulerJob', 'success', '{OWN}', now())")
    rows = [line.split() for line in host.run("own-health.sh").stdout.splitlines()]
    assert len(rows) == 4
    assert [name for name, status, *_ in rows if status != "healthy"] == sick
    said = host.run("health.py", "check").stderr
    assert said.startswith("Airflow is not healthy") is bool(sick), said


def test_the_services_of_a_host_are_restarted_together(host: stand_ins.Host) -> None:
    host.values |= {"SEVERAL_HOSTS": "", "STARTED_WITH": str(host.state), "UNITS": "airflow.target"}
    host.values["UNITS"] += " airflow-one.service airflow-two.service"
    host.program("systemctl", "echo active")
    units = ("airflow-one.service", "airflow-two.service", "airflow-web.socket")
    for unit in units:
        (host.folder / unit).write_text("as it was")
        done = subprocess.run(["sha256sum", host.folder / unit], capture_output=True, check=True)
        (host.state / unit).write_bytes(done.stdout)
    assert host.check("services.sh") == ""
    (host.folder / units[1]).write_text("changed")
    assert "airflow-two.service started before its inputs changed" in host.check("services.sh")
    host.calls.write_text("")
    assert host.run("services.sh", "apply").returncode == 0
    restarted = [words[1] for words in host.called("systemctl") if words[0] == "restart"]
    assert restarted == ["airflow-two.service"]
    host.program("curl", "exit 7")
    host.program("sleep")
    assert "Airflow is not healthy after a minute" in host.run("services.sh", "apply").stderr


def test_no_host_writes_its_certificate_over_that_of_another(host: stand_ins.Host) -> None:
    host.program("psql", "exit 1")
    for action in ("check", "apply"):
        assert host.run("certificates.py", action).returncode == 0
    assert host.called("psql") == []


def test_keys_are_not_rotated_on_one_of_several_hosts(tmp_path: Path) -> None:
    env = programs.host_env(tmp_path, fake.several(0))
    done = subprocess.run(
        [sys.executable, "-B", programs.BIN / "airflow-rotate", "jwt-secret"],
        env={"PATH": os.environ["PATH"], "AIRFLOW_SURROUNDINGS": "the test's", **env},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "this host is one of several with the same secrets" in done.stderr


WORDS: dict[str, list[str]] = {"airflow-restore": ["missing.tar"], "airflow-rollback": []}


@pytest.mark.parametrize("program", WORDS)
def test_only_the_first_host_brings_a_backup_back(program: str, tmp_path: Path) -> None:
    env = programs.host_env(tmp_path, fake.several(1))
    (tmp_path / program).symlink_to(programs.BIN / "airflow-restore")
    done = subprocess.run(
        [tmp_path / program, *WORDS[program]],
        env={"PATH": os.environ["PATH"], **env},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1 and f"the keys of all: run {program} there" in done.stderr
    assert done.stderr.endswith("nothing was changed\n")


@pytest.mark.parametrize("program", WORDS)
@pytest.mark.parametrize("name", ["another", OWN])
def test_a_backup_comes_back_when_the_other_hosts_have_stopped(
    name: str, program: str, host: stand_ins.Host, server: postgres.Server
) -> None:
    server.sql(
        f"delete from job; insert into job values ('SchedulerJob', 'running', '{name}', now())"
    )
    host.values |= {"SEVERAL_HOSTS": "first", "BACKUPS": str(host.folder)}
    (host.folder / program).symlink_to(programs.BIN / "airflow-restore")
    said = host.run(str(host.folder / program), *WORDS[program]).stderr
    if name == OWN:
        assert "there is no file missing.tar" in said or "no backup from before an upgrade" in said
    else:
        stop = "run sudo systemctl disable --now airflow.target there"
        assert f"Airflow runs on {name} as well: {stop}" in said


def test_after_a_rollback_the_others_follow_the_first_host() -> None:
    """Their own record still has the newer version."""
    answers = {"migrated": ["3.3.2-0123 1234 5678"], "system": ["debian bookworm"]}
    record = Report({**answers, "database_kib": ["1000"]})
    state = hosts({}, (FIRST, SECOND))
    settings = Settings.from_data({**SEVERAL, "airflow_version": "3.3.1"}, (FIRST, SECOND))
    refused = {}
    for each in state.inventory:
        with ctx_state.use(state), ctx_host.use(each):
            found = [*checks._upgrade(settings, record)]
            refused[each.name] = any("the database is Airflow 3.3.2's" in said for said in found)
    assert refused == {FIRST: True, SECOND: False}


def test_all_hosts_name_the_image_that_the_first_one_builds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock, "take", lambda: "the test's")
    monkeypatch.setattr(checks, "findings", lambda *_: [])
    monkeypatch.setattr(checks, "refuse", lambda found: None)
    answers = {
        name: {
            "find -L /usr/local/share/ca-certificates": [f"{number}  /company.crt"],
            "claims=": [*reports.SYSTEM],
            **reports.of_serving(number),
        }
        for number, name in enumerate(MEMBERS, start=1)
    }

    def named(given: Mapping[str, Any]) -> list[str]:
        state = fake.hosts({"airflow": MEMBERS}, answers, dict.fromkeys(MEMBERS, given))
        found = []
        for name in MEMBERS:
            with ctx_state.use(state), ctx_host.use(state.inventory.get_host(name)):
                found.append(all_of_preflight.check(groups.settings()).authorities)
        return found

    assert named(SEVERAL) == [image.name_of_authorities("1  /company.crt")] * len(MEMBERS)
    own = {key: value for key, value in SEVERAL.items() if key != "worker_registry"}
    assert named({**own, "worker_image": "registry.example/own:1"}) == [""] * len(MEMBERS)

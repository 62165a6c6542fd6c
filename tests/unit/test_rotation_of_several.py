"""A secret of several hosts is replaced: the steps of two hosts, run for real in their order."""

from __future__ import annotations

import base64
import inspect
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyinfra
import pytest
from pyinfra.api import Config, DeployError, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from tasks.airflow import secrets, services
from tasks.day2 import rotate
from tasks.layout import JWT_DROP_IN, JWT_KEYS, ROTATE, TOKEN_MARK
from tasks.lib import members
from tests.unit import fake
from tests.unit.fake import MEMBERS
from tests.unit.rotating import FILES, PARTS, Host

SIGNERS = [each.unit for each in services.SERVICES if "jwt-secret" in each.secrets]
Action = tuple[str, dict[str, Any], int]  # an operation, its arguments, and the place of its host


class Hosts:
    """Two hosts with one database and one cluster.

    Both have the same paths, as two machines have: a link leads to one of them at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = folder / "machine"
        self.both = []
        for place in (0, 1):
            (folder / str(place)).mkdir()
            self.at(place)
            host = Host(self.link, fake.several(place))
            health = host.lib / "own-health.sh"
            health.write_text("#!/bin/sh\n" + "".join(f"echo {name} healthy\n" for name in PARTS))
            self.both.append(host)
        for name in ("token", "data"):
            theirs = folder / "1/host" / name
            theirs.unlink()
            theirs.symlink_to(folder / "0/host" / name)
        self.waited: set[int] = set()
        self.signed: set[str] = set()

    def at(self, place: int) -> None:
        """Let the link lead to one of them."""
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(str(place))

    def run(self, *command: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program on the host to which the link leads."""
        environment = {"PATH": f"{self.link}/usr/local/bin:/usr/bin:/bin", "KEPT": ""}
        environment |= self.both[0].env  # the same path on both
        return subprocess.run(
            command, env=environment, input=text, text=True, capture_output=True, timeout=60
        )

    def take(self, action: Action) -> None:
        """Do what an operation does on a host."""
        what, given, place = action
        self.at(place)
        lib, host = self.link / "usr/local/lib/airflow", self.both[place]
        if what == "run_unless":
            (command,) = given["commands"]
            verdict, words = given["test"].split(), command.split()
            assert verdict == ["true"] or verdict[:2] == [ROTATE, "check"]
            assert words[:2] == [ROTATE, "apply"]
            if verdict == ["true"] or host.rotate(*verdict[1:]).returncode == 0:
                return
            done = host.rotate(*words[1:])
            if words[2] == "wait":
                self.waited.add(place)
        elif what == "copy_from_first":
            self.at(0)
            archive = self.run(lib / "shared-files.sh", "print", given["kind"]).stdout
            self.at(place)
            if place == 0:
                return
            done = self.run(lib / "shared-files.sh", "apply", given["kind"], text=archive)
        elif what == "unless_first":
            self.at(0)
            no, program, *words = given["question"].split()
            assert (no, program) == ("!", ROTATE)
            if place == 0 or host.rotate(*words).returncode:
                return
            self.take(("run_unless", given, place))
            return
        elif what == "unless_others":
            self.at(1)
            no, program, *words = given["question"].split()
            assert (no, program) == ("!", ROTATE)
            if place == 0 and self.both[1].rotate(*words).returncode == 0:
                self.take(("run_unless", given, place))
            return
        elif what == "ensure_in_turn":
            if self.run(lib / given["program"], "check").returncode == 0:
                return
            done = self.run(lib / given["program"], "apply")
        else:
            return
        assert done.returncode == 0, (action, done.stdout, done.stderr)

    def read(self, place: int, name: str) -> str:
        """A file of a host."""
        return (self.folder / str(place) / "host" / name).read_text()

    def is_sound(self, *places: int) -> None:
        """Each host, of those at some places, reads what another one encrypts, and accepts what
        another one signs."""
        places = places or (0, 1)
        data = self.read(0, "data").strip()
        keys = [
            path.read_text().strip().partition("=")[2].split(",")
            for place in places
            for path in self.folder.glob(f"{place}/host/*.fernet")
        ]
        assert keys and all({data, *(each[0] for each in keys)} <= {*every} for every in keys)
        signing = {
            self.read(place, f"{unit}.jwt").split()[0].partition("=")[2]
            for place in places
            for unit in SIGNERS
        }
        self.signed = signing | (set() if self.waited.issuperset(places) else self.signed)
        for place in places:
            accepted = self.read(place, "accepted")
            for each in self.signed:
                jwk = base64.urlsafe_b64encode(each.encode()).decode().rstrip("=")
                assert each in accepted or jwk in accepted, place

    def keep(self, kept: Path) -> Callable[[], None]:
        """Keep both as they are in a folder; what is returned brings that back."""
        for place in "01":
            shutil.copytree(self.folder / place, kept / place, symlinks=True)
        waited, signed = {*self.waited}, {*self.signed}

        def bring_back() -> None:
            for place in "01":
                shutil.rmtree(self.folder / place)
                shutil.copytree(kept / place, self.folder / place, symlinks=True)
            self.waited, self.signed = {*waited}, {*signed}

        return bring_back

    def values(self, place: int) -> dict[str, str]:
        """The secrets of a host."""
        self.at(place)
        return {name: self.both[place].value(name) for name in [*FILES, "cluster-token"]}


def planned(kind: str) -> list[Action]:
    """What both hosts do, in the order in which pyinfra lets them: an operation that both have
    begins when both have ended those before it."""
    found: list[list[tuple[str, dict[str, Any]]]] = []
    with pytest.MonkeyPatch.context() as patch:

        def record(name: str) -> Callable[..., None]:
            return lambda **given: found[-1].append((name, given))

        patch.setattr(rotate, "run_unless", record("run_unless"))
        for each in ("copy_from_first", "ensure_in_turn", "in_step"):
            patch.setattr(members, each, record(each))
        for place in (0, 1):
            found.append([])
            rotate.KINDS[kind](fake.several(place))
    first, second = ([given["name"] for _, given in each] for each in found)
    assert [name for name in first if name in second] == second
    assert len({*first}) == len(first)
    actions: list[Action] = []
    theirs = iter(found[1])
    for what, given in found[0]:
        actions.append((what, given, 0))
        if given["name"] in second:
            actions.append((*next(theirs), 1))
    return actions


@pytest.mark.parametrize(
    ("count", "kind", "said"),
    [
        (1, "fernet-key", "run sudo airflow-rotate fernet-key there"),
        (2, "database-password", "Let the admin of a database"),
    ],
)
def test_a_rotation_that_is_none_is_refused(count: int, kind: str, said: str) -> None:
    names = MEMBERS[:count]
    data = {**fake.SEVERAL, "execution_api_host": "192.0.2.7"}
    named = [(name, data) for name in names]
    quick = {"fake_delay": 0, "fake_delay_jitter": 0}
    state = State(inventory=Inventory((named, quick), airflow=(names, {})), config=Config())
    connect_all(state)
    with pytest.raises(DeployError, match=said):
        add_deploy(state, rotate.secret, kind)
    assert not state.op_meta


@pytest.mark.parametrize("kind", [*rotate.KINDS])
def test_pyinfra_runs_the_steps_in_their_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line orders the operations of several hosts by the lines that they come from."""
    named: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in MEMBERS]
    quick = {"fake_delay": 0, "fake_delay_jitter": 0}
    state = State(inventory=Inventory((named, quick), airflow=(MEMBERS, {})), config=Config())
    connect_all(state)
    state.set_stage(StateStage.Prepare)
    monkeypatch.setattr(pyinfra, "is_cli", True)
    for position, host in enumerate(state.inventory):
        with ctx_state.use(state), ctx_host.use(host):
            rotate.KINDS[kind](fake.several(position))
    names = [name for key in state.get_op_order() for name in state.get_op_meta(key).names]
    assert names == list(dict.fromkeys(each["name"] for _, each, _ in planned(kind)))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Two of them."""
    yield Hosts(tmp_path)


@pytest.mark.parametrize("kind", [*rotate.KINDS])
def test_all_hosts_have_the_new_secret_and_none_is_left_behind(kind: str, hosts: Hosts) -> None:
    before = [hosts.values(place) for place in (0, 1)]
    assert before[0] == before[1]
    actions = planned(kind)
    for action in actions:
        hosts.take(action)
        hosts.is_sound()
    after = [hosts.values(place) for place in (0, 1)]
    assert after[0] == after[1]
    assert {name for name in before[0] if before[0][name] != after[0][name]} == {kind}
    is_ended(hosts)


def content(folder: Path) -> str:
    """All files that a rotation may change, as text."""
    return json.dumps(
        {
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "/usr/" not in str(path) and path.name != "restarted"
        }
    )


def is_ended(hosts: Hosts, *places: int) -> None:
    """Nothing of a change is left, and all services run with what is there."""
    for place in places or (0, 1):
        hosts.at(place)
        host = hosts.both[place]
        assert {path.name for path in host.secrets.iterdir()} == {*FILES}
        assert not host.place(JWT_DROP_IN).exists() and not host.place(JWT_KEYS).exists()
        assert host.has_recorded_connections()
        lib = hosts.link / "usr/local/lib/airflow"
        assert hosts.run(lib / "services.sh", "check").returncode == 0


@pytest.mark.parametrize("kind", ["fernet-key", "jwt-secret", "api-secret-key"])
def test_a_run_that_was_cut_off_is_continued(kind: str, hosts: Hosts, tmp_path: Path) -> None:
    """After each operation of the first host that the second one has not had yet, but for restarts,
    between which the hosts differ as before them."""
    actions, copies = planned(kind), []
    before = hosts.values(0)
    for number, action in enumerate(actions):
        hosts.take(action)
        later = actions[number + 1 :]
        if action[2] == 0 and later and later[0][2] == 1 and action[0] != "ensure_in_turn":
            kept = tmp_path / f"kept-{number}"
            copies.append((kept, hosts.keep(kept)))
    new = hosts.values(0)
    seen = set()
    for kept, bring_back in copies:
        if (state := content(kept)) in seen:
            continue
        seen.add(state)
        bring_back()
        for action in actions:
            hosts.take(action)
            hosts.is_sound()
        # It is the same change, unless nothing of it had been made yet.
        assert hosts.values(0) == hosts.values(1) == new, kept.name
        is_ended(hosts)
    assert seen and new[kind] != before[kind]


@pytest.mark.parametrize("kind", ["fernet-key", "jwt-secret"])
def test_another_host_ends_what_the_first_one_began(
    kind: str, hosts: Hosts, tmp_path: Path
) -> None:
    """The first host dies after an operation, and the second one continues without it."""
    actions, seen = planned(kind), set()
    old = hosts.values(1)[kind]
    alone = [
        (what, given, 1)
        for what, given, place in actions
        if place == 0 and what != "copy_from_first"
    ]
    for number, action in enumerate(actions):
        hosts.take(action)
        if (state := content(tmp_path / "1")) in seen:
            continue
        seen.add(state)
        bring_back = hosts.keep(tmp_path / f"kept-{number}")
        for each in alone:
            hosts.take(each)
            hosts.is_sound(1)
        assert hosts.values(1)[kind] != old, action
        is_ended(hosts, 1)
        bring_back()
    assert len(seen) > 1


def deployed(place: int = 1) -> list[Action]:
    """What a deploy does with the secrets of a host that has all of them."""
    found: list[Action] = []
    with pytest.MonkeyPatch.context() as patch:
        for each in ("unless_others", "copy_from_first", "unless_first"):
            patch.setattr(
                members, each, lambda each=each, **given: found.append((each, given, place))
            )
        patch.setattr(secrets, "ensure", lambda **_: None)
        inspect.unwrap(secrets.create)(fake.several(place))
    # As it records the connections that it finds changed.
    step = "record fernet-key"
    record = {"test": f"{ROTATE} check {step}", "commands": [f"{ROTATE} apply {step}"]}
    restart = {"program": "services.sh"}
    return [*found, ("run_unless", record, place), ("ensure_in_turn", restart, place)]


@pytest.mark.parametrize("kind", ["fernet-key", "jwt-secret", "api-secret-key"])
def test_a_deploy_ends_the_change_on_a_host_that_died_in_it(
    kind: str, hosts: Hosts, tmp_path: Path
) -> None:
    """The second host dies after an operation, the first one goes on without it, and it is back."""
    actions, seen, copies = planned(kind), set(), []
    *_, forget, _, _ = deploy = deployed()
    for number, action in enumerate(actions):
        hosts.take(action)
        before = content(tmp_path / "1")
        hosts.at(0)
        if hosts.both[0].rotate("check", "end", "all").returncode:
            hosts.take(forget)
            assert content(tmp_path / "1") == before, action  # the change is under way
        if before not in seen:
            seen.add(before)
            copies.append((number, hosts.keep(tmp_path / f"kept-{number}")))
    for number, bring_back in copies:
        bring_back()
        for action in actions[number + 1 :]:
            if action[2] == 0:
                hosts.take(action)
        for action in deploy:
            hosts.take(action)
        hosts.signed = set()
        hosts.is_sound()
        assert hosts.values(0) == hosts.values(1), number
        is_ended(hosts)
        hosts.at(1)
        assert hosts.both[1].rotate("check", "end", "all").returncode == 0
    assert len(seen) > 1


@pytest.mark.parametrize("kind", ["fernet-key", "jwt-secret"])
def test_a_deploy_ends_the_change_on_a_first_host_that_died_in_it(
    kind: str, hosts: Hosts, tmp_path: Path
) -> None:
    """The first host dies after an operation, the second one goes on without it, and it is back."""
    actions, ended = planned(kind), 0
    copies: dict[str, Callable[[], None]] = {}
    alone = [
        (what, given, 1)
        for what, given, place in actions
        if place == 0 and what != "copy_from_first"
    ]
    # pyinfra starts an operation on all hosts before the next one.
    deploy = [each for pair in zip(deployed(0), deployed(1), strict=True) for each in pair]
    for number, action in enumerate(actions):
        hosts.take(action)
        if (state := content(tmp_path / "0")) in copies:
            continue
        hosts.at(0)
        if hosts.both[0].rotate("check", "end", "switched").returncode:
            copies[state] = hosts.keep(tmp_path / f"kept-{number}")
        hosts.at(1)
        if hosts.both[1].rotate("check", "end", "all").returncode:
            hosts.take(deploy[0])
            assert content(tmp_path / "0") == state, action  # the change is under way
    for bring_back in copies.values():
        bring_back()
        for each in alone:
            hosts.take(each)
        if hosts.values(0) != hosts.values(1):
            continue  # preflight refuses it
        for each in deploy:
            hosts.take(each)
        hosts.signed = set()
        hosts.is_sound()
        is_ended(hosts)
        ended += 1
    assert ended


@pytest.mark.parametrize("place", [0, 1])
def test_no_host_stops_if_one_can_not_reach_the_cluster(place: int, hosts: Hosts) -> None:
    """pyinfra ends the run after the first operation that fails on a host."""
    hosts.at(place)
    hosts.both[place].program("kubectl", "echo no route to host >&2; exit 1")
    failed: dict[str, str] = {}  # by operation
    for action in planned("cluster-token"):
        name = action[1]["name"]
        if failed and name not in failed:
            break
        try:
            hosts.take(action)
        except AssertionError as error:
            assert action[2] == place
            failed[name] = str(error)
    (said,) = failed.values()
    assert "the cluster-token was not changed" in said
    for each in (0, 1):
        hosts.at(each)
        assert not hosts.both[each].place(TOKEN_MARK).exists()

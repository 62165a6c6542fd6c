"""One address for people, which several hosts have in turn."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from pyinfra.api import Config, DeployError, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.connectors.fake import FakeConnector
from pyinfra.context import ctx_host, ctx_state

from tasks import layout
from tasks.host import address, tls
from tasks.layout import ADDRESS_CONFIG
from tasks.preflight import members as preflight
from tasks.settings import Settings
from tests.support import free_port
from tests.unit import fake, formats
from tests.unit.fake import MEMBERS, ONE_ADDRESS, SEVERAL
from tests.unit.formats import Unit
from tests.unit.programs import LIB

ADDRESS = ONE_ADDRESS["web_virtual_address"]


def of_host(position: int, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of one of the hosts."""
    plan = fake.plan(fake.several(position, {**ONE_ADDRESS, **(given or {})}))
    return formats.keepalived_config(plan.uploads[ADDRESS_CONFIG])


# The settings


def test_the_address_is_that_of_the_page_unless_the_page_has_a_name() -> None:
    for given, url, path in (
        ({}, f"https://{ADDRESS}", ""),
        ({"web_https_port": 8443}, f"https://{ADDRESS}:8443", ""),
        ({"web_base_url": "https://airflow.example/team"}, "https://airflow.example/team", "/team"),
    ):
        settings = fake.several(0, {**ONE_ADDRESS, **given})
        assert (settings.web.url, settings.web.base_path) == (url, path)
        plan = fake.plan(settings)
        assert formats.config_of(plan)["api"]["base_url"] == url
        assert ADDRESS in tls.names(settings)


def test_nginx_must_listen_there() -> None:
    for host in ("127.0.0.1", "192.0.2.1", "airflow.example"):
        with pytest.raises(DeployError, match="web_virtual_address: nginx answers"):
            Settings.from_data({**SEVERAL, **ONE_ADDRESS, "web_host": host}, MEMBERS)
    for host in ("0.0.0.0", "::"):
        Settings.from_data({**SEVERAL, **ONE_ADDRESS, "web_host": host}, MEMBERS)


def test_an_own_certificate_must_be_for_it() -> None:
    given = {**SEVERAL, **ONE_ADDRESS}
    with pytest.raises(DeployError, match=f"not for {ADDRESS}, the web_virtual_address"):
        Settings.from_data({**given, "web_certificate": fake.PAIR}, MEMBERS)
    name = x509.IPAddress(ipaddress.ip_address(ADDRESS))
    Settings.from_data({**given, "web_certificate": fake.pair(90, name)}, MEMBERS)
    named = {"web_base_url": "https://airflow.example", "web_certificate": fake.PAIR}
    Settings.from_data({**given, **named}, MEMBERS)


# keepalived's configuration


def test_each_host_hears_the_others_and_nobody_else() -> None:
    every = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
    for position, own in enumerate(every):
        found = of_host(position)
        assert "vrrp_check_unicast_src" in found["global_defs"]
        instance = found["vrrp_instance airflow"]
        assert instance["unicast_src_ip"] == own
        assert instance["unicast_peer"] == {
            each: "min_ttl 255 max_ttl 255" for each in every if each != own
        }


def test_the_hosts_differ_in_their_own_address_only() -> None:
    """None has a priority above the others', to which the address would go back."""
    first, second = of_host(0), of_host(1)
    for each in (first, second):
        assert each["vrrp_instance airflow"]["state"] == "BACKUP"
        del each["vrrp_instance airflow"]["unicast_src_ip"]
        del each["vrrp_instance airflow"]["unicast_peer"]
    assert first == second


def test_nobody_takes_the_address_for_the_hosts_own() -> None:
    instance = of_host(0)["vrrp_instance airflow"]
    assert instance["interface"] == "ens4"
    assert instance["virtual_ipaddress"] == {f"{ADDRESS}/32": "dev ens4 scope link"}


def test_a_page_that_fails_counts_more_than_nothing_and_is_asked_for_without_rights() -> None:
    found = of_host(0, {"web_https_port": 8443, "web_base_url": "https://airflow.example/team"})
    script, instance = found["vrrp_script page"], found["vrrp_instance airflow"]
    assert script["script"] == f'"{layout.LIB}/page-answers.sh https://127.0.0.1:8443/team"'
    assert instance["track_script"] == {"page": ""}
    # VRRP: the priority of a host that takes part is from 1 to 254.
    assert 1 <= int(instance["priority"]) + int(script["weight"]) < int(instance["priority"]) < 255
    assert found["global_defs"]["script_user"] == "nobody nogroup"
    assert "enable_script_security" in found["global_defs"]


@pytest.mark.parametrize("last", [0, 1, 255])
def test_the_router_has_a_number_that_vrrp_knows(last: int) -> None:
    assert 1 <= address.router(f"198.51.100.{last}") <= 255


# The plan


def test_the_address_comes_to_a_page_that_answers() -> None:
    plan = fake.plan(fake.several(0, ONE_ADDRESS))
    order = ("Run Airflow, one host after", "Install keepalived", "Write keepalived's", "Run keepa")
    places = [plan.position(name) for name in (*order, "until one host has the address")]
    assert places == sorted(places)
    # The file of before stays if keepalived can't work with the new one.
    assert "accept.sh address" in " ".join(plan.named("Write keepalived's").commands)


def test_keepalived_tells_with_which_files_it_started() -> None:
    unit = Unit.of(fake.plan(fake.several(0, ONE_ADDRESS)), layout.ADDRESS_UNIT)
    for option in ("ExecStartPre", "ExecReload"):
        (command,) = unit.all(f"Service.{option}")
        for path in (layout.ADDRESS_DROP_IN, ADDRESS_CONFIG):
            assert f" {path} " in command
        assert command.endswith("> /run/airflow/%n'")


def test_without_the_setting_there_is_none() -> None:
    plan = fake.plan(fake.several(0))
    assert ADDRESS_CONFIG not in plan.uploads and "keepalived" not in " ".join(plan.names)
    (command,) = plan.named("Remove the address for people").commands
    gone = f"apply {layout.ADDRESS_DROP_IN} keepalived.service {ADDRESS_CONFIG} "
    assert command.startswith(f"#!/bin/sh\nset -- {gone}") and "# unit-gone.sh " in command
    assert formats.host_values(plan)["ADDRESS_UNIT"] == ""


def test_a_host_that_is_removed_gives_the_address_away_before_its_page_stops() -> None:
    names = fake.removal(SEVERAL, False, 1).names
    (gone,) = (place for place, name in enumerate(names) if "the address for people" in name)
    (stopped,) = (place for place, name in enumerate(names) if "Airflow's units" in name)
    assert gone < stopped


# Who has it


@pytest.mark.parametrize(
    ("holders", "said"),
    [
        ((1,), ""),
        ((0, 2), "@fake/air-1 and @fake/air-3 have 198.51.100.10 at once"),
        ((), "no host has taken 198.51.100.10"),
    ],
)
def test_one_host_has_the_address(
    holders: tuple[int, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "TAKEN_WITHIN", 1)
    calls: list[tuple[str, str]] = []
    original = FakeConnector.run_shell_command

    def noting(self: Any, command: Any, *rest: Any, **given: Any) -> Any:
        calls.append((self.host.name, str(command)))
        return original(self, command, *rest, **given)

    monkeypatch.setattr(FakeConnector, "run_shell_command", noting)
    shown = f"2: eth0    inet {ADDRESS}/32 scope link eth0"
    given = [
        (
            name,
            {
                "fake_responses": {
                    "address show to": shown if place in holders else "",
                    "echo .*exit 1": {"success": False},
                },
                "fake_delay": 0,
                "fake_delay_jitter": 0,
            },
        )
        for place, name in enumerate(MEMBERS)
    ]
    state = State(inventory=Inventory((given, {}), airflow=(MEMBERS, {})), config=Config())
    connect_all(state)
    add_op(state, address.held_once, name="Wait", address=ADDRESS)
    run_ops(state)
    told = [command for name, command in calls if "exit 1" in command and name == MEMBERS[0]]
    assert bool(told) is bool(said) and all(said in each for each in told)
    assert not [name for name, command in calls if "exit 1" in command and name != MEMBERS[0]]


# Preflight


IP = """#!/bin/sh
case "$*" in
*"route show to match 198.51.100.10"*)
    echo '198.51.0.0/16 dev wide proto kernel src 198.51.0.9 metric 100'
    echo '198.51.100.0/24 dev ens4 proto kernel src 198.51.100.1 metric 100' ;;
*"route show to match"*) echo 'default dev ppp0' ;;
*"address show to"*"scope global"*) cat "$STATE/own" 2>/dev/null ;;
*"neigh show"*) cat "$STATE/neighbour" 2>/dev/null ;;
*"route get"*) echo '192.0.2.1 via 192.0.2.254 dev eth0 src 192.0.2.7 uid 0' ;;
esac
"""


def asked(folder: Path, virtual_address: str) -> dict[str, str]:
    """The answers of a host about an address, without the others."""
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    (bin / "ip").write_text(IP)
    (bin / "ip").chmod(0o755)
    text = preflight.MemberReport().command(virtual_address)
    text = text.replace(ADDRESS_CONFIG, str(folder / "keepalived.conf"))
    done = subprocess.run(
        ["sh", "-c", text],
        env={"PATH": f"{bin}:{os.environ['PATH']}", "STATE": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return {name: answers[name] for name in answers if name in (*IN_NETWORK, "virtual")}


IN_NETWORK = {"interface": "ens4", "link_address": "198.51.100.1"}


def test_a_host_tells_its_place_in_the_narrowest_network_with_the_address(tmp_path: Path) -> None:
    assert asked(tmp_path, ADDRESS) == IN_NETWORK
    assert asked(tmp_path, "203.0.113.7") == {}
    assert asked(tmp_path, "") == {}


def test_a_host_tells_who_has_the_address(tmp_path: Path) -> None:
    neighbour = tmp_path / "neighbour"
    neighbour.write_text(f"{ADDRESS} dev ens4 FAILED")
    assert "virtual" not in asked(tmp_path, ADDRESS)
    neighbour.write_text(f"{ADDRESS} dev ens4 lladdr 52:54:00:12:34:56 REACHABLE")
    assert asked(tmp_path, ADDRESS)["virtual"] == "taken"
    # That is perhaps another one of the hosts.
    written = fake.plan(fake.several(0, ONE_ADDRESS)).uploads[ADDRESS_CONFIG]
    (tmp_path / "keepalived.conf").write_text(written)
    assert asked(tmp_path, ADDRESS)["virtual"] == "known"
    assert asked(tmp_path, ADDRESS + "0").get("virtual") != "known"
    (tmp_path / "own").write_text(f"2: ens4    inet {ADDRESS}/24 scope global ens4")
    assert asked(tmp_path, ADDRESS)["virtual"] == "own"


def findings(*virtual: str, **own: str) -> list[str]:
    """The findings of the first of two hosts that have answered so about the address."""
    settings = Settings.from_data({**SEVERAL, **ONE_ADDRESS}, MEMBERS[:2])
    state = State(
        inventory=Inventory((MEMBERS[:2], {}), airflow=(MEMBERS[:2], {})), config=Config()
    )
    found = {
        name: preflight.Member(
            *(
                "air",
                ("air",),
                "192.0.2.1",
                "192.0.2.1",
                "debian",
                0.0,
                "ens4",
                "198.51.100.1",
                each,
            )
        )
        for name, each in zip(MEMBERS[:2], virtual, strict=True)
    }
    found[MEMBERS[0]] = found[MEMBERS[0]]._replace(**own)  # type: ignore[arg-type]
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host(MEMBERS[0])):
        return list(preflight.address_findings(settings, found))


def test_an_address_that_hosts_can_have_in_turn_is_accepted() -> None:
    assert findings("", "") == []
    assert findings("known", "known") == []
    assert findings("taken", "known") == []  # a new host, and one that may have the address


@pytest.mark.parametrize(
    ("virtual", "own", "said"),
    [
        (("taken", "taken"), {}, "another machine has 198.51.100.10 already"),
        (("own", "taken"), {}, "198.51.100.10 is this host's own address"),
        (("", ""), {"interface": "", "link_address": ""}, "is in no network of this host"),
    ],
)
def test_other_addresses_are_refused(
    virtual: tuple[str, str], own: dict[str, str], said: str
) -> None:
    (finding,) = findings(*virtual, **own)
    assert finding.startswith("web_virtual_address: ") and said in finding


# Programs of the host


class Page(BaseHTTPRequestHandler):
    """A page that answers as the test wants."""

    code, state, seconds = 200, "healthy", 0.0
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer, after some time."""
        self.asked.append(self.path)
        time.sleep(self.seconds)
        self.send_response(self.code)
        self.end_headers()
        with contextlib.suppress(OSError):  # nobody waits any more
            self.wfile.write(b'{"metadatabase":{"status":"%s"},"x":{}}' % self.state.encode())

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[str]:
    """The URL of a page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/team"
    server.shutdown()
    server.server_close()


def answers(url: str) -> bool:
    """Whether the page answers, as keepalived finds out."""
    done = subprocess.run([LIB / "page-answers.sh", url], env={"PATH": os.environ["PATH"]})
    return done.returncode == 0


def test_a_page_answers_if_it_has_its_database(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(page)
    assert Page.asked[-1] == "/team/api/v2/monitor/health"
    monkeypatch.setattr(Page, "state", "unhealthy")
    assert not answers(page)
    monkeypatch.undo()
    monkeypatch.setattr(Page, "code", 502)
    assert not answers(page)


def test_a_page_that_is_silent_is_not_waited_for(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Page, "seconds", 60.0)
    begun = time.monotonic()
    assert not answers(page)
    assert time.monotonic() - begun < 30
    assert not answers(f"http://127.0.0.1:{free_port()}")


SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$1 $2" in
"is-active --quiet") [ ! -e "$CALLS.away" ] ;;
"is-active airflow"*) echo active ;;
"restart airflow-api-server.service") [ ! -e "$CALLS.broken" ] ;;
esac
"""
UNITS = ("airflow-api-server.service", "airflow-scheduler.service", "airflow-web.socket")


class Restarted:
    """A host on which some of Airflow's services must restart."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.program("systemctl", SYSTEMCTL)
        healthy = ",".join(
            f'"{name}":{{"status":"healthy"}}'
            for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        )
        self.program("curl", f"#!/bin/sh\necho '{{{healthy}}}'\n")
        self.program("journalctl", "#!/bin/sh\n")
        (folder / "input").write_text("one")
        for unit in UNITS:
            self.started(unit)
        (folder / "host.env").write_text(
            f"STARTED_WITH={folder}\nWEB_URL=http://127.0.0.1:78\nSTATE={folder}\n"
            f"UNITS='airflow.target {' '.join(UNITS[:-1])}'\nADDRESS_UNIT=keepalived.service\n"
        )

    def program(self, name: str, text: str) -> None:
        """A program in place of another one."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def started(self, unit: str, text: str = "one") -> None:
        """A unit has started with this input."""
        line = f"{hashlib.sha256(text.encode()).hexdigest()}  {self.folder}/input\n"
        (self.folder / unit).write_text(line)

    def apply(self) -> tuple[int, list[str]]:
        """Run the program; returns its code, and what it stopped and started."""
        done = subprocess.run(
            [LIB / "services.sh", "apply"],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "AIRFLOW_HOST_ENV": str(self.folder / "host.env"),
                "CALLS": str(self.calls),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        words = [line.split() for line in self.calls.read_text().splitlines()]
        changing = {"stop", "start", "restart"}
        return done.returncode, [" ".join(each) for each in words if each[0] in changing]


@pytest.fixture
def restarted(tmp_path: Path) -> Restarted:
    """Such a host."""
    return Restarted(tmp_path)


def test_the_address_leaves_before_the_page_stops(restarted: Restarted) -> None:
    restarted.started("airflow-api-server.service", "other")
    assert restarted.apply() == (
        0,
        [
            "stop keepalived.service",
            "restart airflow-api-server.service",
            "start airflow.target",
            "start keepalived.service",
        ],
    )


def test_a_host_whose_page_does_not_start_can_have_the_address_later(restarted: Restarted) -> None:
    restarted.started("airflow-api-server.service", "other")
    (restarted.folder / "calls.broken").touch()
    code, did = restarted.apply()
    assert code != 0
    assert did[-2:] == ["restart airflow-api-server.service", "start keepalived.service"]


def test_the_address_stays_where_it_may(restarted: Restarted) -> None:
    restarted.started("airflow-scheduler.service", "other")
    assert restarted.apply() == (0, ["restart airflow-scheduler.service", "start airflow.target"])
    # keepalived is stopped, or not there yet.
    restarted.started("airflow-api-server.service", "other")
    (restarted.folder / "calls.away").touch()
    assert "keepalived" not in " ".join(restarted.apply()[1])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("", ""),
        ("not enabled", "keepalived.service is not enabled"),
        ("stopped", "keepalived.service is inactive"),
        ("changed", "keepalived.service started before its inputs changed"),
    ],
)
def test_keepalived_runs_with_its_inputs(harm: str, said: str, restarted: Restarted) -> None:
    restarted.started("keepalived.service", "other" if harm == "changed" else "one")
    enabled, state = ("1" if harm == "not enabled" else "0"), "active"
    state = "inactive" if harm == "stopped" else "active"
    restarted.program(
        "systemctl",
        f"#!/bin/sh\ncase $1 in is-enabled) exit {enabled} ;; is-active) echo {state} ;; esac\n",
    )
    done = subprocess.run(
        [LIB / "address.sh", "check"],
        env={
            "PATH": f"{restarted.folder}:{os.environ['PATH']}",
            "AIRFLOW_HOST_ENV": str(restarted.folder / "host.env"),
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is (said == "") and said in done.stderr

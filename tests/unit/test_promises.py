"""The numbers and the commands of the documentation are right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tasks.cluster import programs
from tasks.layout import ROOT
from tasks.preflight import checks
from tasks.settings import RELEASES
from tests.unit import fake, formats, shell
from tests.unit.fake import Plan
from tests.unit.formats import Unit
from tests.unit.markdown import documents, section, table

UNITS = "/etc/systemd/system"
TEXT = "\n".join(path.read_text() for path in documents())

# Numbers: the words of the text, and whether the deploy does so

Kept = Callable[[Plan, str], bool]
WORDS = {"half": 0.5, "three": 3, "ten": 10}


def number(said: str) -> float:
    """A number that is written as a word, or in digits."""
    return WORDS.get(said) or float(said)


def services(plan: Plan, option: str) -> set[str]:
    """The values of an option in the units of the four services."""
    names = ("api-server", "scheduler", "dag-processor", "triggerer")
    return {Unit.of(plan, f"airflow-{name}.service").one(option) for name in names}


def intervals() -> set[int]:
    """How often folders with DAGs are looked through, by the host and in pods, from any source."""
    found = set()
    for name in ("defaults", "claim", "another driver", "git"):
        plan = fake.plan(fake.settings(fake.VARIANTS[name]))
        config = formats.airflow_config(plan.uploads["/etc/airflow/airflow.cfg"])
        variables = formats.pod(plan)["spec"]["containers"][0]["env"]
        in_pod = {each["name"]: each.get("value") for each in variables}
        for bundles in (
            config["dag_processor"]["dag_bundle_config_list"],
            in_pod["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"],
        ):
            for bundle in json.loads(str(bundles)):
                if bundle["classpath"].endswith(".LocalDagBundle"):
                    found.add(bundle["kwargs"]["refresh_interval"])
    return found


def site() -> str:
    """nginx's site with ports for pods and people."""
    plan = fake.plan(fake.settings(fake.VARIANTS["page with TLS"]))
    return plan.uploads["/etc/nginx/sites-available/airflow"]


PROMISES: dict[str, Kept] = {
    # The dag-processor asks every 5 s whether the time is over, and may need 10 s to read a file.
    r"Airflow sees (?:it|a new file) within (\d+) seconds": (
        lambda plan, said: max(intervals()) + 5 + 10 <= int(said)
    ),
    r"is restarted after (half) a second": lambda plan, said: (
        services(plan, "Service.RestartSec") == {f"{number(said) * 1000:.0f}ms"}
    ),
    # However often they end, as while the database is away.
    r"A service that ends is (restarted)": lambda plan, said: (
        services(plan, "Service.Restart") == {"always"}
        and services(plan, "Unit.StartLimitIntervalSec") == {"0"}
    ),
    r"A request can have (\d+) MB": lambda plan, said: (
        site().count(f"\n    client_max_body_size {said}m;\n") == 2
    ),
    r"pushes an XCom (\d+) MB": lambda plan, said: (
        site().count("    client_max_body_size ") == 3
        and f"location /execution/xcoms/ {{\n            client_max_body_size {said}m;" in site()
    ),
    r"`conf` of a run can have (\d+) KiB": lambda plan, said: (
        f"\nLONGEST_JSON = 1 << {(int(said) << 10).bit_length() - 1} "
        in plan.uploads["/usr/local/lib/airflow/python/airflow_deploy_columns.py"]
    ),
    r"at most (\d+) requests of 1 MB or more from one address": lambda plan, said: (
        site().count(f"    limit_conn airflow_large_from {said};\n") == 2
    ),
    r"from one address at a time, and (\d+) in all": lambda plan, said: (
        site().count(f"    limit_conn airflow_large {said};\n") == 2
    ),
    r"too many logins gets status (\d+)": lambda plan, said: f"limit_req_status {said};" in site(),
    r"CA lasts (ten) years": lambda plan, said: (
        f"\nAUTHORITY_DAYS = {number(said) * 365:.0f}\n"
        in plan.uploads["/usr/local/lib/airflow/host-certificate.py"]
    ),
    r"renews the certificate (\d+) days before": lambda plan, said: (
        f'"--left", type=int, default={said},'
        in plan.uploads["/usr/local/lib/airflow/host-certificate.py"]
    ),
    r"the last (three) of those made before": lambda plan, said: (
        '\nkeep before "$BACKUPS_KEPT_BEFORE"\n' in plan.uploads["/usr/local/bin/airflow-backup"]
        and f"\nBACKUPS_KEPT_BEFORE={number(said):.0f}\n" in plan.uploads["/etc/airflow/host.env"]
    ),
    r"The user id of the pods, `(\d+)`": lambda plan, said: (
        formats.pod(plan)["spec"]["securityContext"]["runAsUser"] == int(said)
    ),
    r"waits for these tasks, (ten) minutes at most": lambda plan, said: (
        Unit.of(
            fake.plan(fake.settings({"airflow_executor": "KubernetesExecutor,LocalExecutor"})),
            "airflow-scheduler.service",
        ).last("Service.TimeoutStopSec")
        == f"{number(said) * 60:.0f}"
    ),
    # Airflow would give a task up whose pod the cluster refuses to make.
    r"task that finds a quota full (waits)": lambda plan, said: (
        "\ntask_publish_max_retries = -1\n" in plan.uploads["/etc/airflow/airflow.cfg"]
    ),
    # A machine that is sold with so much has a little less.
    r"(\d+) GB of memory": lambda plan, said: int(said) - 1 < checks.MIN_MEMORY_GIB < int(said),
    r"(\d+) GiB of free disk": lambda plan, said: int(said) == checks.MIN_DISK_GIB,
    r"Python \((3\.\d+) on Debian 12": lambda plan, said: RELEASES["bookworm"].python == said,
    r"(3\.\d+) on Debian 13": lambda plan, said: RELEASES["trixie"].python == said,
    r"(3\.\d+) on Ubuntu 24.04": lambda plan, said: RELEASES["noble"].python == said,
    r"(3\.\d+) on Ubuntu 26.04": lambda plan, said: RELEASES["resolute"].python == said,
}


@pytest.mark.parametrize("words", PROMISES)
def test_the_deploy_keeps_the_promises_of_the_text(words: str, plan: Plan) -> None:
    found = re.findall(words, TEXT)
    assert found, f"the documentation no longer says this in these words: {words}"
    for said in found:
        assert PROMISES[words](plan, said), said


def test_the_downloads_of_the_deploy_have_checksums_beside_them() -> None:
    named = re.findall(r"https://\S+(?=\.sha256)", TEXT)
    downloaded = {download.url for download in programs.needed(fake.DEFAULTS, "amd64")}
    assert len(named) == 2 and set(named) <= downloaded


# Commands


def blocks() -> list[str]:
    """The blocks of commands; the others are pictures, and output of commands."""
    fenced = re.findall(r"^```(?:bash|sh)?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    commands = re.compile(r"(?:(?:\.|[A-Z_]+=|sudo |git |uv |cp |cd |pyinfra |kubectl |#).*\n|\n)+")
    return [text for text in fenced if commands.fullmatch(text)]


def undo() -> list[str]:
    """The commands in the table of files on the host, but for single words."""
    section_text = section(ROOT / "README.md", "## What it puts on the host, and how to undo it")
    rows = table(section_text, "What")
    cells = [row[-1] for row in rows]
    return [code for cell in cells for code in cell.split("`")[1::2] if " " in code]


def test_commands_are_shell() -> None:
    assert len(undo()) > 10 and len(blocks()) > 4
    assert shell.unreadable([*undo(), *blocks()]) == []
    assert shell.remarks(undo()) == []

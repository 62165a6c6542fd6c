"""README.md says what is so: of the settings, in its examples, commands and numbers."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tasks import downloads, preflight
from tasks.settings import RELEASES, ROOT, Settings
from tests.unit import fake, formats, settings_table, shell
from tests.unit.fake import FILES, PAIR, Plan
from tests.unit.formats import Unit

README = (ROOT / "README.md").read_text()
UNITS = "/etc/systemd/system"


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    lines = README.splitlines()
    matching = [at for at, line in enumerate(lines) if re.fullmatch(f"#+ {heading}", line)]
    assert len(matching) == 1, f"README.md has no section «{heading}»"
    section = lines[matching[0] + 1 :]
    end = next((at for at, line in enumerate(section) if line.startswith("#")), len(section))
    tables = re.findall(r"(?:^\|.*\n)+", "\n".join(section[:end]) + "\n", re.MULTILINE)
    rows = [row.strip()[1:-1].split("|") for row in tables[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


# Settings


@pytest.mark.parametrize(("column", "what"), [(0, "names"), (1, "defaults"), (2, "meanings")])
def test_settings_are_documented_in_order(column: int, what: str) -> None:
    expected = [row[column] for row in settings_table.rows()]
    assert [row[column] for row in table("Settings")] == expected, (
        f"the {what} differ: paste what `python -m tests.unit.settings_table` prints"
    )


def test_the_table_has_nothing_that_markdown_takes_for_a_border() -> None:
    assert all("|" not in cell for row in settings_table.rows() for cell in row)


# Examples

SETTING = "airflow|crictl|kubectl|kubernetes|minikube|offline|postgres|worker"
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BLOCKS = [text for language, text in FENCED if language == "python"]
OF_DAGS = [block for block in BLOCKS if "k8s.V1" in block]
# In the text: `{"name": value}` and `"name": value`.
IN_TEXT = re.findall(rf'`(\{{?"(?:{SETTING})_\w+": [^`]+)`', README)
EXAMPLES = [*(block for block in BLOCKS if block not in OF_DAGS), *IN_TEXT]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 20 and len(OF_DAGS) == 1


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Any]:
    """What the examples take from elsewhere."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/team.py").write_text("print('a DAG')\n")
    (tmp_path / "own-pod.yaml").write_text(
        "{kind: Pod, spec: {restartPolicy: Never, containers: [{name: base}]}}"
    )
    secrets = {"AIRFLOW_TLS_KEY": PAIR["key"], "REGISTRY_PASSWORD": "hidden", "S3_SECRET": "hidden"}
    return {
        "os": SimpleNamespace(environ=secrets),
        "Path": lambda name: SimpleNamespace(read_text=lambda: PAIR["certificate"]),
        **dict.fromkeys(("deploy_key", "token", "key", "secret"), "hidden"),
        "url": "https://s3.example.com",
        "folder": tmp_path,
    }


def settings_of(example: str, known: dict[str, Any]) -> dict[str, Any]:
    """What an example gives to the deploy; its files are those of the test."""
    for there, here in (("/home/ada/dags", "dags"), ("own-pod.yaml", "own-pod.yaml")):
        example = example.replace(there, str(known["folder"] / here))
    if example.startswith("hosts = "):
        exec(example, known)
        ((_, given),) = known["hosts"]
    else:
        given = eval(example if example.startswith("{") else f"{{{example}}}", known)
    assert isinstance(given, dict)
    return given


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: " ".join(text.split())[:60])
def test_an_example_can_be_deployed(example: str, known: dict[str, Any]) -> None:
    given = settings_of(example, known)
    settings = {release: Settings.from_data(given).on_release(release) for release in RELEASES}
    # On the newest: the variants of the other tests are of the oldest.
    assert len(fake.plan(settings["trixie"]).operations) > 50
    # What the example says arrives: no setting is misspelt, or has no meaning.
    assert settings["bookworm"] != Settings.from_data({}).on_release("bookworm")


def test_what_is_for_dags_is_python() -> None:
    for block in OF_DAGS:
        ast.parse(f"{block}\ndef task(): ...")


# Commands

# What stands as code in the table's last column, but for single words.
UNDO = [
    code
    for _, _, undo in table("What it puts on the host, and how to undo it")
    for code in undo.split("`")[1::2]
    if " " in code
]
# The others are pictures, and what commands print.
COMMANDS = re.compile(r"(?:(?:\./tests|sudo |git |uv |cd ).*\n)+")
SHELL_BLOCKS = [text for language, text in FENCED if not language and COMMANDS.fullmatch(text)]


def test_commands_are_shell() -> None:
    assert len(UNDO) > 10 and len(SHELL_BLOCKS) > 6
    assert shell.unreadable([*UNDO, *SHELL_BLOCKS]) == []
    assert shell.remarks(UNDO) == []


def test_the_table_undoes_each_unit_and_user(plan: Plan) -> None:
    said = " ".join(UNDO)
    for path in plan.uploads:
        if path.startswith(f"{UNITS}/airflow-") and path.endswith(".service"):
            name = Path(path).stem
            by_timer = f"{UNITS}/{name}.timer" in plan.uploads and "airflow-*.timer" in said
            assert by_timer or f" {name}" in said, f"{name} is not disabled"
    for name in plan.names:
        if match := re.search("Create (user|role|database) (.*)", name):
            program = {"user": "deluser", "role": "dropuser", "database": "dropdb"}[match[1]]
            assert re.search(rf"{program} {match[2]}\b(?!-)", said), name


# Timers and figures


def test_timers_are_documented(plan: Plan) -> None:
    rows = table("What it does by itself")
    names = {Path(path).stem for path in plan.uploads if path.endswith(".timer")}
    assert {name.strip("`") for name, _, _ in rows} == names
    for name, what, _ in rows:
        timer = Unit.parse(plan.uploads[f"{UNITS}/{name.strip('`')}.timer"])
        if "each day" in what:
            assert re.fullmatch(r"\d\d:\d\d", timer.one("Timer.OnCalendar"))
        else:
            (number, unit) = re.findall(r"every (\d+) (second|minute)s", what)[0]
            short = {"second": "s", "minute": "min"}[unit]
            assert timer.one("Timer.OnUnitInactiveSec") == f"{number}{short}"


def test_figures_are_documented() -> None:
    queries = yaml.safe_load((FILES / "etc/airflow/metrics.yaml").read_text())
    made = set()
    for query, each in queries.items():
        columns = {
            name: about["usage"] for metric in each["metrics"] for name, about in metric.items()
        }
        labels = ",".join(name for name, usage in columns.items() if usage == "LABEL")
        made |= {
            f"{query}_{name}" + (f"{{{labels}}}" if labels else "")
            for name, usage in columns.items()
            if usage == "GAUGE"
        }
    documented = re.findall(
        "`([^`]+)`", " ".join(row[0] for row in table("Figures for Prometheus"))
    )
    assert {name for name in documented if not name.startswith("pg_")} == made


# Numbers: what the text says, and whether the deploy does so

Kept = Callable[[Plan, str], bool]
WORDS = {"half": 0.5, "three": 3, "five": 5, "ten": 10}


def number(said: str) -> float:
    """A number that is written as a word, or in digits."""
    return WORDS.get(said) or float(said)


def services(plan: Plan, option: str) -> set[str]:
    """The values of an option in the units of the four services."""
    names = ("api-server", "scheduler", "dag-processor", "triggerer")
    return {
        Unit.parse(plan.uploads[f"{UNITS}/airflow-{name}.service"]).one(option) for name in names
    }


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


def silence() -> int:
    """How long (s) the api-server may answer nothing: two looks, each of two questions, and a pause
    between them."""
    script = (FILES / "usr/local/lib/airflow/liveness").read_text()
    first, second = map(int, re.findall(r"curl .*-m (\d+)", script))
    (pause,) = map(int, re.findall(r"^sleep (\d+)$", script, re.MULTILINE))
    return 2 * (first + second) + pause


PROMISES: dict[str, Kept] = {
    r"new file is seen within (\d+) seconds": lambda plan, said: intervals() == {int(said)},
    r"started again after (half) a second": lambda plan, said: (
        services(plan, "Service.RestartSec") == {f"{number(said) * 1000:.0f}ms"}
    ),
    r"started less than (a) minute ago": lambda plan, said: (
        "-mmin +1)" in plan.uploads["/usr/local/lib/airflow/liveness"]
    ),
    r"answered nothing for some (\d+) seconds": lambda plan, said: (
        int(said) <= silence() < int(said) + 10
    ),
    r"each call, has (five) minutes": lambda plan, said: (
        f"-lt {number(said) * 60:.0f};" in plan.uploads["/usr/local/lib/airflow/liveness"]
    ),
    r"request may have (\d+) MB": lambda plan, said: (
        re.findall(r"client_max_body_size (\w+);", site()) == [f"{said}m"] * 2
    ),
    r"more than (ten) logins a minute": lambda plan, said: (
        f"rate={number(said):.0f}r/m;" in site() and f"burst={number(said):.0f} " in site()
    ),
    r"answered with status (\d+)": lambda plan, said: f"limit_req_status {said};" in site(),
    r"authority holds for (ten) years": lambda plan, said: (
        f'"Airflow\'s authority" {number(said) * 365:.0f} '
        in plan.uploads["/usr/local/lib/airflow/certificate"]
    ),
    r"renews the certificate (\d+) days before": lambda plan, said: (
        f"-checkend $(({said} * 86400))" in plan.uploads["/usr/local/lib/airflow/certificate"]
    ),
    r"the last (three) of those made before": lambda plan, said: (
        f"\nkeep before {number(said):.0f}\n" in plan.uploads["/usr/local/bin/airflow-backup"]
    ),
    r"time to end is over \((\d+) seconds\)": lambda plan, said: (
        formats.pod(plan)["spec"]["terminationGracePeriodSeconds"] == int(said)
    ),
    r"The pods' user `(\d+)`": lambda plan, said: (
        formats.pod(plan)["spec"]["securityContext"]["runAsUser"] == int(said)
    ),
    r"which looks every (ten) minutes": lambda plan, said: (
        f"OnUnitInactiveSec={number(said):.0f}min"
        in plan.uploads[f"{UNITS}/airflow-cleanup-pods.timer"]
    ),
    r"waits for these tasks up to (ten) minutes": lambda plan, said: (
        f"TimeoutStopSec={number(said) * 60:.0f}\n"
        in fake.plan(
            fake.settings({"airflow_executor": "KubernetesExecutor,LocalExecutor"})
        ).uploads[f"{UNITS}/airflow-scheduler.service"]
    ),
    # Airflow would give a task up whose pod the cluster refuses to make.
    r"task that finds a quota full (waits)": lambda plan, said: (
        "\ntask_publish_max_retries = -1\n" in plan.uploads["/etc/airflow/airflow.cfg"]
    ),
    # A machine that is sold with so much has a little less.
    r"(\d+) GB of memory": lambda plan, said: int(said) - 1 < preflight.MIN_MEMORY_GIB < int(said),
    r"(\d+) GB of free disk": lambda plan, said: int(said) == preflight.MIN_DISK_GIB,
    r"Python \((3\.\d+) on Debian 12": lambda plan, said: RELEASES["bookworm"].python == said,
    r"(3\.\d+) on Debian 13\)": lambda plan, said: RELEASES["trixie"].python == said,
}


def test_checksums_are_beside_what_the_deploy_downloads() -> None:
    named = re.findall(r"https://\S+(?=\.sha256)", README)
    downloaded = {download.url for download in downloads.needed(fake.DEFAULTS)}
    assert len(named) == 2 and set(named) <= downloaded


@pytest.mark.parametrize("words", PROMISES)
def test_what_the_text_promises_is_what_the_deploy_does(words: str, plan: Plan) -> None:
    found = re.findall(words, README)
    assert found, f"README.md no longer says this in these words: {words}"
    for said in found:
        assert PROMISES[words](plan, said), said


# Lock files


@pytest.mark.parametrize(
    ("group", "lock"), [("airflow", f"{fake.DEFAULTS.airflow_version}.txt"), ("sbom", "sbom.txt")]
)
def test_a_lock_file_is_what_uv_exports(group: str, lock: str) -> None:
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "run the tests with uv run"
    (command,) = re.findall(
        rf"^uv (export --only-group {group} .*) -o files/opt/airflow/requirements/{lock}$",
        README,
        re.MULTILINE,
    )
    done = subprocess.run(
        [program, "--offline", *command.split(), "--frozen"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == (FILES / "opt/airflow/requirements" / lock).read_text()

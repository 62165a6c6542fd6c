"""Each file that lands on the host is one of its kind, by the strictest reader that is here."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import yaml

from tasks.host import host_values
from tasks.layout import ROOT
from tasks.lib.shell import PATH
from tests.runner import SCHEMAS, STATIC_CHECKS
from tests.unit import fake, formats, shell
from tests.unit.fake import FILES, Plan

OLDEST_PYTHON = (3, 11)  # Debian 12's
LOCKED = re.compile(
    r"[\w.-]+(\[[\w,-]+\])?==\S+( ; [^\\\n]+)? \\\n"
    r"(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
)


def python(text: str) -> None:
    """A program or a DAG."""
    ast.parse(text, feature_version=OLDEST_PYTHON)


def requirements(text: str) -> None:
    """A lock file: each package in one version, with its checksums."""
    lines = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
    assert not LOCKED.sub("", lines)


def program(text: str) -> None:
    """A shell program; sh reads all of them at once."""
    assert text.startswith("#!/bin/sh\n")


def like(expression: str) -> Callable[[str], None]:
    """All of the text is as an expression says."""

    def read(text: str) -> None:
        assert re.fullmatch(expression, text)

    return read


def nginx(text: str) -> None:
    """Statements and blocks; nginx itself reads it on a host."""
    text = re.sub(r'"[^"\n]*"|#.*', "", text)
    text = re.sub(r"[^{};]+;", "", text)
    while (outer := re.sub(r"[^{};]+{\s*}", "", text)) != text:
        text = outer
    assert not text.strip()


SUMS = like(r"([0-9a-f]{64}  .*\n|# .* is a program\n)*")
# By the path on the host, the first that fits.
KINDS: dict[str, Callable[[str], object]] = {
    "/etc/airflow/airflow.cfg": formats.airflow_config,
    "/etc/airflow/pod-policy.yaml": lambda text: list(yaml.safe_load_all(text)),
    "/etc/airflow/*.yaml": yaml.safe_load,
    "/etc/containerd/certs.d/*/hosts.toml": tomllib.loads,
    "/etc/containers/certs.d/*/ca.crt": like(r"-----BEGIN CERTIFICATE-----\n[^-]*-----END .*\n"),
    "/etc/keepalived/keepalived.conf": formats.keepalived_config,
    "/etc/nginx/sites-available/airflow": nginx,
    "/etc/postgresql/*/conf.d/airflow.conf": formats.postgres_config,
    "/etc/postgresql/*/pg_hba.conf": like(r"(#.*\n|local +.* peer\n)+"),
    "/etc/systemd/system/*": formats.Unit.parse,
    "/etc/tmpfiles.d/*.conf": like(r"(#.*\n|[dx] /\S+( 0755 root root -)?\n)+"),
    "/opt/airflow/requirements/*.txt": requirements,
    "/opt/airflow/*.py": python,
    "/usr/local/lib/airflow/python/*.dist-info/METADATA": like(r"([A-Z][\w-]+: .+\n)+"),
    "/usr/local/lib/airflow/python/*.dist-info/entry_points.txt": like(
        r"\[airflow.policy\]\n\w+ = \w+\n"
    ),
    "/opt/airflow/*.sums.new": SUMS,
    "/var/lib/airflow-deploy/*.new": SUMS,
    "/etc/airflow/extra-requirements.txt": requirements,
    "/etc/airflow/uv.toml": tomllib.loads,
    "/etc/airflow/package-authority.pem": like(r"-----BEGIN CERTIFICATE-----\n[^-]*-----END .*\n"),
    "/etc/airflow/database-authority.pem": like(r"-----BEGIN CERTIFICATE-----\n[^-]*-----END .*\n"),
    "/etc/airflow/dags*.env": like(r'#.*\n([A-Za-z_]\w*=".*"\n)*'),
    "/etc/airflow/host.env": like(r"#.*\n([A-Z_]+=.*\n)+"),
    "/usr/local/lib/airflow/*.py": python,
    "/usr/local/lib/airflow/containerd.toml": tomllib.loads,
    "/usr/local/lib/airflow/jwt-keys.conf": formats.Unit.parse,
    "/usr/local/lib/airflow/metrics.yaml": yaml.safe_load,
    "/opt/airflow/image/start-task": python,
    "/etc/airflow/*.json": json.loads,
    "/usr/local/lib/airflow/grants.sql": like(
        r"(?:--.*\n)+set search_path to pg_catalog;\nwith (?:.*\n)+"
    ),
    "/usr/local/bin/airflow-restore": python,
    "/usr/local/bin/airflow-rotate": python,
    "/usr/local/bin/airflow-smoke-test": python,
    "/usr/local/lib/airflow/*": program,
    "/usr/local/bin/airflow*": program,
}


def test_each_file_is_one_of_its_kind(variants: dict[str, Plan]) -> None:
    # Most variants have the same files: each text is read once.
    texts: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for plan in variants.values():
        for path, text in plan.uploads.items():
            kind = next((each for each in KINDS if fnmatch(path, each)), None)
            assert kind, f"add a reader for {path} to KINDS"
            texts[kind].add(text)
    assert [kind for kind, found in texts.items() if not found] == []
    for kind, found in texts.items():
        for text in found:
            KINDS[kind](text)
    programs = {text for kind in KINDS if KINDS[kind] is program for text in texts[kind]}
    assert len(programs) > 10
    assert shell.unreadable(programs) == []


def test_files_that_land_elsewhere_are_of_their_kind() -> None:
    python((FILES / "image/start_task.py").read_text())  # in the worker image
    assert yaml.safe_load((FILES / "etc/prometheus/airflow.rules.yaml").read_text())


def test_a_program_reads_each_value_of_the_host() -> None:
    given = {name for each in fake.every_host().values() for name in host_values.values(each)}
    read = {
        word
        for path in FILES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
        for word in re.findall(r"\w+", path.read_text())
    }
    assert "PGCLUSTER" in read
    assert given - read == {"SERVES"}  # the removal reads it


# Linters


def scripts() -> list[Path]:
    """The shell programs that are no templates, and those that are sent to a bare host as text."""
    found = (path for path in FILES.rglob("*") if path.is_file() and path.suffix != ".j2")
    programs = [path for path in found if path.read_bytes().startswith(b"#!/bin/sh\n")]
    return programs + sorted((ROOT / "tasks").rglob("*.sh"))


def test_shellcheck_and_shfmt_have_nothing_to_say_of_programs() -> None:
    assert len(scripts()) >= 5
    for command in (["shellcheck"], ["shfmt", "-i", "4", "-d"]):
        done = subprocess.run([*command, *scripts()], text=True, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_commit_meets_the_same_linters() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    run = "uv run --quiet --frozen "
    assert all(hook["entry"].startswith(run) for hook in hooks)
    entries = [hook["entry"].removeprefix(run).split() for hook in hooks]
    assert {*(check[0] for check in STATIC_CHECKS), "shfmt"} <= {words[0] for words in entries}
    schemas = {words[-1] for words in entries if words[0] == "check-jsonschema"}
    assert schemas == {f"vendor.{schema}" for schema in SCHEMAS}


# Lines of sh without comments; what needs more is Python, but for these programs and their reasons.
MOST_LINES = 60
NO_PYTHON = "a host may have no Python when it asks: before the first deploy, or after the removal"
COMMANDS = "a list of commands of other programs, in their order; the data are words"
LONG = {
    "files/usr/local/bin/airflow-backup": COMMANDS,
    "files/usr/local/lib/airflow/image-trial.sh": COMMANDS,
    "files/usr/local/lib/airflow/venv.sh": "it makes what Airflow's Python is in",
    "tasks/preflight/database.sh": NO_PYTHON,
    "tasks/preflight/neighbours.sh": NO_PYTHON,
    "tasks/preflight/questions.sh": NO_PYTHON,
    "tasks/remove/keep-used.sh": NO_PYTHON,
    "tasks/remove/node-network.sh": NO_PYTHON,
}


def test_long_programs_are_python_or_have_a_reason() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(re.findall(r"^\s*[^\s#].*$", path.read_text(), re.M))
        for path in scripts()
    }
    assert {path for path, count in lines.items() if count > MOST_LINES} == LONG.keys()


# Programs of sh that name a key of JSON, which needs Python or kubectl, and their reasons.
WITH_JSON = {
    "files/usr/local/lib/airflow/image-trial.sh": "it changes a line of a file of the deploy's own",
    "files/usr/local/lib/airflow/page-answers.sh": "it looks for a word, each 2 seconds",
    "tasks/preflight/questions.sh": NO_PYTHON,
}


def test_programs_that_read_json_are_python_or_have_a_reason() -> None:
    key = re.compile(r"""^\s*[^\s#].*(?<!\w)\\?"[\w$-]+\\?"\s*:""", re.M)
    found = {str(path.relative_to(ROOT)) for path in scripts() if key.search(path.read_text())}
    assert found == WITH_JSON.keys()


def test_ruff_and_mypy_look_at_programs_without_a_suffix() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    there = {
        str(path.relative_to(ROOT))
        for path in (FILES / "usr").rglob("*")
        if path.is_file()
        and path.suffix != ".py"
        and re.match(r'"""|#!/usr/bin/python3', path.read_text())
    }
    assert set(config["ruff"]["extend-include"]) == there
    assert there <= set(config["mypy"]["files"])


def test_programs_use_debians_python_whatever_path_is() -> None:
    """Somebody may have built another one, in /usr/local/bin."""
    texts = [path for path in (FILES / "usr").rglob("*") if path.is_file()]
    texts += (ROOT / "tasks").rglob("*.py")
    texts += (ROOT / "tasks").rglob("*.sh")
    searched = re.compile(r"#!/usr/bin/env|(?<![\w/-])python3 -|command -v python")
    assert [str(path) for path in texts if searched.search(path.read_text())] == []
    places = PATH.split(":")
    assert places.index("/usr/bin") < places.index("/usr/local/bin")


# Warnings of shellcheck about code that is meant so.
MEANT = {
    "SC2046": "words of a list, each an argument",
}


def test_shellcheck_warns_of_no_command_and_no_rendered_program(
    variants: dict[str, Plan],
) -> None:
    texts = {text for plan in variants.values() for text in plan.uploads.values()}
    texts = {text for text in texts if text.startswith("#!/bin/sh\n")}
    for name, plan in variants.items():
        for each in (plan, fake.removal_of(name, False)):
            texts |= {command for operation in each.operations for command in operation.commands}
    # Programs that are sent have their arguments on top; the test above reads the rest of them.
    known = {path.read_text() for path in scripts()}
    texts = {text for text in texts if re.sub(r"\nset -- .*", "", text, count=1) not in known}
    assert texts
    remarks = shell.remarks(texts)
    assert [each for each in remarks if not any(f"[{code}]" in each for code in MEANT)] == []
    # None is allowed that nobody needs.
    assert all(any(f"[{code}]" in each for each in remarks) for code in MEANT)

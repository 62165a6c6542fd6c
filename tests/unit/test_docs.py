"""The documentation is true where a program can tell: links, lengths, and tables of the code."""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import layout, remove
from tasks.airflow import services, timers
from tasks.layout import ROOT
from tasks.settings import RENAMED, SECTIONS, SETTINGS
from tests import stories
from tests.unit import fake, settings_table
from tests.unit.formats import Unit
from tests.unit.markdown import code, documents, prose, section, table, tracked

README_LINES = 260

README = ROOT / "README.md"
INVENTORIES = ROOT / "inventories/README.md"
CHANGES = ROOT / ".github/CHANGELOG.md"
LEFT_BY_PACKAGES = [folder for all in remove.LEFT_BY_PACKAGES.values() for folder in all]


@functools.cache
def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a file's headings."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = found[anchor] = found.get(anchor, -1) + 1
        result.add(f"{anchor}-{number}" if number else anchor)
    return result


def broken(link: str, folder: Path, document: Path | None = None) -> str:
    """Why a relative link leads nowhere from a folder; empty if it leads somewhere."""
    name, _, anchor = link.partition("#")
    target = (folder / name).resolve() if name else document
    assert target, f"{link} stands in no document"
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and anchor not in anchors(target):
        return f"{link}: {target.name} has no such heading"
    return ""


# Links and lengths


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    relative = [link for link in links if not re.match(r"https?://", link)]
    assert not [why for link in relative if (why := broken(link, path.parent, path))]


def test_every_document_is_linked_from_another_one() -> None:
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in documents()
        for link in re.findall(r"\]\(([^)\s:]+)\)", prose(path))
        if not link.startswith("#")
    }
    assert {*documents()} - linked <= {README}


def test_documents_that_code_names_are_there() -> None:
    names = re.compile(r"(?<![\w/.])((?:[\w.-]+/)*[A-Z]+\.md(?:#[\w-]+)?)")
    wrong = []
    for path in tracked():
        if path.suffix not in (".py", ".j2", ".yaml", ".yml", ".toml", ".sh"):
            continue
        for name in names.findall(path.read_text()):
            # From the top, or beside the file that names it.
            if all(broken(name, place) for place in (ROOT, path.parent, ROOT / ".github")):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= README_LINES


# Settings and inventories


def test_sections_are_documented_in_their_order() -> None:
    headings = re.findall(r"^## (.*)$", prose(INVENTORIES), re.MULTILINE)
    without_settings = ("Examples", "Several hosts")
    sections = [heading for heading in headings if heading not in without_settings]
    assert sections == [*settings_table.HEADINGS]


@pytest.mark.parametrize("heading", settings_table.HEADINGS)
def test_settings_are_documented(heading: str) -> None:
    expected = settings_table.table(heading)
    assert section(INVENTORIES, f"## {heading}").startswith(f"\n{expected}\n"), (
        "paste the output of `python -m tests.unit.settings_table`"
    )


def test_the_tables_have_nothing_that_markdown_takes_for_a_border() -> None:
    rows = [row for heading in settings_table.HEADINGS for row in settings_table.rows(heading)]
    assert all("|" not in cell for row in rows for cell in row)


def test_settings_that_are_named_exist() -> None:
    prefixes = [*SECTIONS, "crictl", "kubectl"]
    allowed = {*SETTINGS, *metrics()}
    for path in documents():
        words = [word for span in code(prose(path)) for word in re.findall(r"\w+", span)]
        named = {word for word in words if re.match(rf"({'|'.join(prefixes)})_[a-z]", word)}
        old = RENAMED.keys() if path == CHANGES else set()
        assert named <= allowed | old, path.relative_to(ROOT)


def test_new_names_of_settings_are_documented() -> None:
    rows = table(section(CHANGES, "## Unreleased"), "Old name")
    assert [[code(cell)[0] for cell in row] for row in rows] == [
        [old, new] for old, new in RENAMED.items()
    ]


def test_example_inventories_are_listed() -> None:
    folder = INVENTORIES.parent
    paths = [*sorted(folder.glob("*.py")), *sorted((folder / "examples").glob("*.py"))]
    expected = []
    for path in paths:
        name = path.relative_to(folder)
        first, _, _ = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")
        expected.append([f"[{name}]({name})", first])
    assert table(section(INVENTORIES, "## Examples"), "Inventory") == expected


# Programs on the host


def test_timers_are_documented() -> None:
    plan = fake.plan(fake.settings(fake.VARIANTS["metrics"]))
    expected = {}
    for name in timers.TIMERS:
        unit = Unit.of(plan, f"airflow-{name}.timer")
        (when,) = unit.all("Timer.OnCalendar") + unit.all("Timer.OnUnitInactiveSec")
        expected[f"`airflow-{name}`"] = when
    rows = table(section(INVENTORIES, "## Retention and backups"), "Timer")
    assert {name: code(when)[0] for name, when, _, _ in rows} == expected


def test_a_timer_goes_with_its_setting() -> None:
    rows = table(section(INVENTORIES, "## Retention and backups"), "Timer")
    documented = {key: name.strip("`") for name, _, _, cell in rows for key in code(cell)}
    for key, name in documented.items():
        rules = SETTINGS[key].field.metadata
        if any(getattr(rule, "ge", None) == 0 for rule in rules):
            wanted = timers.wanted(fake.settings({**fake.VARIANTS["metrics"], key: 0}))
            assert timers.TIMERS.keys() - set(wanted) == {name.removeprefix("airflow-")}


def metrics() -> dict[str, list[str]]:
    """The labels of each figure of the endpoint for Prometheus."""
    text = (ROOT / "files/usr/local/lib/airflow/metrics.yaml").read_text()
    queries: dict[str, Any] = yaml.safe_load(text)
    found: dict[str, list[str]] = {}
    for name, query in queries.items():
        usage = {column: of["usage"] for each in query["metrics"] for column, of in each.items()}
        labels = [column for column, kind in usage.items() if kind == "LABEL"]
        found |= {f"{name}_{column}": labels for column, kind in usage.items() if kind != "LABEL"}
    return found


def test_metrics_are_documented() -> None:
    expected = {
        f"`{name}{{{','.join(labels)}}}`" if labels else f"`{name}`"
        for name, labels in metrics().items()
    }
    rows = table(section(INVENTORIES, "## Metrics"), "Figure")
    assert {figure for figure, _ in rows} == expected


def test_services_have_the_secrets_that_the_readme_says() -> None:
    rows = table(section(README, "## How the parts fit"), "Service")
    documented = {row[0]: (row[1].strip("`"), tuple(code(row[2]))) for row in rows}
    assert documented == {
        f"`airflow-{each.name}`": (each.user, each.secrets) for each in services.SERVICES
    }


def test_names_that_can_be_rotated_are_documented() -> None:
    program = (ROOT / "files/usr/local/bin/airflow-rotate").read_text()
    (table_of_names,) = re.findall(r"^ROTATE = {$(.*?)^}$", program, re.MULTILINE | re.DOTALL)
    rows = table(section(README, "## Day two"), "Name")
    assert [code(row[0])[0] for row in rows] == re.findall('"(.*)":', table_of_names)


def test_commands_of_day_two_exist() -> None:
    programs = {path.name.removesuffix(".j2") for path in (ROOT / "files/usr/local/bin").iterdir()}
    programs.add(Path(layout.ROLLBACK).name)
    named = set(re.findall(r"sudo (airflow[\w-]*)", README.read_text()))
    assert named and named <= programs


def test_messages_of_the_troubleshooting_are_said() -> None:
    rows = table(section(README, "## Something is wrong?"), "What you see")
    seen = [message for row in rows for message in re.findall("“(.+?)”", row[0])]
    sources = [*(ROOT / "tasks").rglob("*.py"), *(ROOT / "files/usr/local").rglob("*")]
    said = "\n".join(path.read_text() for path in sources if path.is_file())
    assert seen and not [message for message in seen if message not in said]


# Files on the host


def on_the_host() -> list[str]:
    """The paths that the README says the deploy puts on the host, as patterns."""
    rows = table(section(README, "## What it puts on the host, and how to undo it"), "What")
    return [path for row in rows for path in code(row[1]) if path.startswith("/")]


def covered(path: str, patterns: list[str]) -> bool:
    """Whether a path is one of these or lies below one."""
    return any(fnmatch.fnmatch(path, each) or path.startswith(f"{each}/") for each in patterns)


def test_the_readme_lists_each_file_that_a_deploy_writes(any_host: fake.Plan) -> None:
    patterns = on_the_host()
    written = list(any_host.uploads)
    assert written and not [path for path in written if not covered(path, patterns)]


def test_the_readme_and_the_map_have_the_same_places() -> None:
    documented, places = on_the_host(), [place.path for place in layout.PLACES]
    assert not [path for path in places if not covered(path, documented)]
    # Kubernetes' own places are a list of the removal, and Debian's packages have theirs.
    others = [*remove.NODE, "/root/.kube", *LEFT_BY_PACKAGES, "/etc/nginx"]
    known = [path.removesuffix("*").removesuffix("/") for path in (*places, *others)]
    assert not [
        path for path in documented if not covered(path.rstrip("*"), [*known, *places, *others])
    ]


def test_the_map_has_each_place_that_a_deploy_writes(any_host: fake.Plan) -> None:
    places = [place.path for place in layout.PLACES]
    others = [*LEFT_BY_PACKAGES, remove.MINIKUBE]
    written = [path for path in any_host.uploads if not covered(path, [*places, *others])]
    assert any_host.uploads and not written


def test_each_place_of_the_map_has_one_description() -> None:
    paths = [place.path for place in layout.PLACES]
    assert len(paths) == len(set(paths))
    assert all(place.description for place in layout.PLACES)


def test_the_readme_lists_all_listeners() -> None:
    rows = table(section(README, "### Who listens"), "Who")
    assert rows == [
        [each.who, each.address, each.port, each.purpose, "yes" if each.is_open else "no"]
        for each in layout.LISTENERS
    ]
    ports = set(re.findall(r"\d+", " ".join(each.port for each in layout.LISTENERS)))
    public = fake.settings({"web_host": "0.0.0.0"})
    assert {str(port) for port in (layout.API_SERVER_PORT, *public.ports.values())} <= ports
    for key in [*public.ports, "metrics_port"]:
        assert any(f"`{key}`" in each.port for each in layout.LISTENERS), key


# Code and tests


def test_modules_are_listed() -> None:
    text = (ROOT / "tasks/README.md").read_text()
    listed = [re.findall(r"\((.*?)\)", row[0])[0] for row in table(text, "Module")]
    modules = (path.relative_to(ROOT / "tasks") for path in (ROOT / "tasks").rglob("*.py"))
    assert sorted(listed) == sorted(str(path) for path in modules if path.name != "__init__.py")


def test_the_import_law_is_told() -> None:
    law = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in law["contracts"])
    assert "\n".join(layers) in (ROOT / "tasks/README.md").read_text()


# Modules that are tables of facts, so others take only constants from them.
TABLES = {
    "tasks.layout": "the map of the host",
    "tasks.settings.reserved": "options of other programs that settings refuse",
}


def taken(tree: ast.Module, modules: Collection[str]) -> dict[str, set[str]]:
    """The names that a module takes from each of the modules that it imports."""
    found: dict[str, set[str]] = {}
    called = {}  # modules by their names in this one
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                if (whole := f"{node.module}.{each.name}") in modules:
                    called[each.asname or each.name] = whole
                elif node.module in modules:
                    found.setdefault(node.module, set()).add(each.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in called:
            found.setdefault(called[ast.unparse(node.value)], set()).add(node.attr)
    return found


def for_constants(tree: ast.Module, modules: Collection[str]) -> list[str]:
    """The modules from which a module takes nothing but constants."""
    return [
        module for module, names in taken(tree, modules).items() if all(map(str.isupper, names))
    ]


def test_no_module_imports_another_only_for_a_constant() -> None:
    paths = [ROOT / "deploy.py", *(ROOT / "tasks").rglob("*.py")]
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in paths}
    modules = {
        path: ".".join(each[:-1] if each[-1] == "__init__" else each)
        for path, each in parts.items()
    }
    found = {
        (module, another)
        for path, module in modules.items()
        for another in for_constants(ast.parse(path.read_text()), modules.values())
    }
    assert {pair for pair in found if pair[1] not in TABLES} == set()
    # Each of them still is one.
    assert {another for _, another in found} == TABLES.keys()


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("from a import X", ["a"]),
        ("from a import X, y", []),
        ("from a import b\nprint(b.X)", ["a.b"]),
        ("from a import b as c\nprint(c.X, c.y)", []),
        ("from a import b, X\nb.y()", ["a"]),
        ("import os\nfrom os import X\nprint(os.Y)", []),
    ],
)
def test_an_import_for_a_constant_would_be_noticed(text: str, modules: list[str]) -> None:
    assert for_constants(ast.parse(text), ["a", "a.b"]) == modules


def test_the_table_of_contents_is_short() -> None:
    tree = ast.parse((ROOT / "deploy.py").read_text())
    (function,) = (
        each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "deploy"
    )
    calls = [ast.unparse(each) for each in ast.walk(function) if isinstance(each, ast.Call)]
    assert "minikube.start(settings)" in calls
    assert len(calls) <= 25, calls


def test_stories_are_listed() -> None:
    assert f"```\n{stories.listing()}\n```" in (ROOT / "tests/README.md").read_text(), (
        "paste the output of ./tests/run list"
    )

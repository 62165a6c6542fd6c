"""Python packages: uv itself, Airflow's version, the bounds in pyproject.toml, and the locks.

uv decides which versions go together, by the requirements of Airflow and of its providers.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pins import sources
from tests.pins.pin import Files, Found, Refused, Row, newest, numbers

PROJECT, LOCK = "pyproject.toml", "uv.lock"
REQUIREMENTS = "files/opt/airflow/requirements"
UV_LOCK = f"{REQUIREMENTS}/uv.txt"
AIRFLOW_SETTINGS, SETTINGS_TEXT = "tasks/settings/airflow.py", "inventories/README.md"
FORMAT = ("--no-header", "--no-annotate")
# A requirement of pyproject.toml. An upper bound is one of: ==9.*, ==10.2.*, <37.
REQUIREMENT = re.compile(r'"(?P<name>[A-Za-z0-9_.-]+)(?P<bounds>[=<>][^"]*)"')
UPPER = re.compile(r"==(?P<prefix>[\d.]+)\.\*|<(?P<limit>[\d.]+)")
# The first two have pins of their own. The others hold packages back for providers that only hosts
# install, as pyproject.toml says, so that a person widens them.
NOT_BOUNDS = ("apache-airflow", "uv_build", "importlib-metadata", "protobuf", "tenacity")


def look_at_uv(root: Path) -> Found:
    """The newest uv; hosts install it from its own lock, and the build of this project uses it."""
    project = (root / PROJECT).read_text()
    before = _only(r"^uv==(\S+)", (root / UV_LOCK).read_text())
    words = ("--quiet", "--universal", "--generate-hashes", "--python-version", _python(project))
    text = sources.uv(root, "pip", "compile", *words, *FORMAT, "-", given="uv\n")
    after = newest(before, _only(r"^uv==(\S+)", text))

    def files() -> Files:
        major, minor = numbers(after)[:2]
        bounds = f"uv_build>={major}.{minor},<{major}.{minor + 1}"
        return {UV_LOCK: text, PROJECT: re.sub(r"uv_build>=[\d.]+,<[\d.]+", bounds, project)}

    return Found([Row("uv", before, after)], files)


def look_at_airflow(root: Path) -> Found:
    """The newest Airflow: the default of the setting, and a lock file of its own."""
    project, lock = (root / PROJECT).read_text(), (root / LOCK).read_text()
    before = airflow(project)
    offered = sources.newest_packages(["apache-airflow"], _python(project))
    after = newest(before, offered["apache-airflow"])

    def files() -> Files:
        new = with_airflow(project, after)
        settings, text = (root / AIRFLOW_SETTINGS).read_text(), (root / SETTINGS_TEXT).read_text()
        return {
            **_locked(root, new, resolve(new, lock)),
            AIRFLOW_SETTINGS: settings.replace(f'default="{before}"', f'default="{after}"'),
            SETTINGS_TEXT: text.replace(f'| `"{before}"` |', f'| `"{after}"` |').replace(
                f"{REQUIREMENTS}/{before}.txt", f"{REQUIREMENTS}/{after}.txt"
            ),
        }

    return Found([Row("apache-airflow", before, after)], files)


def look_at_bounds(root: Path) -> Found:
    """The upper bounds in pyproject.toml, each with the newest release of its package."""
    project, lock = (root / PROJECT).read_text(), (root / LOCK).read_text()
    bounded = {
        each["name"]: each["bounds"]
        for each in REQUIREMENT.finditer(project)
        if each["name"] not in NOT_BOUNDS and UPPER.search(each["bounds"])
    }
    rows, new, new_lock = [], project, lock
    offered = sources.newest_packages([*bounded], _python(project))
    for name, before in bounded.items():
        after, note = widened(before, offered[name]), offered[name]
        if after != before:
            tried = new.replace(f'"{name}{before}"', f'"{name}{after}"')
            try:
                wanted = f"{name}=={offered[name]}"
                new_lock = resolve(tried, new_lock, "--upgrade-package", wanted)
                new = tried
            except Refused as why:
                after, note = before, f"{offered[name]} does not go with the others: {why}"
        rows.append(Row(name, before, after, note))
    return Found(rows, lambda: _locked(root, new, new_lock))


def look_at_locks(root: Path) -> Found:
    """The newest versions within the bounds, for uv.lock and each lock file of the hosts."""
    project, lock = (root / PROJECT).read_text(), (root / LOCK).read_text()
    new = resolve(project, lock, "--upgrade")
    before, after = versions(lock), versions(new)
    rows = [
        Row(name, before.get(name, "none"), after.get(name, "none"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    # Without another version, the texts differ only in details of the index.
    files = _locked(root, project, new if rows else lock)
    for name in files:
        if name.startswith(REQUIREMENTS):
            there = (root / name).exists()
            old = pinned((root / name).read_text()) if there else set()
            now = pinned(files[name])
            if now != old:
                other = f"{len(now - old)} of {len(now)} packages differ"
                rows.append(Row(Path(name).name, "as here" if there else "none", other))
    rows.insert(0, Row(LOCK, f"{len(before)} packages", f"{len(after)} packages"))
    return Found(rows, lambda: files)


def resolve(project: str, lock: str, *words: str) -> str:
    """The uv.lock for a pyproject.toml, from another uv.lock."""
    with _folder(project, lock) as folder:
        sources.uv(folder, "lock", *words)
        return with_lines_of(lock, (folder / LOCK).read_text())


def with_lines_of(before: str, after: str) -> str:
    """An uv.lock with the earlier lines of the packages that did not change.

    An index may tell sizes and times now that it did not tell then.
    """

    def essence(package: str) -> str:
        return re.sub(r', (size = \d+|upload-time = "[^"]*")', "", package)

    start = "\n[[package]]\n"
    known = {essence(package): package for package in before.split(start)}
    return start.join(known.get(essence(package), package) for package in after.split(start))


def airflow(project: str) -> str:
    """The version of Airflow in pyproject.toml."""
    return _only(r'"apache-airflow==([\d.]+)"', project)


def with_airflow(project: str, version: str) -> str:
    """A pyproject.toml with another version of Airflow."""
    return re.sub(r'"apache-airflow==[\d.]+"', f'"apache-airflow=={version}"', project)


def versions(lock: str) -> dict[str, str]:
    """The packages of an uv.lock from an index, with their version or versions."""
    found: dict[str, list[str]] = {}
    for package in tomllib.loads(lock)["package"]:
        if "registry" in package["source"]:
            found.setdefault(package["name"], []).append(package["version"])
    return {name: ", ".join(sorted(all, key=numbers)) for name, all in found.items()}


def pinned(text: str) -> set[str]:
    """The packages of a lock file of hosts, with their versions and markers."""
    return set(re.findall(r"^([^\s#]+==[^\\\n]*)", text, re.MULTILINE))


def widened(bounds: str, version: str) -> str:
    """The bounds of a requirement, moved if they exclude a version."""

    def moved(bound: re.Match[str]) -> str:
        if prefix := bound["prefix"]:
            length = len(numbers(prefix))
            return f"=={'.'.join(map(str, numbers(version)[:length]))}.*"
        limit = numbers(bound["limit"])
        if numbers(version) < limit:
            return bound[0]
        *kept, last = numbers(version)[: len(limit)]
        return f"<{'.'.join(map(str, [*kept, last + 1]))}"

    return UPPER.sub(moved, bounds)


def _locked(root: Path, project: str, lock: str) -> Files:
    """The files that belong to a pyproject.toml and its uv.lock, without those that stay."""
    files = {PROJECT: project, LOCK: lock}
    groups = tomllib.loads(project)["dependency-groups"]
    current = airflow(project)
    names = {path.stem for path in (root / REQUIREMENTS).glob("*.txt")} - {Path(UV_LOCK).stem}
    for name in sorted(names | {current}):
        path = f"{REQUIREMENTS}/{name}.txt"
        if name in (current, *groups):
            files[path] = exported(project, lock, name if name in groups else "airflow")
        elif re.fullmatch(r"[\d.]+", name):
            older = with_airflow(project, name)
            text = exported(older, resolve(older, lock), "airflow")
            # Another release of the index's details is no reason to build a host's venv again.
            if pinned(text) != pinned((root / path).read_text()):
                files[path] = text
        else:
            raise Refused(f"{path}: name it by a version of Airflow or a group of pyproject.toml")
    return {
        name: text
        for name, text in files.items()
        if not (root / name).exists() or (root / name).read_text() != text
    }


def exported(project: str, lock: str, group: str) -> str:
    """The lock file of a group of pyproject.toml."""
    with _folder(project, lock) as folder:
        words = ("--quiet", "--frozen", "--only-group", group, "--no-emit-project", *FORMAT)
        return sources.uv(folder, "export", *words)


@contextmanager
def _folder(project: str, lock: str) -> Iterator[Path]:
    """A project that uv reads, beside the real one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / PROJECT).write_text(project)
        (folder / LOCK).write_text(lock)
        yield folder


def _python(project: str) -> str:
    """The oldest Python that the project supports."""
    return _only(r'^requires-python = ">=([\d.]+)"', project)


def _only(expression: str, text: str) -> str:
    found = re.search(expression, text, re.MULTILINE)
    if found is None:
        raise Refused(f"{expression} is nowhere: a pin has moved, so correct tests/pins")
    return found[1]

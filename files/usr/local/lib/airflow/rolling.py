#!/usr/bin/python3 -B
"""rolling.py check VENV: several hosts may change one by one from the virtual environment in use to
VENV, the name of another one, while the others still run the former.
Written by the deploy of Airflow.

Airflow allows it where the database's schema stays as it is («Live-upgrading Airflow» in its
documentation of production deployments). Both environments say in their files where their schema
ends, and how they talk to tasks and to each other. Anything that they do not say counts as a
change.
"""

import ast
import configparser
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib import fail, host, usage

# Folders of migrations, as MIGRATED has their heads: Airflow's own and the login's.
RECORDED = ("airflow/migrations/versions", "airflow/providers/fab/migrations/versions")
# The values that both environments must have in common, by their places in an environment.
SAID = {
    "airflow/sdk/api/datamodels/_generated.py": r'^API_VERSION\b.* = "(.+)"$',  # pods ask in it
    "airflow/serialization/serialized_objects.py": r"^    SERIALIZER_VERSION = (\d+)$",  # of DAGs
}
WORKLOADS = "airflow/executors/workloads"  # the work that a scheduler hands to a pod


class Unknown(Exception):
    """Why it is not certain that the hosts may change one by one."""


def packages(venv: Path) -> Path:
    """The folder of an environment's packages."""
    found = [*venv.glob("lib/python3*/site-packages")]
    if not (venv / ".complete").exists() or len(found) != 1:
        raise Unknown(f"{venv} is not complete")
    return found[0]


def heads(folder: Path) -> list[str]:
    """The migrations of a folder that no other one follows."""
    revisions, followed = set(), set()
    for file in folder.glob("*.py"):
        values = dict(_assigned(file))
        if "revision" in values:
            revisions.add(values["revision"])
            before = values.get("down_revision")
            followed |= {*before} if isinstance(before, tuple | list) else {before}
        elif file.name != "__init__.py":
            raise Unknown(f"{file} is no migration")
    return sorted(map(str, revisions - followed))


def _assigned(file: Path) -> Iterator[tuple[str, object]]:
    """The names of a migration and of the one before it."""
    for line in ast.parse(file.read_text()).body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
                assert isinstance(line, ast.Assign | ast.AnnAssign) and line.value
                yield target.id, ast.literal_eval(line.value)


def schema(venv: Path) -> Mapping[str, list[str]]:
    """The heads of all folders of migrations, also those of additional packages."""
    root = packages(venv)
    # Beside the versions, Alembic needs this file.
    folders = {file.with_name("versions") for file in root.rglob("env.py")}
    return {str(each.relative_to(root)): heads(each) for each in folders if each.is_dir()}


def language(venv: Path) -> dict[str, str]:
    """How an environment talks to tasks and to others."""
    root, found = packages(venv), {}
    for name, pattern in SAID.items():
        matches = re.findall(pattern, (root / name).read_text(), re.MULTILINE)
        if len(matches) != 1:
            raise Unknown(f"{root / name} does not say its version")
        found[name] = matches[0]
    files = sorted((root / WORKLOADS).glob("*.py"))
    if not files:
        raise Unknown(f"{root / WORKLOADS} is missing")
    text = b"".join(file.name.encode() + file.read_bytes() for file in files)
    return found | {WORKLOADS: hashlib.sha256(text).hexdigest()}


def check(wanted: str) -> None:
    """Raise Unknown unless the hosts may change one by one."""
    config = configparser.RawConfigParser(strict=False)
    config.read(host()["CONFIG"])
    if managers := config.get("database", "external_db_managers", fallback=""):
        raise Unknown(f"{managers} may change the schema in ways of their own")
    migrated = Path(host()["MIGRATED"])
    present, *recorded = migrated.read_text().split() if migrated.exists() else [""]
    old, new = (Path(host()["VENVS"]) / name for name in (present, wanted))
    before, after = schema(old), schema(new)
    # It shows that the files are read as Airflow reads them, and the database is as they say.
    if [before.get(name) for name in RECORDED] != [[each] for each in recorded]:
        raise Unknown(f"the database is not at the end of the migrations of {old}")
    for one, other in ((before, after), (language(old), language(new))):
        if changed := sorted(name for name in {*one, *other} if one.get(name) != other.get(name)):
            raise Unknown(f"{old} and {new} differ in {', '.join(changed)}")


def main() -> None:
    """Fail with the reason if they may not."""
    if sys.argv[1:2] != ["check"] or len(sys.argv) != 3:
        usage()
    try:
        check(sys.argv[2])
    except (Unknown, OSError, ValueError, SyntaxError, AssertionError, configparser.Error) as error:
        fail(f"all hosts should stop for the upgrade: {error}")


if __name__ == "__main__":
    main()

#!/usr/bin/python3 -B
"""git-clones.py check|apply USER...: these users of the host have no clone of a DAG bundle that
Airflow could not use. Written by the deploy of Airflow.

Airflow would keep asking the address that it cloned a bundle from, and would never find a branch
that is younger than its clone: https://github.com/apache/airflow/issues/71388. Without the clone it
clones again.
"""

import configparser
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib import fail, host, usage

SECONDS = 60
IS_OF = 'test ! -e "$1" || test "$(git config -f "$1" remote.origin.url)" = "$2"'
HAS_BRANCH = """cd "$1" 2>/dev/null || exit 0
git rev-parse --verify --quiet "origin/$2" || git rev-parse --verify --quiet "$2" """
# The user may have closed a folder to itself.
REMOVE = 'chmod -R u+rwX "$1"; rm -rf "$1"; test ! -e "$1"'


def git_bundles(config: str) -> dict[str, dict[str, Any]]:
    """The options of each bundle that is a git repository, by its name, from airflow.cfg."""
    parser = configparser.ConfigParser()
    parser.read(config)
    bundles = json.loads(parser["dag_processor"]["dag_bundle_config_list"])
    return {each["name"]: each["kwargs"] for each in bundles if "repo_url" in each["kwargs"]}


def as_user(user: str, script: str, *arguments: str) -> bool:
    """Whether a shell script of this user ends with 0, in time.

    The user decides the content of a clone: links, pipes and programs that git starts. So root
    itself looks at nothing there, reads no output, and does not wait.
    """
    limited = ["timeout", "--signal=KILL", str(SECONDS), "sh", "-c", script, "sh", *arguments]
    done = subprocess.run(
        ["runuser", "-u", user, "--", *limited],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",  # which every user may enter
        check=False,
    )
    return done.returncode == 0


def problem(user: str, clone: Path, options: dict[str, Any]) -> str | None:
    """Why Airflow could not use a clone, None if it could or if there is no clone."""
    if not as_user(user, IS_OF, str(clone / "bare/config"), options["repo_url"]):
        return f"{clone} is no clone of {options['repo_url']}"
    branch = options.get("tracking_ref")
    if branch and not as_user(user, HAS_BRANCH, str(clone / "tracking_repo"), branch):
        return f"{clone} does not have the branch {branch}"
    return None


def unusable(users: list[str]) -> Iterator[tuple[str, Path, str]]:
    """The clones that Airflow could not use, each with its user and the reason."""
    for user in users:
        for name, options in git_bundles(host()["CONFIG"]).items():
            clone = Path(host()["HOMES"], user, host()["BUNDLES"], name)
            if reason := problem(user, clone, options):
                yield user, clone, reason


def main() -> None:
    """Check or apply."""
    match sys.argv[1:]:
        case ["check", _, *_]:
            for _, _, reason in unusable(sys.argv[2:]):
                fail(reason)
        case ["apply", _, *_]:
            for user, clone, _ in unusable(sys.argv[2:]):
                if not as_user(user, REMOVE, str(clone)):
                    fail(f"{user} can't remove {clone} within {SECONDS} s: look at it")
        case _:
            usage()


if __name__ == "__main__":
    main()

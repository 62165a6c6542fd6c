#!/usr/bin/env -S python3 -B
"""git-clones.py check|apply USER...: these users of the host have no clone of a DAG bundle that
Airflow could not use. Written by the deploy of Airflow.

Airflow would keep asking the address that it cloned a bundle from, and would never find a branch
that is younger than its clone: https://github.com/apache/airflow/issues/71388. Without the clone it
clones again.
"""

import configparser
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def host_values() -> dict[str, str]:
    """The values of this host."""
    path = os.environ.get("AIRFLOW_HOST_ENV", "/etc/airflow/host.env")
    words = shlex.split(Path(path).read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


def git_bundles(config: str) -> dict[str, dict[str, Any]]:
    """The options of each bundle that is a git repository, by its name, from airflow.cfg."""
    parser = configparser.ConfigParser()
    parser.read(config)
    bundles = json.loads(parser["dag_processor"]["dag_bundle_config_list"])
    return {each["name"]: each["kwargs"] for each in bundles if "repo_url" in each["kwargs"]}


def succeeds(*command: str) -> bool:
    """Whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def problem(user: str, clone: Path, options: dict[str, Any]) -> str | None:
    """Why Airflow could not use a clone, None if it could or if there is no clone."""
    bare, repository = clone / "bare/config", clone / "tracking_repo"
    if bare.exists():
        asked = ["git", "config", "-f", str(bare), "remote.origin.url"]
        address = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if address != options["repo_url"]:
            return f"{clone} is a clone of {address or 'an unknown address'}"
    branch = options.get("tracking_ref")
    if branch and repository.exists():
        # As its owner: git refuses a repository of another user.
        known = ["runuser", "-u", user, "--", "git", "-C", str(repository), "rev-parse"]
        known += ["--verify", "--quiet"]
        if not (succeeds(*known, f"origin/{branch}") or succeeds(*known, branch)):
            return f"{clone} does not have the branch {branch}"
    return None


def unusable(values: dict[str, str], users: list[str]) -> Iterator[tuple[Path, str]]:
    """The clones that Airflow could not use, each with the reason."""
    for user in users:
        for name, options in git_bundles(values["CONFIG"]).items():
            clone = Path(values["HOMES"], user, values["BUNDLES"], name)
            if reason := problem(user, clone, options):
                yield clone, reason


def main() -> None:
    """Check or apply."""
    match sys.argv[1:]:
        case ["check", _, *_]:
            for _, reason in unusable(host_values(), sys.argv[2:]):
                sys.exit(reason)
        case ["apply", _, *_]:
            for clone, _ in unusable(host_values(), sys.argv[2:]):
                shutil.rmtree(clone)
        case _:
            print("usage: git-clones.py check|apply USER...", file=sys.stderr)
            sys.exit(2)


main()

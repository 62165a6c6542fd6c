"""git-ask.py: ask each git repository of the DAG bundles whether it lets Airflow in, and whether it
has the branch and the folder. Written by the deploy of Airflow; git-asked.sh starts it in Airflow's
virtual environment, with the rights of its services.

Prints a sentence for each repository that does not, and ends with 1.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping

# As in the dag-processor: connections come from the database.
os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"

from airflow.configuration import conf
from airflow.exceptions import AirflowNotFoundException
from airflow.providers.git.hooks.git import GitHook
from lib import usage

SECONDS = 60
# Lines of git and ssh that do not say why they failed.
NO_NEWS = "Warning: Permanently added|Permission denied, please try|Please make sure|and the repos"


class Refused(Exception):
    """A repository can't be used: the reason, and the cure."""


def git(env: Mapping[str, str], *arguments: str) -> str:
    """The output of git. Raises Refused with git's own words if it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"it does not answer within {SECONDS} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if not re.match(NO_NEWS, line)]
        raise Refused(" ".join(said) or f"git ends with {done.returncode}")
    return done.stdout


def hook_of(connection: str | None, url: str) -> GitHook | None:
    """The connection as Airflow's bundle uses it, None without one."""
    if not connection:
        return None
    try:
        return GitHook(git_conn_id=connection, repo_url=url)
    except AirflowNotFoundException:
        raise Refused(
            f"there is no connection {connection}: add it to airflow_connections, or make it in"
            " the web page and run the deploy again"
        ) from None


def ask(url: str, branch: str, folder: str | None, connection: str | None) -> None:
    """Raise Refused unless the repository has the branch and the folder."""
    hook = hook_of(connection, url)
    with hook.configure_hook_env() if hook else contextlib.nullcontext():
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", **(hook.env if hook else {})}
        names = git(env, "ls-remote", url)
        found = dict.fromkeys(
            re.findall(r"refs/(?:heads|tags)/(\S+?)(?:\^{})?$", names, re.MULTILINE)
        )
        if branch not in found:
            if re.fullmatch("[0-9a-f]{40}", branch):
                return
            there = ", ".join(list(found)[:10]) or "none"
            raise Refused(
                f"it has no branch or tag {branch}, but: {there}; push it, or name another one, and"
                " run the deploy again"
            )
        if folder:
            with tempfile.TemporaryDirectory() as clone:
                git(env, "init", "--quiet", "--bare", clone)
                git(env, "-C", clone, "fetch", "--quiet", "--depth=1", url, branch)
                try:
                    git(env, "-C", clone, "cat-file", "-e", f"FETCH_HEAD:{folder}")
                except Refused:
                    raise Refused(f"its branch {branch} has no folder {folder}") from None


def main() -> None:
    """Ask all of them."""
    if sys.argv[1:]:
        usage()
    refused = False
    for bundle in conf.getjson("dag_processor", "dag_bundle_config_list"):
        options = bundle["kwargs"]
        if "repo_url" not in options:
            continue
        names = ("repo_url", "tracking_ref", "subdir", "git_conn_id")
        try:
            ask(*map(options.get, names))
        except Refused as why:
            refused = True
            print(
                f"dags_git_bundles: {bundle['name']}: {options['repo_url']}: {why}",
                file=sys.stderr,
            )
    if refused:
        sys.exit(1)


if __name__ == "__main__":
    main()

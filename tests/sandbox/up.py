"""The commands `up` and `down`: make a machine, deploy, say where to look, and clear up."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from tasks.layout import ROOT
from tests.sandbox import common, disks, engines, machine
from tests.stories import RELEASES

NAME = os.environ.get("AIRFLOW_SANDBOX", "airflow-sandbox")


def deploy(name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the deploy against the machine, its output shown; returns how it ended."""
    command = ["pyinfra", "-y", *arguments, "inventories/sandbox.py", "deploy.py"]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"AIRFLOW_SANDBOX": name}, check=False
    )


def up(release: str, driver: str) -> int:
    """Make the machine and deploy into it; returns the deploy's exit code."""
    made = machine.create(NAME, release, driver)
    if driver != "none":
        engines.prepare(made, driver)
    ended = deploy(NAME)
    if ended.returncode:
        print(f"The deploy failed; its output is above. To look around: {_ssh()}")
        return ended.returncode
    smoke = machine.run(made, "airflow-smoke-test").stdout.strip()
    print(
        f"""
{smoke}

  Web page   https://{made.address} (the browser warns: the machine has a CA of its own)
  User       admin
  Password   {_ssh()} cat /etc/airflow/secrets/admin-password
  Log in     {_ssh()}
  Remove     ./tests/sandbox/down
"""
    )
    return 0


def _ssh() -> str:
    return f"ssh -F {machine.load(NAME).ssh_config} {NAME}"


def down(cache: bool) -> int:
    """Remove the machine; if `cache` is true, all machines and all that was built for them."""
    machine.remove(NAME)
    folder = common.cache_dir()
    if cache:
        for path in disks.folder().glob("[!.]*"):
            machine.remove(path.name)
        disks.unmount()
        shutil.rmtree(folder)
    else:
        print(f"{NAME} is removed. {folder} stays for the next one; down --cache removes it too.")
    return 0


def main(arguments: list[str]) -> int:
    """Run the command line; its first word, which the commands themselves give, is their name."""
    command, *options = arguments
    parser = argparse.ArgumentParser(prog=f"./tests/sandbox/{command}")
    if command == "up":
        parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
        parser.add_argument("--driver", choices=engines.DRIVERS, default="none", help="minikube's")
        chosen = parser.parse_args(options)
        return up(chosen.release, chosen.driver)
    parser.add_argument("--cache", action="store_true", help="also remove all that was built")
    return down(parser.parse_args(options).cache)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except common.SandboxError as problem:
        sys.exit(str(problem))

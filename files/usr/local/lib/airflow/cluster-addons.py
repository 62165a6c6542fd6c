#!/usr/bin/python3 -B
"""cluster-addons.py check|apply ADDON...: minikube's addons ADDON... are enabled. Written by the
deploy of Airflow."""

import json
import os
import subprocess
import sys

from lib import fail, usage

# minikube keeps the state of its cluster in root's home. Its locks have names that anybody could
# take in /tmp; this folder is root's.
ENVIRONMENT = {**os.environ, "HOME": "/root", "TMPDIR": "/run/airflow-deploy"}


def missing(addons: list[str]) -> list[str]:
    """The addons that are not enabled."""
    listed = subprocess.run(
        ["minikube", "addons", "list", "-o", "json"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    known = json.loads(listed.stdout) if listed.returncode == 0 else {}
    return [name for name in addons if known.get(name, {}).get("Status") != "enabled"]


def main() -> None:
    """Compare, or enable all of them; a second time changes nothing."""
    match sys.argv[1:]:
        case ["check", _, *_]:
            if addons := missing(sys.argv[2:]):
                fail(f"minikube's addons are not enabled: {', '.join(addons)}")
        case ["apply", _, *_]:
            for name in sys.argv[2:]:
                command = ["minikube", "addons", "enable", name]
                done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
                if done.returncode:
                    fail(f"minikube does not enable its addon {name}: see above why")
        case _:
            usage()


if __name__ == "__main__":
    main()

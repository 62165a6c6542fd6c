"""A machine on which podman or docker carries the node of minikube: its settings and preparations.

The machine is a container itself. In it only runc knows the control groups, and there is no kernel
with modules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.settings.minikube import ENGINES
from tests.sandbox import kicbase, machine

DRIVERS = ("none", *ENGINES)  # of minikube, that a machine can be made for
OFFLINE_INSIDE = "/srv/offline-node"
# Debian 12's docker gives a privileged container every capability that it knows, and this machine
# may lack one.
_RUNTIME = Path(__file__).with_name("engine-runc.sh")
_RUNTIME_INSIDE = "/usr/local/sbin/sandbox-runc"


def settings(made: machine.Machine, driver: str) -> dict[str, Any]:
    """The settings for the driver that differ from the defaults."""
    offline = {"offline_dir": OFFLINE_INSIDE} if made.offline_dir else {}
    return {"minikube_driver": driver, **offline}


def prepare(made: machine.Machine, driver: str) -> None:
    """Configure the driver's engine, which is not installed here, and bring the node's image.

    Raises SandboxError when the image cannot be made.
    """
    root = made.root
    (root / "usr/lib/modules").mkdir(exist_ok=True)
    if made.offline_dir and not Path(f"{root}{OFFLINE_INSIDE}").exists():
        kicbase.with_kubernetes(Path(f"{root}{OFFLINE_INSIDE}"))
    if driver == "podman":
        # This computer may have control groups of version 1, of which podman 5 warns at each call.
        quiet_podman = 'env = ["PODMAN_IGNORE_CGROUPSV1_WARNING=1"]'
        configuration = f'[engine]\nruntime = "runc"\n{quiet_podman}\n'
        _write(root / "etc/containers/containers.conf", configuration)
        quiet = "DEBIAN_FRONTEND=noninteractive apt-get -qq --no-install-recommends"
        machine.run(made, f"{quiet} update && {quiet} install --yes runc >/dev/null 2>&1")
    elif driver == "docker":
        # Its choice on the machine's btrfs is one with which minikube's node counts no disk.
        daemon: dict[str, object] = {"storage-driver": "overlay2"}
        if not machine.has_sys_resource():
            _write(Path(f"{root}{_RUNTIME_INSIDE}"), _RUNTIME.read_text(), 0o755)
            daemon |= {
                "default-runtime": "sandbox",
                "runtimes": {"sandbox": {"path": _RUNTIME_INSIDE}},
            }
        _write(root / "etc/docker/daemon.json", json.dumps(daemon, indent=2) + "\n")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)

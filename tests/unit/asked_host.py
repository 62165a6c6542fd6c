"""A folder that stands for a host, which is asked about the things of others for real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tasks.preflight.questions import NEIGHBOURS, QUESTIONS
from tests.unit.fake import DEFAULTS


class Host:
    """A folder that stands for a host."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.units = folder / "bin", folder / "units"
        self.root = folder / "of-host"
        text = NEIGHBOURS.read_text().replace("/etc/airflow/", f"{folder}/")
        text = text.replace("/usr/local/lib/airflow/", f"{self.bin}/")
        for path in (
            "/proc/",
            "/sys/fs/cgroup/",
            "/dev/kmsg",
            "/lib/modules/",
            "/etc/apt/",
            "/etc/cni/",
            "/etc/nginx/",
            "/etc/os-release",
            "/etc/kubernetes/",
            "/etc/resolv.conf",
            "/run/systemd/resolve/",
            "/snap/",
            "/usr/lib/systemd/",
            "/var/lib/rancher/",
            "/var/lib/systemd/",
        ):
            text = text.replace(path, f"{self.root}{path}")
        self.neighbours = text
        self.file("/etc/os-release", "VERSION_CODENAME=bookworm\n")
        self.file("/proc/filesystems", "nodev\toverlay\n")
        self.file("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
        self.file("/proc/sys/user/max_user_namespaces", "15000\n")
        self.file("/dev/kmsg")
        self.file("/etc/resolv.conf", "nameserver 192.0.2.53\n")
        for path in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"):
            self.file(f"/proc/sys/{path}", "0\n")
        self.state = folder / "state"
        self.bin.mkdir()
        self.units.mkdir()
        for name in ("pg_lsclusters", "runuser", "ss", "systemctl"):
            self.program(name, "")
        for name in ("dpkg", "dpkg-query", "lslocks"):
            self.program(name, "")
        self.program("getent", "exit 2")
        self.program("ip", "echo default via 192.0.2.1 dev eth0")
        for name in ("nft", "iptables-save", "firewall-cmd", "ctr", "findmnt"):
            self.program(name, "exit 1" if name == "firewall-cmd" else "")
        self.variables = {
            "units_directory": str(self.units),
            "state": str(self.state),
            "smoke_passed": str(self.state / "smoke-test-passed"),
            "own_users": "airflow airflow-dags",
            "airflow_uid": "50000",
            "node_is_host": "yes",
            "pod_network": DEFAULTS.minikube.pod_network,
            "firewall_ports": "8443 8081",
        }

    def file(self, path: str, text: str = "") -> Path:
        """Write a file of the host; returns where it is."""
        file = Path(f"{self.root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def program(self, name: str, script: str) -> None:
        """Add a program in the place of the host's."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def ask(self, *also: str, question: str = "ask_neighbours") -> dict[str, list[str]]:
        """The answers to all questions, or to one.

        Those that depend on this machine or that each host gives are left out, unless named.
        """
        functions = QUESTIONS.read_text().split("\nask_lock\nask_system")[0]
        given = "".join(f"{name}='{value}'\n" for name, value in self.variables.items())
        done = subprocess.run(
            ["sh"],
            input=f"{given}\n{functions}\n{self.neighbours}\n{question}\n",
            env={"PATH": f"{self.bin}:{os.environ['PATH']}"},
            text=True,
            capture_output=True,
            timeout=60,
        )
        answers: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            answers.setdefault(key, []).append(value.rstrip())
        for key in {"hostname", "no_ipv6", "environment_proxy", "uses"}.difference(also):
            answers.pop(key, None)
        return {key: values for key, values in answers.items() if values != [""]}

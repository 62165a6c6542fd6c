"""A throwaway machine as an inventory's host: how to reach it, and the settings that it needs."""

from __future__ import annotations

from typing import Any

from tests.sandbox import engines, machine, offline

# A machine inside a container, with a kubeadm that was built by another Go than the official one:
# HTTPProxyCIDR fails for the Go version's stricter addresses, SystemVerification for a kernel
# configuration that a container can't show.
IGNORED_CHECKS = "--extra-config=kubeadm.ignore-preflight-errors=HTTPProxyCIDR,SystemVerification"


def host(name: str) -> tuple[str, dict[str, Any]]:
    """The machine's name, and its connection data and settings."""
    return name, connection(name) | settings(machine.load(name))


def connection(name: str) -> dict[str, Any]:
    """pyinfra's data to reach the machine by SSH."""
    it = machine.load(name)
    return {
        "ssh_hostname": it.address,
        "ssh_user": "root",
        "ssh_key": str(it.ssh_key),
        "ssh_known_hosts_file": str(it.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }


def settings(it: machine.Machine) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    needed: dict[str, Any] = {
        "web_host": "0.0.0.0",
        "kubernetes_pod_operator": True,
        "minikube_extra_args": [IGNORED_CHECKS],
    }
    if it.offline_dir:
        needed |= {
            "offline_dir": it.offline_dir,
            "minikube_crictl_version": offline.CRICTL.lstrip("v"),
        }
    if it.driver != "none":
        needed |= engines.settings(it, it.driver)
    return needed

"""Airflow reaches an existing cluster through the proxy that its kubeconfig names.

kubectl and the asynchronous client read `proxy-url`. The scheduler makes pods, and the api-server
reads their logs, with the other client, which in version 36 asks the server itself.
"""

from __future__ import annotations

from typing import Any

from airflow_deploy_imports import replace, when_imported

LOADER = "kubernetes.config.kube_config"
HARM = "A cluster behind a proxy-url may be out of reach"


def set_config(own: Any) -> Any:
    """The client has the proxy of its kubeconfig; as for kubectl, variables do not count then."""

    def replaced(self: Any, client_configuration: Any) -> None:
        own(self, client_configuration)
        if "proxy-url" in self._cluster:
            client_configuration.proxy = self._cluster["proxy-url"]
            client_configuration.no_proxy = None

    return replaced


def change(module: Any) -> None:
    """Let the client read the proxy."""
    loader = getattr(module, "KubeConfigLoader", None)
    replace(loader, "_set_config", "self client_configuration", set_config, HARM)


def install() -> None:
    """Wait for the client's module."""
    when_imported(LOADER, change)

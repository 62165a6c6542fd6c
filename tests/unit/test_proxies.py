"""The host's Airflow reaches a cluster through the proxy of its kubeconfig."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from tests.unit import fake

PROXY = "http://proxy.example:3128"


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client as a service of the host has it."""
    monkeypatch.syspath_prepend(fake.FILES / "usr/local/lib/airflow/python")
    loader = kube_config.KubeConfigLoader
    monkeypatch.setattr(loader, "_set_config", loader._set_config)
    importlib.import_module("airflow_deploy_proxies").install()
    yield
    for name in ("airflow_deploy_proxies", "airflow_deploy_imports"):
        sys.modules.pop(name)


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("proxy", [PROXY, None])
def test_the_client_has_the_proxy_of_the_kubeconfig(
    proxy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://other.example:3128")
    monkeypatch.setenv("no_proxy", "192.0.2.1")
    cluster = {"server": "https://192.0.2.1:6443", **({"proxy-url": proxy} if proxy else {})}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "some"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    found = client.Configuration()
    config.load_kube_config(str(path), client_configuration=found)
    assert found.host == cluster["server"]
    others = ("http://other.example:3128", "192.0.2.1")
    assert (found.proxy, found.no_proxy) == ((proxy, None) if proxy else others)

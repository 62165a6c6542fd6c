"""Checks an existing cluster's kubeconfig, without its secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from tasks.settings.types import is_this_host

# questions.sh prints this in place of a proxy-url with a login.
PROXY_WITH_LOGIN = "login"
USER_FILES = ("client-certificate", "client-key")


class KubeconfigReport(NamedTuple):
    """The host's answers about the file, and about the things that it names."""

    safe_lines: Sequence[str]  # the file's lines with SAFE_KEYS of questions.py
    reached: Sequence[str]  # servers and proxies that answer
    no_file: Sequence[str]  # missing files
    no_tool: Sequence[str]  # missing programs


def findings(path: str, context: str | None, report: KubeconfigReport) -> Iterator[str]:
    """The errors of the file, each with its cure."""
    try:
        content = yaml.safe_load("\n".join(report.safe_lines)) or {}
        contexts, clusters, users = (
            {each["name"]: each.get(kind) or {} for each in content.get(f"{kind}s") or []}
            for kind in ("context", "cluster", "user")
        )
        wanted = context or content.get("current-context")
        chosen: dict[str, Any] = contexts.get(wanted, {})
        cluster = clusters.get(chosen.get("cluster"), {})
        user = users.get(chosen.get("user"), {})
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        content, wanted, contexts, cluster, user = {}, None, {}, {}, {}
    if not content:
        yield (
            f"kubernetes_kubeconfig: {path} is no kubeconfig in YAML: write it with"
            " kubectl config view --minify --flatten --raw"
        )
        return
    if wanted not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        yield (
            f"kubernetes_context: {path} has no context {wanted or 'that is its current one'}:"
            f" write one of its own, {known}"
        )
        return
    proxy = str(cluster.get("proxy-url") or "")
    yield from _server(path, wanted, str(cluster.get("server", "")), proxy, report.reached)
    if proxy == PROXY_WITH_LOGIN:
        yield (
            f"kubernetes_kubeconfig: {path} has a login in proxy-url, which the code of DAGs could"
            " read in Airflow's own kubeconfigs: let the proxy know this host by its address, and"
            " write the URL without the login"
        )
    for name in (cluster.get("certificate-authority"), *map(user.get, USER_FILES)):
        if name in report.no_file:
            yield (
                f"kubernetes_kubeconfig: {path} names the file {name}, which is not on the host:"
                " run kubectl config view --minify --flatten --raw where that file is, and copy its"
                " output"
            )
    tool = (user.get("exec") or {}).get("command")
    if tool in report.no_tool:
        yield (
            f"kubernetes_kubeconfig: {path} logs in with the program {tool}, which is not on the"
            " host: install it there for root, or use a service account's token"
        )


def _server(
    path: str, context: Any, server: str, proxy: str, reached: Sequence[str]
) -> Iterator[str]:
    if not server:
        yield (
            f"kubernetes_kubeconfig: {path} names no server for the context {context} in a line"
            " of its own: write the file with kubectl config view --minify --flatten --raw"
        )
    elif proxy:  # only the proxy has to reach the server
        if proxy not in (*reached, PROXY_WITH_LOGIN):
            yield (
                f"kubernetes_kubeconfig: {path} reaches {server} through the proxy {proxy}, which"
                " does not answer: check its address and port, and the network between"
            )
    elif server not in reached:
        cure = (
            "that is this host itself: if the cluster is elsewhere, write its address there"
            if is_this_host(_host(server))
            else "check the address and the network between the host and the cluster"
        )
        yield f"kubernetes_kubeconfig: {path} names {server}, which does not answer: {cure}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no address
        return ""

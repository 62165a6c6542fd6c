"""Who waits for connections, and where: just what the settings say."""

from __future__ import annotations

from typing import Any

from tasks.settings import HostSettings
from tests.host import expected
from tests.host.support import Host, Listener


def test_nothing_else_of_the_deploys_listens(
    listeners: list[Listener], proxy: dict[str, Any], host: Host, settings: HostSettings
) -> None:
    node = ""
    if expected.node_is_this_host(settings):
        address = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
        node = host.check_output(f'{settings.kubectl} get nodes -o jsonpath="{address}"')
    table = expected.listeners(settings, node)
    others = {
        ("nginx.service", where.rpartition(":")[2])
        for site, places in proxy["listens"].items()
        if site != "/etc/nginx/sites-enabled/airflow"
        for where in places
    }
    # Also a unit of Airflow's that no table knows of.
    ours = {who for who, *_ in table} | {
        each.who for each in listeners if each.who.startswith("airflow")
    }
    seen = {
        # containerd's port is chosen by the system.
        (each.who, each.address, "any" if each.who == "containerd.service" else each.port)
        for each in listeners
        if each.who in ours and (each.who, each.port) not in others
    }
    assert seen == table

"""Who waits for connections, and where: just what the settings say."""

from __future__ import annotations

from typing import Any

from tasks.settings import Settings
from tests.host import expected
from tests.host.support import Host, Listener


def test_nothing_else_of_the_deploys_listens(
    listeners: list[Listener], proxy: dict[str, Any], host: Host, settings: Settings
) -> None:
    node = ""
    if expected.node_is_this_host(settings):
        address = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
        node = host.check_output(f'{settings.kubectl} get nodes -o jsonpath="{address}"')
    table = expected.listeners(settings, node)
    programs = {program for program, *_ in table}
    others = {
        ("nginx", int(where.rpartition(":")[2]))
        for site, places in proxy["listens"].items()
        if site != "/etc/nginx/sites-enabled/airflow"
        for where in places
    }
    seen = {
        # One that the system chose, from the range that it has for that.
        (each.program, each.address, each.port if each.program != "containerd" else None)
        for each in listeners
        if each.program in programs or each.unit.startswith(expected.LISTENING_UNITS)
        if (each.program, each.port) not in others
    }
    assert seen == table

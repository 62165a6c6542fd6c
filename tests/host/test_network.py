"""The listeners and their addresses: just those of the settings."""

from __future__ import annotations

import re
from typing import Any

from tasks import layout
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
    if not host.check_output("cat /proc/net/if_inet6 2>/dev/null || true"):  # without IPv6
        table = {each for each in table if each[0] != "airflow-web6.socket"}
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


def test_the_readmes_table_has_all_listeners(
    listeners: list[Listener], settings: HostSettings
) -> None:
    """Each of the deploy's that waits now is in the map of the host, open to others or not."""
    ports = {key: str(port) for key, port in settings.ports.items()}
    said: dict[tuple[str, str, bool], str] = {}
    for line in layout.LISTENERS:
        for port in line.port.split(" (")[0].split(", "):
            setting = re.search("`(.*)`", line.port)
            number = ports.get(setting[1], "") if setting else port
            said[line.who, number, line.is_open] = line.purpose
    known = {who for who, *_ in said}
    for each in listeners:
        who = each.who.removesuffix(".service").removeprefix("airflow-")
        who = "systemd" if who.endswith(".socket") else who
        if who not in known or (who == "nginx" and each.port not in ports.values()):
            continue  # another program's, or another site of nginx
        is_open = not each.address.startswith("127.") and each.address != "[::1]"
        port = "any" if who == "containerd" else each.port
        assert (who, port, is_open) in said, each

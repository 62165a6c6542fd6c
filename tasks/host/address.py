"""One address for people, which several hosts have in turn: Debian's keepalived, by VRRP."""

from __future__ import annotations

from collections.abc import Generator

import gevent
from pyinfra import host
from pyinfra.api import deploy, operation
from pyinfra.api.host import Host

from tasks import layout
from tasks.layout import (
    ADDRESS_CONFIG,
    ADDRESS_DROP_IN,
    ADDRESS_UNIT,
    LIB,
    PACKAGES_RECORD,
    STARTED_WITH,
)
from tasks.lib import members, systemd, whole_file
from tasks.lib.operations import ensure, packages, refused
from tasks.settings import HostSettings

PACKAGE = "keepalived"
PAGE_ANSWERS = f"{LIB}/page-answers.sh"
# Seconds. A host takes the address when it has heard of no other host for 3.6 s.
TAKEN_WITHIN = 20


@deploy("Address")
def run(settings: HostSettings) -> None:
    """One of the hosts has the address, or none has keepalived, as the settings say."""
    address = settings.web.virtual_address
    if address is None:
        remove()
        return
    # Without its configuration, the package starts nothing.
    packages(name=f"Install {PACKAGE}", packages=[PACKAGE], record=PACKAGES_RECORD)
    whole_file.template(
        name=f"Write the drop-in of {ADDRESS_UNIT}",
        src=f"files{ADDRESS_DROP_IN}.j2",
        dest=ADDRESS_DROP_IN,
        mode="644",
        inputs=(ADDRESS_DROP_IN, ADDRESS_CONFIG),
        started_with=STARTED_WITH,
    )
    whole_file.template(
        name="Write keepalived's configuration",
        src=f"files{ADDRESS_CONFIG}.j2",
        dest=ADDRESS_CONFIG,
        mode="644",
        accept=[layout.ACCEPT, "address"],
        settings=settings,
        program=PAGE_ANSWERS,
        url=f"https://{settings.web.page_on_host}{settings.web.base_path}",
        router=router(address),
    )
    ensure(
        name=f"Run {PACKAGE}",
        program="address.sh",
        already="it runs with its inputs as they are",
    )
    held_once(name="Wait until one host has the address for people", address=address)


def router(address: str) -> int:
    """The number of the hosts' virtual router, of 1 to 255.

    Hosts hear only those of their own Airflow, so no other router's number matters.
    """
    return int(address.rpartition(".")[2]) or 255


@operation()
def held_once(address: str) -> Generator[str, None, None]:
    """
    Fail unless one host has an address; the first host asks all of them.

    + address: the address that they have in turn
    """
    if not host.state.is_executing or host.name != members.names()[0]:
        host.noop("the first host looks when all have keepalived")
        return
    for _ in range(TAKEN_WITHIN):
        held = [each.name for each in members.fellows() if _holds(each, address)]
        if len(held) == 1:
            host.noop(f"{held[0]} has it")
            return
        gevent.sleep(1)
    said = f"no host has taken {address}: look at journalctl -u {PACKAGE}"
    if held:
        said = (
            f"{' and '.join(held)} have {address} at once, since they do not hear each other: let"
            " VRRP, the protocol 112 of IP, through their firewalls"
        )
    yield refused(said)


def _holds(member: Host, address: str) -> bool:
    return bool(members.said_by(member, f"ip -o -4 address show to {address}/32"))


def remove() -> None:
    """No host has the address by this host's keepalived; the package stays, without running."""
    systemd.gone(
        name="Remove the address for people",
        units=[ADDRESS_UNIT],
        drop_in=ADDRESS_DROP_IN,
        files=[ADDRESS_CONFIG, f"{STARTED_WITH}/{ADDRESS_UNIT}"],
    )

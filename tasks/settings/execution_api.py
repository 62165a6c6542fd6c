"""Settings of the Execution API, as task pods reach it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.types import Address, Port, Section, is_this_host


class ExecutionApi(Section):
    """The Execution API, as task pods reach it."""

    heading: ClassVar[str] = "Execution API"

    port: Port = Field(
        default=8081, description="Port of the Execution API for task pods, with TLS."
    )
    host: Address | None = Field(
        default=None,
        description="Name or address, without a port, at which pods reach this host; an existing"
        " cluster needs it.",
    )

    def conflicts(self) -> Iterator[str]:
        """An address that means something else in a pod."""
        if self.host in ("0.0.0.0", "::"):
            yield (
                f"execution_api_host: {self.host} stands for all addresses: write one at which pods"
                " reach the host"
            )
        if is_this_host(self.host or ""):
            yield (
                f"execution_api_host: in a pod, {self.host} is the pod itself: write an address of"
                " the host that other machines use"
            )

    @property
    def network(self) -> str | None:
        """The given address in the notation of a network policy.

        None if it is a name, and if none is given: pods may always reach their own node.
        """
        try:
            return str(ipaddress.ip_network(self.host or ""))
        except ValueError:
            return None

"""Settings of the proxy through which the host reaches the internet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from tasks.settings.types import ProxyUrl, Section, Unproxied


class Proxy(Section):
    """The proxy through which the host and task pods reach the internet."""

    heading: ClassVar[str] = "Proxy"

    url: ProxyUrl | None = Field(
        default=None,
        description="URL of the proxy, such as `http://proxy.example.com:3128`, without a login;"
        " none uses no proxy.",
    )
    extra_exceptions: list[Unproxied] = Field(
        default=[],
        description="Additional names, domains such as `.example.com`, addresses and networks to"
        " reach without the proxy.",
    )

    def conflicts(self) -> Iterator[str]:
        """Exceptions without a proxy."""
        if self.extra_exceptions and not self.url:
            yield (
                "proxy_extra_exceptions has no meaning without proxy_url: write it, or leave the"
                " exceptions out"
            )

    def environment(self, exceptions: list[str]) -> dict[str, str]:
        """The variables that programs read, in both spellings; none without a proxy."""
        if not self.url:
            return {}
        given = {
            "http_proxy": self.url,
            "https_proxy": self.url,
            "no_proxy": ",".join(dict.fromkeys([*exceptions, *self.extra_exceptions])),
        }
        return given | {name.upper(): value for name, value in given.items()}

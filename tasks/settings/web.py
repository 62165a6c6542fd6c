"""Settings of the web page and the REST API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from tasks.layout import API_SERVER_PORT, LOOPBACK
from tasks.settings.types import (
    Address,
    LinuxName,
    Port,
    PythonText,
    Section,
    WebCertificate,
    WebUrl,
    in_url,
    is_this_host,
)


class Web(Section):
    """The web page and the REST API."""

    heading: ClassVar[str] = "Web page"

    host: Address = Field(
        default="127.0.0.1",
        description="Address that serves the web page and the REST API. The default is reachable"
        " from the host only; any other, such as `0.0.0.0` for all, is served over TLS.",
    )
    port: Port = Field(
        default=8080,
        description="Port of the web page and the APIs on the host itself, without TLS.",
    )
    https_port: Port = Field(
        default=443, description="Port of the web page and the REST API at `web_host`, with TLS."
    )
    base_url: WebUrl | None = Field(
        default=None,
        description="URL of the web page as its users type it; links in mails need it.",
    )
    certificate: WebCertificate | None = Field(
        default=None,
        repr=False,
        description="Certificate and key of the web page; none uses the one that the host makes.",
    )
    host_names: list[Address] = Field(
        default=[],
        description="Additional names and addresses in the certificate that the host makes.",
    )
    logins_per_minute: int = Field(
        default=10, ge=1, description="Logins per minute that one address may try over TLS."
    )
    admin_user: LinuxName = Field(default="admin", description="First user of the web page.")
    login_config: PythonText | None = Field(
        default=None,
        repr=False,
        description="Text of a `webserver_config.py` with another login than passwords, such as"
        " LDAP or OpenID Connect; it may hold secrets.",
    )

    def conflicts(self) -> Iterator[str]:
        """A certificate that nobody sees, or that can't work."""
        if self.certificate is None:
            return
        if not self.is_public:
            yield (
                f'web_certificate has no meaning with web_host = "{self.host}": write the address'
                " there that should serve the web page"
            )
        found = list(self.certificate.conflicts())
        yield from (f"web_certificate: {each}" for each in found)
        name = urlsplit(self.base_url or "").hostname
        if name and not found and not self.certificate.is_for(name):
            yield (
                f"web_certificate: certificate is not for {name}, the name in web_base_url:"
                " browsers refuse it, write one with that name"
            )

    @property
    def is_public(self) -> bool:
        """Whether other machines than the host reach the web page."""
        return not is_this_host(self.host)

    @property
    def api_server_url(self) -> str:
        """The URL of the api-server for the host's services; people have `port`."""
        return f"http://{LOOPBACK}:{API_SERVER_PORT}"

    @property
    def base_path(self) -> str:
        """The path of the base URL; the api-server serves everything below it."""
        return urlsplit(self.base_url or "").path.rstrip("/")

    @property
    def local_url(self) -> str:
        """The URL of Airflow for the host's services."""
        return self.api_server_url + self.base_path

    @property
    def page_on_host(self) -> str:
        """Address and port at which the host itself reaches the public web page."""
        everywhere = self.host in ("0.0.0.0", "::")
        return f"{in_url(LOOPBACK if everywhere else self.host)}:{self.https_port}"

"""Settings of the web page and the REST API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from tasks.layout import API_SERVER_PORT, LOOPBACK, SMOKE_TEST_USER
from tasks.settings.types import (
    Address,
    CertificateAndKey,
    LinuxName,
    MachineAddress,
    Permission,
    Port,
    PythonText,
    ResourceName,
    RoleName,
    Section,
    UserName,
    WebUrl,
    WebUser,
    in_url,
    is_this_host,
)

# Airflow's own: EXISTING_ROLES in auth_manager/security_manager/constants.py of its provider fab.
ROLES = ("Admin", "Op", "User", "Viewer", "Public")
EVERYWHERE = ("0.0.0.0", "::")  # all addresses of the host


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
    virtual_address: MachineAddress | None = Field(
        default=None,
        description="IPv4 address that moves among [several hosts](#one-address-for-people) to one"
        " whose web page answers; without `web_base_url` it is also the page's URL.",
    )
    certificate: CertificateAndKey | None = Field(
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
    users: dict[UserName, WebUser] = Field(
        default={},
        repr=False,
        description="Users with a password, by name; the deploy creates, corrects and removes them,"
        " and never shows their passwords.",
    )
    roles: dict[RoleName, dict[ResourceName, list[Permission]]] = Field(
        default={},
        description="Roles beside Airflow's own: what each may do with which resources; the deploy"
        " creates and corrects them.",
    )
    login_config: PythonText | None = Field(
        default=None,
        repr=False,
        description="Text of a `webserver_config.py` with another login than passwords, such as"
        " LDAP or OpenID Connect; it may hold secrets.",
    )

    def conflicts(self) -> Iterator[str]:
        """Users and roles that can't be, and an address or a certificate that can't work."""
        yield from self._user_conflicts()
        if self.virtual_address and self.host not in EVERYWHERE:
            yield (
                "web_virtual_address: nginx answers there only if it listens on all addresses, and"
                f' web_host is "{self.host}": write "0.0.0.0"'
            )
        if self.certificate is not None:
            yield from self._certificate_conflicts(self.certificate)

    def _user_conflicts(self) -> Iterator[str]:
        for role in self.roles:
            if role in ROLES:
                yield (
                    f"web_roles: {role} is Airflow's own, which corrects it at each start: choose"
                    " another name"
                )
        known = (*ROLES, *self.roles)
        for name, user in self.users.items():
            for role in user.roles:
                if role not in known:
                    yield (
                        f"web_users: {name} has the role {role}, which does not exist: write one of"
                        f" {', '.join(known)}, or describe it in web_roles"
                    )
        for name, why in (
            (self.admin_user, "web_admin_user, whom the deploy makes once and then leaves alone"),
            (SMOKE_TEST_USER, "the smoke test's own user"),
        ):
            if name in self.users:
                yield f"web_users: {name} is {why}: choose another name"

    def _certificate_conflicts(self, certificate: CertificateAndKey) -> Iterator[str]:
        if not self.is_public:
            yield (
                f'web_certificate has no meaning with web_host = "{self.host}": write the address'
                " there that should serve the web page"
            )
        found = list(certificate.conflicts())
        yield from (f"web_certificate: {each}" for each in found)
        name = urlsplit(self.url or "").hostname
        if name and not found and not certificate.is_for(name):
            place = "the name in web_base_url" if self.base_url else "the web_virtual_address"
            yield (
                f"web_certificate: certificate is not for {name}, {place}:"
                " browsers refuse it, write one with that name"
            )

    @property
    def is_public(self) -> bool:
        """Whether other machines than the host reach the web page."""
        return not is_this_host(self.host)

    @property
    def api_server_url(self) -> str:
        """The URL of the api-server for the host's services; people use `port`."""
        return f"http://{LOOPBACK}:{API_SERVER_PORT}"

    @property
    def url(self) -> str | None:
        """The URL of the web page as its users type it, if the inventory tells."""
        if self.base_url or not self.virtual_address:
            return self.base_url
        port = "" if self.https_port == 443 else f":{self.https_port}"
        return f"https://{self.virtual_address}{port}"

    @property
    def base_path(self) -> str:
        """The path of the base URL; the api-server serves everything below it."""
        return urlsplit(self.url or "").path.rstrip("/")

    @property
    def local_url(self) -> str:
        """The URL of Airflow for the host's services."""
        return self.api_server_url + self.base_path

    @property
    def page_on_host(self) -> str:
        """Address and port at which the host itself reaches the public web page."""
        address = LOOPBACK if self.host in EVERYWHERE else self.host
        return f"{in_url(address)}:{self.https_port}"

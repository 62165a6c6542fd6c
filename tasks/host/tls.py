"""The certificate that the host makes, of an authority (CA) of its own, and the pods' trust in it.

Browsers get another one if the inventory has one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from pydantic import SecretStr
from pyinfra.operations import files

from tasks.layout import CERTIFICATE, TLS, WEB_CERTIFICATE
from tasks.lib import members, progress
from tasks.lib.operations import ensure, secret_file
from tasks.settings import HostSettings


def configure(settings: HostSettings) -> None:
    """The host has the certificates with their keys, and the authority that pods should trust."""
    files.directory(name=f"Create {TLS}", path=TLS, user="root", group="root", mode="755")
    if settings.is_first:
        _certify(settings)
    if settings.members:
        # A client that trusts one of the hosts trusts all, also a task that runs while one is
        # added.
        members.copy_from_first(name="Copy the CA of the first host", kind="authority")
    if not settings.is_first:
        _certify(settings)
    given = settings.web.certificate
    if given is None:
        files.file(
            name="Remove the web page's own certificate", path=WEB_CERTIFICATE, present=False
        )
        return
    remind(given.end, "The web page's certificate", "web_certificate")
    both = f"{given.certificate.rstrip()}\n{given.key.get_secret_value()}"
    secret_file(
        name="Write the web page's own certificate", path=WEB_CERTIFICATE, content=SecretStr(both)
    )


def remind(end: datetime, which: str, setting: str) -> None:
    """Say at the end of the run that a certificate of the inventory ends soon, if it does."""
    left = end - datetime.now(UTC)
    if left < timedelta(days=30):
        progress.print_at_end(
            f"{which} ends in {left.days} days, on {end:%Y-%m-%d}: write a new one into {setting}."
        )


def _certify(settings: HostSettings) -> None:
    ensure(
        name="Create the host's certificate",
        program="host-certificate.py",
        args=[TLS, *names(settings)],
        already="it is of the host's own CA, for all of its names",
    )


def of_page(settings: HostSettings) -> str:
    """The file with the certificate that browsers get from the web page."""
    return WEB_CERTIFICATE if settings.web.certificate else CERTIFICATE


def names(settings: HostSettings) -> list[str]:
    """The names and addresses of the settings that the certificate is for."""
    named = [
        # Of several hosts each has the names of all, so that their authorities have the same ones.
        *(settings.own_names if settings.members else []),
        settings.address_for_pods,
        urlsplit(settings.web.url or "").hostname,
        settings.web.virtual_address,
        *settings.web.host_names,
    ]
    return list(dict.fromkeys(name for name in named if name))

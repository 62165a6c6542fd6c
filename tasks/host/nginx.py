"""TLS in front of the api-server: a site of Debian's nginx. It is for task pods, and for people if
other machines than the host should reach the web page."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.host import tls
from tasks.layout import LOOPBACK, NGINX_DROP_IN, NGINX_SITE, NGINX_UNIT, STARTED_WITH
from tasks.lib import progress, whole_file
from tasks.lib.operations import ensure, ensure_sent, run_unless
from tasks.settings import HostSettings
from tasks.settings.types import in_url

NGINX = "/etc/nginx"
ENABLED = f"{NGINX}/sites-enabled"
WELCOME = "sites-available/default"  # nginx-common has one file of this name
WELCOME_CHANGED = "dpkg -V nginx-common | grep -q /default$"
WELCOME_PAGE = "/var/www/html/index.nginx-debian.html"


@deploy("nginx")
def certify(settings: HostSettings) -> None:
    """The host has its certificates."""
    tls.configure(settings)


@deploy("nginx")
def configure(settings: HostSettings) -> None:
    """nginx serves the site before pods use it.

    The site leads to the api-server with its new configuration.
    """
    _write_site(settings)
    ensure(
        name="Start and enable nginx",
        program="nginx.sh",
        args=[_listening(settings), *_refused(settings)],
        already="it runs with its inputs as they are",
    )
    _announce(settings)


def _write_site(settings: HostSettings) -> None:
    certificate = tls.of_page(settings)
    whole_file.template(
        name=f"Write the drop-in of {NGINX_UNIT}",
        src=f"files{NGINX_DROP_IN}.j2",
        dest=NGINX_DROP_IN,
        mode="644",
        inputs=sorted({NGINX_DROP_IN, NGINX_SITE, layout.CERTIFICATE, certificate}),
        started_with=STARTED_WITH,
    )
    run_unless(
        name="Disable nginx's welcome page",
        test=f"cd {NGINX}; ! test sites-enabled/default -ef {WELCOME} || {WELCOME_CHANGED}",
        # Without the record of its inputs, the step that runs nginx reloads it.
        commands=[f"rm -f {ENABLED}/default {STARTED_WITH}/{NGINX_UNIT}"],
        already="there is none, or it is somebody's own",
    )
    whole_file.template(
        name="Write nginx's site airflow",
        src=f"files{NGINX_SITE}.j2",
        dest=NGINX_SITE,
        mode="644",
        accept=[layout.ACCEPT, "site"],
        settings=settings,
        web_address=in_url(settings.web.host),
        web_certificate=certificate,
        pods_certificate=layout.CERTIFICATE,
        pods_authority=layout.PODS_AUTHORITY,
        prefix=_prefix(settings),
    )
    files.link(name="Enable nginx's site airflow", path=f"{ENABLED}/airflow", target=NGINX_SITE)


def _prefix(settings: HostSettings) -> str:
    """The path in web_base_url, which Airflow strips from requests, as a regular expression."""
    return f"(?:{re.escape(settings.web.base_path)})?" if settings.web.base_path else ""


def _listening(settings: HostSettings) -> str:
    """The addresses and ports of the site, as ss shows them.

    The page's is left out if it is a name, whose address only the host knows.
    """
    found = [f"{settings.wildcard_address}:{settings.execution_api.port}"]
    if settings.web.is_public:
        with suppress(ValueError):
            address = str(ip_address(settings.web.host))
            found.append(f"{in_url(address)}:{settings.web.https_port}")
    # Of a socket that takes IPv4 as well, ss shows a star.
    return ",".join(each.replace("[::]", "*") for each in found)


def _refused(settings: HostSettings) -> list[str]:
    """The URLs that nginx itself refuses once it serves the site."""
    refused = [f"https://{LOOPBACK}:{settings.execution_api.port}/"]
    if settings.web.is_public:
        refused.append(f"https://{settings.web.page_on_host}/execution/")
    return refused


def _announce(settings: HostSettings) -> None:
    """At its end, the run says where the web page is."""
    if not settings.web.is_public:
        port = settings.web.port
        progress.print_at_end(
            f"The web page is at http://{LOOPBACK}:{port} of the host itself. From elsewhere:"
            f" ssh -L {port}:{LOOPBACK}:{port} the-host",
            only_on_success=True,
        )
        return
    https = settings.web.https_port
    page = settings.web.url or "https://the-host" + (f":{https}" if https != 443 else "")
    said = f"The web page is at {page}."
    if settings.web.certificate is None:
        said += f" Browsers that should trust it need {layout.AUTHORITY} of the host."
    progress.print_at_end(said, only_on_success=True)


def remove() -> None:
    """nginx serves nothing of Airflow. The package stays, and nginx runs if it has other sites."""
    ensure_sent(
        name="Remove nginx's site airflow",
        program=Path(__file__).with_name("nginx-remove.sh"),
        args=[
            NGINX_SITE,
            f"{ENABLED}/airflow",
            NGINX_DROP_IN,
            layout.TLS,
            f"{STARTED_WITH}/{NGINX_UNIT}",
        ],
        already="there is none",
    )

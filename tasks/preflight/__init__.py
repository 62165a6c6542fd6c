"""Find everything that would stop the deploy, all at once, before the first change."""

from __future__ import annotations

from pyinfra import host, logger

from tasks.layout import ADMIN_PASSWORD, LOOPBACK, SMOKE_TEST_USER
from tasks.lib import lock, progress
from tasks.preflight import checks, database, members, neighbours, serving
from tasks.preflight.questions import HostReport, Report, variables
from tasks.settings import HostSettings, Settings
from tasks.worker import image


def check(settings: Settings) -> HostSettings:
    """Return the settings, completed by the host's release and architecture.

    Raise DeployError with every finding and its cure, one a line, if the deploy can't succeed.
    """
    if settings.serves:
        return serving.check(settings)
    settings = serving.reached(settings)
    report = host.get_fact(HostReport, variables=variables(settings, lock.take()))
    found = checks.findings(settings, report)
    fellows = members.ask(settings.web.virtual_address)
    found += members.findings(fellows)
    found += members.address_findings(settings, fellows)
    found += members.database_findings(settings, fellows)
    names = tuple(dict.fromkeys(name for each in fellows.values() for name in each.names))
    first = host.inventory.get_host(settings.members[0]) if settings.members else host
    position = settings.members.index(host.name) if settings.members else 0
    if settings.database_host or settings.cluster_host:
        found += serving.findings(settings, report)
    if not settings.postgres.is_debians and report.one("uid") == "0":
        ask = database.findings_of_group if settings.database_host else database.findings
        found += ask(settings, database.answers(settings), names, position == 0)
    checks.refuse(found)
    _tell(settings, report)
    return settings.for_release(
        report.codename,
        neighbours.postgres(settings, report) if settings.postgres.is_debians else None,
        own_names=names or tuple(report.all("own_name")),
        architecture=report.one("architecture"),
        addresses=tuple(each.address for each in fellows.values()) or _own_address(settings),
        position=position,
        interface=fellows[host.name].interface if fellows else "",
        link_addresses=tuple(each.link_address for each in fellows.values()),
        authorities="" if settings.worker.image else image.authorities(first),
    )


def _tell(settings: Settings, report: Report) -> None:
    """Tell what a person should know of the host, now or at the end of the run."""
    if not report.one("installed"):
        page = f"http://{LOOPBACK}:{settings.web.port} of the host itself"
        if settings.web.is_public:
            page = f"port {settings.web.https_port} of the host, with https"
        logger.info(
            "    First deploy of this host: about 4 minutes with a fast connection. Then the web\n"
            f"    page is at {page}, for the user {settings.web.admin_user}; root finds the\n"
            f"    password in {ADMIN_PASSWORD} on the host."
        )
    if report.one("first_user"):
        progress.print_at_end(
            f"The web page has no user {settings.web.admin_user}: somebody deleted it, and the"
            " deploy does not make it again. `sudo airflow users create` on the host makes one."
        )
    if report.one("test_user"):
        progress.print_at_end(
            f"Somebody deleted or changed {SMOKE_TEST_USER}, the smoke test's own user of the web"
            " page. The deploy made it again: leave it alone."
        )
    for remark in neighbours.links(report):
        progress.print_at_end(remark)
    checks.tell(settings, report)


def _own_address(settings: Settings) -> tuple[str, ...]:
    """The address of a host that is alone, where the pods are on another one."""
    return (members.asked(host).address,) if settings.cluster_host else ()

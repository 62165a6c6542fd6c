"""What the tests of logins share: what a person may do, and the packages of the servers."""

from __future__ import annotations

import urllib.error

from tests.browser import Browser
from tests.e2e.conftest import Shell
from tests.e2e.support import Airflow

# Each with the status of the answers to reading DAGs and to reading connections.
PEOPLE = {"ada": (200, 200), "bob": (200, 403), "eve": (403, 403)}


def status(who: Airflow, path: str, method: str = "GET", body: object = None) -> int:
    """The answer to a person who asks for something, or who may not log in."""
    try:
        who.request(method, path, body)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def packages(shell: Shell, *more: str) -> dict[str, object]:
    """The settings with the packages for LDAP, and more of them."""
    library = "libldap2" if "trixie" in shell("cat /etc/os-release") else "libldap-2.5-0"
    return {
        "airflow_extra_requirements": ["python-ldap", *more],
        "build_apt_packages": ["build-essential", "python3-dev", "libldap-dev", "libsasl2-dev"],
        "worker_extra_apt_packages": [library],
        "web_logins_per_minute": 100,
    }


def run_in_browser(page: Browser) -> None:
    """Somebody who logged in starts a run and reads the log of its last task."""
    run = page.start_run("example_bash")
    page.show_log("example_bash", run, "end", "done on node")

"""Takes the README's picture of the web page, after ./tests/sandbox/up.

A real browser logs in to the machine's page, starts a run, and opens the log of its last task. The
picture is .github/web-page.png.
"""

from __future__ import annotations

import sys

from tasks.layout import ADMIN_PASSWORD, ROOT
from tests import browser
from tests.e2e.support import log_in, machine_name
from tests.sandbox import machine
from tests.sandbox.common import SandboxError

PICTURE = ROOT / ".github/web-page.png"
DAG, TASK, TEXT = "example_bash", "end", "done on node"


def main() -> None:
    """Take the picture; raises SandboxError without a machine."""
    it = machine.load(machine_name())
    password = machine.run(it, f"cat {ADMIN_PASSWORD}").stdout.strip()
    airflow = log_in(it)
    airflow.request("PATCH", f"/dags/{DAG}", {"is_paused": False})
    with browser.started() as page:
        page.log_in(airflow.url, "admin", password)
        page.show_log(DAG, page.start_run(DAG), TASK, TEXT)
        page.driver.save_screenshot(str(PICTURE))
    print(f"{PICTURE} shows the page of {it.name}")


if __name__ == "__main__":
    try:
        main()
    except SandboxError as problem:
        sys.exit(str(problem))

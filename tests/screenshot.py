"""Takes the README's picture of the web page, after ./tests/sandbox/up.

A real browser, Debian's Chromium, logs in to the machine's page and opens the log of a task that
just ran. The picture is .github/web-page.png.
"""

from __future__ import annotations

import os
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from tasks.layout import ROOT
from tests.e2e.runs import ends_well
from tests.e2e.support import log_in, machine_name
from tests.sandbox import machine
from tests.sandbox.common import SandboxError, ensure_packages

PICTURE = ROOT / ".github/web-page.png"
DAG, TASK = "example_bash", "end"
SECONDS = 60  # for the page to show something


def browser() -> webdriver.Chrome:
    """Debian's Chromium without a window; it takes the machine's own certificate."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in ("--headless=new", "--ignore-certificate-errors", "--window-size=1400,860"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # root can't use Chromium's
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


def main() -> None:
    """Take the picture; raises SandboxError without a machine."""
    ensure_packages("chromium", "chromium-driver", "fonts-dejavu-core")
    it = machine.load(machine_name())
    airflow = log_in(it)
    run = airflow.trigger(DAG)
    ends_well(airflow, DAG, run)
    password = machine.run(it, "cat /etc/airflow/secrets/admin-password").stdout.strip()
    with browser() as page:
        wait = WebDriverWait(page, SECONDS)
        page.get(f"{airflow.url}/auth/login/")
        page.find_element(By.NAME, "username").send_keys("admin")
        page.find_element(By.NAME, "password").send_keys(password, "\n")
        wait.until(lambda now: "/auth/" not in now.current_url)
        page.get(f"{airflow.url}/dags/{DAG}/runs/{run}/tasks/{TASK}")
        said = "//*[contains(text(), 'done on node')]"
        wait.until(expected_conditions.visibility_of_element_located((By.XPATH, said)))
        page.save_screenshot(str(PICTURE))
    print(f"{PICTURE} shows the page of {it.name}")


if __name__ == "__main__":
    try:
        main()
    except SandboxError as problem:
        sys.exit(str(problem))

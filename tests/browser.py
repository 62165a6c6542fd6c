"""A real browser, Debian's Chromium without a window, in which a person uses Airflow's web page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from tests.sandbox.common import ensure_packages

SECONDS = 60  # for the page to show something
TASK_SECONDS = 180  # for a pod to run


class Browser:
    """A person at the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.url = ""

    def log_in(self, url: str, user: str, password: str) -> None:
        """Log in with the form of Airflow's own page."""
        self.url = url
        self.driver.get(f"{url}/auth/login/")
        self.driver.find_element(By.NAME, "username").send_keys(user)
        self.driver.find_element(By.NAME, "password").send_keys(password, "\n")
        self._wait().until(lambda now: "/auth/" not in now.current_url)

    def log_in_with(self, provider: str, url: str, user: str, password: str) -> None:
        """Log in at canaille, to which the page's button leads, and agree if it asks."""
        self.url = url
        self.driver.get(f"{url}/auth/login/")
        self.driver.find_element(By.ID, f"btn-signin-{provider}").click()
        self._shown(By.NAME, "login").send_keys(user, "\n")
        self._shown(By.NAME, "password").send_keys(password, "\n")
        agree = (By.CSS_SELECTOR, "button[name=answer][value=accept]")
        self._wait().until(
            lambda now: now.current_url.startswith(f"{url}/") or now.find_elements(*agree)
        )
        for button in self.driver.find_elements(*agree):
            button.click()
        self._wait().until(lambda now: now.current_url.startswith(f"{url}/"))

    def log_out(self) -> None:
        """Log out, after which the page asks for a login again."""
        self.driver.get(f"{self.url}/auth/logout")
        self.driver.get(f"{self.url}/dags")
        self._wait().until(lambda now: "/auth/login" in now.current_url)

    def start_run(self, dag: str) -> str:
        """Start a run with the button of the page, which then shows it; returns the run's id."""
        self.driver.get(f"{self.url}/dags/{dag}")
        self._shown(By.XPATH, "//button[contains(., 'Trigger')]").click()
        dialog = "//*[@role='dialog']//button[normalize-space()='Trigger']"
        self._clickable(By.XPATH, dialog).click()
        self._wait().until(lambda now: "/runs/" in now.current_url)
        return unquote(self.driver.current_url.partition("/runs/")[2])

    def show_log(self, dag: str, run: str, task: str, text: str) -> None:
        """Open a task's log, which should have the text."""
        self.driver.get(f"{self.url}/dags/{dag}/runs/{run}/tasks/{task}")
        self._shown(By.XPATH, f"//*[contains(text(), '{text}')]", TASK_SECONDS)

    def _wait(self, seconds: float = SECONDS) -> WebDriverWait[webdriver.Chrome]:
        return WebDriverWait(self.driver, seconds)

    def _shown(self, by: str, which: str, seconds: float = SECONDS) -> WebElement:
        shown = expected_conditions.visibility_of_element_located((by, which))
        return self._wait(seconds).until(shown)

    def _clickable(self, by: str, which: str) -> WebElement:
        return self._wait().until(expected_conditions.element_to_be_clickable((by, which)))


@contextmanager
def started() -> Iterator[Browser]:
    """A browser without cookies, which takes the machine's own certificate."""
    ensure_packages("chromium", "chromium-driver", "fonts-dejavu-core")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory() as profile:
        for word in (
            *("--headless=new", "--ignore-certificate-errors", "--window-size=1400,860"),
            *("--no-proxy-server", f"--user-data-dir={profile}"),
        ):
            options.add_argument(word)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # root can't use Chromium's
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        with webdriver.Chrome(options=options, service=service) as driver:
            yield Browser(driver)

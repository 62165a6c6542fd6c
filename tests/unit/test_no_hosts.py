"""pyinfra's command line with this repository: no host and wrong settings are errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.layout import ROOT

PYINFRA = Path(sys.executable).with_name("pyinfra")
NO_HOST = "there is no host to work on"


def refused(*arguments: str) -> str:
    """What pyinfra says, as one line; it must have failed."""
    done = subprocess.run(
        [PYINFRA, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    return " ".join(done.stderr.split())


def test_a_mistyped_inventory_is_an_error() -> None:
    assert NO_HOST in refused("inventories/nope.py", "deploy.py", "-y")


def test_an_inventory_without_hosts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("hosts = []\n")
    assert NO_HOST in refused(str(tmp_path / "empty.py"), "deploy.py", "-y")


def test_a_limit_that_leaves_no_host_is_an_error() -> None:
    assert NO_HOST in refused("inventories/local.py", "deploy.py", "--limit", "nothing", "--dry")


def test_a_misspelt_setting_is_an_error() -> None:
    said = refused("inventories/local.py", "deploy.py", "--dry", "--data", "web_prot=8081")
    assert "web_prot is not a setting; did you mean web_port?" in said


def test_a_machine_without_systemd_is_shown_the_sandbox(tmp_path: Path) -> None:
    # pyinfra's host that answers nothing, so that this machine's lock is left alone.
    (tmp_path / "silent.py").write_text('hosts = [("@fake", {"fake_delay": 0})]\n')
    said = refused(str(tmp_path / "silent.py"), "deploy.py", "--dry")
    assert "nothing was changed" in said
    assert "./tests/sandbox/up" in said

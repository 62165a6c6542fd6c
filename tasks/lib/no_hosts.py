"""Make pyinfra fail when an inventory yields no host.

pyinfra 3.10 takes a mistyped inventory path for a name, finds no host, never runs deploy.py and
ends with exit code 0: to a script or a tired person that looks like a finished deploy. No code of
a deploy runs in that case, except classes that pyinfra loads itself: those behind the entry point
group `pyinfra.connectors` (see pyproject.toml). So the check comes in there.

It wraps State.init as pyinfra 3.10 has it, which is the version of pyproject.toml. With another one
tests/unit/test_no_hosts.py tells whether the check still works: it runs pyinfra's command line.
"""

from __future__ import annotations

import functools
from typing import Any

import pyinfra
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State


class NoHostsGuard:
    """A connector in name only: it connects nothing and can't be asked for hosts."""

    handles_execution = False

    class data_cls:
        """No connection data."""

    @staticmethod
    def make_names_data(name: str | None = None) -> Any:
        """Refuse to be used as a connector."""
        raise PyinfraError("@no-hosts-guard is not a connector; use @local or @ssh/HOST")


def _refuse_no_hosts(init: Any) -> Any:
    @functools.wraps(init)
    def checked(self: State, inventory: Inventory, config: Any, initial_limit: Any = None) -> None:
        if pyinfra.is_cli and (not len(inventory) or initial_limit == []):
            raise PyinfraError(
                "there is no host to work on: check the inventory's path (inventories/local.py is"
                " this machine) and --limit; nothing was done"
            )
        init(self, inventory, config, initial_limit=initial_limit)

    return checked


if not hasattr(State.init, "__wrapped__"):
    State.init = _refuse_no_hosts(State.init)  # type: ignore[method-assign]

"""Changes of Airflow's modules, made when a process imports them: most processes never do.

Each change knows the function that it replaces by its parameters. In an Airflow that has another
one, Airflow's own stays, and the journal says so.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

Change = Callable[[Any], None]
log = logging.getLogger(__name__)
_changes: dict[str, list[Change]] = {}


class Finder(MetaPathFinder):
    """Finds the modules that someone waits for."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        """As importlib asks for it."""
        spec = PathFinder.find_spec(fullname, path) if fullname in _changes else None
        if spec is None or spec.loader is None:
            return None
        own = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            own(module)
            for change in _changes[fullname]:
                change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def when_imported(name: str, change: Change) -> None:
    """Change a module when it is imported, or at once if it is there."""
    if name in sys.modules:
        change(sys.modules[name])
        return
    if not _changes:
        sys.meta_path.insert(0, Finder())
    _changes.setdefault(name, []).append(change)


def replace(
    owner: Any, name: str, parameters: str, replacement: Callable[[Any], Any], harm: str
) -> None:
    """Put a function in the place of a class's or module's own.

    parameters: the names that its own has in Airflow 3.3.2, separated by spaces.
    replacement: takes its own, as the owner holds it, and returns the one for its place.
    harm: the sentence for the journal that says what may happen without the replacement.
    """
    own = vars(owner).get(name) if owner else None
    plain = getattr(own, "__func__", own)
    if plain is None or " ".join(inspect.signature(plain).parameters) != parameters:
        log.warning(
            "This version of Airflow has no %s as 3.3.2 has it. %s until the deploy knows this"
            " version.",
            name,
            harm,
        )
        return
    setattr(owner, name, replacement(own))

"""Changes of Airflow's modules, made when a process imports them: most processes never do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

Change = Callable[[Any], None]
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

"""pyinfra does the same work again for each operation and each question; here it does it once."""

from __future__ import annotations

import functools
import inspect

from pyinfra.api import arguments, util


def use() -> None:
    """Halve the computing time of a run on this machine.

    - pyinfra evaluates the annotations of the global arguments each time.
    - An operation's place is the file and the line of each caller; inspect would read the text of
      these lines too, and look for their module among all that are loaded.

    These are names within pyinfra 3.10, the version of pyproject.toml. One without
    `all_global_arguments` ends the run here. If another one has no use for `stack` and
    `getframeinfo`, a run only takes longer.
    """
    if not hasattr(arguments.all_global_arguments, "cache_info"):
        arguments.all_global_arguments = functools.cache(arguments.all_global_arguments)
        util.stack = functools.partial(inspect.stack, 0)
        util.getframeinfo = functools.partial(inspect.getframeinfo, context=0)

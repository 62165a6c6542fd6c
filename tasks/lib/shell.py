"""The shell of each command on the host: the same surroundings whoever runs the deploy.

Otherwise a login's umask, language, proxy or option of PostgreSQL would decide how files are made
and which server is asked. The deploy's own programs do the same in lib.sh, for people and units.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pyinfra import host
from pyinfra.context import ctx_config, ctx_state

# Debian's own programs come before those that somebody built on the host.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def assignments(values: Mapping[str, str]) -> str:
    """Assignments of variables, a line each, as sh and Python's shlex read them."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def shell(environment: Mapping[str, str]) -> str:
    """A shell, as the beginning of a command, that has only these variables and a usual umask."""
    variables = {"PATH": PATH, "LC_ALL": "C.UTF-8", **environment}
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    # It keeps the home of the user who runs the command, also after sudo or su.
    start = f'umask 022; exec env -i HOME="$HOME" {given} sh "$@"'
    return f"sh -c {shlex.quote(start)} sh"


def use(environment: Mapping[str, str]) -> None:
    """Run each command of this host from here on in such a shell."""
    config = ctx_config.get() if ctx_config.isset() else ctx_state.get().config
    config.SHELL = shell(environment)
    # pyinfra reads the option for a @deploy function when it is called, as the removal is.
    if host.current_deploy_kwargs is not None:
        host.current_deploy_kwargs["_shell_executable"] = config.SHELL

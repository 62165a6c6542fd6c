"""Parameters of runs are checked where that ends soon; the task in its pod checks all of them.

The author of a DAG writes the schemas of its parameters, as JSON Schema. Airflow 3.3.2 checks
values by them in the scheduler and the api-server: a regular expression may never end while nothing
more of the process runs, and a $ref reads files and URLs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

from airflow_deploy_imports import replace, when_imported

PARAMETERS = "airflow.serialization.definitions.param"
HARM = "A parameter of a DAG may stop the scheduler and the api-server"
SECONDS = 0.2  # of one check; references to references may take any time
# Keywords that may take any time in one step: those with regular expressions, the comparison of all
# elements with each other, and a search of all that other keywords have seen.
LEFT_OUT = {
    *("pattern", "patternProperties", "uniqueItems"),
    *("unevaluatedItems", "unevaluatedProperties"),
}
FORMATS = ("date", "date-time", "time")  # those of fields in the web page; others compile patterns
ENDLESS = (
    "its schema refers to itself without end, as $ref: '#' outside of properties and items does, or"
    " the value has too many levels: change the schema or the value"
)
_end: ContextVar[float] = ContextVar("airflow_deploy_params_end")


class TooLongError(Exception):
    """A check that takes more than its time."""


def step(name: str, own: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """The check of one keyword, in the time of all of them. What a $ref does not find here, the
    task may find."""

    def replaced(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # Here, since few processes check values; Airflow's check imports it as well.
        from referencing.exceptions import Unresolvable

        if time.monotonic() > _end.get():
            raise TooLongError
        # Properties are additional if no pattern has them.
        if name == "additionalProperties" and "patternProperties" in schema:
            return
        try:
            yield from own(validator, value, instance, schema) or ()
        except Unresolvable:
            return

    return replaced


def nothing(*_: Any) -> tuple[()]:
    """The check of a keyword that is left out."""
    return ()


@cache
def bounded(kind: Any) -> Any:
    """A class of validators that does in a short time what this one does."""
    import attrs
    from jsonschema.validators import extend

    keywords = {
        name: nothing if name in LEFT_OUT else step(name, own)
        for name, own in kind.VALIDATORS.items()
    }
    found = extend(kind, keywords)
    # Its own would take another class for a part of the schema that has a $schema.
    found.evolve = attrs.evolve
    return found


def check(value: Any, schema: Any) -> None:
    """Raise jsonschema's exception for a value that is wrong, as far as that is known soon."""
    from jsonschema import FormatChecker
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    formats = FormatChecker([name for name in FORMATS if name in FormatChecker.checkers])
    kind = bounded(validator_for(schema))
    _end.set(time.monotonic() + SECONDS)
    try:
        # This registry has the drafts of JSON Schema, and asks nobody for others.
        errors = kind(schema, registry=Registry(), format_checker=formats).iter_errors(value)
        error = best_match(errors)
    except TooLongError:
        return
    except RecursionError:
        raise ValueError(ENDLESS) from None  # in the task's pod, too
    if error is not None:
        raise error


def resolve(own: Any) -> Any:
    """The value of a parameter; if it is wrong, none or an exception."""

    def replaced(self: Any, *, raises: bool = False) -> Any:
        bare = copy.copy(self)
        bare.schema = {}
        value = own(bare, raises=raises)
        try:
            check(value, self.schema)
        except Exception:
            if raises:
                raise
            return None
        return value

    return replaced


def change(module: Any) -> None:
    """Check parameters in a short time."""
    kind = getattr(module, "SerializedParam", None)
    replace(kind, "resolve", "self raises", resolve, HARM)


def install() -> None:
    """Wait for the module of parameters."""
    when_imported(PARAMETERS, change)

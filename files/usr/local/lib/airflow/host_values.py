"""The values of this host, for the programs in Python; lib.sh has them for those in sh."""

import os
import shlex
import sys

FILE = os.environ.get("AIRFLOW_HOST_ENV", "/etc/airflow/host.env")


def read() -> dict[str, str]:
    """Each value by its name, from the file that the deploy writes."""
    with open(FILE) as file:  # pathlib takes as long to load as the rest of a short program
        words = shlex.split(file.read(), comments=True)
    return dict(word.split("=", 1) for word in words)


def take_surroundings() -> None:
    """Begin this program again with the surroundings that lib.sh gives, unless it has them."""
    if "AIRFLOW_SURROUNDINGS" not in os.environ:
        program = os.path.join(os.path.dirname(__file__), "surroundings.sh")
        os.execv(program, [program, sys.executable, "-B", *sys.argv])

"""The values of this host, for the programs in Python; lib.sh has them for those in sh."""

import os
import shlex
from pathlib import Path

FILE = Path(os.environ.get("AIRFLOW_HOST_ENV", "/etc/airflow/host.env"))


def read() -> dict[str, str]:
    """Each value by its name, from the file that the deploy writes."""
    words = shlex.split(FILE.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)

"""versitygw, an S3 server that keeps buckets as folders, built from its Go module."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox import gotools

VERSION = "v1.8.0"

_TOOL = gotools.Tool(
    "versitygw",
    "versitygw",
    VERSION,
    "2 minutes",
    ("github.com/versity/versitygw/cmd/versitygw",),
    (("main.Version", VERSION),),
)
# The version that its go.mod asks for.
_OLDEST_GO = (1, 25)


def ensure() -> Path:
    """Return the program's path; build it first when it is missing (about 2 minutes).

    Raises SandboxError when Go is missing or too old, or the build fails.
    """
    return gotools.program(_TOOL, _OLDEST_GO, "the tests' S3 server")

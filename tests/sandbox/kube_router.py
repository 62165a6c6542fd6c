"""kube-router, which enforces network policies on a node, built from its Go module."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox import gotools

VERSION = "v2.1.0"

_TOOL = gotools.Tool(
    "kube-router",
    "kube-router",
    VERSION,
    "3 minutes",
    ("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",),
)
# The version that its go.mod asks for.
_OLDEST_GO = (1, 26)


def ensure() -> Path:
    """Return the program's path; build it first when it is missing (about 3 minutes).

    Raises SandboxError when Go is missing or too old, or the build fails.
    """
    return gotools.program(_TOOL, _OLDEST_GO, "what enforces network policies in the tests")

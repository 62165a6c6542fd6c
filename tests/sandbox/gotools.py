"""Programs built from the Go modules in `gomodules`, each pinned by its go.mod and go.sum."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.common import (
    ARCHITECTURE,
    SandboxError,
    cache_dir,
    fresh_folder,
    locked,
    progress,
    run,
)

_MODULES = Path(__file__).parent / "gomodules"
_TARGET = {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": ARCHITECTURE, "GOWORK": "off"}
# With less than the largest packages take (700 MB), a compiler would do little but collect garbage.
_ENOUGH_MEMORY = 1 << 30


@dataclass(frozen=True)
class Tool:
    """Packages of one Go module of `gomodules`, and the version strings linked into them."""

    module: str
    name: str
    version: str
    takes: str
    packages: tuple[str, ...]
    stamps: tuple[tuple[str, str], ...] = ()


def recipe(tools: tuple[Tool, ...], *more: object) -> str:
    """Return a short text that differs whenever the tools' programs, or `more`, would."""
    digest = hashlib.sha256()
    modules = {tool.module for tool in tools}
    paths = [path for module in modules for path in (_MODULES / module).rglob("*")]
    for path in sorted(paths):
        if path.is_file():
            digest.update(f"{path.relative_to(_MODULES)}\0".encode() + path.read_bytes())
    digest.update(repr((tools, *more)).encode())
    return digest.hexdigest()[:12]


def require_go(oldest: tuple[int, int], programs: str) -> None:
    """Raise SandboxError when Go, which builds `programs`, is missing or older than `oldest`."""
    wanted = ".".join(map(str, oldest))
    if shutil.which("go") is None:
        raise SandboxError(f"Go is missing: install Go {wanted} or newer, which builds {programs}.")
    found = run(["go", "env", "GOVERSION"]).stdout.strip()
    numbers = tuple(int(part) for part in found.removeprefix("go").split(".")[:2])
    if numbers < oldest:
        raise SandboxError(f"{found} is too old: install Go {wanted} or newer.")


def build(tool: Tool, done: Path) -> Path:
    """Build the tool's programs into the folder `done`, unless it exists, and return it."""
    if done.exists():
        return done
    what = f"{tool.name} {tool.version} from Go modules"
    progress(f"Building {what} (about {tool.takes}, once)…")
    stamps = [f"-X {name}={value}" for name, value in tool.stamps]
    with fresh_folder(done) as draft:
        run(
            [
                # Debug information would take a sixth of the compiler's time.
                *("go", "build", "-trimpath", "-mod=readonly", "-gcflags=all=-dwarf=false"),
                *("-ldflags", " ".join(["-s", "-w", *stamps])),
                *("-o", f"{draft}/", *tool.packages),
            ],
            cwd=_MODULES / tool.module,
            env=_TARGET | _memory(),
        )
    return done


def program(tool: Tool, oldest: tuple[int, int], purpose: str) -> Path:
    """Return the path of a tool's only program; build it first when it is missing.

    Raises SandboxError when Go is missing or older than `oldest`, or the build fails.
    """
    folder = cache_dir() / "servers" / f"{tool.name}-{tool.version}_{recipe((tool,))}"
    with locked(tool.name):
        if not folder.exists():
            require_go(oldest, purpose)
            build(tool, folder)
    return folder / tool.name


def fetch(tools: tuple[Tool, ...]) -> None:
    """Download the modules that the tools need, one after the other.

    Raises SandboxError when something cannot be had, as building it would.
    """
    for tool in tools:
        run(
            ["go", "list", "-mod=readonly", "-deps", *tool.packages],
            cwd=_MODULES / tool.module,
            env=_TARGET,
        )


def _memory() -> dict[str, str]:
    """Return settings that let Go's programs collect garbage only when memory gets scarce."""
    meminfo = Path("/proc/meminfo").read_text()
    available = int(meminfo.partition("MemAvailable:")[2].split()[0]) << 10
    # One compiler for each core, and what starts them.
    share = available // ((os.cpu_count() or 1) + 1)
    return {"GOGC": "off", "GOMEMLIMIT": str(share)} if share >= _ENOUGH_MEMORY else {}

"""CPU seconds of a machine so far, by its parts. Runs on the machine, as it is.

With the argument memory it reads that too, which takes the kernel some time.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POD = re.compile(r"(?:.*-)?pod[0-9a-f]{8}[0-9a-f_-]{24,28}(?:\.slice)?")


def cpu_of(group: Path) -> float:
    """CPU seconds of a control group, with those of all groups that were ever in it."""
    version_1 = group / "cpuacct.usage"
    if version_1.exists():
        return int(version_1.read_text()) / 1e9
    (used,) = re.findall(r"(?m)^usage_usec (\d+)$", (group / "cpu.stat").read_text())
    return int(used) / 1e6


def below(group: Path) -> Iterator[Path]:
    """All control groups below one. Unlike glob, walk goes on where a group ends meanwhile."""
    return (Path(top, name) for top, names, _ in os.walk(group) for name in names)


def pods(groups: Path) -> tuple[float, dict[str, float]]:
    """CPU seconds of all pods that ever were, and of each that has a group now.

    With minikube's drivers podman and docker their groups are below that of the node's container.
    """
    kubepods = next((each for each in below(groups) if each.name.startswith("kubepods")), None)
    assert kubepods, f"no pods in {groups}: the node has to be on the machine"
    found = {}
    for path in below(kubepods):
        if POD.fullmatch(path.name):
            try:
                found[path.name] = cpu_of(path)
            except OSError:  # the pod has ended now
                continue
    return cpu_of(kubepods), found


def processes(proc: Path) -> Iterator[tuple[str, float, Path]]:
    """The unit of each process that is in no pod, its CPU seconds and its folder.

    The seconds are also those of the processes that it waited for.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    for path in proc.glob("[0-9]*"):
        try:
            group = (path / "cgroup").read_text()
            # The name of a program may have spaces and brackets.
            times = (path / "stat").read_text().rpartition(")")[2].split()[11:15]
        except OSError:  # it has ended
            continue
        if "kubepods" in group:
            continue
        unit = re.search(r"(?m)/([^/\n]+\.(?:service|scope))(?:/.*)?$", group)
        yield unit[1] if unit else "", sum(map(int, times)) / ticks, path


def memory_of(process: Path) -> int:
    """Bytes of a process, none when it has ended. Those that some share are divided among them."""
    try:
        share = re.search(r"(?m)^Pss: +(\d+)", (process / "smaps_rollup").read_text())
    except OSError:
        return 0
    return int(share[1]) * 1024 if share else 0


def memory_held(groups: Path) -> int:
    """Bytes that all processes of the machine hold, pods included, without files in the cache."""
    version_1 = groups / "memory/memory.stat"
    of_all = (version_1 if version_1.exists() else groups / "memory.stat").read_text()
    (held,) = re.findall(r"(?m)^(?:total_rss|anon) (\d+)$", of_all)
    return int(held)


def look(root: Path, with_memory: bool) -> dict[str, Any]:
    """The whole answer, of the machine whose files are there."""
    groups = root / "sys/fs/cgroup"
    held = memory_held(groups) if with_memory else 0
    if (groups / "cpuacct").is_dir():
        groups /= "cpuacct"
    all_pods, each_pod = pods(groups)
    cpu: dict[str, float] = {}
    memory: dict[str, int] = {}
    for unit, seconds, path in processes(root / "proc"):
        cpu[unit] = cpu.get(unit, 0) + seconds
        if with_memory:
            memory[unit] = memory.get(unit, 0) + memory_of(path)
    return {
        "machine": cpu_of(groups),
        "all_pods": all_pods,
        "pods": each_pod,
        "units": cpu,
        "memory": memory,
        "held": held,
    }


if __name__ == "__main__":
    print(json.dumps(look(Path("/"), sys.argv[1:] == ["memory"])))

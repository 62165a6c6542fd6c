"""The benchmark's arithmetic, its file and its drawing; a machine is a folder or a stand-in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tasks.layout import ROOT
from tests.bench import compare, drivers, figures, host, look, measure, plot
from tests.bench.figures import KINDS, Goal, Measured
from tests.bench.host import Host, Look
from tests.sandbox.common import SandboxError

ABOUT = {
    "commit": "0123456",
    "processor": "some <processor>",
    "cores": 2,
    "memory_gib": 24,
    "kernel": "6.1",
    "debian": "bookworm",
    "airflow": "3.3.2",
    "kubernetes": "1.35.8",
}
# Each figure with a baseline, except those that have none.
EVERY = {
    name: Measured([3.0, 1.0, 2.0], [1.0, 1.0, 0.5] if kind.baseline else [])
    for name, kind in KINDS.items()
}
EVERY["idle"].parts = {"Airflow": [0.5, 0.7, 0.6], "PostgreSQL": [0.1, 0.1, 0.2]}
SVG = "{http://www.w3.org/2000/svg}"
UID = "0a1b2c3d-0000-4000-8000-000000000001"
STATIC_POD = "pod56cec674135f4b0db2cdd5939eb0da5d"  # its name is a checksum, without dashes


def test_a_spread_is_of_all_values_in_any_order() -> None:
    assert figures.spread([3, 1, 2]) == (2, 1, 3)
    assert figures.spread([4, 1]) == (2.5, 1, 4)


def test_ratios_are_of_pairs_or_else_of_medians() -> None:
    assert figures.ratios([6, 2], [3, 4]) == [2, 0.5]
    assert figures.ratios([6, 2, 4], [8]) == [0.5]
    assert figures.ratios([1], []) == [] and figures.ratios([], [1]) == []
    assert figures.ratios([1, 2], [1, 0]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(162, "162"), (162.4, "162"), (12.34, "12.3"), (1.234, "1.23"), (0.0617, "0.062")],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (Goal(2), True),
        (Goal(1.9), False),
        (Goal(2, at_least=True), True),
        (Goal(2.1, at_least=True), False),
        (Goal(0.5, of_ratio=True), True),
        (Goal(0.4, of_ratio=True), False),
        (Goal(0.6, of_ratio=True, at_least=True), False),
    ],
)
def test_a_goal_is_about_the_median_or_its_ratio(goal: Goal, reached: bool) -> None:
    assert Measured([9, 1, 2], [2, 2, 4]).reaches(goal) is reached


def test_a_goal_of_a_ratio_has_a_baseline() -> None:
    assert [k for k in KINDS.values() if k.goal and k.goal.of_ratio and not k.baseline] == []


def test_each_figure_is_kept_with_its_values_spread_baseline_and_ratio(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    figures.keep(file, ABOUT, EVERY)
    kept = json.loads(file.read_text())
    assert kept["machine"] == ABOUT and list(kept["figures"]) == list(KINDS)
    idle = kept["figures"]["idle"]
    assert idle["values"] == [3, 1, 2] and idle["unit"] == "cores"
    assert (idle["median"], idle["low"], idle["high"]) == (2, 1, 3)
    assert idle["baseline"]["values"] == [1, 1, 0.5] and idle["baseline"]["median"] == 1
    assert idle["ratio"] == {"median": 3, "low": 1, "high": 4}
    assert idle["parts"]["Airflow"] == {"median": 0.6, "low": 0.5, "high": 0.7}
    assert kept["figures"]["rerun"]["goal"]["reached"] is True
    assert "baseline" not in kept["figures"]["image"]


def test_figures_of_one_machine_and_commit_come_together_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    figures.keep(file, ABOUT, {"idle": Measured([1])})
    figures.keep(file, ABOUT, {"rerun": Measured([5]), "idle": Measured([2])})
    kept = json.loads(file.read_text())["figures"]
    assert kept["idle"]["values"] == [2] and kept["rerun"]["values"] == [5]
    before = file.read_text()
    with pytest.raises(ValueError, match=r"another commit, cores: choose another file"):
        figures.keep(file, ABOUT | {"commit": "7654321", "cores": 4}, {"idle": Measured([9])})
    assert file.read_text() == before


def test_the_facts_say_where_and_of_which_commit_figures_are() -> None:
    found = figures.facts("trixie", "0123456")
    assert found.keys() == ABOUT.keys() and all(found.values())
    assert found["cores"] == os.cpu_count() and found["debian"] == "trixie"


# The drawing


def drawn(measured: dict[str, Measured], folder: Path) -> ElementTree.Element:
    """The drawing of figures, as a reader of XML has it."""
    kept = figures.keep(folder / "figures.json", ABOUT, measured)
    return ElementTree.fromstring(plot.svg(kept))


def test_the_drawing_has_each_figure_with_its_baseline_goal_and_unit(tmp_path: Path) -> None:
    root = drawn(EVERY, tmp_path)
    texts = [each.text or "" for each in root.iter(f"{SVG}text")]
    for name, kind in KINDS.items():
        assert kind.title in texts, name
        assert f"2.00 {kind.unit} (1.00 to 3.00)" in "\n".join(texts)
        if kind.baseline:
            assert f"{kind.baseline}: 1.00 {kind.unit} (0.500 to 1.00)" in texts
        if kind.goal:
            assert any(figures.goal_in_words(kind) in text for text in texts), name
    assert "of these: Airflow 0.600, PostgreSQL 0.100" in texts
    assert "some <processor>" in texts[0] and "0123456" in texts[1]


def test_bars_and_goal_have_the_scale_of_their_figure(tmp_path: Path) -> None:
    root = drawn({"tasks": Measured([20.0], [50.0]), "rerun": Measured([8.0])}, tmp_path)
    bars = [each for each in root.iter(f"{SVG}rect") if each.get("class") in ("bar", "base")]
    assert [float(each.get("width", 0)) for each in bars] == [
        0.4 * plot.BAR_WIDTH,
        plot.BAR_WIDTH,
        plot.BAR_WIDTH,
    ]
    goals = [each for each in root.iter(f"{SVG}line") if each.get("class") == "goal"]
    # 0.45 of the baseline, which is the longest bar; and 4 s of 8.
    assert [float(each.get("x1", 0)) - plot.MARGIN for each in goals] == [
        pytest.approx(0.45 * plot.BAR_WIDTH),
        pytest.approx(0.5 * plot.BAR_WIDTH),
    ]


def test_everything_is_inside_the_drawing(tmp_path: Path) -> None:
    long = {
        name: Measured([199.0, 100.0, 150.0], each.baseline and [200.0, 120.0, 130.0])
        for name, each in EVERY.items()
    }
    root = drawn(long, tmp_path)
    height = float(root.get("height", 0))
    for each in root.iter():
        for name in ("y", "y1", "y2"):
            assert 0 <= float(each.get(name, 0)) < height
    for each in root.iter(f"{SVG}text"):
        x, width = float(each.get("x", 0)), 7 * len(each.text or "")  # of 13 pixels, on average
        left = x - width if each.get("text-anchor") == "end" else x
        assert left >= 0 and left + width <= plot.WIDTH, each.text


def test_the_drawing_can_be_read_on_light_and_dark(tmp_path: Path) -> None:
    """Each text and line stands out from the background of its own scheme."""
    style = next(drawn(EVERY, tmp_path).iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"--(\w+):", light))
    for part in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part))
        assert colours.keys() == names
        for name in names - {"page"}:
            # Of text as WCAG 2 asks it for, of shapes too, except for the quiet bars.
            least = 2 if name == "base" else 4.5
            assert contrast(colours[name], colours["page"]) >= least, (name, part)


def contrast(one: str, other: str) -> float:
    """How much two colours differ: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """How bright a colour is, from 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_drawing_that_the_readme_shows_is_of_the_figures_beside_it() -> None:
    drawing = ROOT / ".github/bench.svg"
    assert f"({drawing.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    found = json.loads(drawing.with_suffix(".json").read_text())
    assert drawing.read_text() == plot.svg(found)


# Looking at a machine


def process(root: Path, number: int, cgroup: str, times: str, pss: int | None) -> None:
    """A process of a machine that is a folder."""
    folder = root / f"proc/{number}"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(cgroup)
    (folder / "stat").write_text(f"{number} (a (b) c) S 1 1 1 0 -1 0 1 2 3 4 {times} 20 0 1 0\n")
    if pss is not None:
        (folder / "smaps_rollup").write_text(
            f"Rss:    999 kB\nPss:     {pss} kB\nPss_Dirty: 7 kB\n"
        )


def version_1(group: Path, seconds: float) -> None:
    """A control group of version 1 that has used these CPU seconds."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpuacct.usage").write_text(f"{seconds * 1e9:.0f}\n")


def version_2(group: Path, seconds: float) -> None:
    """A control group of version 2 that has used these CPU seconds."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.stat").write_text(f"usage_usec {seconds * 1e6:.0f}\nuser_usec 1\nsystem_usec 2\n")


@pytest.mark.parametrize(
    ("write", "folder", "kubepods", "of_pods"),
    [
        (
            version_1,
            "sys/fs/cgroup/cpuacct",
            "kubepods",
            (STATIC_POD, f"burstable/pod{UID}"),
        ),
        (
            version_2,
            "sys/fs/cgroup",
            "kubepods.slice",
            (
                f"kubepods-{STATIC_POD}.slice",
                f"kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice",
            ),
        ),
        (
            version_2,
            "sys/fs/cgroup",
            "machine.slice/libpod-0a1b.scope/container/kubelet.slice/kubepods",
            (STATIC_POD, f"burstable/pod{UID}"),
        ),
    ],
)
def test_a_machine_is_looked_at_with_both_versions_of_control_groups(
    write: Callable[[Path, float], None],
    folder: str,
    kubepods: str,
    of_pods: tuple[str, str],
    tmp_path: Path,
) -> None:
    groups = tmp_path / folder
    write(groups, 100)
    of_memory = tmp_path / "sys/fs/cgroup" / ("memory" if write is version_1 else "")
    of_memory.mkdir(parents=True, exist_ok=True)
    held = "rss 1\ntotal_rss 4096\n" if write is version_1 else "anon 4096\nfile 1\n"
    (of_memory / "memory.stat").write_text(held)
    write(groups / kubepods, 40.5)
    for seconds, name in zip((10, 20), of_pods, strict=True):
        write(groups / kubepods / name, seconds)
        write(groups / kubepods / name / "container", 1)
    ticks = os.sysconf("SC_CLK_TCK")
    mine = "4:memory:/x\n1:name=systemd:/machine/system.slice/airflow-scheduler.service\n"
    process(tmp_path, 7, mine, f"{ticks} {2 * ticks} {3 * ticks} {4 * ticks}", 1000)
    process(tmp_path, 8, "0::/system.slice/airflow-scheduler.service/child\n", f"{ticks} 0 0 0", 24)
    process(tmp_path, 9, f"0::/{kubepods}/pod{UID}/1\n", f"{ticks} 0 0 0", 5)
    process(tmp_path, 10, "0::/init.scope\n", f"{ticks} 0 0 0", None)
    (tmp_path / "proc/11").mkdir()  # one that has ended meanwhile
    found = Look(**look.look(tmp_path, True))
    assert (found.machine, found.all_pods) == (100, 40.5)
    assert found.pods == {Path(name).name: s for s, name in zip((10, 20), of_pods, strict=True)}
    assert found.units == {"airflow-scheduler.service": 11, "init.scope": 1}
    assert found.memory == {"airflow-scheduler.service": 1024 * 1024, "init.scope": 0}
    assert found.held == 4096
    assert look.look(tmp_path, False) == {**found._asdict(), "memory": {}, "held": 0}


def test_processes_of_this_machine_are_read_as_they_are() -> None:
    before = sum(os.times()[:4])
    found = list(look.processes(Path("/proc")))
    assert found and all(seconds >= 0 for _, seconds, _ in found)
    assert sum(seconds for _, seconds, _ in found) >= before - 1


def test_the_pods_of_a_time_are_those_that_began_in_it() -> None:
    before = Look(0, 100, {"old": 60, "gone": 5}, {}, {})
    after = Look(0, 130, {"old": 70, "new": 8}, {}, {})
    # Of the 30 seconds 10 are the old one's; pods that began and ended have no group any more.
    assert host.ended_pods(before, after) == 20


def test_the_parts_of_a_host_are_all_of_its_cpu() -> None:
    before = Look(
        1000,
        100,
        {},
        {"airflow-scheduler.service": 50, "kubelet.service": 10, "postgresql@15-main.service": 5},
        {},
    )
    after = Look(
        1060,
        120,
        {},
        {
            "airflow-scheduler.service": 53,
            "airflow-triggerer.service": 2,
            "kubelet.service": 4,  # it started again
            "postgresql@15-main.service": 6,
            "ssh.service": 9,
        },
        {},
    )
    parts = host.by_part(before, after)
    assert parts == {"Airflow": 5, "PostgreSQL": 1, "Kubernetes": 20, "the rest": 34}
    assert sum(parts.values()) == 60


# Measuring


class StandIn(Host):
    """A host that counts what is done with it; time passes by what it runs."""

    def __init__(self, name: str = "one", speed: float = 1) -> None:
        super().__init__(name)
        self.done: list[str] = []
        self.log: list[str] = []  # which several may share
        self.speed, self.machine_cpu, self.pods_cpu = speed, 0.0, 0.0

    def install_dags(self) -> None:
        self.done.append("dags")
        self.log.append(self.name)

    def look(self, *_: str) -> Look:
        return Look(self.machine_cpu, self.pods_cpu, {}, {}, {})

    def _run(self, seconds: float, pods: float, rest: float) -> float:
        self.pods_cpu += pods * self.speed
        self.machine_cpu += (pods + rest) * self.speed
        return seconds * self.speed

    def run_tasks(self, dag: str) -> float:
        self.done.append(dag)
        many = dag == "bench_parallel"
        return self._run(60, 30, 45) if many else self._run(3, 1, 2)

    def run_bare_pods(self, count: int) -> float:
        self.done.append(f"{count} pods")
        return self._run(1, 0.1, 0.5) if count == 1 else self._run(20, 3, 15)


def test_tasks_and_bare_pods_take_turns_in_being_first() -> None:
    one = StandIn()
    found = measure.parallel(one, 2)
    assert one.done == ["dags", "30 pods", "bench_parallel", "bench_parallel", "30 pods"]
    assert found["tasks"].values == [30, 30] and found["tasks"].baseline == [90, 90]
    assert found["services_cpu"].values == [1.5, 1.5]
    assert found["services_cpu"].baseline == [0.5, 0.5]


def test_a_task_is_measured_beside_a_bare_pod() -> None:
    found = measure.single(StandIn(), 3)
    assert found["task"].values == [3, 3, 3] and found["task"].baseline == [1, 1, 1]
    assert found["pod_cpu"].values == [pytest.approx(1)] * 3
    assert found["pod_cpu"].baseline == [pytest.approx(0.1)] * 3


def test_measurements_give_each_figure_of_the_table_once() -> None:
    given = re.findall(r"return \{(.*)\}", Path(str(measure.__file__)).read_text())
    names = [name for each in given for name in re.findall(r'"(\w+)": ', each)]
    assert sorted(names) == sorted(KINDS)


def test_a_bare_pod_is_the_template_without_airflow() -> None:
    template: dict[str, Any] = {
        "metadata": {"name": "airflow-worker", "namespace": "team"},
        "spec": {
            "containers": [{"name": "base", "image": "some", "args": ["old"]}],
            "volumes": [1],
        },
    }
    before = json.dumps(template)
    pods = host.bare_pods(template, 2)
    assert json.dumps(template) == before
    assert [each["metadata"]["name"] for each in pods["items"]] == ["bench-0", "bench-1"]
    for each in pods["items"]:
        assert each["metadata"]["namespace"] == "team" and each["spec"]["volumes"] == [1]
        (container,) = each["spec"]["containers"]
        command = ["python", "-c", "pass"]
        assert container == {"name": "base", "image": "some", "command": command}


# Comparing


def test_two_hosts_are_measured_in_turns_and_compared_in_pairs() -> None:
    order: list[str] = []
    first, second = StandIn("first"), StandIn("second", speed=2)
    first.log = second.log = order
    pairs = compare.measured_in_turns((first, second), ["single"], 3)
    assert order == ["first", "second", "second", "first", "first", "second"]
    found = compare.compared(pairs)
    assert found["task"]["ratio"]["values"] == [2, 2, 2]
    assert found["task"]["baseline"]["median"] == 2
    assert "2.00 times, the baseline 2.00 times" in compare.told(found)


def test_a_ratio_is_the_second_commit_by_the_first_one() -> None:
    pairs = [(Measured([1.0, 9.0, 2.0]), Measured([1.0])), (Measured([4.0]), Measured([6.0]))]
    found = compare.compared({"idle": pairs, "image": []})
    assert found["idle"]["ratio"] == {"median": 1, "low": 0.5, "high": 1.5, "values": [0.5, 1.5]}
    assert "baseline" not in found["idle"] and found["image"] == {}
    assert "no ratio" in compare.told(found)


def test_the_table_of_drivers_has_a_row_for_each_figure() -> None:
    found = {
        "none": {"task": Measured([3.0, 1.0, 2.0]), "commands": Measured([5])},
        "podman": {"task": Measured([4.0])},
    }
    assert drivers.table(found).splitlines() == [
        "| Figure | none | podman |",
        "| --- | --- | --- |",
        "| A trivial task, from its trigger to its end | 2.00 s (1.00 to 3.00) | 4.00 s |",
        "| Remote commands of a deploy that changes nothing | 5 commands |  |",
    ]


def test_a_commit_that_is_not_there_is_refused_before_a_machine_is_made() -> None:
    assert re.fullmatch("[0-9a-f]{40}", compare.resolved("HEAD"))
    for name in ("no-such-commit", "--all"):
        with pytest.raises(SandboxError, match=f"no commit '{name}'"):
            compare.resolved(name)

"""Kubernetes: the table of minor versions, and the programs that hosts download.

A minor version is a person's choice: a program moves only the patch release within it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import yaml

from tasks.settings import ARCHITECTURES
from tests.pins import sources
from tests.pins.pin import Files, Found, NotReached, Refused, Row, newest, numbers

TABLE = "tasks/cluster/releases.py"
KUBERNETES, MINIKUBE = "tasks/settings/kubernetes.py", "tasks/settings/minikube.py"
# They repeat the defaults.
TEXTS = ("inventories/README.md", "inventories/examples/offline.py")
ROW = re.compile(
    r'^    "(?P<minor>1\.\d+)": Release\("(?P<patch>[\d.]+)", date\((?P<end>[\d, ]+)\),'
    r' "(?P<source>[^"]+)"\),\n',
    re.MULTILINE,
)
STARTS = re.compile(r'^STARTS = \("(1\.\d+)", "(1\.\d+)"\)$', re.MULTILINE)

Sums = dict[str, str]  # by the architecture


def minor_of(version: str) -> str:
    """The minor version that a version belongs to."""
    return ".".join(map(str, numbers(version)[:2]))


def default(root: Path, path: str, field: str) -> str:
    """The default of a setting that is a version."""
    text = (root / path).read_text()
    found = re.search(rf'^    {field}: Version = Field\(\s*default="([\d.]+)"', text, re.MULTILINE)
    if found is None:
        raise Refused(f"{path} has no default of {field}: a pin has moved, so correct tests/pins")
    return found[1]


def overdue(root: Path, today: date) -> list[str]:
    """The sentences about a default that gets no more patches."""
    minor = minor_of(default(root, KUBERNETES, "version"))
    for row in ROW.finditer((root / TABLE).read_text()):
        end = _date(row["end"])
        if row["minor"] == minor and end < today:
            return [f"Kubernetes {minor}, the default, had its end of life on {end}: {row[4]}"]
    return []


# The table of minor versions


def look_at_releases(root: Path) -> Found:
    """The newest patch release and the end of life of each minor version; and new ones."""
    text = (root / TABLE).read_text()
    listed = schedule(sources.text(sources.AT["schedule"]), date.today())
    known = {row["minor"]: row for row in ROW.finditer(text)}
    if not known:
        raise Refused(f"{TABLE} has no table: a pin has moved, so correct tests/pins")
    last = numbers([*known][-1])
    rows, lines = [], []
    for minor in [*known, *sorted((each for each in listed if numbers(each) > last), key=numbers)]:
        row = known.get(minor)
        patch = stable(minor)
        before = ""
        if row:
            patch = newest(row["patch"], patch)
            before = f"{row['patch']} until {_date(row['end'])}"
        # One that had its end of life leaves the schedule.
        end = listed.get(minor) or _date(row["end"] if row else "")
        source = row["source"] if row else f"https://kubernetes.io/releases/{minor}/"
        rows.append(Row(f"Kubernetes {minor}", before or "none", f"{patch} until {end}"))
        lines.append(
            f'    "{minor}": Release("{patch}", date({end.year}, {end.month}, {end.day}),'
            f' "{source}"),\n'
        )
    first, *_, final = [*ROW.finditer(text)] if len(known) > 1 else [*ROW.finditer(text)] * 2
    new = text[: first.start()] + "".join(lines) + text[final.end() :]
    # It names one as an example.
    named = (root / TEXTS[0]).read_text()
    for row, line in zip(ROW.finditer(text), map(ROW.match, lines), strict=False):
        if line:
            named = with_version(named, row["patch"], line["patch"])
    return Found(rows, lambda: {TABLE: new, TEXTS[0]: named})


def with_version(text: str, old: str, new: str) -> str:
    """A text that names another version."""
    return re.sub(rf"(?<![\d.]){re.escape(old)}(?!\.?\d)", new, text)


def schedule(text: str, today: date) -> dict[str, date]:
    """The ends of life of the minor versions that Kubernetes has released."""
    # Otherwise 1.40 would be the number 1.4.
    listed = yaml.load(text, yaml.BaseLoader)["schedules"]
    return {
        each["release"]: date.fromisoformat(each["endOfLifeDate"])
        for each in listed
        if date.fromisoformat(each["releaseDate"]) <= today
    }


def stable(minor: str) -> str:
    """The newest patch release of a minor version."""
    return sources.text(f"{sources.AT['kubernetes']}/stable-{minor}.txt").strip().removeprefix("v")


# Programs


def look_at_kubernetes(root: Path) -> Found:
    """The newest patch release of the default's minor version, and kubectl's checksums."""
    before = default(root, KUBERNETES, "version")
    after = newest(before, stable(minor_of(before)))
    return _program(root, "Kubernetes and kubectl", KUBERNETES, before, after, kubectl_sums)


def kubectl_sums(version: str) -> Sums:
    """The checksums of kubectl, which are beside it."""
    at = f"{sources.AT['kubernetes']}/v{version}/bin/linux"
    return {arch: _sum(f"{at}/{arch}/kubectl.sha256") for arch in ARCHITECTURES}


def look_at_minikube(root: Path) -> Found:
    """The newest minikube that still starts the default Kubernetes."""
    listed = {
        each["name"].removeprefix("v"): each["checksums"]
        for each in json.loads(sources.text(f"{sources.AT['minikube']}/releases-v2.json"))
        if re.fullmatch(r"v\d+\.\d+\.\d+", each["name"])
    }
    before = default(root, MINIKUBE, "version")
    after = newest(before, *listed)
    wanted = minor_of(default(root, KUBERNETES, "version"))
    oldest, latest = minikubes_kubernetes(after)
    note = f"starts Kubernetes {oldest} to {latest}"
    if not numbers(oldest) <= numbers(wanted) <= numbers(latest):
        if after == before:
            raise Refused(f"minikube {before} {note}, and the default is {wanted}")
        note, after = f"{after} {note} only, and the default is {wanted}", before
        oldest, latest = minikubes_kubernetes(before)

    def sums(version: str) -> Sums:
        if version not in listed:
            raise NotReached(f"{sources.AT['minikube']}/releases-v2.json: it has no {version}")
        return {arch: listed[version][arch]["linux"] for arch in ARCHITECTURES}

    found = _program(root, "minikube", MINIKUBE, before, after, sums, note)
    text = (root / MINIKUBE).read_text()
    there = STARTS.search(text)
    if there is None:
        raise Refused(f"{MINIKUBE} has no STARTS: a pin has moved, so correct tests/pins")

    def files() -> Files:
        changed = found.files()
        new = f'STARTS = ("{oldest}", "{latest}")'
        if new != there[0]:
            changed[MINIKUBE] = changed.get(MINIKUBE, text).replace(there[0], new)
        return changed

    starts = Row(
        "Kubernetes that minikube starts", " to ".join(there.groups()), f"{oldest} to {latest}"
    )
    return Found([*found.rows, starts], files)


def minikubes_kubernetes(version: str) -> tuple[str, str]:
    """The oldest and the newest minor version of Kubernetes that a minikube knows."""
    folder = sources.go_module("k8s.io/minikube", f"v{version}")
    text = (folder / "pkg/minikube/constants/constants.go").read_text()
    names = ("OldestKubernetesVersion", "NewestKubernetesVersion")
    oldest, latest = (minor_of(constant(text, name)) for name in names)
    return oldest, latest


def constant(text: str, name: str) -> str:
    """The value of a constant of Go that is a string."""
    found = re.search(rf'^\s*{name}\s*=\s*"([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise Refused(f"Go's constant {name} is gone: correct tests/pins")
    return found[1]


def look_at_crictl(root: Path) -> Found:
    """The newest crictl of the default Kubernetes' minor version."""
    before = default(root, MINIKUBE, "crictl_version")
    wanted = minor_of(default(root, KUBERNETES, "version"))
    project = "kubernetes-sigs/cri-tools"
    listed = json.loads(
        sources.text(f"{sources.AT['github_api']}/repos/{project}/releases?per_page=100")
    )
    offered = [
        version
        for each in listed
        if not each["prerelease"]
        and minor_of(version := each["tag_name"].removeprefix("v")) == wanted
    ]
    # Between a new minor version of Kubernetes and that of crictl, the older one serves.
    after = newest(*(offered or [before]))

    def sums(version: str) -> Sums:
        at = f"{sources.AT['github']}/{project}/releases/download/v{version}/crictl-v{version}"
        return {arch: _sum(f"{at}-linux-{arch}.tar.gz.sha256") for arch in ARCHITECTURES}

    return _program(root, "crictl", MINIKUBE, before, after, sums, field="crictl_version")


def _program(
    root: Path,
    name: str,
    settings: str,
    before: str,
    after: str,
    sums: Callable[[str], Sums],
    note: str = "",
    field: str = "version",
) -> Found:
    """A version with its checksums: wherever the old ones stand, the new ones belong."""
    old = sums(before)
    paths = [str(path.relative_to(root)) for path in sorted((root / "tasks").rglob("*.py"))]
    texts = {path: (root / path).read_text() for path in (*paths, *TEXTS)}
    for arch, checksum in old.items():
        if not any(checksum in texts[path] for path in paths):
            raise Refused(
                f"{name}: its source has another checksum of {before} for {arch} than tasks/"
            )

    def files() -> Files:
        new = sums(after)
        changed = {}
        for path, old_text in texts.items():
            text = old_text
            for arch in ARCHITECTURES:
                text = text.replace(old[arch], new[arch])
            if path == settings:
                text = re.sub(
                    rf'(^    {field}: Version = Field\(\s*default=)"[\d.]+"',
                    rf'\1"{after}"',
                    text,
                    flags=re.MULTILINE,
                )
            if path in TEXTS:
                text = with_version(text, before, after)
            if text != old_text:
                changed[path] = text
        return changed

    return Found([Row(name, before, after, note)], files)


def _sum(url: str) -> str:
    found = sources.text(url).split()
    if not found or not re.fullmatch(r"[0-9a-f]{64}", found[0]):
        raise NotReached(f"{url}: this is no checksum")
    return found[0]


def _date(written: str) -> date:
    year, month, day = map(int, written.split(","))
    return date(year, month, day)

"""`./tests/pins/check` and `./tests/pins/renew`, with sources on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster import releases
from tasks.layout import ROOT
from tasks.settings import ARCHITECTURES
from tasks.settings.kubernetes import KUBECTL_SHA256
from tasks.settings.minikube import CRICTL_SHA256, MINIKUBE_SHA256, STARTS
from tasks.settings.types import numbers
from tests.pins import __main__ as command
from tests.pins import actions, ends, kubernetes, modules, python, sources
from tests.pins.pin import Files, Found, Pin, Refused, write
from tests.sandbox import offline
from tests.unit import fake
from tests.unit.markdown import section, table

DEFAULTS = fake.DEFAULTS
TODAY = date.today()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """What the web servers have, by path; the sources' addresses lead there."""
    pages: Files = {}

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    for name in sources.AT:
        monkeypatch.setitem(sources.AT, name, f"http://127.0.0.1:{server.server_port}/{name}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield pages
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the files with pins."""
    root = tmp_path / "repository"
    for folder in ("tasks", "inventories", "tests/sandbox", ".github/workflows"):
        shutil.copytree(ROOT / folder, root / folder)
    return root


def renew(root: Path, found: Found) -> set[str]:
    """Write what was found; returns the paths that changed."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    write(root, found.files())
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert not [path for path in after if path.suffix == ".new"]
    return {str(path.relative_to(root)) for path, data in after.items() if before.get(path) != data}


def is_newer(found: Found) -> bool:
    return any(row.is_newer for row in found.rows)


def sums(*words: str) -> dict[str, str]:
    """Checksums by architecture."""
    return {
        arch: hashlib.sha256(" ".join((arch, *words)).encode()).hexdigest()
        for arch in ARCHITECTURES
    }


def bumped(version: str) -> str:
    """The next patch release."""
    minor, _, patch = version.rpartition(".")
    return f"{minor}.{int(patch) + 1}"


# The table of minor versions


def scheduled(minor: str, end: date, released: date = TODAY) -> str:
    """An entry of Kubernetes' schedule."""
    return f"- release: {minor}\n  releaseDate: {released}\n  endOfLifeDate: {end}\n"


def rows(root: Path) -> dict[str, tuple[str, date, str]]:
    """The table, as Python reads it."""
    namespace: dict[str, Any] = {}
    exec((root / kubernetes.TABLE).read_text(), namespace)
    return {minor: tuple(row) for minor, row in namespace["RELEASES"].items()}


def test_the_table_gets_new_patches_dates_and_minor_versions(
    served: Files, repository: Path
) -> None:
    known = {
        minor: (row.patch, row.end_of_life, row.source) for minor, row in releases.RELEASES.items()
    }
    minors = [*known]
    last = numbers(minors[-1])[1]
    new = [f"1.{last + 1}", f"1.{last + 2}", f"1.{last + 3}"]
    for minor in minors:
        served[f"/kubernetes/stable-{minor}.txt"] = f"v{known[minor][0]}"
    served[f"/kubernetes/stable-{minors[-1]}.txt"] = f"v{minors[-1]}.99"
    # One that the documentation names as an example.
    between = between_minor()
    served[f"/kubernetes/stable-{between}.txt"] = f"v{bumped(known[between][0])}"
    served |= {f"/kubernetes/stable-{minor}.txt": f"v{minor}.0\n" for minor in new[:2]}
    end = TODAY + timedelta(days=400)
    served["/schedule"] = "schedules:\n" + "".join(
        (
            scheduled(new[2], end, TODAY + timedelta(days=2)),  # not released yet, also at midnight
            scheduled(new[1], end),
            scheduled(new[0], end),
            scheduled(minors[-1], end),
        )
    )
    found = kubernetes.look_at_releases(repository)
    assert [row.name for row in found.rows if row.is_newer] == [
        f"Kubernetes {minor}" for minor in (between, minors[-1], *new[:2])
    ]
    text = repository / "inventories/README.md"
    before = text.read_text()
    assert renew(repository, found) == {kubernetes.TABLE, "inventories/README.md"}
    expected = known | {minors[-1]: (f"{minors[-1]}.99", end, known[minors[-1]][2])}
    expected[between] = (bumped(known[between][0]), *known[between][1:])
    example = "such as `v{}` with `kubeadm`"
    old, now = (example.format(each) for each in (known[between][0], expected[between][0]))
    assert old in before and text.read_text() == before.replace(old, now)
    for minor in new[:2]:
        expected[minor] = (f"{minor}.0", end, f"https://kubernetes.io/releases/{minor}/")
    assert rows(repository) == expected
    assert not is_newer(kubernetes.look_at_releases(repository))


def test_a_minor_version_that_ends_with_zero_stays_whole() -> None:
    text = f"schedules:\n{scheduled('1.40', TODAY)}"
    assert kubernetes.schedule(text, TODAY) == {"1.40": TODAY}


def test_a_default_past_its_end_of_life_is_told(repository: Path) -> None:
    minor = releases.minor_of(DEFAULTS.kubernetes.version)
    end = releases.RELEASES[minor].end_of_life
    assert kubernetes.overdue(repository, end) == []
    (sentence,) = kubernetes.overdue(repository, end + timedelta(days=1))
    assert f"Kubernetes {minor}" in sentence and str(end) in sentence
    assert releases.RELEASES[minor].source in sentence


def test_the_other_defaults_still_get_fixes() -> None:
    """After this day, choose a newer default: the source says which ones there are."""
    assert ends.defaults() == ends.ENDS.keys()
    assert ends.overdue(TODAY) == []
    days = [end.day for end in ends.ENDS.values() if end.day]
    assert len(ends.overdue(max(days) + timedelta(days=1))) == len(days) > 5
    (first,) = ends.overdue(min(days) + timedelta(days=1))
    assert "had its end of life on 2027-11-11: https://www.postgresql.org/" in first


# Programs


def kubectl(served: Files, version: str, given: dict[str, str]) -> None:
    for arch, checksum in given.items():
        served[f"/kubernetes/v{version}/bin/linux/{arch}/kubectl.sha256"] = f"{checksum}\n"


def test_kubernetes_goes_to_the_newest_patch_with_its_checksums(
    served: Files, repository: Path
) -> None:
    old, new = DEFAULTS.kubernetes.version, bumped(DEFAULTS.kubernetes.version)
    becomes = sums("new")
    served[f"/kubernetes/stable-{releases.minor_of(old)}.txt"] = f"v{new}"
    kubectl(served, old, KUBECTL_SHA256)
    kubectl(served, new, becomes)
    found = kubernetes.look_at_kubernetes(repository)
    assert [(row.before, row.after) for row in found.rows] == [(old, new)]
    assert renew(repository, found) == {kubernetes.KUBERNETES, *kubernetes.TEXTS}
    settings = (repository / kubernetes.KUBERNETES).read_text()
    assert kubernetes.default(repository, kubernetes.KUBERNETES, "version") == new
    for arch, checksum in becomes.items():
        assert f'    "{arch}": "{checksum}",\n' in settings
    text = (repository / "inventories/README.md").read_text()
    assert f'| `kubernetes_version` | `"{new}"` |' in text
    assert f"release/v{new}/bin" in text
    example = (repository / "inventories/examples/offline.py").read_text()
    assert f'"kubernetes_version": "{new}"' in example
    assert not is_newer(kubernetes.look_at_kubernetes(repository))


def test_kubernetes_never_goes_back(served: Files, repository: Path) -> None:
    version = DEFAULTS.kubernetes.version
    minor = releases.minor_of(version)
    served[f"/kubernetes/stable-{minor}.txt"] = f"v{minor}.0"
    kubectl(served, version, KUBECTL_SHA256)
    assert not is_newer(kubernetes.look_at_kubernetes(repository))


@pytest.mark.parametrize("changed", ARCHITECTURES)
def test_a_checksum_that_its_source_does_not_have_is_told(
    served: Files, repository: Path, changed: str
) -> None:
    version = DEFAULTS.kubernetes.version
    served[f"/kubernetes/stable-{releases.minor_of(version)}.txt"] = f"v{version}"
    kubectl(served, version, KUBECTL_SHA256 | {changed: sums()[changed]})
    with pytest.raises(Refused, match=f"another checksum of {version} for {changed}"):
        kubernetes.look_at_kubernetes(repository)


def minikube(
    served: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest_kubernetes: str
) -> tuple[str, dict[str, str]]:
    """A new minikube, beside the one here; returns its version and its checksums."""
    version, becomes = bumped(DEFAULTS.minikube.version), sums("minikube")
    served["/minikube/releases-v2.json"] = json.dumps(
        [
            {
                "name": f"v{name}",
                "checksums": {arch: {"linux": sum} for arch, sum in given.items()} | {"linux": "-"},
            }
            for name, given in (
                ("9.9.9-beta.0", becomes),
                (version, becomes),
                (DEFAULTS.minikube.version, MINIKUBE_SHA256),
            )
        ]
    )
    here = f"v{DEFAULTS.minikube.version}"
    known = {here: [f"{minor}.0" for minor in STARTS], f"v{version}": ["1.30.0", newest_kubernetes]}
    for name, (oldest, newest) in known.items():
        constants = tmp_path / name / "pkg/minikube/constants/constants.go"
        constants.parent.mkdir(parents=True)
        constants.write_text(
            f'\t// NewestKubernetesVersion is one\n\tNewestKubernetesVersion = "v{newest}"\n'
            f'\tOldestKubernetesVersion = "v{oldest}"\n'
        )
    monkeypatch.setattr(sources, "go_module", lambda name, version: tmp_path / version)
    return version, becomes


def test_minikube_goes_to_the_newest_release(
    served: Files, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It starts later patch releases than the one that it knows.
    knows = f"{releases.minor_of(DEFAULTS.kubernetes.version)}.0"
    version, becomes = minikube(served, tmp_path, monkeypatch, knows)
    found = kubernetes.look_at_minikube(repository)
    assert renew(repository, found) == {kubernetes.MINIKUBE, *kubernetes.TEXTS}
    settings = (repository / kubernetes.MINIKUBE).read_text()
    assert kubernetes.default(repository, kubernetes.MINIKUBE, "version") == version
    for arch, checksum in becomes.items():
        assert f'    "{arch}": "{checksum}",\n' in settings
    assert f'\nSTARTS = ("1.30", "{releases.minor_of(knows)}")\n' in settings
    # What belongs to crictl stays.
    assert all(checksum in settings for checksum in CRICTL_SHA256.values())
    assert DEFAULTS.minikube.crictl_version in settings
    assert not is_newer(kubernetes.look_at_minikube(repository))


def test_minikube_stays_if_the_newest_does_not_start_the_default_kubernetes(
    served: Files, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = minikube(served, tmp_path, monkeypatch, "1.31.0")
    found = kubernetes.look_at_minikube(repository)
    assert not is_newer(found)
    assert f"{version} starts Kubernetes 1.30 to 1.31 only" in found.rows[0].note


def test_crictl_stays_within_the_minor_version_of_kubernetes(
    served: Files, repository: Path
) -> None:
    minor = releases.minor_of(DEFAULTS.kubernetes.version)
    old, new = DEFAULTS.minikube.crictl_version, f"{minor}.99"
    listed = {new: False, f"{minor}.100": True, "1.99.0": False, old: False}
    served["/github_api/repos/kubernetes-sigs/cri-tools/releases?per_page=100"] = json.dumps(
        [{"tag_name": f"v{name}", "prerelease": early} for name, early in listed.items()]
    )
    becomes = sums("new")
    for version, given in ((old, CRICTL_SHA256), (new, becomes)):
        at = f"/github/kubernetes-sigs/cri-tools/releases/download/v{version}/crictl-v{version}"
        for arch, checksum in given.items():
            name = f"crictl-v{version}-linux-{arch}.tar.gz"
            served[f"{at}-linux-{arch}.tar.gz.sha256"] = f"{checksum}  {name}\n"
    assert renew(repository, kubernetes.look_at_crictl(repository)) == {
        kubernetes.MINIKUBE,
        *kubernetes.TEXTS,
    }
    assert kubernetes.default(repository, kubernetes.MINIKUBE, "crictl_version") == new
    settings = (repository / kubernetes.MINIKUBE).read_text()
    assert all(each in settings for each in (*becomes.values(), *MINIKUBE_SHA256.values()))
    assert not is_newer(kubernetes.look_at_crictl(repository))


# Actions


def test_actions_go_to_the_newest_major_version(served: Files, repository: Path) -> None:
    used = {
        use["name"]
        for path in (repository / ".github/workflows").iterdir()
        for use in actions.USES.finditer(path.read_text())
    }
    assert used
    for name in used:
        url = f"/github_api/repos/{name}/releases/latest"
        served[url] = json.dumps({"tag_name": "v99.1.2"})
    assert renew(repository, actions.look_at_actions(repository)) == {".github/workflows/ci.yml"}
    text = (repository / ".github/workflows/ci.yml").read_text()
    assert set(re.findall(r"uses: \S+@(\S+)", text)) == {"v99"}
    assert not is_newer(actions.look_at_actions(repository))


# Python packages, with real uv and an index of this machine

PROJECT = """\
[project]
name = "demo"
version = "1"
requires-python = ">=3.11"
dependencies = ["free==1.*"]

[dependency-groups]
dev = ["held>=1.0,<2", "needy"]
sbom = ["lister"]
airflow = ["apache-airflow==3.3.2", "provider"]

[build-system]
requires = ["uv_build>=0.13,<0.14"]
"""
PACKAGES = {
    "free": ("1.0",),
    "held": ("1.0",),
    "needy": ("1.0",),
    "lister": ("1.0",),
    "provider": ("1.0",),
    "apache-airflow": ("3.3.1", "3.3.2"),
    "uv": ("0.13.8",),
}
NEEDS = {"needy": "held<2"}


def wheel(name: str, version: str) -> bytes:
    """A wheel without a module."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = f"Requires-Dist: {NEEDS[name]}\n" if name in NEEDS else ""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        archive.writestr(f"{info}/METADATA", about)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all indexes and projects, one after the other: a lock has its index's path."""
    return tmp_path_factory.mktemp("place")


def fresh(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder as it was made for the first test: uv takes long, and a wheel has its time."""
    kept = folder.with_suffix(".kept")
    if not kept.exists():
        make(kept)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    return folder


@pytest.fixture
def index(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only index that uv has."""
    folder = fresh(place / "index", make_index)
    for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_OFFLINE", "UV_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", folder.as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def make_index(folder: Path) -> None:
    for name, versions in PACKAGES.items():
        release(folder, name, *versions)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def release(index: Path, name: str, *versions: str) -> None:
    """The index has more releases of a package."""
    (index / name).mkdir(parents=True, exist_ok=True)
    for version in versions:
        path = index / name / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        path.write_bytes(wheel(name, version))
    links = "".join(
        f'<a href="{path.name}#sha256={digest(path)}">{path.name}</a>\n'
        for path in sorted((index / name).glob("*.whl"))
    )
    (index / name / "index.html").write_text(links)


@pytest.fixture
def project(index: Path, place: Path) -> Path:
    """A repository whose locks are those of the index."""
    return fresh(place / "project", make_project)


def make_project(root: Path) -> None:
    requirements = root / python.REQUIREMENTS
    requirements.mkdir(parents=True)
    (root / python.AIRFLOW_SETTINGS).parent.mkdir(parents=True)
    (root / python.AIRFLOW_SETTINGS).write_text('        default="3.3.2",\n')
    (root / python.SETTINGS_TEXT).parent.mkdir()
    (root / python.SETTINGS_TEXT).write_text(
        f'| `airflow_version` | `"3.3.2"` | x |\n-o {python.REQUIREMENTS}/3.3.2.txt\n'
        "Airflow 3.3.2 does so.\n"
    )
    (root / python.PROJECT).write_text(PROJECT)
    sources.uv(root, "lock")
    for name in ("3.3.1", "3.3.2", "sbom", "uv"):
        (requirements / f"{name}.txt").write_text("uv==0.1\n" if name == "uv" else "")
    write(root, python.look_at_locks(root).files())
    write(root, python.look_at_uv(root).files())


def locked(root: Path, name: str) -> set[str]:
    return {each.strip() for each in python.pinned((root / python.REQUIREMENTS / name).read_text())}


def test_all_locks_get_the_newest_versions_within_the_bounds(project: Path, index: Path) -> None:
    assert not is_newer(python.look_at_locks(project))
    assert locked(project, "3.3.1.txt") == {"apache-airflow==3.3.1", "provider==1.0"}
    release(index, "provider", "1.1")
    release(index, "lister", "1.5")
    release(index, "free", "2.0")  # out of bounds
    release(index, "apache-airflow", "3.3.3")
    found = python.look_at_locks(project)
    assert [row[:3] for row in found.rows if row.is_newer] == [
        ("lister", "1.0", "1.5"),
        ("provider", "1.0", "1.1"),
        ("3.3.1.txt", "as here", "1 of 2 packages differ"),
        ("3.3.2.txt", "as here", "1 of 2 packages differ"),
        ("sbom.txt", "as here", "1 of 1 packages differ"),
    ]
    names = ("3.3.1.txt", "3.3.2.txt", "sbom.txt")
    files = {f"{python.REQUIREMENTS}/{name}" for name in names}
    assert renew(project, found) == {python.LOCK, *files}
    assert locked(project, "3.3.1.txt") == {"apache-airflow==3.3.1", "provider==1.1"}
    assert locked(project, "3.3.2.txt") == {"apache-airflow==3.3.2", "provider==1.1"}
    assert locked(project, "sbom.txt") == {"lister==1.5"}
    sbom = (project / python.REQUIREMENTS / "sbom.txt").read_text()
    wheel = index / "lister/lister-1.5-py3-none-any.whl"
    assert sbom == f"lister==1.5 \\\n    --hash=sha256:{digest(wheel)}\n"
    assert not is_newer(python.look_at_locks(project))


def test_lines_of_packages_that_did_not_change_stay() -> None:
    def package(name: str, version: str, more: str = "") -> str:
        return (
            f'[[package]]\nname = "{name}"\nversion = "{version}"\n'
            f'wheels = [\n    {{ url = "https://i/{name}", hash = "sha256:{version}"{more} }},\n]\n'
        )

    head, told = "version = 1\n\n", ', size = 7, upload-time = "2026-01-01T00:00:00Z"'
    before = head + "\n".join((package("a", "1"), package("b", "1"), package("c", "1", told)))
    after = head + "\n".join((package("a", "1", told), package("b", "2", told), package("c", "1")))
    assert python.with_lines_of(before, after) == head + "\n".join(
        (package("a", "1"), package("b", "2", told), package("c", "1", told))
    )
    assert python.with_lines_of(before, before) == before


def test_a_lock_file_of_no_group_is_told(project: Path) -> None:
    (project / python.REQUIREMENTS / "strange.txt").write_text("")
    with pytest.raises(Refused, match=r"strange\.txt: name it"):
        python.look_at_locks(project)


def test_bounds_move_to_the_newest_release_that_goes_with_the_others(
    project: Path, index: Path
) -> None:
    assert not is_newer(python.look_at_bounds(project))
    release(index, "free", "2.1")
    release(index, "held", "2.0")
    found = python.look_at_bounds(project)
    free, held = found.rows
    assert free == ("free", "==1.*", "==2.*", "2.1")
    assert not held.is_newer
    assert held.note.startswith("2.0 does not go with the others: ") and "needy" in held.note
    # Files of hosts do not change with what hosts do not have.
    assert renew(project, found) == {python.PROJECT, python.LOCK}
    assert '"free==2.*"' in (project / python.PROJECT).read_text()
    assert python.versions((project / python.LOCK).read_text())["free"] == "2.1"
    assert not is_newer(python.look_at_bounds(project))


@pytest.mark.parametrize(
    ("bounds", "version", "expected"),
    [
        ("==9.*", "9.4.1", "==9.*"),
        ("==9.*", "10.0", "==10.*"),
        ("==10.2.*", "10.3.0", "==10.3.*"),
        (">=36.0.1,<37", "36.9", ">=36.0.1,<37"),
        (">=36.0.1,<37", "38.1.2", ">=36.0.1,<39"),
        (">=0.13,<0.14", "0.15.2", ">=0.13,<0.16"),
    ],
)
def test_bounds_are_moved_as_they_are_written(bounds: str, version: str, expected: str) -> None:
    assert python.widened(bounds, version) == expected


def test_a_new_airflow_gets_a_lock_file_and_becomes_the_default(project: Path, index: Path) -> None:
    release(index, "apache-airflow", "3.3.3", "3.4.0b1")
    found = python.look_at_airflow(project)
    assert found.rows == [("apache-airflow", "3.3.2", "3.3.3", "")]
    lock = f"{python.REQUIREMENTS}/3.3.3.txt"
    changed = {python.PROJECT, python.LOCK, lock, python.AIRFLOW_SETTINGS, python.SETTINGS_TEXT}
    assert renew(project, found) == changed
    assert locked(project, "3.3.3.txt") == {"apache-airflow==3.3.3", "provider==1.0"}
    assert locked(project, "3.3.2.txt") == {"apache-airflow==3.3.2", "provider==1.0"}
    assert (project / python.AIRFLOW_SETTINGS).read_text() == '        default="3.3.3",\n'
    assert (project / python.SETTINGS_TEXT).read_text() == (
        f'| `airflow_version` | `"3.3.3"` | x |\n-o {python.REQUIREMENTS}/3.3.3.txt\n'
        "Airflow 3.3.2 does so.\n"
    )
    assert not is_newer(python.look_at_airflow(project))


def test_bounds_for_packages_of_hosts_alone_stay(project: Path, index: Path) -> None:
    file = project / python.PROJECT
    file.write_text(file.read_text().replace('"free==1.*"', '"free==1.*", "protobuf<7"'))
    release(index, "protobuf", "6.0", "7.0")
    assert [row.name for row in python.look_at_bounds(project).rows] == ["free", "held"]


def test_uv_and_the_bounds_of_its_build_system_change_together(project: Path, index: Path) -> None:
    assert not is_newer(python.look_at_uv(project))
    release(index, "uv", "0.14.2")
    assert renew(project, python.look_at_uv(project)) == {python.UV_LOCK, python.PROJECT}
    wheel = index / "uv/uv-0.14.2-py3-none-any.whl"
    text = (project / python.UV_LOCK).read_text()
    assert text == f"uv==0.14.2 \\\n    --hash=sha256:{digest(wheel)}\n"
    assert '"uv_build>=0.14,<0.15"' in (project / python.PROJECT).read_text()
    assert not is_newer(python.look_at_uv(project))


@pytest.mark.parametrize(
    ("group", "name"), [("airflow", DEFAULTS.airflow.version), ("sbom", "sbom")]
)
def test_a_lock_file_is_the_export_of_uv(group: str, name: str) -> None:
    project, lock = ((ROOT / name).read_text() for name in (python.PROJECT, python.LOCK))
    text = (ROOT / python.REQUIREMENTS / f"{name}.txt").read_text()
    assert python.exported(project, lock, group) == text


def test_an_edited_version_of_airflow_gets_a_lock_file(project: Path) -> None:
    path = project / python.PROJECT
    lock = project / python.REQUIREMENTS / "3.3.1.txt"
    path.write_text(python.with_airflow(PROJECT, "3.3.1"))
    before = lock.read_text()
    lock.unlink()
    found = python.look_at_locks(project)
    assert ("3.3.1.txt", "none", "2 of 2 packages differ", "") in found.rows
    write(project, found.files())
    assert lock.read_text() == before
    assert locked(project, "3.3.2.txt") == {"apache-airflow==3.3.2", "provider==1.0"}


def test_the_real_files_are_those_that_pins_look_for() -> None:
    """Without this, a moved pin would be found only when somebody renews it."""
    project = (ROOT / python.PROJECT).read_text()
    assert python.airflow(project) == DEFAULTS.airflow.version
    assert f'default="{DEFAULTS.airflow.version}"' in (ROOT / python.AIRFLOW_SETTINGS).read_text()
    assert f"uv_build>={'.'.join(uv_version().split('.')[:2])}," in project
    assert kubernetes.default(ROOT, kubernetes.KUBERNETES, "version") == DEFAULTS.kubernetes.version
    assert kubernetes.default(ROOT, kubernetes.MINIKUBE, "version") == DEFAULTS.minikube.version
    assert (
        kubernetes.default(ROOT, kubernetes.MINIKUBE, "crictl_version")
        == DEFAULTS.minikube.crictl_version
    )
    found = {row["minor"] for row in kubernetes.ROW.finditer((ROOT / kubernetes.TABLE).read_text())}
    assert found == {*releases.RELEASES}
    groups = {each["name"] for each in python.REQUIREMENT.finditer(project)}
    assert {"pyinfra", "pytest", "kubernetes", "apache-airflow", "uv_build"} <= groups
    clusters = modules.assigned((ROOT / modules.OFFLINE).read_text())
    for has in clusters.values():
        assert {"kubernetes", "minikube", "etcd", "coredns", "pause", "module"} <= {*has}


def test_the_sandbox_has_the_versions_of_the_deploy() -> None:
    """After a change of the settings or the table: `./tests/pins/renew modules`."""
    assert offline.CURRENT.kubernetes == f"v{DEFAULTS.kubernetes.version}"
    assert offline.CURRENT.minikube == f"v{DEFAULTS.minikube.version}"
    assert offline.BETWEEN.kubernetes == f"v{releases.RELEASES[between_minor()].patch}"


def uv_version() -> str:
    return next(iter(python.pinned((ROOT / python.UV_LOCK).read_text()))).strip()[4:]


# Go modules


@pytest.fixture
def kubeadm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sources of any Kubernetes and minikube; etcd is as old as Kubernetes' patch release."""

    def module(name: str, version: str) -> Path:
        folder = tmp_path / name / version
        path = folder / "cmd/kubeadm/app/constants/constants.go"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'\tDefaultEtcdVersion = "3.9.{version.rpartition(".")[2]}-0"\n'
            '\tCoreDNSVersion = "v1.99.0"\n\tPauseVersion = "3.99"\n'
        )
        (folder / "Makefile").write_text("STORAGE_PROVISIONER_TAG ?= v99\n")
        return folder

    monkeypatch.setattr(sources, "go_module", module)


def test_the_sandbox_follows_the_deploy_and_its_images_kubernetes(
    kubeadm: None, repository: Path
) -> None:
    minor = releases.minor_of(DEFAULTS.kubernetes.version)
    settings = repository / kubernetes.KUBERNETES
    version = f"{minor}.77"
    settings.write_text(settings.read_text().replace(DEFAULTS.kubernetes.version, version))
    found = {row.name: row.after for row in modules.look_at_modules(repository).rows}
    between = releases.RELEASES[between_minor()].patch
    assert found == {
        "CURRENT kubernetes": f"v{version}",
        "CURRENT minikube": f"v{DEFAULTS.minikube.version}",
        "CURRENT etcd": "3.9.77-0",
        "CURRENT coredns": "v1.99.0",
        "CURRENT pause": "3.99",
        "BETWEEN kubernetes": f"v{between}",
        "BETWEEN etcd": f"3.9.{between.rpartition('.')[2]}-0",
        "BETWEEN coredns": "v1.99.0",
        "BETWEEN pause": "3.99",
        "storage-provisioner": "v99",
    }


def between_minor() -> str:
    has = modules.assigned((ROOT / modules.OFFLINE).read_text())["BETWEEN"]
    return releases.minor_of(str(has["kubernetes"].value).removeprefix("v"))


def test_another_minor_version_needs_a_person(kubeadm: None, repository: Path) -> None:
    settings = repository / kubernetes.KUBERNETES
    settings.write_text(settings.read_text().replace(DEFAULTS.kubernetes.version, "1.99.0"))
    with pytest.raises(Refused, match="folder of its own"):
        modules.look_at_modules(repository).files()


def test_constants_are_replaced_in_place() -> None:
    text = 'OTHER = "v1"\nCURRENT = Versions("v1", None,\n    "ä", pause="3", module="m")\n'
    text = (
        "class Versions:\n    kubernetes: str\n    minikube: str | None\n    etcd: str\n"
        f"    pause: str\n    module: str\n\n\n{text}BETWEEN = Versions('v0', None)\n"
    )
    has = modules.assigned(text)
    places = [
        (has["CURRENT"][name], value) for name, value in [("pause", "4"), ("kubernetes", "v2")]
    ]
    assert modules.replaced(text, [*places, (has["CURRENT"]["etcd"], "e")]) == text.replace(
        'Versions("v1"', 'Versions("v2"'
    ).replace('"ä", pause="3"', '"e", pause="4"')


NEEDS_GO = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only Go module proxy."""
    folder = tmp_path / "proxy"
    monkeypatch.setenv("GOPROXY", folder.as_uri())
    for name, value in {"GONOSUMDB": "*", "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    return folder


def offer(proxy: Path, name: str, version: str, files: Files) -> None:
    """The proxy has a release of a module."""
    at = proxy / name / "@v"
    at.mkdir(parents=True, exist_ok=True)
    (at / f"{version}.info").write_text(json.dumps({"Version": version}))
    (at / f"{version}.mod").write_text(files["go.mod"])
    with zipfile.ZipFile(at / f"{version}.zip", "w") as archive:
        for path, text in files.items():
            archive.writestr(f"{name}@{version}/{path}", text)
    releases = sorted(path.stem for path in at.glob("*.zip"))
    (at / "list").write_text("".join(f"{each}\n" for each in releases))


def program(name: str, go: str) -> Files:
    return {
        "go.mod": f"module {modules.PROGRAMS[name]}\n\ngo {go}\n",
        f"cmd/{name}/main.go": "package main\n\nfunc main() {}\n",
    }


@NEEDS_GO
def test_programs_go_to_their_newest_release(proxy: Path, repository: Path) -> None:
    module = modules.PROGRAMS["versitygw"]
    folder = repository / modules.MODULES / "versitygw"
    (folder / "go.sum").unlink()
    (folder / "go.mod").write_text(
        f"module sandbox\n\ngo 1.21\n\ntool {module}/cmd/versitygw\n\n"
        f"require {module} v1.0.0 // indirect\n"
    )
    path = repository / modules.SANDBOX / "versitygw.py"
    path.write_text(re.sub(r'"v[\d.]+"', '"v1.0.0"', path.read_text(), count=1))
    other = (repository / modules.SANDBOX / "kube_router.py").read_text()
    (pinned,) = re.findall(r'^VERSION = "(\S+)"', other, re.MULTILINE)
    offer(proxy, modules.PROGRAMS["kube-router"], pinned, program("kube-router", "1.21"))
    offer(proxy, module, "v1.0.0", program("versitygw", "1.21"))
    assert not is_newer(modules.look_at_programs(repository))
    offer(proxy, module, "v1.10.0", program("versitygw", "1.22"))
    assert renew(repository, modules.look_at_programs(repository)) == {
        f"{modules.SANDBOX}/versitygw.py",
        *(f"{modules.MODULES}/versitygw/{name}" for name in ("go.mod", "go.sum")),
    }
    assert f"{module} v1.10.0" in (folder / "go.mod").read_text()
    sums = (folder / "go.sum").read_text()
    assert f"{module} v1.10.0 h1:" in sums and " v1.0.0 " not in sums
    assert 'VERSION = "v1.10.0"' in path.read_text()
    assert "_OLDEST_GO = (1, 22)" in path.read_text()
    assert not is_newer(modules.look_at_programs(repository))


# The command


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write(tmp_path, {"a": "new", "b": "new", "folder/missing/c": "new"})
    with pytest.raises(OSError):
        write(tmp_path, {"a": "new", "b": "new", "z": "new", "folder": "no file"})
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    write(tmp_path, {"a": "new"})
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def pins(*names: str) -> list[Pin]:
    return [pin for pin in command.PINS if pin.name in names]


def latest_actions(served: Files, version: str) -> None:
    for name in ("checkout", "upload-artifact"):
        url = f"/github_api/repos/actions/{name}/releases/latest"
        served[url] = json.dumps({"tag_name": version})


@pytest.mark.parametrize("is_check", [True, False])
def test_a_source_that_is_away_is_named_and_the_others_are_asked(
    served: Files, repository: Path, capsys: pytest.CaptureFixture[str], is_check: bool
) -> None:
    latest_actions(served, "v99")
    before = (repository / kubernetes.KUBERNETES).read_text()
    assert command.run(repository, pins("kubernetes", "actions"), is_check, []) == 2
    shown = capsys.readouterr().out
    assert re.search(r"^kubernetes  not reached: http://\S+/stable-\S+: .*404", shown, re.MULTILINE)
    assert re.search(r"^actions +actions/checkout +v\d+ +v99$", shown, re.MULTILINE)
    assert (repository / kubernetes.KUBERNETES).read_text() == before
    workflow = (repository / ".github/workflows/ci.yml").read_text()
    assert ("@v99" in workflow) is not is_check


@pytest.mark.parametrize("answer", ["schedules: [", "schedules: {}", "<html>", ""])
def test_an_answer_of_another_kind_is_told_as_not_reached(
    served: Files, repository: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    served["/schedule"] = answer
    latest_actions(served, "v1.0.0")
    served["/github_api/repos/actions/checkout/releases/latest"] = answer
    assert command.run(repository, pins("releases", "actions"), False, []) == 2
    shown = capsys.readouterr().out
    for pin in pins("releases", "actions"):
        assert re.search(rf"^{pin.name} +not reached: ", shown, re.MULTILINE)


def test_check_fails_if_something_is_newer_or_past_its_end(
    served: Files, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest_actions(served, "v1.0.0")
    chosen = pins("actions")
    assert command.run(repository, chosen, True, []) == 0
    latest_actions(served, "v99")
    assert command.run(repository, chosen, True, []) == 1
    latest_actions(served, "v1.0.0")
    capsys.readouterr()
    path, minor = repository / kubernetes.TABLE, releases.minor_of(DEFAULTS.kubernetes.version)
    path.write_text(re.sub(rf'("{minor}": .*date\()\d+', r"\g<1>2001", path.read_text()))
    assert command.run(repository, chosen, True, []) == 1
    assert "had its end of life on 2001-" in capsys.readouterr().out


def test_a_pin_that_needs_a_person_is_renewed_only_by_its_name(
    project: Path, index: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(repository / "tasks", project / "tasks", dirs_exist_ok=True)
    (project / python.AIRFLOW_SETTINGS).write_text('        default="3.3.2",\n')
    release(index, "apache-airflow", "3.3.3")
    assert command.run(project, pins("airflow"), False, []) == 0
    assert "./tests/pins/renew airflow" in capsys.readouterr().out
    assert python.airflow((project / python.PROJECT).read_text()) == "3.3.2"
    assert command.run(project, pins("airflow"), False, ["airflow"]) == 0
    assert python.airflow((project / python.PROJECT).read_text()) == "3.3.3"


def test_after_a_new_uv_the_new_one_writes_the_other_locks(project: Path, index: Path) -> None:
    release(index, "uv", "0.13.9")
    program = project / "tests/pins/renew"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" >{project}/again\nexit 2\n')
    program.chmod(0o755)
    assert command.run(project, pins("uv", "airflow", "bounds", "locks"), False, []) == 2
    assert (project / "again").read_text() == "bounds locks\n"


def test_all_pins_are_documented() -> None:
    expected = [[f"`{pin.name}`", pin.places, pin.source] for pin in command.PINS]
    assert table(section(ROOT / "tests/README.md", "## Pins"), "Name") == expected

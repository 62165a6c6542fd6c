"""The Go modules from which the sandbox builds Kubernetes and programs of the tests."""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pins import kubernetes, sources
from tests.pins.pin import Files, Found, Refused, Row, newest, numbers

SANDBOX = "tests/sandbox"
MODULES, OFFLINE = f"{SANDBOX}/gomodules", f"{SANDBOX}/offline.py"
# Programs of the tests, by the folder of each.
PROGRAMS = {
    "kube-router": "github.com/cloudnativelabs/kube-router/v2",
    "versitygw": "github.com/versity/versitygw",
}
ETCD, COREDNS = "go.etcd.io/etcd/server/v3", "github.com/coredns/coredns"
# OLDER, with which tests of upgrades begin, keeps its versions, and crictl shares its module.
FOLLOWING = ("CURRENT", "BETWEEN")

Versions = dict[str, ast.Constant]  # by the field


def look_at_modules(root: Path) -> Found:
    """The sandbox's clusters follow the deploy, and their images follow Kubernetes."""
    text = (root / OFFLINE).read_text()
    rows = []
    changes: dict[str, tuple[Versions, dict[str, str]]] = {}
    for name, has in assigned(text).items():
        wants = _wanted(root, has)
        changes[name] = has, wants
        rows += [Row(f"{name} {each}", str(has[each].value), wants[each]) for each in wants]
    current = changes["CURRENT"][1]["minikube"]
    makefile = (sources.go_module("k8s.io/minikube", current) / "Makefile").read_text()
    tag = re.search(r"^STORAGE_PROVISIONER_TAG \?= (\S+)", makefile, re.MULTILINE)
    here = re.search(r'^STORAGE_PROVISIONER = "(\S+)"', text, re.MULTILINE)
    if not tag or not here:
        raise Refused("STORAGE_PROVISIONER is gone from minikube's Makefile, or from offline.py")
    rows.append(Row("storage-provisioner", here[1], tag[1]))

    def files() -> Files:
        found: Files = {}
        for has, wants in changes.values():
            found |= _modules(root, has, wants)
        places = [(has[each], wants[each]) for has, wants in changes.values() for each in wants]
        new = replaced(text, places)
        new = new.replace(here[0], f'STORAGE_PROVISIONER = "{tag[1]}"')
        return found | ({OFFLINE: new} if new != text else {})

    return Found(rows, files)


def assigned(text: str) -> dict[str, Versions]:
    """The clusters of offline.py that follow the deploy: the constants of their fields."""
    tree = ast.parse(text)
    (fields,) = (
        [each.target.id for each in node.body if isinstance(each, ast.AnnAssign)]  # type: ignore[union-attr]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Versions"
    )
    found: dict[str, Versions] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        name = ast.unparse(node.targets[0])
        if name in FOLLOWING:
            given = dict(zip(fields, node.value.args, strict=False))
            given |= {each.arg: each.value for each in node.value.keywords if each.arg}
            found[name] = {
                field: value for field, value in given.items() if isinstance(value, ast.Constant)
            }
    if {*found} != {*FOLLOWING}:
        raise Refused(f"{OFFLINE} lacks one of {FOLLOWING}: correct tests/pins")
    return found


def replaced(text: str, places: list[tuple[ast.Constant, str]]) -> str:
    """A program with other values of its constants."""
    lines = text.splitlines(True)
    for place, value in sorted(places, key=lambda each: (each[0].lineno, each[0].col_offset))[::-1]:
        line = lines[place.lineno - 1].encode()
        start, end = place.col_offset, place.end_col_offset
        lines[place.lineno - 1] = (line[:start] + f'"{value}"'.encode() + line[end:]).decode()
    return "".join(lines)


def _wanted(root: Path, has: Versions) -> dict[str, str]:
    """The versions that a cluster of the sandbox should have."""
    here = str(has["kubernetes"].value).removeprefix("v")
    wants = {"kubernetes": kubernetes.default(root, kubernetes.KUBERNETES, "version")}
    if has["minikube"].value is None:
        rows = kubernetes.ROW.finditer((root / kubernetes.TABLE).read_text())
        patches = {row["minor"]: row["patch"] for row in rows}
        wants = {"kubernetes": patches[kubernetes.minor_of(here)]}
    else:
        wants["minikube"] = kubernetes.default(root, kubernetes.MINIKUBE, "version")
    wants = {name: f"v{version}" for name, version in wants.items()}
    folder = sources.go_module("k8s.io/kubernetes", wants["kubernetes"])
    text = (folder / "cmd/kubeadm/app/constants/constants.go").read_text()
    return wants | {
        "etcd": kubernetes.constant(text, "DefaultEtcdVersion"),
        "coredns": kubernetes.constant(text, "CoreDNSVersion"),
        "pause": kubernetes.constant(text, "PauseVersion"),
    }


def _modules(root: Path, has: Versions, wants: dict[str, str]) -> Files:
    """The go.mod and go.sum of a cluster's modules, where they differ from those here."""
    changed = {name for name in wants if has[name].value != wants[name]}
    module, of_coredns = str(has["module"].value), str(has["coredns_module"].value)
    before, after = str(has["kubernetes"].value), wants["kubernetes"]
    if kubernetes.minor_of(before) != kubernetes.minor_of(after):
        raise Refused(
            f"{before} became {after}: another minor version needs a folder of its own in {MODULES}"
        )
    if "coredns" in changed and of_coredns != module:
        raise Refused(f"{MODULES}/{of_coredns}: make one for CoreDNS {wants['coredns']} by hand")
    names = {
        "kubernetes": ("k8s.io/kubernetes", after),
        "minikube": ("k8s.io/minikube", wants.get("minikube", "")),
        "etcd": (ETCD, f"v{wants['etcd'].partition('-')[0]}"),
        "coredns": (COREDNS, wants["coredns"]),
    }
    asked = ["@".join(names[name]) for name in names if name in changed]
    if not asked:
        return {}

    def edit(text: str) -> str:
        # Kubernetes' own libraries are numbered as 0.35.8.
        return re.sub(rf"\bv0{re.escape(before[2:])}\b", f"v0{after[2:]}", text)

    return renewed(root, module, asked, edit)


def look_at_programs(root: Path) -> Found:
    """The newest releases of the tests' programs that are built from Go modules."""
    rows, changes = [], []
    for name, module in PROGRAMS.items():
        path = f"{SANDBOX}/{name.replace('-', '_')}.py"
        found = re.search(r'^VERSION = "(\S+)"', (root / path).read_text(), re.MULTILINE)
        if not found:
            raise Refused(f"{path} has no VERSION: a pin has moved, so correct tests/pins")
        after = newest(found[1], sources.newest_go_module(module))
        rows.append(Row(name, found[1], after))
        if after != found[1]:
            changes.append((name, path, f"{module}@{after}"))

    def files() -> Files:
        made: Files = {}
        for name, path, release in changes:
            made |= renewed(root, name, [release])
            version = release.rpartition("@")[2]
            text = (root / path).read_text()
            text = re.sub(r"^VERSION = .*", f'VERSION = "{version}"', text, flags=re.M)
            if needs := re.search(r"^go (\S+)", made[f"{MODULES}/{name}/go.mod"], re.MULTILINE):
                major, minor = numbers(needs[1])[:2]
                text = re.sub(
                    r"^_OLDEST_GO = .*", f"_OLDEST_GO = ({major}, {minor})", text, flags=re.M
                )
            made[path] = text
        return made

    return Found(rows, files)


def renewed(root: Path, module: str, asked: list[str], edit: Callable[[str], str] = str) -> Files:
    """The go.mod and go.sum of a module of the sandbox, after `go get` and `go mod tidy`."""
    with _copy(root / MODULES / module) as folder:
        (folder / "go.mod").write_text(edit((folder / "go.mod").read_text()))
        sources.go(folder, "get", *asked)
        sources.go(folder, "mod", "tidy")
        names = ("go.mod", "go.sum")
        return {f"{MODULES}/{module}/{name}": (folder / name).read_text() for name in names}


@contextmanager
def _copy(module: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(shutil.copytree(module, Path(name) / module.name))

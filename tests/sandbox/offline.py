"""The offline folder: a minikube cluster's programs and images, built from Go modules.

For machines that cannot reach the official downloads but can reach a Go module proxy. The
files have the names of the official downloads; SHA256SUMS covers them and is written last.
`python -m tests.sandbox.offline` makes the folder and prints its path.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import gotools
from tests.sandbox.common import (
    ARCHITECTURE,
    SandboxError,
    cache_dir,
    ensure_packages,
    fresh_folder,
    locked,
    progress,
    run,
)
from tests.sandbox.gotools import Tool, require_go
from tests.sandbox.images import Image, write_archive


@dataclass(frozen=True)
class Versions:
    """The versions of a folder's cluster, and the modules that hold Kubernetes and CoreDNS."""

    kubernetes: str
    minikube: str | None  # none in the folder of a version on the way to another one
    etcd: str
    coredns: str
    pause: str
    module: str
    coredns_module: str


CURRENT = Versions(
    "v1.35.8", "v1.38.1", "3.6.6-0", "v1.13.1", "3.10.1", "cluster-1.35", "cluster-1.35"
)
# On the way from OLDER to CURRENT; cmd/kubeadm/app/constants in Kubernetes names its images.
BETWEEN = Versions(
    "v1.34.10", None, "3.6.5-0", "v1.12.1", "3.10.1", "cluster-1.34", "coredns-1.12.1"
)
# The versions of the deploy before CURRENT, with which the tests of an upgrade begin.
OLDER = Versions("v1.33.1", "v1.36.0", "3.5.21-0", "v1.12.0", "3.10", "cluster", "coredns")
CRICTL = "v1.30.0"
STORAGE_PROVISIONER = "v5"

# The Go version of the newest `go` line among these modules.
OLDEST_GO = (1, 25)

KUBE_PROXY_RELEASE = "bookworm"
KUBE_PROXY_PACKAGES = "iptables,nftables,kmod,conntrack"

PROBES = (
    ("dl.k8s.io", f"/{CURRENT.kubernetes}/bin/linux/{ARCHITECTURE}/kubectl.sha256"),
    (
        "storage.googleapis.com",
        f"/minikube/releases/{CURRENT.minikube}/minikube-linux-{ARCHITECTURE}.sha256",
    ),
)
PROBE_SECONDS = 5.0


def _kubernetes(versions: Versions) -> Tool:
    version = versions.kubernetes
    names = "kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubeadm kubelet"
    stamps = []
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        major, minor, _ = version.removeprefix("v").split(".")
        stamps += [(f"{package}.gitVersion", version)]
        stamps += [(f"{package}.gitMajor", major), (f"{package}.gitMinor", minor)]
    packages = tuple(f"k8s.io/kubernetes/cmd/{name}" for name in (*names.split(), "kubectl"))
    return Tool(versions.module, "Kubernetes", version, "4 minutes", packages, tuple(stamps))


def _tools(versions: Versions) -> tuple[Tool, ...]:
    crictl = Tool(
        "coredns",
        "crictl",
        CRICTL,
        "1 minute",
        ("github.com/kubernetes-sigs/cri-tools/cmd/crictl",),
        (("github.com/kubernetes-sigs/cri-tools/pkg/version.Version", CRICTL),),
    )
    coredns = Tool(
        versions.coredns_module, "CoreDNS", versions.coredns, "10 seconds", ("./coredns",)
    )
    etcd = Tool(
        versions.module, "etcd", versions.etcd, "20 seconds", ("go.etcd.io/etcd/server/v3",)
    )
    if versions.minikube is None:
        return coredns, _kubernetes(versions), etcd
    # Kubernetes, which has the most to download, comes after what gives it the time for it.
    return (
        crictl,
        coredns,
        _kubernetes(versions),
        etcd,
        Tool(
            versions.module,
            "minikube",
            versions.minikube,
            "1 minute",
            ("k8s.io/minikube/cmd/minikube", "./storage-provisioner", "./pause"),
            (
                ("k8s.io/minikube/pkg/version.version", versions.minikube),
                # Without it the addon's manifest names an image with an empty tag.
                ("k8s.io/minikube/pkg/version.storageProvisionerVersion", STORAGE_PROVISIONER),
            ),
        ),
    )


def ensure(versions: Versions = CURRENT) -> Path:
    """Return the complete offline folder; make it first when it is missing (about 7 minutes).

    Raises SandboxError when Go is missing or too old, or a build fails.
    """
    key = _key(versions)
    folder = cache_dir() / "offline" / key
    if (folder / "SHA256SUMS").exists():
        return folder
    with locked("offline"):
        if (folder / "SHA256SUMS").exists():
            return folder
        require_go(
            OLDEST_GO, "the cluster's programs here because the official downloads are out of reach"
        )
        # Kept until all are collected.
        part = cache_dir() / "build"
        tools = _tools(versions)
        # The compiler need not wait for the network.
        with ThreadPoolExecutor() as beside:
            waiting = beside.submit(_kube_proxy_base, part / f"{key}-kube-proxy-base")
            beside.submit(gotools.fetch, tools)
            built = [gotools.build(tool, part / f"{key}-{tool.name}") for tool in tools]
            base = waiting.result()
        progress("Collecting programs and images (about 15 seconds, once)…")
        programs = {path.name: path for done in built for path in done.iterdir()}
        with fresh_folder(folder) as draft:
            _collect(draft, versions, programs, base)
        for done in (*built, base.parent):
            shutil.rmtree(done)
    return folder


def official_downloads_reachable() -> bool:
    """Tell within about 5 seconds whether the official downloads answer from this machine."""
    answers: list[bool] = []
    threads = [
        # A daemon: looking up a name has no limit of its own, and must not hold up the exit.
        threading.Thread(target=lambda p=probe: answers.append(_answers(*p)), daemon=True)
        for probe in PROBES
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROBE_SECONDS)
    return len(answers) == len(PROBES) and all(answers)


def _answers(host: str, path: str) -> bool:
    connection = http.client.HTTPSConnection(host, timeout=PROBE_SECONDS)
    try:
        connection.request("HEAD", path)
        return connection.getresponse().status < http.HTTPStatus.BAD_REQUEST
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _key(versions: Versions) -> str:
    named = {
        "k8s": versions.kubernetes,
        "minikube": versions.minikube,
        "etcd": versions.etcd,
        "coredns": versions.coredns,
        "crictl": CRICTL if versions.minikube else None,
    }
    bases = (KUBE_PROXY_RELEASE, KUBE_PROXY_PACKAGES, versions.pause, STORAGE_PROVISIONER)
    recipe = gotools.recipe(_tools(versions), bases, _images(versions))
    return "_".join([*(f"{name}-{version}" for name, version in named.items() if version), recipe])


def _kube_proxy_base(done: Path) -> Path:
    """Return the layer with the firewall tools that kube-proxy calls, kept in the folder `done`."""
    if not done.exists():
        ensure_packages("mmdebstrap", "debian-archive-keyring")
        progress("Making the root of the kube-proxy image (about 30 seconds, once)…")
        with fresh_folder(done) as draft:
            slim = ("doc", "man", "locale", "info")
            run(
                [
                    *("mmdebstrap", "--variant=minbase", f"--include={KUBE_PROXY_PACKAGES}"),
                    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in slim),
                    *(KUBE_PROXY_RELEASE, draft / "base.tar"),
                ]
            )
    return done / "base.tar"


# Each image: its reference, its program's path inside, the name of the file built.
def _images(versions: Versions) -> tuple[tuple[str, str, str], ...]:
    control = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    return (
        *(
            (f"registry.k8s.io/{name}:{versions.kubernetes}", f"/usr/local/bin/{name}", name)
            for name in control
        ),
        (f"registry.k8s.io/etcd:{versions.etcd}", "/usr/local/bin/etcd", "server"),
        (f"registry.k8s.io/coredns/coredns:{versions.coredns}", "/coredns", "coredns"),
        *(_of_minikube(versions) if versions.minikube else ()),
    )


def _of_minikube(versions: Versions) -> tuple[tuple[str, str, str], ...]:
    return (
        (f"registry.k8s.io/pause:{versions.pause}", "/pause", "pause"),
        (
            f"gcr.io/k8s-minikube/storage-provisioner:{STORAGE_PROVISIONER}",
            "/storage-provisioner",
            "storage-provisioner",
        ),
    )


def _collect(draft: Path, versions: Versions, programs: dict[str, Path], base: Path) -> None:
    for name in ("kubectl", "kubelet", "kubeadm"):
        (draft / name).hardlink_to(programs[name])
    if versions.minikube:
        (draft / f"minikube-linux-{ARCHITECTURE}").hardlink_to(programs["minikube"])
        # Packing it better would take seconds and save nothing.
        with tarfile.open(
            draft / f"crictl-{CRICTL}-linux-{ARCHITECTURE}.tar.gz", "w:gz", compresslevel=1
        ) as archive:
            archive.add(programs["crictl"], "crictl")
    images = [
        Image(reference, inside, programs[name], base if name == "kube-proxy" else None)
        for reference, inside, name in _images(versions)
    ]
    write_archive(draft / "images.tar", images)
    write_sums(draft)


def with_between(done: Path) -> None:
    """Make the folder `done`: the current cluster's files, and those of the version on the way.

    Each makes its part first when that is missing.
    """
    current = ensure(CURRENT)
    with fresh_folder(done) as draft:
        shutil.copytree(current, draft, dirs_exist_ok=True)
        add_between(draft)


def add_between(folder: Path) -> None:
    """Add to the current cluster's files those of the version on the way."""
    shutil.copytree(ensure(BETWEEN), folder / BETWEEN.kubernetes)
    (folder / BETWEEN.kubernetes / "SHA256SUMS").unlink()
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, which names each file of a folder."""
    lines = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder)}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    try:
        print(ensure())
    except SandboxError as problem:
        sys.exit(str(problem))

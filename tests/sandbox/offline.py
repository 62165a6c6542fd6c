"""The offline folder: a minikube cluster's programs and images, built from Go modules.

For machines that cannot reach the official downloads but can reach a Go module proxy. The
files have the names of the official downloads; SHA256SUMS covers them and is written last.
`python -m tests.sandbox.offline` makes the folder and prints its path.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import shutil
import sys
import tarfile
import threading
from pathlib import Path

from tests.sandbox import gotools
from tests.sandbox.common import (
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

KUBERNETES = "v1.33.1"
MINIKUBE = "v1.36.0"
ETCD = "3.5.21-0"
COREDNS = "v1.12.0"
CRICTL = "v1.30.0"
PAUSE = "3.10"
STORAGE_PROVISIONER = "v5"

# What the newest `go` line among these modules asks for.
OLDEST_GO = (1, 24)

KUBE_PROXY_RELEASE = "bookworm"
KUBE_PROXY_PACKAGES = "iptables,nftables,kmod,conntrack"

PROBES = (
    ("dl.k8s.io", f"/{KUBERNETES}/bin/linux/amd64/kubectl.sha256"),
    ("storage.googleapis.com", f"/minikube/releases/{MINIKUBE}/minikube-linux-amd64.sha256"),
)
PROBE_SECONDS = 5.0


def _kubernetes() -> Tool:
    names = "kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubeadm kubelet"
    stamps = []
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        major, minor, _ = KUBERNETES.removeprefix("v").split(".")
        stamps += [(f"{package}.gitVersion", KUBERNETES)]
        stamps += [(f"{package}.gitMajor", major), (f"{package}.gitMinor", minor)]
    packages = tuple(f"k8s.io/kubernetes/cmd/{name}" for name in (*names.split(), "kubectl"))
    return Tool("kubernetes", f"Kubernetes {KUBERNETES}", 8, packages, tuple(stamps))


TOOLS = (
    _kubernetes(),
    Tool(
        "minikube",
        f"minikube {MINIKUBE}",
        4,
        ("k8s.io/minikube/cmd/minikube",),
        (
            ("k8s.io/minikube/pkg/version.version", MINIKUBE),
            # Without it the addon's manifest names an image with an empty tag.
            ("k8s.io/minikube/pkg/version.storageProvisionerVersion", STORAGE_PROVISIONER),
        ),
    ),
    Tool(
        "storage-provisioner",
        f"storage-provisioner {STORAGE_PROVISIONER}",
        2,
        ("k8s.io/minikube/cmd/storage-provisioner",),
    ),
    Tool(
        "etcd",
        f"etcd {ETCD}",
        1,
        ("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3"),
    ),
    Tool("coredns", f"CoreDNS {COREDNS}", 2, ("github.com/coredns/coredns",)),
    Tool(
        "crictl",
        f"crictl {CRICTL}",
        1,
        ("github.com/kubernetes-sigs/cri-tools/cmd/crictl",),
        (("github.com/kubernetes-sigs/cri-tools/pkg/version.Version", CRICTL),),
    ),
    Tool("pause", f"pause {PAUSE}", 1, (".",)),
)


def ensure() -> Path:
    """Return the complete offline folder; make it first when it is missing (about 20 minutes).

    Raises SandboxError when Go is missing or too old, or a build fails.
    """
    folder = cache_dir() / "offline" / _key()
    if (folder / "SHA256SUMS").exists():
        return folder
    with locked("offline"):
        if (folder / "SHA256SUMS").exists():
            return folder
        require_go(
            OLDEST_GO, "the cluster's programs here because the official downloads are out of reach"
        )
        built = {tool.module: _build(tool) for tool in TOOLS}
        base = _kube_proxy_base()
        progress("Collecting programs and images (about 1 minute, once)…")
        with fresh_folder(folder) as draft:
            _collect(draft, built, base)
        for done in {*built.values(), base.parent}:
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


def _key() -> str:
    versions = (KUBERNETES, MINIKUBE, ETCD, COREDNS, CRICTL)
    bases = (KUBE_PROXY_RELEASE, KUBE_PROXY_PACKAGES, PAUSE, STORAGE_PROVISIONER)
    names = ("k8s", "minikube", "etcd", "coredns", "crictl")
    parts = [f"{name}-{version}" for name, version in zip(names, versions, strict=True)]
    return "_".join([*parts, gotools.recipe(TOOLS, bases, _IMAGES)])


def _build(tool: Tool) -> Path:
    """Build one module's programs and return their folder; kept until all are collected."""
    return gotools.build(tool, cache_dir() / "build" / f"{_key()}-{tool.module}")


def _kube_proxy_base() -> Path:
    """Return the layer with the firewall tools that kube-proxy calls."""
    done = cache_dir() / "build" / f"{_key()}-kube-proxy-base"
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


# Each image: its reference, its programs as (path inside, module, file built), its entrypoint.
_Program = tuple[str, str, str]
_IMAGES: tuple[tuple[str, tuple[_Program, ...], str], ...] = (
    *(
        (
            f"registry.k8s.io/{name}:{KUBERNETES}",
            ((f"/usr/local/bin/{name}", "kubernetes", name),),
            f"/usr/local/bin/{name}",
        )
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    ),
    (
        f"registry.k8s.io/etcd:{ETCD}",
        (("/usr/local/bin/etcd", "etcd", "server"), ("/usr/local/bin/etcdctl", "etcd", "etcdctl")),
        "/usr/local/bin/etcd",
    ),
    (
        f"registry.k8s.io/coredns/coredns:{COREDNS}",
        (("/coredns", "coredns", "coredns"),),
        "/coredns",
    ),
    (f"registry.k8s.io/pause:{PAUSE}", (("/pause", "pause", "pause"),), "/pause"),
    (
        f"gcr.io/k8s-minikube/storage-provisioner:{STORAGE_PROVISIONER}",
        (("/storage-provisioner", "storage-provisioner", "storage-provisioner"),),
        "/storage-provisioner",
    ),
)


def _collect(draft: Path, built: dict[str, Path], base: Path) -> None:
    shutil.copy2(built["minikube"] / "minikube", draft / "minikube-linux-amd64")
    for name in ("kubectl", "kubelet", "kubeadm"):
        shutil.copy2(built["kubernetes"] / name, draft / name)
    crictl = (built["crictl"] / "crictl").read_bytes()
    with tarfile.open(draft / f"crictl-{CRICTL}-linux-amd64.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("crictl")
        entry.size, entry.mode = len(crictl), 0o755
        archive.addfile(entry, io.BytesIO(crictl))
    images = [
        Image(
            reference,
            {inside: built[module] / name for inside, module, name in programs},
            (entrypoint,),
            base if "/kube-proxy:" in reference else None,
        )
        for reference, programs, entrypoint in _IMAGES
    ]
    scratch = draft / "scratch"
    scratch.mkdir()
    write_archive(draft / "images.tar", images, scratch)
    shutil.rmtree(scratch)
    _write_sums(draft)


def _write_sums(folder: Path) -> None:
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    try:
        print(ensure())
    except SandboxError as problem:
        sys.exit(str(problem))

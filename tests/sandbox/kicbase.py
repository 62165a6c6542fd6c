"""The node of minikube's drivers podman and docker, as an image made of Debian packages.

`python -m tests.sandbox.kicbase` makes the archive and prints its path. minikube's own image, which
it is called kicbase after, can't be built from a Go module; the files that make a Debian such a
node are in minikube's.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from tasks.cluster import programs
from tests.sandbox import offline
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
from tests.sandbox.images import Image, write_archive
from tests.sandbox.machine import OOM_DROP_IN, has_sys_resource

_RELEASE = "bookworm"  # that of minikube's own
_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "kmod", "mount", "procps", "util-linux"),
    *("conntrack", "ebtables", "ethtool", "iproute2", "iptables", "libseccomp2", "socat"),
    *("ca-certificates", "curl", "iputils-ping", "openssh-server", "rsync", "sudo"),
    *("containerd", "containernetworking-plugins", "runc"),
)
_CUSTOMIZE = Path(__file__).with_name("kicbase.sh")


def ensure() -> Path:
    """Return the image's archive; make it first when it is missing (about a minute).

    Raises SandboxError when a package or minikube's module cannot be had.
    """
    source = offline.ensure()
    module = _module()
    recipe = (_RELEASE, _PACKAGES, _CUSTOMIZE.read_text(), module.name, _drop_in(), offline.CRICTL)
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
    folder = cache_dir() / "kicbase" / key
    with locked("kicbase"):
        if not folder.exists():
            ensure_packages("mmdebstrap", "debian-archive-keyring")
            progress("Making the image of minikube's node (about a minute, once)…")
            with fresh_folder(folder) as draft:
                _make(draft, module, source)
    return folder / programs.NODE_IMAGE


def with_kubernetes(done: Path, versions: offline.Versions = offline.CURRENT) -> None:
    """Make the folder `done`: the files of a cluster, and the image of a node."""
    image = ensure()
    with fresh_folder(done) as draft:
        shutil.copytree(offline.ensure(versions), draft, dirs_exist_ok=True)
        (draft / "SHA256SUMS").unlink()
        shutil.copy(image, draft / programs.NODE_IMAGE)
        offline.write_sums(draft)


def _make(draft: Path, module: Path, source: Path) -> None:
    crictl = source / f"crictl-{offline.CRICTL}-linux-{ARCHITECTURE}.tar.gz"
    entrypoint = module / "deploy/kicbase/entrypoint"
    base, drop_in = draft / "base.tar", draft / "drop-in.conf"
    drop_in.write_text(_drop_in())
    place = '"$1"/etc/systemd/system/containerd.service.d'
    slim = ("doc", "man", "locale", "info")
    run(
        [
            *("mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in slim),
            f'--customize-hook={_CUSTOMIZE} "$1" {module} {crictl}',
            f"--customize-hook=install -D -m 644 {drop_in} {place}/oom-score.conf",
            *(_RELEASE, base),
        ]
    )
    image = Image(
        "localhost/kicbase:sandbox",
        "/usr/local/bin/entrypoint",
        entrypoint,
        base,
        arguments=("/sbin/init",),
        environment=("container=docker",),
        stop_signal="SIGRTMIN+3",  # at which systemd ends
    )
    write_archive(draft / programs.NODE_IMAGE, [image])
    base.unlink()
    drop_in.unlink()


def _module() -> Path:
    """The folder of minikube's Go module, in the version of the offline folder."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/minikube"]
    folder = Path(__file__).parent / "gomodules" / offline.CURRENT.module
    environment = {"GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    return Path(run(command, cwd=folder, env=environment).stdout.strip())


def _drop_in() -> str:
    return "" if has_sys_resource() else OOM_DROP_IN


if __name__ == "__main__":
    try:
        print(ensure())
    except SandboxError as problem:
        sys.exit(str(problem))

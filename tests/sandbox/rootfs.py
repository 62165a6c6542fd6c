"""Bare Debian root file systems with systemd and sshd.

They have nothing that the deploy should install: no Python, no curl, no container runtime.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.sandbox import disks
from tests.sandbox.common import (
    SandboxError,
    cache_dir,
    ensure_packages,
    fresh_folder,
    locked,
    progress,
    run,
)
from tests.stories import RELEASES

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo"),
    *("ca-certificates", "iproute2", "procps"),
)
# Every machine gets host keys of its own, so the image has none.
CUSTOMIZE = 'rm -f "$1"/etc/ssh/ssh_host_*'


def ensure_base(release: str) -> Path:
    """Return the subvolume with a bare Debian `release` in its folder `root`; make it if missing.

    Raises SandboxError for another release or when a package cannot be fetched.
    """
    if release not in RELEASES:
        raise SandboxError(f"Debian {release!r} is not known: choose {' or '.join(RELEASES)}.")
    base = disks.folder() / f".base-{release}-{_recipe(release)}"
    if base.exists():
        return base
    with locked(f"base-{release}"):
        if not base.exists():
            archive = _rootfs(release)
            draft = base.with_name(base.name + ".partial")
            disks.delete(draft)
            disks.create(draft)
            # A folder in the subvolume: if systemd finds that its root is one, it makes more.
            (draft / "root").mkdir()
            run(
                [
                    "tar",
                    "--extract",
                    "--numeric-owner",
                    "--xattrs",
                    f"--file={archive}",
                    f"--directory={draft / 'root'}",
                ]
            )
            draft.rename(base)
    return base


def _rootfs(release: str) -> Path:
    done = cache_dir() / "rootfs" / f"{release}-{_recipe(release)}"
    if not done.exists():
        ensure_packages("mmdebstrap", "debian-archive-keyring")
        progress(f"Making a bare Debian {release} (about 30 seconds, once)…")
        with fresh_folder(done) as draft:
            run(
                [
                    *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
                    *(f"--customize-hook={CUSTOMIZE}", *_proxy_options()),
                    release,
                    draft / "rootfs.tar",
                    *_sources(release),
                ]
            )
    return done / "rootfs.tar"


def _recipe(release: str) -> str:
    recipe = repr((PACKAGES, CUSTOMIZE, _sources(release), _proxy_options()))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _sources(release: str) -> list[str]:
    """Return the apt sources of a usual installation, from the mirrors this machine uses.

    Raises SandboxError when this machine's apt has no such mirror.
    """
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], check=False)
    mirrors: dict[str, str] = {}
    for address in targets.stdout.splitlines():
        for kind in ("debian", "debian-security"):
            if address.rstrip("/").endswith(f"/{kind}"):
                mirrors.setdefault(kind, address.rstrip("/"))
    if len(mirrors) < 2:
        raise SandboxError(
            "apt on this machine has no mirror of Debian and of its security updates:"
            " look at /etc/apt/sources.list and /etc/apt/sources.list.d."
        )
    return [
        f"deb {mirrors['debian']} {release} main",
        f"deb {mirrors['debian']} {release}-updates main",
        f"deb {mirrors['debian-security']} {release}-security main",
    ]


def _proxy_options() -> list[str]:
    """Return this machine's apt proxies as mmdebstrap options, which the image keeps."""
    names = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    settings = run(["apt-config", "dump", "--no-empty", *names], check=False).stdout.splitlines()
    return [f"--aptopt={setting.rstrip(';')}" for setting in settings]

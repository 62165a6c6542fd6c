"""The machines' file systems: subvolumes of one btrfs, so that a copy of a machine takes no time.

The btrfs lies in a sparse file of the cache and is mounted where the machines' folders are. Each
machine is a subvolume: `root` is its file system, and beside it are its keys and its record.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.sandbox.common import SandboxError, cache_dir, ensure_packages, locked, run

# No barriers, which cost time: a crash of the outer machine spoils only throwaway machines.
MOUNT_OPTIONS = "loop,noatime,nobarrier"
SHARE_OF_FREE_DISK = 0.8


def folder() -> Path:
    """Return the folder of all machines; make and mount its file system when it is missing.

    Raises SandboxError when this machine's kernel cannot mount btrfs.
    """
    mounted, image = cache_dir() / "disks", cache_dir() / "disks.btrfs"
    if mounted.is_mount():
        return mounted
    ensure_packages("btrfs-progs")
    with locked("disks"):
        if mounted.is_mount():
            return mounted
        if not image.exists():
            draft = image.with_name(image.name + ".partial")
            with draft.open("w") as file:
                file.truncate(int(shutil.disk_usage(cache_dir()).free * SHARE_OF_FREE_DISK))
            run(["mkfs.btrfs", "--quiet", "--force", "--metadata", "single", draft])
            draft.rename(image)
        mounted.mkdir(exist_ok=True)
        if run(["mount", "-o", MOUNT_OPTIONS, image, mounted], check=False).returncode:
            raise SandboxError(
                f"'mount -o {MOUNT_OPTIONS} {image} {mounted}' failed: the sandbox needs a kernel"
                " with btrfs and loop devices ('modprobe btrfs loop')."
            )
    return mounted


def create(path: Path) -> None:
    """Make an empty subvolume."""
    run(["btrfs", "subvolume", "create", path])


def copy(source: Path, target: Path) -> None:
    """Make `target` a copy of the subvolume `source`, which must not change meanwhile."""
    run(["btrfs", "subvolume", "snapshot", source, target])


def delete(path: Path) -> None:
    """Delete a subvolume, with those that Docker made in it; without one, do nothing."""
    if not path.exists():
        return
    listed = run(["btrfs", "subvolume", "list", "-o", path]).stdout.splitlines()
    for line in listed:
        delete(folder() / line.split(" path ", 1)[1])
    run(["btrfs", "subvolume", "delete", path])


def unmount() -> None:
    """Take the file system away, with all machines."""
    mounted = cache_dir() / "disks"
    if mounted.is_mount():
        run(["umount", mounted])

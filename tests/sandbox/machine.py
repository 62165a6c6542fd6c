"""Throwaway Debian machines: systemd as PID 1 in podman, reached by SSH as root.

`python -m tests.sandbox.machine create NAME --release bookworm` makes one in a few seconds
once the bare system and, where the official downloads are out of reach, the offline folder exist.
A stopped machine can be saved, and made again as it was then.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.sandbox import common, disks, offline
from tests.sandbox.common import (
    SandboxError,
    cache_dir,
    ensure_packages,
    locked,
    progress,
    wait_for,
    write_atomically,
)
from tests.sandbox.rootfs import ensure_base
from tests.stories import RELEASES

OUTER_PACKAGES = (
    *("podman", "runc", "containernetworking-plugins", "netavark", "aardvark-dns"),
    *("iptables", "nftables", "openssh-client", "ca-certificates"),
)
NETWORK = "airflow-machines"
LABEL = "airflow-sandbox-machine"
OFFLINE_INSIDE = "/srv/offline"
FILE_LIMIT = 20000
# There is no console, and trixie's libkmod fails at each boot for want of a modules folder.
MASKED = ("getty@tty1.service", "systemd-modules-load.service")

# The kernel counts these for all machines together, since root is the same user in each.
# Debian's 128 are used up by the second cluster, whose kube-proxy then ends.
INOTIFY_INSTANCES = 4096
STOP_SECONDS = 60
SSH_SECONDS = 60
BOOT_SECONDS = 300  # with minikube and Airflow

CAP_SYS_RESOURCE = 24
OOM_DROP_IN = """\
# This test machine may not lower oom_score_adj; whoever edits the file next, this wins.
[Service]
ExecStartPre=/bin/sh -c 'f=/etc/containerd/config.toml; test ! -f $f || \
sed -i "s/restrict_oom_score_adj = false/restrict_oom_score_adj = true/" $f'
"""
KEEP_PACKAGES = (
    'APT::Keep-Downloaded-Packages "true";\nBinary::apt::APT::Keep-Downloaded-Packages "true";\n'
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """A throwaway machine and how to reach it."""

    name: str
    release: str
    address: str
    ssh_key: Path
    ssh_config: Path
    known_hosts: Path
    offline_dir: str | None
    """The offline folder's path inside the machine; None where nothing has to be offline."""
    driver: str = "none"
    """minikube's driver on the machine."""

    @property
    def root(self) -> Path:
        """Folder of this machine that holds the other's file system."""
        return _root(self.name)


def create(name: str, release: str = RELEASES[0], driver: str = "none") -> Machine:
    """Return the running machine `name`; make or start it first when needed.

    Raises SandboxError when a machine of that name has another release or driver, or does not boot.
    """
    ensure_packages(*OUTER_PACKAGES)
    with locked(f"machine-{name}"):
        state = _state(name)
        if state is not None and not _record(name).exists():
            progress(f"Removing what a killed run left of the machine {name}…")
            _remove(name)
            state = None
        if state is None:
            _create(name, release, driver)
        machine = load(name)
        if machine.release != release:
            raise SandboxError(
                f"The machine {name} runs Debian {machine.release}, not {release}:"
                f" remove it first with 'python -m tests.sandbox.machine remove {name}'."
            )
        if machine.driver != driver:
            raise SandboxError(
                f"The machine {name} was made for minikube's driver {machine.driver}, not {driver}:"
                f" remove it first with 'python -m tests.sandbox.machine remove {name}'."
            )
        if _state(name) != "running":
            _start(machine)
        _finish_boot(machine)
    return machine


def load(name: str) -> Machine:
    """Return the machine `name`; raises SandboxError when it was never created."""
    try:
        stored = json.loads(_record(name).read_text())
    except FileNotFoundError as error:
        raise SandboxError(
            f"There is no machine {name}: run 'python -m tests.sandbox.machine create {name}'."
        ) from error
    for field in ("ssh_key", "ssh_config", "known_hosts"):
        stored[field] = Path(stored[field])
    return Machine(**stored)


def remove(name: str) -> None:
    """Remove the machine `name` and its disk; without one of that name, do nothing."""
    with locked(f"machine-{name}"):
        _remove(name)


def reboot(name: str) -> Machine:
    """Stop and start the machine `name` as a real reboot would, and wait until it is up."""
    machine = load(name)
    with locked(f"machine-{name}"):
        _stop(name)
        _start(machine)
        _finish_boot(machine)
    return machine


def become(name: str, release: str) -> None:
    """Record that the machine `name` has another Debian release, to which a test upgrades it.

    It gets the packages that machines of that release have downloaded.
    """
    with locked(f"machine-{name}"):
        packages, kept = _packages(name)
        _copy_packages(packages, kept)
        for path in packages.glob("*.deb"):
            path.unlink()
        record = json.loads(_record(name).read_text()) | {"release": release}
        write_atomically(_record(name), json.dumps(record, indent=2) + "\n")
        packages, kept = _packages(name)
        _copy_packages(kept, packages)


def save(name: str, state: str) -> None:
    """Stop the machine `name` and keep what is on its disk as `state`.

    Its other states of the same Debian release are removed: they are of other commits. The name of
    a state begins with the release.
    """
    with locked(f"machine-{name}"):
        _stop(name)
        for old in states(name):
            if old.name.startswith(_state_folder(name, f"{load(name).release}-").name):
                disks.delete(old)
        # A copy appears at once and whole.
        disks.copy(_folder(name), _state_folder(name, state))


def has_state(name: str, state: str) -> bool:
    """Tell whether the machine `name` was saved as `state`."""
    return _state_folder(name, state).exists()


def states(name: str) -> list[Path]:
    """Return the folders of the saved states of the machine `name`."""
    return sorted(disks.folder().glob(f".state-{name}@*"))


def restore(name: str, state: str) -> Machine:
    """Make the machine `name` as it was saved, at the same address, and wait until it is up.

    Whatever runs under that name is removed first.
    """
    with locked(f"machine-{name}"):
        _remove(name)
        disks.copy(_state_folder(name, state), _folder(name))
        machine = load(name)
        _create_container(machine)
        _start(machine)
        _finish_boot(machine)
    return machine


def run(
    machine: Machine,
    command: str,
    *,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a shell command on the machine as root over SSH and return it with its output.

    `timeout` is in seconds; raises SandboxError when the command fails and `check` is set.
    """
    words = ["ssh", "-F", str(machine.ssh_config), machine.name, command]
    return common.run(words, stdin=stdin, check=check, timeout=timeout)


def _folder(name: str) -> Path:
    return disks.folder() / name


def _root(name: str) -> Path:
    return _folder(name) / "root"


def _state_folder(name: str, state: str) -> Path:
    return disks.folder() / f".state-{name}@{state}"


def _record(name: str) -> Path:
    return _folder(name) / "machine.json"


def _state(name: str) -> str | None:
    """Return podman's word for the state of this sandbox's container, None without one."""
    form = '{{.State.Status}} {{index .Config.Labels "' + LABEL + '"}}'
    shown = common.run(["podman", "container", "inspect", "-f", form, name], check=False)
    if shown.returncode:
        return None
    state, _, label = shown.stdout.strip().partition(" ")
    if label != "yes":
        raise SandboxError(f"The container {name} is not the sandbox's: choose another name.")
    return state


def _stop(name: str) -> None:
    common.run(["podman", "stop", "--time", str(STOP_SECONDS), name])


def _remove(name: str) -> None:
    if shutil.which("podman") and _state(name) is not None:
        remove = ["podman", "rm", "--force", "--volumes", "--time", "0", name]
        # podman waits ten seconds for processes that it killed, and a busy disk takes longer.
        for _ in range(5):
            if not common.run(remove, check=False).returncode:
                break
        else:
            common.run(remove)
    if _record(name).exists():
        packages, kept = _packages(name)
        _copy_packages(packages, kept)
    disks.delete(_folder(name))


def _packages(name: str) -> tuple[Path, Path]:
    """Return where a machine has its downloaded Debian packages, and where they are kept."""
    kept = disks.folder() / f".packages-{load(name).release}"
    return _root(name) / "var/cache/apt/archives", kept


def _copy_packages(source: Path, target: Path) -> None:
    """Copy the packages that the target lacks. Each machine has its own, since apt locks them."""
    target.mkdir(exist_ok=True)
    found = [path for path in source.glob("*.deb") if not (target / path.name).exists()]
    if found:
        common.run(["cp", "--archive", "--reflink=auto", *found, target])


def _create(name: str, release: str, driver: str) -> None:
    """Make the machine's disk, keys and container; machine.json is written last, as its sign."""
    # Side by side: the first mostly downloads and unpacks, the second mostly compiles.
    with ThreadPoolExecutor() as pool:
        made = pool.submit(ensure_base, release)
        source = None if offline.official_downloads_reachable() else offline.ensure()
        base = made.result()
    folder = _folder(name)
    disks.delete(folder)
    disks.copy(base, folder)
    for key in ("id_ed25519", "host_ed25519"):
        common.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / key])
    # One at a time: two machines must not choose the same address.
    with locked("network"):
        machine = Machine(
            name=name,
            release=release,
            address=_free_address(),
            ssh_key=folder / "id_ed25519",
            ssh_config=folder / "ssh_config",
            known_hosts=folder / "known_hosts",
            offline_dir=OFFLINE_INSIDE if source else None,
            driver=driver,
        )
        _write_ssh_files(machine)
        _unpack(_overlay(machine), name)
        _create_container(machine)
        # Without fields that have their default, which the code of an older commit may not know.
        defaults = {each.name: each.default for each in dataclasses.fields(machine)}
        values = dataclasses.asdict(machine).items()
        record = {key: _plain(value) for key, value in values if value != defaults[key]}
        write_atomically(_record(name), json.dumps(record, indent=2) + "\n")
    packages, kept = _packages(name)
    _copy_packages(kept, packages)


def _create_container(machine: Machine) -> None:
    source = offline.ensure() if machine.offline_dir else None
    root = _root(machine.name)
    init = "/lib/systemd/systemd"
    common.run([*_podman(), "create", *_create_options(machine, source), "--rootfs", root, init])


def _unpack(archive: bytes, name: str) -> None:
    """Unpack a tar archive onto the disk of a machine."""
    words = ["tar", "--extract", "--file=-", "--no-same-owner", f"--directory={_root(name)}"]
    common.run(words, stdin=archive)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _unified_cgroups() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _podman() -> list[str]:
    # crun cannot set up a hybrid cgroup v1 layout.
    return ["podman"] if _unified_cgroups() else ["podman", "--runtime", "runc"]


def _create_options(machine: Machine, source: Path | None) -> list[str]:
    wheels = cache_dir() / "uv"
    wheels.mkdir(exist_ok=True)
    mounts = [f"{wheels}:/root/.cache/uv"]
    if source:
        mounts.append(f"{source}:{OFFLINE_INSIDE}:ro")
    volumes = [word for volume in mounts for word in ("--volume", volume)]
    limits = [f"--ulimit={kind}={FILE_LIMIT}:{FILE_LIMIT}" for kind in ("nofile", "nproc")]
    return [
        *("--name", machine.name, "--hostname", machine.name, "--label", f"{LABEL}=yes"),
        # The machine's own /etc/hosts has to outlast a reboot, as on a real one.
        *("--network", NETWORK, "--ip", machine.address, "--no-hosts"),
        # podman's own systemd mode would mount the host's cgroup root over the machine's.
        *("--systemd=false", "--env", "container=podman", "--cgroupns=private", "--privileged"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:mode=1777"),
        *("--stop-signal", "SIGRTMIN+3", *limits, *volumes),
    ]


def _free_address() -> str:
    """Return an address of the sandbox's network that no machine has; make the network first."""
    if common.run(["podman", "network", "exists", NETWORK], check=False).returncode:
        common.run(["podman", "network", "create", "--disable-dns", NETWORK])
    shown = json.loads(common.run(["podman", "network", "inspect", NETWORK]).stdout)[0]
    subnet = shown["subnets"][0]
    # With those of saved machines, which begin with a dot.
    records = disks.folder().glob("*/machine.json")
    taken = {json.loads(record.read_text())["address"] for record in records}
    taken.add(subnet["gateway"])
    for address in ipaddress.ip_network(subnet["subnet"]).hosts():
        if str(address) not in taken:
            return str(address)
    raise SandboxError(f"The network {NETWORK} is full: remove a machine first.")


def _write_ssh_files(machine: Machine) -> None:
    host_key = _folder(machine.name) / "host_ed25519.pub"
    machine.known_hosts.write_text(f"{machine.address} {host_key.read_text()}")
    machine.ssh_config.write_text(
        f"Host {machine.name} {machine.address}\n"
        f"  HostName {machine.address}\n"
        "  User root\n"
        f'  IdentityFile "{machine.ssh_key}"\n'
        "  IdentitiesOnly yes\n"
        f'  UserKnownHostsFile "{machine.known_hosts}"\n'
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  BatchMode yes\n"
        "  ConnectTimeout 5\n"
        # sshd does not listen for a moment while it reads its configuration again.
        "  ConnectionAttempts 5\n"
        "  ServerAliveInterval 15\n"
        # OpenSSH's default resists quantum computers, for 0.2 s of both processors in each command.
        "  KexAlgorithms curve25519-sha256\n"
        "  LogLevel ERROR\n"
    )


def _overlay(machine: Machine) -> bytes:
    """Return a tar archive of the files that make the image this machine."""
    folder = _folder(machine.name)
    files = {
        "etc/hosts": f"127.0.0.1 localhost\n{machine.address} {machine.name}\n",
        "etc/hostname": f"{machine.name}\n",
        _locale_file(machine.release): "LANG=C.UTF-8\n",
        "etc/apt/apt.conf.d/90keep-packages": KEEP_PACKAGES,
        "etc/ssh/ssh_host_ed25519_key.pub": (folder / "host_ed25519.pub").read_text(),
    }
    if not has_sys_resource():
        files["etc/systemd/system/containerd.service.d/oom-score.conf"] = OOM_DROP_IN
    secrets = {
        "etc/ssh/ssh_host_ed25519_key": (folder / "host_ed25519").read_text(),
        "root/.ssh/authorized_keys": machine.ssh_key.with_suffix(".pub").read_text(),
    }
    entries = [(path, text, 0o644) for path, text in files.items()]
    return _archive([*entries, *((path, text, 0o600) for path, text in secrets.items())], MASKED)


def _archive(files: list[tuple[str, str, int]], masked: tuple[str, ...] = ()) -> bytes:
    """Return a tar archive of files (path, text, mode) and of systemd units that never start."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text, mode in files:
            content = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        for unit in masked:
            mask = tarfile.TarInfo(f"etc/systemd/system/{unit}")
            mask.type, mask.linkname = tarfile.SYMTYPE, "/dev/null"
            archive.addfile(mask)
    return buffer.getvalue()


def _locale_file(release: str) -> str:
    # From trixie on, /etc/default/locale is a link to the other one.
    return "etc/default/locale" if release == "bookworm" else "etc/locale.conf"


def _extra_certificates() -> dict[str, str]:
    """Return the authorities this machine trusts beyond Debian's, by their path inside.

    A network that inspects TLS has one; without it the machine could not reach PyPI.
    """
    end = "-----END CERTIFICATE-----"
    bundle = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    usual = {
        _body(path.read_text()) for path in Path("/usr/share/ca-certificates/mozilla").glob("*.crt")
    }
    certificates = [part + end for part in bundle.split(end)[:-1]]
    extra = [text.strip() + "\n" for text in certificates if _body(text) not in usual]
    place = "usr/local/share/ca-certificates/outer-{}.crt"
    return {place.format(number): text for number, text in enumerate(extra, 1)}


def _body(certificate: str) -> str:
    """Return a PEM certificate's base64 text alone."""
    inside = certificate.partition("-----BEGIN CERTIFICATE-----")[2]
    return "".join(inside.partition("-----END CERTIFICATE-----")[0].split())


def has_sys_resource() -> bool:
    """Tell whether root may lower OOM scores here."""
    status = Path("/proc/self/status").read_text().splitlines()
    mask = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(mask, 16) >> CAP_SYS_RESOURCE & 1)


def _allow_inotify() -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(f"{INOTIFY_INSTANCES}\n")


def _start(machine: Machine) -> None:
    _allow_inotify()
    progress(f"Starting the machine {machine.name} (about 10 seconds)…")
    # At each start: this machine's extra authorities may have changed since the last one.
    certificates = _archive([(path, text, 0o644) for path, text in _extra_certificates().items()])
    _unpack(certificates, machine.name)
    common.run(["podman", "start", machine.name])


def _finish_boot(machine: Machine) -> None:
    """Wait until SSH answers and systemd is done, and make the machine trust what this one does.

    Raises SandboxError when either takes too long.
    """
    look = f"look at 'podman exec {machine.name} journalctl -b'"
    wait_for(
        lambda: run(machine, "true", check=False, timeout=SSH_SECONDS).returncode == 0,
        seconds=SSH_SECONDS,
        failure=f"{machine.name} does not answer SSH after {SSH_SECONDS} s: {look}.",
    )
    waiting = "systemctl is-system-running --wait"
    state = run(machine, waiting, check=False, timeout=BOOT_SECONDS).stdout.strip()
    if state not in ("running", "degraded"):
        raise SandboxError(f"systemd on {machine.name} says {state or 'nothing'!r}: {look}.")
    # Only after a start: without a reason nothing should change. The login's TMPDIR may be nowhere.
    newer = "find /usr/local/share/ca-certificates -cnewer /etc/ssl/certs/ca-certificates.crt"
    run(machine, f"test -z \"$({newer} -name '*.crt')\" || env -u TMPDIR update-ca-certificates")


def _ssh(name: str, words: list[str]) -> None:
    """Replace this process by an SSH session on the machine `name`."""
    machine = load(name)
    os.execvp("ssh", ["ssh", "-F", str(machine.ssh_config), name, *words])


def main(arguments: list[str]) -> None:
    """Run the command line; raises SandboxError when the chosen action fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox.machine")
    parser.add_argument("action", choices=("create", "remove", "reboot", "ssh"))
    parser.add_argument("name")
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    chosen, rest = parser.parse_known_args(arguments)
    if rest and chosen.action != "ssh":
        parser.error(f"unknown: {' '.join(rest)}")
    if chosen.action == "create":
        machine = create(chosen.name, chosen.release)
        print(f"{machine.name} is up: ssh -F {machine.ssh_config} {machine.name}")
    elif chosen.action == "remove":
        remove(chosen.name)
    elif chosen.action == "reboot":
        reboot(chosen.name)
    else:
        _ssh(chosen.name, rest)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SandboxError as problem:
        sys.exit(str(problem))

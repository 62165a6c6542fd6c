"""The findings: each thing that would stop the deploy, with its cure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from pyinfra import host, logger
from pyinfra.api import DeployError

from tasks.cluster import programs, releases
from tasks.layout import API_SERVER_PORT, NODE_FOLDER
from tasks.lib import lock, progress, terminal
from tasks.preflight import kubeconfig, neighbours
from tasks.preflight.questions import Report, is_local, own_ports
from tasks.settings import ARCHITECTURES, RELEASES, Settings
from tasks.settings.types import numbers
from tasks.worker import pod, registry

MIN_MEMORY_GIB = 3.5  # a "4 GB" machine; Airflow needs 1.1, Kubernetes 0.8, a task pod 0.25
MIN_DISK_GIB = 10
MIN_ROOM_MIB = 256  # on each file system; less is a disk that is full in a moment
# For Debian packages (0.6 GiB), the deploy's programs and minikube's files (0.2 each).
MIN_PROGRAMS_MIB = 1024
MIN_TMP_MIB = 16  # where /tmp is a file system of its own, for the host's programs
MIN_ROOM_FILES = 1000  # so many new files; a virtual environment has 30000
UPGRADE_DISK_GIB = 3  # for a venv of 0.5, its image as archive and unpacked, 0.8 each
MAX_CLOCK_SKEW = 60  # seconds; tokens of the Execution API allow only 10 between host and pods


NO_SYSTEMD = (
    "systemd does not run here, and Airflow's services need it: choose a host that booted with"
    " systemd, or try the deploy in the sandbox with ./tests/sandbox/up"
)


def of_serving(settings: Settings, report: Report) -> list[str]:
    """All reasons against a host that should have the database or the cluster of others only, each
    with its cure."""
    if not report.one("systemd"):
        return [NO_SYSTEMD]
    return [
        *_system(report),
        *_release(report),
        *_full_disks(report),
        *_clock(report),
        *(_of_cluster(settings, report) if "cluster" in settings.serves else []),
    ]


def _of_cluster(settings: Settings, report: Report) -> Iterator[str]:
    # An existing cluster counts like an installed Airflow.
    report = Report({**report.values, "installed": report.all("kubernetes")})
    yield from _selinux(report)
    yield from _resources(report)
    yield from _minikube(settings, report)
    yield from _kubernetes_version(settings, report)
    yield from _ports(settings, report)
    yield from _sources(settings, report)


def findings(settings: Settings, report: Report) -> list[str]:
    """All reasons against the deploy, each with its cure."""
    if not report.one("systemd"):
        return [NO_SYSTEMD]
    if holder := report.one("locked"):
        return [lock.refusal(holder)]
    if command := report.one("restore_cut"):
        return [
            f"a restore was cut off, so database and keys may not belong together, and Airflow does"
            f" not start: continue it with sudo {command} on the host, then deploy again"
        ]
    return [
        *_system(report),
        *_selinux(report),
        *_release(report),
        *_resources(report),
        *_room(report),
        *_upgrade(settings, report),
        *_minikube(settings, report),
        *_node_address(settings, report),
        *_kubernetes_version(settings, report),
        *_clock(report),
        *_ports(settings, report),
        *_open_ports(report),
        *_web_host(settings, report),
        *_web_host_within(settings, report),
        *_cluster(settings, report),
        *_sources(settings, report),
        *_claims(settings, report),
        *_nodes(report),
        *_image(settings, report),
        *_pod_template(settings),
        *neighbours.findings(settings, report),
    ]


def _system(report: Report) -> Iterator[str]:
    if report.one("uid") != "0":
        yield 'not root: log in as root, or give the host the inventory data "_sudo": True'
    distribution, _, codename = report.one("system").partition(" ")
    release = RELEASES.get(codename)
    # Other distributions change a release, and may keep its codename.
    if release is None or release.distribution != distribution:
        known = ", ".join(f"{each.name} ({code})" for code, each in RELEASES.items())
        yield f"{distribution} {codename} is not supported: use {known}"
    if report.one("no_universe"):
        yield (
            "apt's sources have no universe, where Ubuntu has most of the packages that the deploy"
            " needs: run `add-apt-repository universe` on the host"
        )
    if (architecture := report.one("architecture")) not in ARCHITECTURES:
        yield (
            f"the architecture is {architecture}: use a host with {' or '.join(ARCHITECTURES)}, for"
            " which there are programs with checksums"
        )


def _selinux(report: Report) -> Iterator[str]:
    if report.one("selinux") and not report.one("installed"):
        yield (
            "SELinux is enforcing, and this deploy was never tried with it: write"
            " SELINUX=permissive into /etc/selinux/config and run `setenforce 0`"
        )


def _release(report: Report) -> Iterator[str]:
    """An upgrade to another release that is not finished."""
    release = RELEASES.get(report.codename)
    there = report.one("pythons").split()
    if release and there and release.python not in there:
        yield (
            f"the host is {release.name} in part: its Python is {', '.join(there)} and not yet"
            f" {release.python}: finish the upgrade with `apt full-upgrade`"
        )


def refuse(found: list[str]) -> None:
    """End this host's part of the run with all reasons against it, if there are any."""
    if found:
        raise DeployError(
            f"{host.name} is not ready for the deploy; nothing was changed:\n"
            + "\n".join(f"  - {terminal.printable(finding)}" for finding in found)
        )


def tell(settings: Settings, report: Report) -> None:
    """Tell what is unusual about the host's release, now or at the end of the run."""
    if remark := neighbours.remark(settings, report):
        progress.print_at_end(remark)
    if remark := untried(report.codename, report.one("architecture")):
        logger.info(f"    {remark}")


def untried(codename: str, architecture: str) -> str | None:
    """A sentence about a host of a kind on which nobody tried the deploy; none about others."""
    kinds = [] if RELEASES[codename].is_tried else [RELEASES[codename].name]
    if architecture != ARCHITECTURES[0]:
        kinds.append(architecture)
    if not kinds:
        return None
    return f"This project never tried the deploy with {' on '.join(kinds)}; unit tests plan it."


def _resources(report: Report) -> Iterator[str]:
    memory = int(report.one("memory_kib")) / 2**20
    if memory < MIN_MEMORY_GIB:
        yield f"{memory:.1f} GiB of memory: at least {MIN_MEMORY_GIB} are needed, add some"
    if report.one("installed"):
        return
    for place, free in _free(report):
        if free < MIN_DISK_GIB:
            yield (
                f"{free:.1f} GiB of disk are free in {place}:"
                f" at least {MIN_DISK_GIB} are needed, free some"
            )


def _room(report: Report) -> Iterator[str]:
    """File systems that are full, unless _resources has found too little disk for a bare host."""
    if report.one("installed"):
        yield from _full_disks(report)
    elif not any(free < MIN_DISK_GIB for _, free in _free(report)):
        yield from _full_disks(report, MIN_ROOM_MIB if report.one("packages") else MIN_PROGRAMS_MIB)


def _full_disks(report: Report, programs: int = MIN_ROOM_MIB) -> Iterator[str]:
    """File systems with less room than they need, the one of programs as much as `programs`."""
    rooms = [answer.split() for answer in report.all("room")]
    of_programs = "/usr" if any(place == "/usr" for place, *_ in rooms) else "/"
    special = {"/tmp": MIN_TMP_MIB, of_programs: programs}
    for place, free, files, free_files in rooms:
        cure = f"free some, `du -xh {place} | sort -h | tail -n 40` shows the largest folders"
        needed = special.get(place, MIN_ROOM_MIB)
        if int(free) < needed * 2**10:
            yield (
                f"{int(free) // 2**10} MiB of disk are free in {place}, where Airflow and the"
                f" deploy need {needed}: {cure}"
            )
        elif int(files) and int(free_files) < MIN_ROOM_FILES:
            yield (
                f"{place} has room for {free_files} more files, where Airflow and the deploy need"
                f" {MIN_ROOM_FILES} (`df -i`): delete many small ones"
            )


def _free(report: Report) -> Iterator[tuple[str, float]]:
    """Folders and the GiB that are free in them."""
    for answer in report.all("disk_kib"):
        place, free = answer.split()
        yield place, int(free) / 2**20


def _upgrade(settings: Settings, report: Report) -> Iterator[str]:
    """Reasons against a change of the version or of the packages."""
    migrated, _, _ = report.one("migrated").partition(" ")
    codename = report.codename
    if not migrated or codename not in RELEASES:
        return
    there, _, _ = migrated.partition("-")
    # After a rollback of several hosts, the first one alone knows that the database has gone back.
    knows = not settings.members or host.name == settings.members[0]
    if knows and numbers(settings.airflow.version) < numbers(there):
        yield (
            f"airflow_version: the database is Airflow {there}'s, and {settings.airflow.version}"
            " may damage it: `sudo airflow-rollback` on the host goes back to before the last"
            f' upgrade, with its data; otherwise write "{there}"'
        )
    elif migrated != settings.for_release(codename).venv_key:
        needed = UPGRADE_DISK_GIB + int(report.one("database_kib")) / 2**20
        for place, free in _free(report):
            if free < needed:
                yield (
                    f"{free:.1f} GiB of disk are free in {place}, and another version or other"
                    f" packages of Airflow need {needed:.1f} with a backup: free some"
                )


def _minikube(settings: Settings, report: Report) -> Iterator[str]:
    """Settings that minikube can't change in its cluster."""
    there, wanted = report.one("minikube_driver"), settings.minikube.driver
    if there and there != wanted:
        yield (
            f"minikube_driver: the cluster was made with the driver {there}, and minikube can't"
            f' change it: write "{there}", or run the removal with it and keep_data=True, and then'
            f' deploy with "{wanted}"'
        )
    elif report.one("node_mount"):
        yield (
            f"minikube_driver: the cluster's node was made without the host's {NODE_FOLDER}, and"
            " minikube can't add that: if nobody else uses the cluster, run"
            " `sudo -H minikube delete` on the host, and deploy again, which makes it again"
        )


def _node_address(settings: Settings, report: Report) -> Iterator[str]:
    """A node in a container that minikube gave another network, since the first one was in use."""
    address = report.one("node_address")
    if not address or not settings.proxy.url:
        return
    for exception in (settings.minikube.node_network, *settings.proxy.extra_exceptions):
        try:
            if ipaddress.IPv4Address(address) in ipaddress.IPv4Network(exception, strict=False):
                return
        except ValueError:
            continue  # a name, or an address of IPv6
    network = ipaddress.IPv4Network(f"{address}/24", strict=False)
    yield (
        f"proxy_url: the cluster's node has the address {address}, outside of"
        f" {settings.minikube.node_network}, and the host would ask the proxy for it: write"
        f' "--subnet={network}" into minikube_extra_args'
    )


def _kubernetes_version(settings: Settings, report: Report) -> Iterator[str]:
    """Versions that minikube refuses when the cluster is down, or Kubernetes does not support."""
    there, wanted = report.one("kubernetes"), settings.kubernetes.version
    if not there:
        yield from _containerd(settings, report)
        return
    (major, minor, *_), now = numbers(wanted), numbers(there)
    if numbers(wanted) < now:
        yield (
            f"kubernetes_version: the cluster has Kubernetes {there}, and minikube can't change it"
            f' to an older one, {wanted}: write "{there}", or, if nobody else uses the cluster,'
            " run `sudo -H minikube delete` on the host first"
        )
        return
    between = releases.between(there, settings)
    if [major, minor - 1 - len(between)] > now[:2]:
        yield (
            f"kubernetes_version: the cluster has Kubernetes {there}, and the deploy does not know"
            f" every minor version on its way to {wanted}, of which none may be skipped:"
            f" deploy with one of {now[0]}.{now[1] + 1} first"
        )
        return
    yield from _containerd(settings, report)
    if settings.offline.dir:
        for version in sorted({*between} - {*report.all("offline_between")}):
            yield (
                f"offline_dir: the cluster has Kubernetes {there}, and on its way to {wanted} it"
                f" needs {settings.offline.dir}/v{version} with kubeadm, kubectl, kubelet and"
                " images.tar, all named in SHA256SUMS: add them"
            )


def _containerd(settings: Settings, report: Report) -> Iterator[str]:
    """A version for which the release's containerd is too old.

    https://github.com/containerd/containerd/blob/main/RELEASES.md#kubernetes-support
    """
    wanted, release = settings.kubernetes.version, RELEASES.get(report.codename)
    if settings.node_is_host and release and release.containerd < 2 and numbers(wanted) > [1, 36]:
        yield (
            f"kubernetes_version: {wanted} needs containerd 2, and {release.name} has containerd"
            f" {release.containerd}: write a version of 1.35, the last one that works with it"
        )


def _clock(report: Report) -> Iterator[str]:
    skew = round(float(report.one("ahead")))
    if abs(skew) > MAX_CLOCK_SKEW:
        yield (
            f"the clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} this machine's:"
            " set it, and keep it right with systemd-timesyncd or chrony"
        )


def _ports(settings: Settings, report: Report) -> Iterator[str]:
    own = own_ports(settings)
    for answer in report.all("port"):
        port, pid, name = answer.split(maxsplit=2)
        if int(port) not in own:
            cure = (
                "stop it: another Kubernetes or etcd can't share the machine with minikube's"
                " driver none"
            )
        elif key := own[int(port)][0]:
            cure = f"stop it, or choose another port with {key}"
        else:
            cure = "stop it: the api-server has that port, since no user without rights can take it"
        yield f"port {port} is held by {name} (process {pid}): {cure}"


def _open_ports(report: Report) -> Iterator[str]:
    first = int(report.one("open_ports") or 1024)
    if first <= API_SERVER_PORT:
        yield (
            f"net.ipv4.ip_unprivileged_port_start is {first}, so any user of the host could listen"
            f" on port {API_SERVER_PORT} and pass for Airflow: give it a value above that"
        )


def _web_host(settings: Settings, report: Report) -> Iterator[str]:
    """nginx would not start with an address that is not the host's own: then no task runs."""
    for answer in report.all("web_host"):
        problem = "is no address and no known name" if answer == "unknown" else "is not the host's"
        address = (
            settings.web.host
            if answer in ("unknown", settings.web.host)
            else (f"{answer}, which {settings.web.host} means,")
        )
        yield (
            f"web_host: {address} {problem}: write an address of the host, as `ip address` shows"
            " them, or 0.0.0.0 for all"
        )


def _web_host_within(settings: Settings, report: Report) -> Iterator[str]:
    if address := report.one("web_host_within"):
        yield (
            f"web_host: {settings.web.host} means only {address} on the host, as /etc/hosts has it,"
            " and nobody else reaches the web page there: give the name the host's own address in"
            " /etc/hosts, or write that address or 0.0.0.0"
        )


def _cluster(settings: Settings, report: Report) -> Iterator[str]:
    path = settings.kubernetes.kubeconfig
    if settings.cluster_host:
        return  # the deploy brings it
    if report.one("kubeconfig") == "missing":
        yield (
            f"kubernetes_kubeconfig: {path} is not there: copy the cluster's kubeconfig to"
            " that path on the host"
        )
    elif path:
        lines = [line.removeprefix("|") for line in report.all("safe")]
        named = (report.all(key) for key in ("reached", "no_file", "no_tool"))
        yield from kubeconfig.findings(
            path, settings.kubernetes.context, kubeconfig.KubeconfigReport(lines, *named)
        )


def _sources(settings: Settings, report: Report) -> Iterator[str]:
    for problem in report.all("offline"):
        yield f"offline_dir: {settings.offline.dir}: {problem}: make or copy the folder again"
    servers = report.all("unreachable")
    if report.one("installed"):
        is_upgrade = report.one("kubernetes") not in ("", settings.kubernetes.version)
        needed = programs.upgrade_hosts(settings) if is_upgrade else set()
        yield from _unreachable([each for each in servers if each in needed], settings, report)
        return
    for url in report.all("index_unreachable"):
        yield (
            f"build_indexes: the server of {url} does not answer: check the name, the port and the"
            " network between the host and the index"
        )
    if path := report.one("pip_index"):
        yield (
            f"{path} names an index of Python packages, and uv, which installs Airflow, does not"
            " read it: name the index in build_indexes"
        )
    yield from _unreachable(servers, settings, report)


def _unreachable(servers: list[str], settings: Settings, report: Report) -> Iterator[str]:
    for server in servers:
        yield (
            f"{server} does not answer on port 443 and downloads come from there: open the way,"
            f" give the files with offline_dir, or {neighbours.proxy_cure(settings, report)}"
        )


def _claims(settings: Settings, report: Report) -> Iterator[str]:
    for answer in report.all("claim"):
        key, name, *folder = answer.split()
        if folder:
            yield (
                f"{key}: the host has no folder {folder[0]}, where the files of the claim {name}"
                " should be (host_path): mount them there"
            )
        else:
            yield (
                f"{key}: there is no claim {name} in the namespace"
                f" {settings.kubernetes.namespace}: make it, or give its size and the deploy makes"
                " it"
            )


def _nodes(report: Report) -> Iterator[str]:
    """Nodes that all are of another kind than the worker image, which the host builds."""
    found, needed = sorted({*report.all("node")}), f"linux/{report.one('architecture')}"
    if found and needed not in found:
        yield (
            f"the cluster has only nodes of another kind ({', '.join(found)}), and the host builds"
            f" the worker image for its own, {needed}: add such a node, or write worker_image"
        )


def _image(settings: Settings, report: Report) -> Iterator[str]:
    if settings.worker.registry and report.one("registry") == "unreachable":
        yield (
            f"worker_registry: {settings.worker.registry.host} does not answer: check the name, the"
            " port and the network between the host and the registry"
        )
    if report.one("image") == "missing":
        yield (
            f"worker_image: {settings.worker.image} is not among the node's images, and localhost/"
            " is no registry: load it first, or leave worker_image out to have it built"
        )
    elif (
        settings.worker.image
        and not is_local(settings.worker.image)
        and (problem := registry.problem(settings.worker.image, reached=not report.one("registry")))
    ):
        yield f"worker_image: {problem}"


def _pod_template(settings: Settings) -> Iterator[str]:
    if settings.worker.pod_template:
        try:
            pod.own_template(settings.worker.pod_template)
        except DeployError as problem:
            yield str(problem)

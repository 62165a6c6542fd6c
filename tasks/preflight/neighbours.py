"""The findings about things that others made on a host.

The deploy takes over and removes nothing that it did not make.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from tasks import layout
from tasks.layout import CONTROL_USER, DAGS_USER
from tasks.preflight.questions import API_PORT, Report, engine_alternatives
from tasks.settings import RELEASES, Settings

OWN_UNITS = layout.ROOT / "files" / layout.UNITS_DIRECTORY.lstrip("/")
USER_NAMESPACES = "user.max_user_namespaces"
BRIDGE_RULES = "net.bridge.bridge-nf-call-iptables"
# Names of releases that are no others'; a mirror may have names of its own, such as prod.
CODENAMES = {
    *("stretch", "buster", "bullseye", "bookworm", "trixie", "forky"),
    *("bionic", "focal", "jammy", "noble", "resolute"),
}
DISK = "ephemeral-storage"  # as Kubernetes calls it
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class Cluster(NamedTuple):
    """A PostgreSQL cluster of the host."""

    version: int
    name: str
    port: int
    runs: bool
    is_own: bool  # whether it has the deploy's configuration or data
    content: frozenset[str]  # «database-NAME» and «role-NAME», except PostgreSQL's own
    has_programs: bool = True

    @property
    def label(self) -> str:
        """Its name, as Debian's programs take it."""
        return f"{self.version}/{self.name}"

    @property
    def has_airflow(self) -> bool:
        """Whether Airflow's database is in it."""
        return f"database-{layout.DATABASE}" in self.content


def clusters(report: Report) -> list[Cluster]:
    """All PostgreSQL clusters of the host."""
    found = []
    for answer in report.all("postgres"):
        version, name, port, state, whose, *content = answer.split()
        runs, is_own = state.startswith("online"), whose == "own"
        # A number may have a part behind a dot, as 9.6 had.
        each = Cluster(
            *(int(float(version)), name, int(port), runs, is_own, frozenset(content)),
            has_programs="binaries_missing" not in state,
        )
        # One that pg_upgradecluster made has the data, but perhaps not the configuration.
        moved = bool(report.one("migrated")) and each.has_airflow and name == "main"
        found.append(each._replace(is_own=is_own or moved))
    return found


def postgres(settings: Settings, report: Report) -> tuple[int, int]:
    """Version and port of the cluster main that the deploy configures, whether it is there or not.

    The version stays where Airflow's data is when Debian is upgraded. A new cluster gets a port
    that no other one has, and no other program, such as a PostgreSQL in a container.
    """
    there = clusters(report)
    own = [each for each in there if each.is_own and each.name == "main"]
    kept = max(own, key=lambda each: (each.has_airflow, each.version), default=None)
    newest = RELEASES[report.codename].postgres
    version = settings.postgres.version or (kept.version if kept else newest)
    for each in there:
        if (each.version, each.name) == (version, "main"):
            return version, each.port
    taken = {*(each.port for each in there), *map(int, report.all("held"))}
    return version, next(port for port in range(layout.POSTGRES_PORT, 65535) if port not in taken)


def findings(settings: Settings, report: Report) -> Iterator[str]:
    """All reasons against the deploy that others gave."""
    if report.codename in RELEASES and settings.postgres.is_debians:
        yield from _postgres(settings, report)
        yield from _lost_database(report)
    yield from _names(report)
    yield from _masked(settings, report)
    yield from _environment(report)
    yield from _paths(report)
    yield from _folders(report)
    yield from _exporter(report)
    yield from _places(report)
    if USER_NAMESPACES in report.all("sysctl_off"):
        yield (
            f"{USER_NAMESPACES} is 0, or will be at the next boot, and systemd can't start units of"
            f" Airflow with PrivateUsers= then, as airflow-token: {_lifted(USER_NAMESPACES, 65536)}"
        )
    yield from _containers(report)
    yield from _node_engine(settings, report)
    yield from _node(settings, report)
    yield from _firewall(settings, report)
    yield from _forwarded(settings, report)
    yield from _packages(report)
    yield from _index(settings, report)


def of_serving(settings: Settings, report: Report) -> Iterator[str]:
    """All reasons against a host that should have the database or the cluster of others only."""
    if "database" in settings.serves:
        yield from _postgres(settings, report)
        yield from _lost_database(report, layout.DATABASE_MADE)
    yield from _masked(settings, report)
    yield from _paths(report)
    yield from _folders(report)
    yield from _exporter(report)
    if "cluster" in settings.serves:
        yield from _containers(report)
        yield from _node(settings, report)
        yield from _firewall(settings, report)
    yield from _packages(report)


def _postgres(settings: Settings, report: Report) -> Iterator[str]:
    there = clusters(report)
    version, _ = postgres(settings, report)
    if report.one("migrated") and report.one("database_elsewhere"):
        yield (
            "postgres_provider: Airflow's data is in an existing PostgreSQL, and the deploy moves"
            " none: leave that in the inventory, or move as inventories/README.md has it"
        )
    wanted = f"{version}/main"
    used = next((each for each in there if each.label == wanted), None)
    data = next((each for each in there if each.has_airflow and each is not used), None)
    if report.one("migrated") and data and not (used and used.has_airflow):
        if data.name == "main":
            yield (
                f"postgres_version: Airflow's database is in the PostgreSQL cluster {data.label},"
                f" not in {wanted}: run `pg_upgradecluster {data.version} main -v {version}` on the"
                f" host, or write {data.version}"
            )
        else:
            yield (
                f"Airflow's database is in the PostgreSQL cluster {data.label}, and the deploy"
                f" configures {wanted}: stop airflow.target, let `createuser --cluster {wanted}`"
                f" make the users {CONTROL_USER} and {DAGS_USER}, and move the database with"
                f" `pg_dump --cluster {data.label} -Fc {layout.DATABASE} | pg_restore --cluster"
                f" {wanted} -C -d postgres`, all as the user postgres"
            )
    if used is None or used.is_own:
        return
    keep = f"`pg_renamecluster {version} main others` on the host keeps it beside the deploy's own"
    if not used.runs:
        yield (
            f"the PostgreSQL cluster {wanted} does not run or does not answer, so it can't be asked"
            f" whose it is: start it with `pg_ctlcluster {version} main start`; {keep}"
        )
    for kind in ("database", "role"):
        names = sorted(
            each.removeprefix(f"{kind}-") for each in used.content if each.startswith(f"{kind}-")
        )
        if names:
            yield (
                f"the PostgreSQL cluster {wanted} has the {kind} {', '.join(names)}, which this"
                " deploy did not make, and the deploy would take this PostgreSQL cluster over:"
                f" {keep}"
            )


def _lost_database(report: Report, mark: str = layout.MIGRATED) -> Iterator[str]:
    """The database that the deploy made, gone with its cluster or its programs.

    Debian's `apt purge` of an old version deletes the clusters of that version.
    """
    there = clusters(report)
    if not report.one("postgres_due"):
        return
    for each in there:
        if each.is_own and not each.has_programs and not any(it.has_airflow for it in there):
            yield (
                f"the PostgreSQL cluster {each.label} has Airflow's database, and its programs are"
                f" gone: install postgresql-{each.version} again, from https://apt.postgresql.org"
                f" if {RELEASES[report.codename].name} does not have it"
            )
            return
    if all(each.runs for each in there) and not any(each.has_airflow for each in there):
        of_airflow = "" if mark == layout.MIGRATED else f" and {layout.MIGRATED} on Airflow's hosts"
        where = " on the first of them" if of_airflow else ""
        yield (
            "Airflow's database is gone: no PostgreSQL cluster of the host has it. To begin with an"
            f" empty one, delete {mark} on the host{of_airflow} and deploy; then `sudo"
            f" airflow-restore`{where} brings back a backup of {layout.BACKUPS}"
        )


def links(report: Report) -> Iterator[str]:
    """A sentence about each folder with a link that works on the host, but may not in pods.

    It stops no deploy: pods may mount the other folder too.
    """
    for answer in report.all("link_out"):
        folder, link = answer.split(" ", 1)
        yield (
            f"{link} leads out of {folder}. Pods mount only that folder, so tasks may not find the"
            " link's target: copy it there, mount it there (`mount --bind`), or take DAGs from git"
            " (dags_git_bundles)."
        )


def remark(settings: Settings, report: Report) -> str | None:
    """A sentence about a PostgreSQL of an earlier release; none about others."""
    if settings.serves and "database" not in settings.serves:
        return None
    version, _ = postgres(settings, report)
    release = RELEASES[report.codename]
    if settings.postgres.version or version >= release.postgres:
        return None
    return (
        f"PostgreSQL {version} is of an earlier {release.distribution.capitalize()} and"
        f" gets no updates on this one, which has {release.postgres}:"
        " inventories/YEARS.md, section “Another PostgreSQL”, has the way there."
    )


def _names(report: Report) -> Iterator[str]:
    for name in report.all("others_user"):
        yield (
            f"web_users: the web page has a user {name} that the deploy did not make: choose"
            " another name, delete the user, or put it into the group inventory of the web page"
        )
    for name in report.all("foreign_user"):
        yield (
            f"there is a user {name} that this deploy did not make: rename it with `usermod -l`, or"
            f" remove it with `deluser {name}`"
        )
    for name in sorted({*report.all("foreign_group")} - {*report.all("foreign_user")}):
        yield (
            f"there is a group {name} that this deploy did not make, and its members could read"
            f" Airflow's files: rename it with `groupmod -n`, or remove it with `delgroup {name}`"
        )
    for name in sorted({*report.all("foreign_uid")} - {*report.all("foreign_user")}):
        yield (
            f"airflow_uid: the id belongs to {name} on the host: write another one, or give {name}"
            " another one with `usermod -u` or `groupmod -g`"
        )
    for path in report.all("foreign_keepalived"):
        yield (
            f"web_virtual_address: {path} is not of this deploy, which needs keepalived for itself:"
            " stop keepalived and move the file away, or leave the setting out and keep the address"
            " yourself"
        )
    for path in report.all("foreign_unit"):
        yield (
            f"{path} is a unit that this deploy did not make, with a name that it needs: stop and"
            " disable it, and move the file away, or remove the package that it belongs to"
        )


def _masked(settings: Settings, report: Report) -> Iterator[str]:
    """Units that systemd may not start. An admin wanted that, so the deploy does not undo it."""
    needed = {*_units(settings, report)}
    if names := " ".join(each for each in report.all("masked") if each in needed):
        yield (
            f"somebody masked units that the deploy needs, so systemd does not start them: {names}:"
            f" if nothing speaks against them on this host, run `systemctl unmask {names}` there"
        )


def _units(settings: Settings, report: Report) -> Iterator[str]:
    """The units that the deploy starts."""
    is_airflows = not settings.serves
    if is_airflows:
        for kind in ("service", "socket", "target", "timer"):
            yield from (each.name for each in OWN_UNITS.glob(f"airflow*.{kind}"))
        yield "airflow-webserver.service"  # an alias
        yield layout.NGINX_UNIT
        if settings.web.virtual_address:
            yield layout.ADDRESS_UNIT
    if "database" in settings.serves or (is_airflows and settings.postgres.is_debians):
        if report.codename in RELEASES:
            yield f"postgresql@{postgres(settings, report)[0]}-main.service"
        yield from ("postgresql.service", "postgresql@.service")
    if settings.metrics.port is not None:
        yield from (layout.METRICS_UNIT, layout.METRICS_SOCKET)
    if "cluster" in settings.serves or (is_airflows and settings.kubernetes.uses_minikube):
        yield "minikube.service"
        if settings.node_is_host:
            yield from ("containerd.service", "kubelet.service")
        if settings.node_engine:
            yield layout.NODE_LOGS_UNIT.rpartition("/")[2]
        if settings.node_engine == "docker":
            yield from ("docker.service", "docker.socket")


def _environment(report: Report) -> Iterator[str]:
    """Options that would win over those of the inventory, in services but not in pods."""
    if names := " ".join(report.all("units_variable")):
        yield (
            f"systemd gives all units of the host {names}, and Airflow's services would obey: write"
            " these options into airflow_config if you need them, take them out of"
            " DefaultEnvironment= in /etc/systemd/system.conf and the files of system.conf.d, and"
            f" run `systemctl daemon-reexec` and `systemctl unset-environment {names}`"
        )
    if (names := " ".join(report.all("units_proxy"))) and not report.one("installed"):
        yield (
            f"systemd gives all units of the host {names}, and Kubernetes' would ask that proxy for"
            " each other: write it into proxy_url, take it out of DefaultEnvironment= in"
            " /etc/systemd/system.conf and the files of system.conf.d, and run `systemctl"
            f" daemon-reexec` and `systemctl unset-environment {names}`"
        )


def _paths(report: Report) -> Iterator[str]:
    """Files that the deploy would take over, and its removal delete."""
    for path in report.all("foreign_path"):
        yield (
            f"this deploy did not make {path}, and needs its place: end the programs that use it,"
            f" and move it away, as with `mv {path} /root`"
        )


def _folders(report: Report) -> Iterator[str]:
    """Links to other folders, such as those of a larger disk."""
    for answer in report.all("folder_link"):
        folder, target = answer.split(" ", 1)
        yield (
            f"{folder} is a link, and the deploy needs a folder there: mount the other one in its"
            f" place, with `rm {folder} && mkdir {folder} && mount --bind {target} {folder}` and"
            f" the line `{target} {folder} none bind` in /etc/fstab"
        )


def _exporter(report: Report) -> Iterator[str]:
    for name in report.all("foreign_exporter"):
        yield (
            f"metrics_port: {name} is here and not of this deploy, which needs it for itself, with"
            f" other options: remove it with `apt-get purge {name}`, or leave the setting out"
        )


def _places(report: Report) -> Iterator[str]:
    for answer in report.all("no_acl"):
        folder, kind, *off = answer.split()
        cure = "mount it elsewhere and copy from there"
        if off:
            cure = "take noacl out of its options"
            if kind == "zfs":
                cure = "run `zfs set acltype=posixacl` for its dataset"
        yield (
            f"{folder} is on a file system ({kind}) without the access control lists of POSIX, by"
            f" which Airflow reads files that people bring with any umask: {cure}, or take DAGs"
            " from git (dags_git_bundles) or a volume claim"
        )
    if report.one("nginx_sites"):
        yield (
            "nginx is here, and /etc/nginx/nginx.conf does not read the sites of Debian's, as that"
            " of nginx.org: make the folders /etc/nginx/sites-available and"
            " /etc/nginx/sites-enabled, and write `include /etc/nginx/sites-enabled/*;` into the"
            " block http"
        )


def _containers(report: Report) -> Iterator[str]:
    for name in report.all("engine"):
        yield (
            f"another container engine is here, {name}, and minikube's driver none takes over the"
            ' host\'s containers: write minikube_driver = "podman" or "docker", whose node is one'
            " container more, use another host, or a cluster of your own with"
            ' kubernetes_provider = "existing", or remove the engine yourself'
        )


def _node_engine(settings: Settings, report: Report) -> Iterator[str]:
    engine = settings.node_engine
    for said in report.all("engine_broken"):
        yield (
            f"minikube_driver: {engine} is here and does not work ({said or 'it does not answer'}):"
            f" mend it until `{engine} info` succeeds on the host"
        )
    for program in report.all("foreign_engine"):
        yield (
            f"minikube_driver: {program} is of no Debian package"
            f" ({', '.join(engine_alternatives(engine))}), and the deploy would install a second"
            f" {engine} beside it: remove it, and the deploy installs Debian's, write another"
            ' driver, or use a cluster of your own with kubernetes_provider = "existing"'
        )
    if report.one("foreign_node"):
        yield (
            f"minikube_driver: {engine} has a container minikube that root's minikube does not"
            f" know, and the node needs the name: `{engine} rename minikube another` keeps it"
        )
    for said in report.all("engine_warns"):
        yield (
            f"minikube_driver: {engine} warns at each call ({said}), and minikube takes a warning"
            f" for an answer: mend its cause, until `{engine} version` prints nothing else. Podman"
            ' 5 warns of control groups of version 1: `env = ["PODMAN_IGNORE_CGROUPSV1_WARNING=1"]`'
            " below [engine] in /etc/containers/containers.conf keeps it quiet"
        )
    asks_for_disk = any(DISK in each for each in settings.worker.resources.values())
    if report.one("engine_btrfs") and asks_for_disk:
        yield (
            f"minikube_driver: {engine} keeps images with its storage driver btrfs, with which"
            f" minikube's node counts no disk, and so takes no pod that asks for {DISK}: write"
            " another storage driver into the engine's configuration (its images and containers"
            f" are another set then), or leave {DISK} out of worker_resources"
        )


def _node(settings: Settings, report: Report) -> Iterator[str]:
    name = report.one("hostname")
    if name and (
        len(name) > 63 or name.replace(".", "").isdigit() or not NODE_NAME.fullmatch(name)
    ):
        yield (
            f"the host's name {name} can't be a Kubernetes node's, which has lower-case letters,"
            " digits, dots and hyphens, and is no number: give it another one with `hostnamectl"
            " set-hostname`"
        )
    if node := report.one("node_name"):
        yield (
            f"the cluster's node is called {node}, as the host was when the cluster was made: give"
            f" the host that name again with `hostnamectl set-hostname {node}`, or run"
            " `sudo -H minikube delete` and deploy again: running tasks end then, and are tried"
            " again if they have retries"
        )
    gives_resolver = any("kubelet.resolv-conf=" in each for each in settings.minikube.extra_args)
    if (server := report.one("resolver")) and not gives_resolver:
        yield (
            f"/etc/resolv.conf names {server}, which in a pod is the pod itself, so the cluster's"
            " DNS would ask itself: write the real server into a file of the host, and its path"
            ' into minikube_extra_args: "--extra-config=kubelet.resolv-conf=/etc/resolv.pods"'
        )
    if (path := report.one("no_resolver")) and not gives_resolver:
        yield (
            f"{path} names no server (nameserver) with an address of IPv4, and the cluster's DNS"
            " needs one: write one into it, also if the host has none that answers, such as"
            " `nameserver 192.0.2.1`"
        )
    if domain := report.one("answers_all"):
        yield (
            f"each name in the domain {domain} has an address, and the host searches that domain:"
            f" tasks would take each outer name, such as pypi.org, for pypi.org.{domain}. Take it"
            " out of `search` where /etc/resolv.conf is made, or the wildcard out of the DNS"
        )
    if report.one("no_ipv4"):
        # minikube takes the interface of the default route, and its networks are of IPv4.
        yield (
            "the host has no default route for IPv4, from which minikube's driver none takes the"
            " node's address: add one with `ip route add default via`, also if it leads nowhere,"
            ' or use a cluster of your own with kubernetes_provider = "existing"'
        )
    if settings.node_engine:
        yield from _node_network(settings, report)
    else:
        yield from _networks(settings, report)
    yield from _kernel(settings, report)
    for place in report.all("noexec"):
        yield (
            f"{place} is mounted with noexec, and programs of the deploy are there:"
            f" `mount -o remount,exec`, and change /etc/fstab"
        )
    if report.one("no_ipv6") and ":" in settings.web.host:
        yield (
            f"web_host: {settings.web.host} is an address of IPv6, which is off on the host: write"
            " one of IPv4, such as 0.0.0.0"
        )


def _networks(settings: Settings, report: Report) -> Iterator[str]:
    """Networks of the host that its cluster would take for its own.

    A route that is wider than the pods' network is none of them, since Linux prefers the narrower
    one. Only addresses that a service has are a service's: a route to others does no harm.
    """
    pods, services = settings.minikube.pod_network, settings.minikube.service_network
    if used := _used(report, pods, "address", "route", "gateway", "server"):
        yield (
            f"the host uses {used}, and the cluster's pods have {pods}, which can't be changed in"
            " minikube's own network: give the other network another range, write minikube_driver ="
            ' "podman", whose pods have their network inside the node\'s container, or use a'
            ' cluster of your own with kubernetes_provider = "existing"'
        )
    if used := _used(report, services, "address", "gateway", "server"):
        yield (
            f"the host uses {used}, and the cluster's services have {services}: write another"
            " private network, which nobody uses here, into minikube_extra_args:"
            ' "--service-cluster-ip-range=172.30.0.0/16"'
        )


def _node_network(settings: Settings, report: Report) -> Iterator[str]:
    """Networks for which minikube would give its node's container another one than it should have.

    The proxy's exceptions and the advice about firewalls name that. minikube takes the network of
    its own name as it is.
    """
    wanted, engine = settings.minikube.node_network, settings.node_engine
    there = [each.split()[1] for each in report.all("uses") if each.endswith(" minikube")]
    if there and there != [wanted]:
        yield (
            f"minikube_driver: {engine} has a network minikube with {there[0]}, which the node"
            f" would get instead of {wanted}: run `{engine} network rm minikube` if nobody uses it,"
            f' or write it into minikube_extra_args: "--subnet={there[0]}"'
        )
    elif not there and (used := _used(report, wanted, "network", "route", "gateway", "server")):
        yield (
            f"the host uses {used}, and the cluster's node has {wanted}: write another private"
            ' network, which nobody uses here, into minikube_extra_args: "--subnet=192.168.60.0/24"'
        )


def _used(report: Report, network: str, *kinds: str) -> str:
    """The addresses and routes of the host that lie in a network, in words."""
    there = ipaddress.IPv4Network(network, strict=False)
    found = []
    for kind, address, *interface in (answer.split() for answer in report.all("uses")):
        used = ipaddress.IPv4Network(address, strict=False)
        if kind in kinds and (
            used.subnet_of(there) or (kind == "network" and used.overlaps(there))
        ):
            found.append(f"the {kind} {address}" + "".join(f" ({each})" for each in interface))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _kernel(settings: Settings, report: Report) -> Iterator[str]:
    """Kernel features that containers and kubelet need."""
    for answer in report.all("no_module"):
        module, why = answer.split()
        cure = {
            "gone": (
                "the modules of the kernel that runs are not in /lib/modules, as after an upgrade"
                f" of it: reboot; if the host is itself a container, run `modprobe {module}` on the"
                " machine that it runs on"
            ),
            "disabled": "kernel.modules_disabled forbids all: take it out of /etc/sysctl.d, reboot",
            "forbidden": f"take the line `install {module}` out of /etc/modprobe.d",
            "missing": "use Debian's own kernel, linux-image-amd64 or linux-image-arm64",
        }[why]
        yield f"the kernel can't load {module}, which Kubernetes' node needs: {cure}"
    if settings.node_is_host and BRIDGE_RULES in report.all("sysctl_off"):
        # https://github.com/kelseyhightower/kubernetes-the-hard-way/issues/561
        yield (
            f"{BRIDGE_RULES} is 0, or will be at the next boot, and answers of the cluster's DNS do"
            f" not reach pods then: {_lifted(BRIDGE_RULES, 1)}"
        )
    if report.one("no_memory_group"):
        yield (
            "the kernel has no control group for memory, without which kubelet does not start: take"
            " cgroup_disable=memory out of the kernel's command line, or write cgroup_enable=memory"
            " there (in /etc/default/grub, then `update-grub`, or on a Raspberry Pi in"
            " /boot/firmware/cmdline.txt), and reboot"
        )
    if paths := report.all("closed_to_kubelet"):
        yield (
            f"kubelet needs {', '.join(paths)}, which the host may not use, as a container of LXC:"
            " use a virtual machine, give the container the rights of the machine that it runs on,"
            ' or use a cluster of your own with kubernetes_provider = "existing"'
        )


def _lifted(name: str, value: int) -> str:
    """The advice about a sysctl that is 0."""
    return (
        f"take it out of /etc/sysctl.conf if it is there, write `{name} = {value}` into"
        " /etc/sysctl.d/zz-own.conf, which comes after the files of packages, and run"
        " `sysctl --system`"
    )


def _firewall(settings: Settings, report: Report) -> Iterator[str]:
    """Chains that drop packets of pods, or to them, which come through those of the host."""
    network = settings.pods_network
    purposes = {
        f"input/tcp/{API_PORT}": f"lets no pod reach the cluster's API at port {API_PORT}",
        f"input/tcp/{settings.execution_api.port}": (
            f"lets no pod reach Airflow at port {settings.execution_api.port}"
        ),
        "input/udp/53": "lets the cluster's node reach no DNS, which podman has on the host",
        "forward/udp/53": "lets no pod reach the cluster's DNS, nor other machines",
        "forward/tcp/443": "lets the cluster's node reach no other machine, as for images",
        "output/tcp/8181": "lets the cluster look after no pod",
        f"output/tcp/{API_PORT}": "lets the host not reach the cluster's node",
    }
    for answer in report.all("firewall"):
        kind, way, *chain = answer.split()
        hook, protocol, port = way.split("/")
        side, option = ("daddr", "-d") if hook == "output" else ("saddr", "-s")
        only = f" {protocol} dport {port}" if hook == "input" else ""
        cure = {
            "ufw": {
                "input": f"ufw allow from {network} to any port {port} proto {protocol}",
                "forward": f"ufw route allow from {network}",
                "output": f"ufw allow out to {network}",
            }[hook],
            "firewalld": (
                f"firewall-cmd --permanent --zone=trusted --add-source={network} &&"
                " firewall-cmd --reload"
            ),
            "rules": f"iptables -I {hook.upper()} {option} {network}"
            + (f" -p {protocol} --dport {port} -j ACCEPT" if only else " -j ACCEPT"),
        }[kind]
        if kind == "rules" and hook == "forward":
            back = "-m conntrack --ctstate RELATED,ESTABLISHED"
            cure += f" && iptables -I FORWARD -d {network} {back} -j ACCEPT"
        if chain:  # another one can't accept its packets
            rule = f"nft insert rule {' '.join(chain)} ip"
            cure = f"{rule} {side} {network}{only} accept"
            if hook == "forward":
                cure += f" && {rule} daddr {network} accept"
        kept = " and make it last, in /etc/nftables.conf or where your rules come from"
        yield (
            f"a firewall of the host {purposes[way]}: run `{cure}`{kept if kind == 'rules' else ''}"
        )


def _forwarded(settings: Settings, report: Report) -> Iterator[str]:
    """Ports whose packets never reach the deploy's services."""
    keys = {port: key for key, port in settings.ports.items()}
    held = {answer.split()[0] for answer in report.all("port")}  # by a proxy of the same container
    for port in map(int, sorted({*report.all("forwarded")} - held)):
        yield (
            f"packets to port {port} are sent elsewhere by a rule of the host (DNAT), as for a port"
            " of a container or of a pod, such as k3s' Traefik: remove what has that port (k3s:"
            f" --disable=traefik), or choose another one with {keys[port]}"
        )


def _packages(report: Report) -> Iterator[str]:
    if names := report.one("dpkg").strip():
        yield (
            f"Debian packages are installed only in part ({names}): run `dpkg --configure -a` and"
            " `apt-get --fix-broken install`"
        )
    named = {*report.all("apt_release")}
    if named and named <= CODENAMES - {report.codename}:
        yield (
            f"apt's sources have packages of {', '.join(sorted(named))} only, and the host is"
            f" {report.codename}: name {report.codename} in /etc/apt/sources.list or the files of"
            " /etc/apt/sources.list.d, or finish the upgrade with `apt full-upgrade`"
        )
    for path in report.all("disc"):
        yield (
            f"{path} names a disc of the installation (cdrom:), from which apt gets no packages:"
            " take its line out, and name an archive of Debian if there is none"
        )


def proxy_cure(settings: Settings, report: Report) -> str:
    """The advice about the proxy if a server can't be reached."""
    if settings.proxy.url:
        return f"let {settings.proxy.url} (proxy_url) pass it on"
    if report.one("environment_proxy"):
        return "write the proxy that the host's /etc/environment names as proxy_url"
    return "name a proxy with proxy_url"


def _index(settings: Settings, report: Report) -> Iterator[str]:
    configured = report.all("index_of")
    files = {"pip": "/etc/pip.conf", "uv": "/etc/uv/uv.toml"}
    for answer in report.all("no_index"):
        program, server = answer.split()
        other = "uv" if program == "pip" else "pip"
        cure = f"open the way, or {proxy_cure(settings, report)}"
        if settings.build.indexes:  # uv reads none of the files then
            cure += ', or give one of build_indexes "default": True'
        elif other in configured and program not in configured:
            form = (
                "[[index]], url = …, default = true"
                if program == "uv"
                else "[global], index-url = …"
            )
            cure = (
                f"{files[other]} or a file like it names another index, which {program} does not"
                f" read: name it in {files[program]} too ({form})"
            )
        elif program not in configured:
            cure += f", or name an index of your own in {files['pip']} and {files['uv']}"
        yield f"{server} can't be reached, and {program} takes Python packages from there: {cure}"

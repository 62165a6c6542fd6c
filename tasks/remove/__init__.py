"""Remove everything that the deploy installed: `pyinfra INVENTORY tasks.remove.airflow`.

`keep_data=True` leaves the database, secrets, DAGs, logs and backups; a later deploy finds them.
Each step first looks whether something is left to do, so an interrupted removal continues when it
runs again. Its programs are sent as text: the host may have those of an earlier deploy, or none.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra import host, logger
from pyinfra.api import DeployError, deploy
from pyinfra.facts.server import Command

from tasks import layout
from tasks.cluster import access
from tasks.host import address, metrics, nginx
from tasks.layout import CONTROL_USER, DAGS_USER, DATA, MADE_AGAIN, STATE
from tasks.lib import connection, groups, lock, members, shell, terminal
from tasks.lib.operations import ensure_sent, with_arguments
from tasks.settings import GROUPS, HostSettings, Settings

_HERE = Path(__file__).parent
KUBE = "/root/.kube"  # the folder of root's kubeconfig
MINIKUBE = "/root/.minikube"  # its profiles and downloads
NODE_CONTAINER = "minikube"  # a node that is a container has the name of its profile
NODE_IMAGE_NOTE = f"{STATE}/node-image"  # the id of the image of a node that is a container
# The networks of pods that minikube's --cni makes, by their names, and the loopback of containerd.
_NETWORKS = ("bridge", "cbr0", "cilium", "cni-loopback", "k8s-pod-network", "kindnet")
# The files of Kubernetes that `minikube delete` leaves: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
NODE = [
    # Its own network, and those of its --cni. It renames others', which get their names again.
    "/etc/cni/net.d/1-k8s.conflist",
    *(f"/etc/cni/net.d/*{name}*" for name in ("calico", "cilium", "flannel", "kindnet")),
    "/etc/cni/net.d/*.mk_disabled",
    "/etc/kubernetes",
    "/opt/cni",
    MINIKUBE,
    # The names of results end with a container's id and its link.
    *(f"/var/lib/cni/networks/{name}" for name in _NETWORKS),
    *(f"/var/lib/cni/results/{name}-{'?' * 64}-*" for name in _NETWORKS),
    "/var/lib/kubelet/*",
    "/var/lib/minikube",
    "/var/log/containers",
    "/var/log/pods",
    "/var/tmp/minikube",
    "/tmp/gvisor",
    "/tmp/h.[0-9]*",  # /etc/hosts, as minikube changed it
    layout.HOSTPATH_VOLUMES,
    "/tmp/hostpath_pv",
    "/tmp/juju-mk*",
    "/tmp/minikube_*.log",
    "/usr/lib/systemd/system/kubelet.service*",
    "/usr/libexec/kubernetes",
    "/usr/share/ca-certificates/minikubeCA.pem",
    "/etc/systemd/system/kubelet.service*",
    "/etc/crictl.yaml",
    layout.CONTAINERD_PROXY,
    layout.TEMPORARY_FILES,
]
# Prints the version of the PostgreSQL cluster with Airflow's configuration.
_OWN_POSTGRES = (
    "ls -d /etc/postgresql/*/main/conf.d/airflow.conf 2>/dev/null"
    " | cut -d/ -f4 | sort -n | tail -n 1"
)
# Lines in host.env of a host that others need. A host with only the cluster has nothing that they
# would lose.
_OF_SEVERAL = "^(SEVERAL_HOSTS=|SERVES=.*database)"
# When systemd last ran each timer.
STAMPS = "/var/lib/systemd/timers/stamp-airflow-*"

# Folders with files that programs wrote and dpkg does not know, by their packages. They stay if one
# of these is left, which was there before the deploy.
LEFT_BY_PACKAGES = {
    "containerd,docker.io": [
        *("/etc/containerd", "/opt/containerd", "/run/containerd", "/var/lib/containerd"),
    ],
    "podman,buildah,skopeo,cri-o": ["/etc/containers", "/run/containers", "/var/lib/containers"],
}

# Objects that the deploy makes in the cluster beside its manifest.
OTHER_OBJECTS = [
    f"secret/{layout.PULL_SECRET}",
    f"configmap/{layout.AUTHORITY_CONFIG_MAP}",
    f"configmap/{layout.BUILTIN_DAGS_CONFIG_MAP}",
]


@deploy("Remove")
def airflow(keep_data: bool = False) -> None:
    """The host is as it was before the deploy, or has only the data.

    Files that people put into the deploy's folders are removed with them.
    """
    terminal.show_only_text()
    connection.disable_nagle()
    shell.use({})
    groups.check()
    given = groups.settings()
    _refuse_while_needed(given, keep_data)
    release = host.get_fact(Command, command=". /etc/os-release; echo $VERSION_CODENAME")
    # Not always the release's own: the version stays when Debian is upgraded.
    version = host.get_fact(Command, command=_OWN_POSTGRES)
    settings = given.for_release(release, (int(version), layout.POSTGRES_PORT) if version else None)
    # With several clusters, dropdb would otherwise choose by port.
    own = {"PGCLUSTER": settings.postgres_cluster} if version else {}
    shell.use(settings.environment | own)
    if not given.serves:
        address.remove()  # another host has it before the page stops
    if given.serves != ("database",):
        _remove_services()
    if given.database_host or given.cluster_host:
        # A host that could not stop its services still needs the hosts that serve it.
        groups.end_with_the_first_failure()
        members.in_step(name="Wait until no host of this run has Airflow's services")
    metrics.remove()
    if given.serves:
        _remove_serving(settings, keep_data)
        return
    nginx.remove()
    if settings.kubernetes.uses_minikube:
        _remove_minikube(settings)
    elif not _cluster_goes() and _is_last(settings):
        _remove_objects(settings, keep_data)
    if keep_data:
        _remove_files("the files that a deploy makes again", MADE_AGAIN)
        return
    # After a move elsewhere, the host's own PostgreSQL still has the old database.
    if settings.postgres.is_debians or version:
        _remove_database(settings)
    if settings.database_host:
        if not all(each.connected for each in groups.all_hosts()):
            logger.info(f"    The database on {settings.database_host} stays, with Airflow's data.")
    elif not settings.postgres.is_debians:
        logger.info(
            f"    The database {settings.postgres.place} stays as it is, with Airflow's data: only"
            " its admin can drop it and the roles."
        )
    _remove_files("Airflow's files", [*MADE_AGAIN, *DATA])
    ensure_sent(
        name="Remove the users and the groups",
        program=_HERE / "users.sh",
        args=[CONTROL_USER, DAGS_USER],
        already="they are gone",
    )
    _remove_packages()
    _remove_files("the deploy's state", [STATE])


def _refuse_while_needed(given: Settings, keep_data: bool) -> None:
    """Raise DeployError if a deploy of the host runs, or if other hosts need what would go."""
    if holder := host.get_fact(Command, command=lock.other_holder(lock.take())):
        raise DeployError(terminal.printable(lock.refusal(holder)))
    is_one_of_several = f"grep -sE '{_OF_SEVERAL}' {layout.HOST_ENV} || true"
    is_alone = not given.members and not given.serves
    if is_alone and host.get_fact(Command, command=is_one_of_several):
        raise DeployError(
            f"{host.name} was deployed as one of several hosts, whose objects in the cluster and"
            f" data the removal would take: use the inventory with the group {members.GROUP}, and"
            f" --limit {host.name}"
        )
    if given.members and not keep_data:
        _leave_backups(given)
    # Of a cluster there is no data to keep.
    if "cluster" in given.serves or (given.serves and not keep_data):
        _leave_no_host_alone(given)


def _leave_backups(settings: Settings) -> None:
    """Raise DeployError if the backups would go while other hosts of this Airflow stay."""
    staying = [each.name for each in members.fellows() if not each.connected]
    backups = f"find {layout.BACKUPS} -name '*.tar*' -print -quit 2>/dev/null || true"
    if len(staying) > 0 and host.get_fact(Command, command=backups):
        raise DeployError(
            f"{host.name} has the backups of this Airflow in {layout.BACKUPS}, and {staying[0]}"
            " goes on without them: move them there first, or remove with keep_data=True"
        )


def _leave_no_host_alone(settings: Settings) -> None:
    """Raise DeployError if a host of Airflow that is not in this run may need this one."""
    if away := [each.name for each in groups.airflow_hosts() if not each.connected]:
        has = " and ".join(GROUPS[group].has for group in settings.serves)
        raise DeployError(
            f"{host.name} has {has} of {', '.join(away)}, and the removal would take it from there:"
            " remove all together, or take those out of the inventory first that are gone"
        )


def _cluster_goes() -> bool:
    """Whether the cluster of the group `cluster` is removed in this run, with all that is in it."""
    there = groups.server("cluster")
    return there is not None and bool(there.connected)


def _remove_serving(settings: HostSettings, keep_data: bool) -> None:
    """A host that served others is as it was before, or has only the database."""
    if "cluster" in settings.serves:
        _remove_minikube(settings)
    if keep_data:
        _remove_files("the files that a deploy makes again", MADE_AGAIN)
        return
    if "database" in settings.serves:
        _remove_database(settings)
    _remove_files("Airflow's files", [*MADE_AGAIN, *DATA])
    _remove_packages()
    _remove_files("the deploy's state", [STATE])


def _is_last(settings: HostSettings) -> bool:
    """Whether nobody needs Airflow's objects in the cluster after this run: of several hosts, the
    first one deletes them, if all are removed."""
    if not settings.members:
        return True
    if all(each.connected for each in members.fellows()):
        return host.name == settings.members[0]
    logger.info("    Airflow's objects in the cluster stay, for the other hosts.")
    return False


def _remove_services() -> None:
    ensure_sent(
        name="Stop and remove Airflow's units",
        program=_HERE / "units.sh",
        args=[layout.UNITS_DIRECTORY, STAMPS],
        already="there are none",
    )


def _remove_minikube(settings: HostSettings) -> None:
    unit = layout.MINIKUBE_UNIT
    if engine := settings.node_engine:
        # While its container still names the image.
        ensure_sent(
            name="Record the image of the node",
            program=_HERE / "node-image.sh",
            args=["noted", NODE_IMAGE_NOTE, engine, NODE_CONTAINER, unit],
            already="it is noted, or there is no node",
        )
    ensure_sent(
        name="Delete the cluster (about 20 s)",
        program=_HERE / "cluster.sh",
        args=[unit, layout.SHIMS, layout.LOCKS, layout.DEPLOY_LOCK, layout.COMMAND_LOCK],
        already="there is none",
    )
    ensure_sent(
        name="Remove the kubeconfig that minikube made",
        program=_HERE / "unused.sh",
        args=[KUBE, f"{KUBE}/config", "kubectl", "config", "get-contexts", "-o", "name"],
        already="there is none, or it knows other clusters",
    )
    if not settings.node_is_host:
        if engine:
            _remove_node_container(engine)
        ensure_sent(
            name="Remove the downloads of minikube",
            program=_HERE / "unused.sh",
            args=[MINIKUBE, MINIKUBE, "ls", f"{MINIKUBE}/profiles"],
            already="there is none, or it knows other clusters",
        )
        return
    ensure_sent(
        name="Remove Kubernetes' files from the host",
        program=_HERE / "node-reset.sh",
        args=NODE,
        already="nothing of Kubernetes is left",
    )
    ensure_sent(  # after the pods, whose ends remove most of it
        name="Remove the network of pods",
        program=_HERE / "node-network.sh",
        args=[settings.minikube.pod_network],
        already="nothing of it is left, and other networks stay",
    )


def _remove_node_container(engine: str) -> None:
    """The engine has nothing of the node any more; other containers run on."""
    ensure_sent(
        name=f"Remove the image of the node from {engine}",
        program=_HERE / "node-image.sh",
        args=["gone", NODE_IMAGE_NOTE, engine, NODE_CONTAINER, layout.MINIKUBE_UNIT],
        already="it is gone",
    )
    # Before the folders are deleted: the mount shows the logs themselves.
    ensure_sent(
        name="Remove the mount of the logs for the node",
        program=_HERE / "node-logs.sh",
        args=[layout.NODE_LOGS_UNIT, layout.NODE_LOGS],
        already="there is none",
    )


def _remove_objects(settings: HostSettings, keep_data: bool) -> None:
    """Take Airflow's objects out of an existing cluster; claims stay with the data."""
    if keep_data:
        found: dict[str, list[str]] = {
            each: [*OTHER_OBJECTS, *access.RETIRED] for each in settings.kubernetes.namespaces
        }
        found[settings.kubernetes.control_namespace] = [*access.ENDLESS]
        for each in access.objects(settings):
            if each["kind"] not in ("Namespace", "PersistentVolumeClaim"):
                names = each["metadata"]
                found[names["namespace"]].append(f"{each['kind'].lower()}/{names['name']}")
        selected = [f"-n {namespace} {' '.join(names)}" for namespace, names in found.items()]
    else:
        # They hold all of the rest, and perhaps the rights of the account that runs this.
        namespaces = [*settings.kubernetes.namespaces, settings.kubernetes.control_namespace]
        selected = [f"namespace {' '.join(namespaces)}"]
    ensure_sent(
        name="Delete Airflow's objects in the cluster",
        program=layout.ROOT / "tasks/lib/objects.sh",
        args=[settings.kubectl, *selected],
        already="there are none",
    )


def _remove_database(settings: HostSettings) -> None:
    version = str(settings.postgres.version)
    certificate = layout.DATABASE_CERTIFICATE.replace("*", version)
    ensure_sent(
        name="Remove the database and the roles",
        program=_HERE / "database.sh",
        args=[
            f"/etc/postgresql/{version}/main",
            layout.DATABASE,
            ",".join((layout.METRICS_USER, DAGS_USER, CONTROL_USER)),
            f"pg_hba.conf{layout.ORIGINAL}",
            layout.POSTGRES_CLUSTER,
            layout.POSTGRES_DROP_IN,
            certificate if settings.database_host else "",
        ],
        already="they are gone",
    )


def _remove_packages() -> None:
    _keep_packages_of_others()
    ensure_sent(
        name="Remove buildah's parts of worker images",  # if buildah stays, others use it
        program=_HERE / "buildah.sh",
        already="there is nothing",
    )
    left = [f"{names}:{folder}" for names, them in LEFT_BY_PACKAGES.items() for folder in them]
    ensure_sent(
        name="Purge the Debian packages that came with the deploy",
        program=_HERE / "purge.sh",
        args=[layout.PACKAGES_RECORD, nginx.WELCOME_PAGE, *left],
        already="none are left",
    )


def _keep_packages_of_others() -> None:
    """Packages that came with the deploy and that others use by now stay; the run names them."""
    program = _HERE / "keep-used.sh"
    engines = []
    for engine in layout.ENGINE_PACKAGES:
        names = layout.engine_packages(engine, *layout.ENGINE_PARTS)
        engines.append(f"{engine}:{','.join(each.split('|')[0] for each in names)}")
    record, site = layout.PACKAGES_RECORD, layout.NGINX_SITE
    args = [record, "/etc/postgresql", nginx.NGINX, site, NODE_CONTAINER, *engines]
    check = with_arguments(program, ["check", *args])
    if said := host.get_fact(Command, command=f"(\n{check}) 2>&1 || true"):
        logger.info(f"    {host.name}: {said}")
    ensure_sent(
        name="Keep the packages that others use by now",
        program=program,
        args=args,
        already="nobody else uses one that came with the deploy",
    )


def _remove_files(which: str, patterns: list[str]) -> None:
    ensure_sent(
        name=f"Remove {which}",
        program=_HERE / "files.sh",
        args=patterns,
        already="they are gone",
    )

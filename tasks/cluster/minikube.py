"""minikube: the cluster that the deploy installs, as a systemd unit.

It starts while the rest of the host is set up: start() starts it, wait() waits for it.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import layout
from tasks.cluster import certificates, programs, releases
from tasks.layout import CONTAINERD_CONFIG, CONTAINERD_DEFAULTS, MINIKUBE_UNIT, SHIMS
from tasks.lib import groups, progress, whole_file
from tasks.lib.operations import ensure, run_unless
from tasks.settings import HostSettings

# Processes and threads of a pod; without a limit one task could use up the host's.
POD_MAX_PIDS = 4096
# Memory for the host's own programs: pods together get the rest. When memory is short, Linux ends a
# pod whose requests equal its limits only after PostgreSQL and Airflow.
RESERVED = "memory=2Gi"
DISKS = ("nodefs", "imagefs")  # of volumes and logs, and of images and containers
# Free disk and inodes; with less, the node stops pods, so that PostgreSQL has some. minikube
# switches this off by default. It copies the value into kubelet's unit, where %% means %. The
# inodes need a percentage: btrfs has 0 of 0 free inodes, which is less than any number, but not
# less than 5%.
FREE = {"available": "1Gi", "inodesFree": "5%%"}
EVICTION = ",".join(f"{disk}.{what}<{least}" for what, least in FREE.items() for disk in DISKS)
# Options of kube-proxy that name the addresses where it serves figures and its health.
PROXY_PORTS = {"metricsBindAddress": 10249, "healthzBindAddress": 10256}
# The name of an image for the node that the deploy loads; others have a registry.
NODE_REPOSITORY = "localhost/minikube-node"
DASHBOARD_PORT = 9090  # on the host and on your machine


def install_kubectl(settings: HostSettings) -> None:
    """kubectl in the cluster's version."""
    _install(programs.kubectl(settings, settings.architecture))


def _install(program: programs.Program) -> None:
    ensure(
        name=f"Install {program.name}",
        program="download.sh",
        args=[
            f"/usr/local/bin/{program.name}",
            program.url,
            program.sha256,
            *([program.name] if program.is_archive else []),
        ],
        already="it has the right checksum",
    )


@deploy("minikube")
def start(settings: HostSettings) -> None:
    """minikube is installed and starting."""
    install_kubectl(settings)
    if settings.offline.dir:
        _keep_verified(settings.offline.dir)
    if not settings.kubernetes.uses_minikube:
        _use_existing(settings)
        return
    _install(programs.minikube(settings, settings.architecture))
    if settings.node_is_host:
        _prepare_node(settings)
    if settings.node_engine:
        _share_logs()
    if settings.offline.dir:
        _place_offline_files(settings, settings.offline.dir)
    whole_file.template(
        name="Write minikube.service",
        src=f"files{MINIKUBE_UNIT}.j2",
        dest=MINIKUBE_UNIT,
        mode="644",
        accept=[layout.ACCEPT, "unit"],
        settings=settings,
        program=layout.START_MINIKUBE,
        watch=layout.WATCH_NODE,
        versions=releases.way(settings),
        stand_ins=SHIMS,
        pod_max_pids=POD_MAX_PIDS,
        eviction=EVICTION,
        mount=layout.NODE_MOUNT,
        temporary=layout.TEMPORARY,
        mounted=[layout.DAGS, layout.PLUGINS, layout.NODE_LOGS],
        image=node_image(settings),
        reserved=RESERVED,
        proxy_ports=PROXY_PORTS,
        folder=str(PurePosixPath(layout.KUBEADM_CONFIG).parent),
        quote=_quote,
    )
    ensure(
        name="Start minikube in the background",
        program="cluster.sh",
        args=["begin"],
        already="minikube is started and enabled",
    )


def _use_existing(settings: HostSettings) -> None:
    """The host knows the cluster, which has a node for the worker image."""
    if settings.cluster_host:
        groups.copied_file(
            name="Copy the kubeconfig of the cluster",
            group="cluster",
            part="kubeconfig",
            path=layout.CLUSTER_KUBECONFIG,
            user="root",
            mode="600",
        )
    if settings.worker.image is None:
        # Preflight asks too, but a bare host has no kubectl.
        ensure(
            name="Look for a node that can run the worker image",
            program="cluster-nodes.sh",
            args=[settings.architecture],
            already="there is one, or the cluster does not tell",
        )


def _prepare_node(settings: HostSettings) -> None:
    """The host is as the driver none expects it: https://minikube.sigs.k8s.io/docs/drivers/none/"""
    _install(programs.crictl(settings, settings.architecture))
    files.link(
        name="Link /opt/cni/bin to Debian's CNI plugins",
        path="/opt/cni/bin",
        target="/usr/lib/cni",
    )
    files.link(
        name="Give minikube a stand-in for docker",
        path=f"{SHIMS}/docker",
        target="/bin/false",
    )
    whole_file.put(
        name="Keep minikube's files from the clean-up of temporary ones",
        src=f"files{layout.TEMPORARY_FILES}",
        dest=layout.TEMPORARY_FILES,
        mode="644",
    )
    volumes = layout.HOSTPATH_VOLUMES
    folder, of_root = PurePosixPath(volumes).parent, r"\( -type d -uid 0 \)"
    only = "-ignore_readdir_race -maxdepth 1"  # other files of the folder come and go
    run_unless(
        name="Create the folder of minikube's volumes",
        test=f'test "$(stat -c "%u %F %a" {volumes})" = "0 directory 755"',
        commands=[
            # Another user who made it may have left links in it, which pods would mount.
            f"find {folder} {only} -path {volumes} ! {of_root} -exec rm -rf {{}} +",
            f"systemd-tmpfiles --create {layout.TEMPORARY_FILES}",
        ],
        already="it is there and root's",
    )
    ensure(
        name="Write containerd's configuration",
        program="containerd.sh",
        args=["config", CONTAINERD_CONFIG, CONTAINERD_DEFAULTS],
        already="containerd's configuration has the keys that minikube edits",
    )
    ensure(
        name="Give containerd the proxy",
        program="containerd.sh",
        args=["proxy", layout.CONTAINERD_PROXY],
        already="it runs with the proxy, or without one, as it should",
    )


def _share_logs() -> None:
    """The folder that the node sees has the logs; minikube's unit needs it mounted."""
    whole_file.put(
        name="Write the mount of the logs for the node",
        src=f"files{layout.NODE_LOGS_UNIT}",
        dest=layout.NODE_LOGS_UNIT,
        mode="644",
    )


def node_image(settings: HostSettings) -> str | None:
    """The image of a node that is a container, if the offline folder has it."""
    if settings.node_engine and settings.offline.dir:
        return f"{NODE_REPOSITORY}:{settings.minikube.version}"
    return None


def _keep_verified(offline_dir: str) -> None:
    """The next preflight verifies the offline folder again only if it changed."""
    look = f"cd {offline_dir} && {programs.OFFLINE_LOOK}"
    run_unless(
        name="Record that the offline folder is verified",
        test=f"{look} | cmp -s - {layout.OFFLINE_STAMP}",
        commands=[f"{look} > {layout.OFFLINE_STAMP}"],
        already="it is as it was when it was verified",
    )


def _place_offline_files(settings: HostSettings, offline_dir: str) -> None:
    """minikube finds Kubernetes' programs and images, so it downloads none."""
    ensure(
        name="Place Kubernetes' programs in minikube's cache",
        program="offline-files.sh",
        args=[offline_dir, settings.kubernetes.version],
        already="minikube's cache has them",
    )
    if not settings.node_is_host:
        ensure(
            name="Place Kubernetes' images in minikube's cache",
            program="offline-images.py",
            args=[offline_dir],
            already="minikube's cache has them",
        )
        if image := node_image(settings):
            _load_node_image(settings, f"{offline_dir}/{programs.NODE_IMAGE}", image)
        return
    run_unless(
        name="Import Kubernetes' images (about 15 s)",
        test="ctr -n k8s.io images ls -q"
        f" | grep -qx registry.k8s.io/kube-apiserver:v{settings.kubernetes.version}",
        commands=[f"ctr -n k8s.io images import {offline_dir}/images.tar >/dev/null"],
        already="containerd has them",
    )


def _load_node_image(settings: HostSettings, archive: str, image: str) -> None:
    engine = settings.node_engine or ""
    ensure(
        name=f"Load the node's image into {engine} (about 20 s)",
        program="offline-node.sh",
        args=[engine, archive, image],
        already="it has the image",
    )


@deploy("minikube")
def wait(settings: HostSettings) -> None:
    """minikube runs as the settings say, in their version, and answers."""
    if not settings.kubernetes.uses_minikube:
        return
    ensure(
        name="Wait for minikube (1 to 2 minutes the first time)",
        program="cluster.sh",
        args=["run"],
        already="minikube runs and answers",
    )
    certificates.renew()
    if settings.minikube.addons:
        _enable_addons(settings.minikube.addons)


def _enable_addons(addons: list[str]) -> None:
    ensure(
        name="Enable minikube's addons (about 10 s)",
        program="cluster-addons.py",
        args=addons,
        already="they are enabled",
    )
    if "dashboard" in addons:
        progress.print_at_end(
            "The dashboard of Kubernetes listens only in the cluster. On the host, root makes it"
            f" reachable at http://127.0.0.1:{DASHBOARD_PORT} with\n"
            "    kubectl -n kubernetes-dashboard port-forward service/kubernetes-dashboard"
            f" {DASHBOARD_PORT}:80\n"
            f"    and ssh -L {DASHBOARD_PORT}:127.0.0.1:{DASHBOARD_PORT} brings it to your"
            " machine.",
            only_on_success=True,
        )


def _quote(argument: str) -> str:
    """An argument on a unit's command line: systemd.service(5), section “Command lines”."""
    for character in '\\"':
        argument = argument.replace(character, "\\" + character)
    return '"' + argument.replace("%", "%%").replace("$", "$$") + '"'

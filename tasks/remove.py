"""Take away what the deploy brought, in order: `pyinfra INVENTORY tasks.remove.airflow`.

`keep_data=True` leaves what can't be made again: database, secrets, DAGs, logs and backups; a later
deploy finds them. Each step looks whether there is something left to do, so that a removal which
was interrupted goes on when it is run again.
"""

from __future__ import annotations

import shlex

import yaml
from pyinfra import host
from pyinfra.api import DeployError, deploy

from tasks import layout
from tasks.cluster import access
from tasks.host import metrics, proxy
from tasks.layout import CONTROL_USER, DAGS_USER, HOMES, STATE, VENVS
from tasks.lib import connection, kubectl, lock
from tasks.lib.operations import INSTALLED, Output, settled
from tasks.settings import HostSettings, Settings

# What nothing is lost with, since a deploy makes it anew.
KUBECTL = "/usr/local/bin/kubectl"
PROGRAMS = [
    "/usr/local/bin/airflow*",
    "/usr/local/bin/crictl*",
    KUBECTL,
    "/usr/local/bin/minikube",
    "/usr/local/lib/airflow",
    "/usr/local/lib/minikube",
]
MADE_ANEW = [
    *PROGRAMS,
    VENVS,
    layout.VENV,
    layout.UV,
    layout.REQUIREMENTS,
    layout.IMAGES,
    layout.IMAGE_DAGS,
    layout.BUILTIN_DAGS,
    "/etc/airflow/*.*",
    layout.KUBECONFIG,
    layout.TRIGGERERS_KUBECONFIG,
    layout.STARTED_WITH,
]
DATA = [
    "/opt/airflow",
    "/etc/airflow",
    *HOMES.values(),
    layout.LOGS,
    layout.BACKUPS,
]
MINIKUBE = "/root/.minikube"  # its profiles, and what it downloaded
# Kubernetes on the host, as `minikube delete` leaves it: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
NODE = [
    "/etc/cni/net.d/*",
    "/etc/kubernetes",
    "/opt/cni",
    MINIKUBE,
    "/var/lib/cni",
    "/var/lib/kubelet/*",
    "/var/lib/minikube",
    "/var/log/containers",
    "/var/log/pods",
    "/var/tmp/minikube",
    "/tmp/gvisor",
    "/tmp/h.[0-9]*",  # /etc/hosts, as minikube changed it
    "/tmp/hostpath-provisioner",
    "/tmp/hostpath_pv",
    "/tmp/juju-mk*",
    "/tmp/minikube_*.log",
    "/usr/lib/systemd/system/kubelet.service*",
    "/usr/libexec/kubernetes",
    "/usr/share/ca-certificates/minikubeCA.pem",
    "/etc/systemd/system/kubelet.service*",
    "/etc/crictl.yaml",
]
# The names that minikube gives to addresses of the host.
NAMES = "[[:space:]][a-z-]*\\.minikube\\.internal$"
# When systemd last ran each timer.
STAMPS = "/var/lib/systemd/timers/stamp-airflow-*"


# What programs wrote, and their packages do not know of.
LEFT_BY_PACKAGES = [
    "/etc/containerd",
    "/etc/containers",
    "/opt/containerd",
    "/run/containerd",
    "/run/containers",
    "/var/lib/containerd",
    "/var/lib/containers",
]

# What the deploy makes in the cluster beside its manifest.
OTHER_OBJECTS = [
    f"secret/{layout.PULL_SECRET}",
    f"configmap/{layout.AUTHORITY_CONFIG_MAP}",
    f"configmap/{layout.BUILTIN_DAGS_CONFIG_MAP}",
]


@deploy("Remove")
def airflow(keep_data: bool = False) -> None:
    """The host is as it was before the deploy, or has just the data.

    What people put into the deploy's folders goes with them.
    """
    connection.disable_nagle()
    given = Settings.from_data(host.data.dict())
    if holder := host.get_fact(Output, script=lock.other_holder(lock.take())):
        raise DeployError(lock.refusal(holder))
    release = host.get_fact(Output, script=". /etc/os-release; echo $VERSION_CODENAME")
    settings = given.for_release(release)
    _remove_services()
    metrics.remove()
    proxy.remove()
    if settings.kubernetes.uses_minikube:
        _remove_minikube(settings)
    else:
        _remove_objects(settings, keep_data)
    if keep_data:
        _remove_files("what a deploy makes anew", MADE_ANEW)
        return
    _remove_database(settings)
    _remove_files("Airflow's files", [*PROGRAMS, *DATA, layout.STARTED_WITH])
    # The groups go last: a user who has one for his own would keep it.
    kinds = {"passwd": "userdel", "group": "groupdel"}
    every = [(kind, name) for kind in kinds for name in (CONTROL_USER, DAGS_USER)]
    settled(
        name="Remove the users and the groups",
        test=" && ".join(f"! getent {kind} {name}" for kind, name in every),
        commands=[
            f"if getent {kind} {name} >/dev/null; then {kinds[kind]} {name}; fi"
            for kind, name in every
        ],
        because="they are gone",
    )
    _remove_packages(settings)
    _remove_files("what the deploy remembers", [STATE])


def _remove_services() -> None:
    units = f"{layout.UNITS_DIRECTORY}/airflow*"
    settled(
        name="Stop and remove Airflow's units",
        test=_gone([units]),
        commands=[
            "systemctl stop airflow.target 'airflow-*.timer' 'airflow-*.service'",
            f"for unit in $(cd {layout.UNITS_DIRECTORY} && ls -d airflow*.timer airflow*.service"
            " airflow.target 2>/dev/null); do"
            " test -L /etc/systemd/system/$unit || systemctl disable --quiet $unit; done",
            f"rm -rf {units} {STAMPS}; systemctl daemon-reload;"
            " systemctl reset-failed 'airflow*' || true",
        ],
        because="there are none",
    )


def _remove_minikube(settings: HostSettings) -> None:
    unit = f"{layout.UNITS_DIRECTORY}/minikube.service"
    settled(
        name="Delete the cluster (about 20 s)",
        test=f"! test -e {unit}",
        commands=[
            f"PATH=$PATH:{layout.SHIMS} HOME=/root minikube delete >/dev/null",
            f"systemctl disable --quiet --now minikube; rm -f {unit}; systemctl daemon-reload",
        ],
        because="there is none",
    )
    settled(
        name="Remove the kubeconfig that minikube made",
        test="! test -e /root/.kube/config || kubectl config get-contexts -o name | grep -q .",
        commands=[_rm(["/root/.kube"])],
        because="there is none, or it knows other clusters",
    )
    if not settings.node_is_host:
        settled(
            name="Remove what minikube downloaded",
            test=f"! test -e {MINIKUBE} || ls {MINIKUBE}/profiles 2>/dev/null | grep -q .",
            commands=[_rm([MINIKUBE])],
            because="there is none, or it knows other clusters",
        )
        return
    # The rules that kube-proxy and the network plugin made.
    clean = " ".join(
        f"{tool}-save | grep -vE 'KUBE-|CNI-' | {tool}-restore;"
        for tool in ("iptables", "ip6tables")
    )
    images = "ctr -n k8s.io images ls -q"
    settled(
        name="Clean the node",
        test=f"{_gone(NODE)} && ! grep '{NAMES}' /etc/hosts"
        " && ! iptables-save | grep -E 'KUBE-|CNI-'",
        commands=[
            "systemctl stop kubelet 2>/dev/null; systemctl disable --quiet kubelet 2>/dev/null;"
            " crictl pods -q 2>/dev/null | xargs -r crictl rmp --force >/dev/null;"
            f" {images} 2>/dev/null | xargs -r ctr -n k8s.io images rm >/dev/null; true",
            f"{clean} for link in bridge cni0; do ip link delete $link 2>/dev/null; done; true",
            "findmnt -Rno TARGET -R /var/lib/kubelet 2>/dev/null | tail -n +2 | tac"
            " | xargs -r umount 2>/dev/null; true",
            # Where / is not shared between namespaces, kubelet mounts its folder over itself.
            "case $(findmnt -no FSROOT /var/lib/kubelet) in */var/lib/kubelet)"
            " umount /var/lib/kubelet ;; esac",
            "find /etc/ssl/certs -lname '*/minikubeCA.pem' -delete",
            f"sed -i '/{NAMES}/d' /etc/hosts",
            _rm(NODE),
            "rmdir /var/lib/kubelet 2>/dev/null; true",
            "systemctl daemon-reload",
        ],
        because="nothing of Kubernetes is left",
    )


def _remove_objects(settings: HostSettings, keep_data: bool) -> None:
    """Take Airflow's objects out of an existing cluster; claims stay with the data."""
    if keep_data:
        objects = [
            each
            for each in yaml.safe_load_all(kubectl.render(access.MANIFEST, settings))
            if each and each["kind"] not in ("Namespace", "PersistentVolumeClaim")
        ]
        manifest = f"printf %s {shlex.quote(yaml.safe_dump_all(objects))} |"
        selected = [(manifest, "-f -")] + [
            ("", f"-n {namespace} {' '.join(OTHER_OBJECTS)}")
            for namespace in settings.kubernetes.namespaces
        ]
    else:
        # All of the rest is in them, and so may be the rights of who runs this.
        selected = [("", f"namespace {' '.join(settings.kubernetes.namespaces)}")]
    gets, deletes = (
        [f"{source} {settings.kubectl} {verb} {which}" for source, which in selected]
        for verb in ("get --ignore-not-found -o name", "delete --ignore-not-found")
    )
    none_left = " && ".join(f'found=$({get}) && test -z "$found"' for get in gets)
    settled(
        name="Delete Airflow's objects in the cluster",
        # The client goes after them: without it there are none. A cluster that does not answer is
        # an error.
        test=f"! test -e {KUBECTL} || {{ {none_left}; }}",
        commands=[f"{delete} >/dev/null" for delete in deletes],
        because="there are none",
    )


def _remove_database(settings: HostSettings) -> None:
    config = f"/etc/postgresql/{settings.postgres.version}/main"
    settled(
        name="Remove the database and the roles",
        test=f"! test -e {config}/conf.d/airflow.conf",
        commands=[
            *(
                f"runuser -u postgres -- dropdb --if-exists --force {layout.DATABASE}{suffix}"
                for suffix in ("", "_new", "_old")
            ),
            *(
                f"runuser -u postgres -- dropuser --if-exists {role}"
                for role in (DAGS_USER, CONTROL_USER)
            ),
            f"test ! -e {config}/pg_hba.conf{layout.ORIGINAL} ||"
            f" mv {config}/pg_hba.conf{layout.ORIGINAL} {config}/pg_hba.conf",
            f"rm {config}/conf.d/airflow.conf",
            f"systemctl restart postgresql@{settings.postgres.version}-main",
        ],
        because="they are gone",
    )


def _remove_packages(settings: HostSettings) -> None:
    record = layout.PACKAGES_RECORD
    packages = f"$({INSTALLED} | comm -12 - {record}.sorted)"
    apt = f"DEBIAN_FRONTEND=noninteractive apt-get -qq purge --yes {packages}"
    settled(
        name="Purge the Debian packages that came with the deploy",
        test=f"! test -e {record}",
        commands=[
            f"sort -u {record} > {record}.sorted",
            f"more=$({apt} --simulate | awk '/^(Purg|Remv)/ {{print $2}}' | sort -u"
            f" | comm -23 - {record}.sorted);"
            ' test -z "$more" || { echo "other packages need some of those that came with the'
            ' deploy, remove them first:" $more >&2; exit 1; }',
            f"{apt} >/dev/null",
            f"for folder in {' '.join(LEFT_BY_PACKAGES)}; do test -e $folder || continue;"
            " find $folder -mindepth 1 -delete; rmdir $folder 2>/dev/null; done; true",
            # These may be somebody's.
            "rmdir /etc/cni/net.d /etc/cni /etc/postgresql /var/lib/postgresql 2>/dev/null; true",
            f"test -e /usr/sbin/nginx || {{ rm -f {proxy.WELCOME_PAGE};"
            f" rmdir -p $(dirname {proxy.WELCOME_PAGE}) 2>/dev/null; }}; true",
            f"rm {record} {record}.sorted",
        ],
        because="none are left",
    )


def _remove_files(what: str, patterns: list[str]) -> None:
    settled(
        name=f"Remove {what}",
        test=_gone(patterns),
        commands=[_rm(patterns)],
        because="they are gone",
    )


def _gone(patterns: list[str]) -> str:
    """Shell test whether there are no such files."""
    return f'test -z "$(ls -d {" ".join(patterns)} 2>/dev/null)"'


def _rm(patterns: list[str]) -> str:
    # Mount points stay, emptied.
    return f"rm -rf {' '.join(patterns)} 2>/dev/null; true"

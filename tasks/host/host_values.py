"""The values of this host that the programs in files/usr/local read: /etc/airflow/host.env."""

from __future__ import annotations

from collections.abc import Collection
from io import StringIO
from pathlib import PurePosixPath

from tasks import layout
from tasks.host import database, tls
from tasks.layout import CONTROL_USER, DAGS_USER, HOST_ENV, ROOT
from tasks.lib import whole_file
from tasks.lib.operations import synced_folder
from tasks.lib.shell import assignments
from tasks.settings import HostSettings

# Paths and names that the programs know by the same name as layout.py.
FROM_LAYOUT = """
API_SERVER_MANIFEST AUTHORITY_CONFIG_MAP BACKUPS BACKUP_KEY BACKUP_PENDING BUNDLES CONFIG
CONTROL_USER DAGS DAGS_ENV DAGS_ENV_CANDIDATE DEPLOY_LOCK EXTRA_LOCK GIT_CONNECTIONS
HOST_AUTHORITIES IMAGES IMAGE_DAGS IMAGE_PLUGINS JWT_DROP_IN JWT_KEYS KUBEADM_CONFIG
KUBELET_CERTIFICATE KUBELET_KUBECONFIG KUBERNETES_OBJECTS KUBERNETES_UNWANTED MIGRATED
MINIKUBE_CERTIFICATES MINIKUBE_PROFILE MINIKUBE_UNIT PACKAGE_LOGINS PLUGINS PODS_AUTHORITY
POD_CANDIDATE POD_POLICY POD_POLICY_REFUSED POD_TEMPLATE POSTGRES_CLUSTER REGISTRY_LOGIN
RENEWAL_KUBECONFIG REQUIREMENTS RESTORE_MARK RUN SECRETS SMOKE_TEST_PASSED SMOKE_TEST_PASSWORD
SMOKE_TEST_USER STARTED_WITH START_TASK STATE TEMPORARY TOKEN_MARK TRIAL_POD UNITS_RECORD USERS
USER_PASSWORDS UV VENV VENVS WORKER_DIGESTS WORKER_REPOSITORIES
"""
# The same, of lists.
LISTS_FROM_LAYOUT = "DISKS MADE_SECRETS SMOKE_TEST_INPUTS UNITS"


def values(settings: HostSettings) -> dict[str, str]:
    """Each value by its name. None of them is secret: units of both users read the file."""
    return {
        **{name: getattr(layout, name) for name in FROM_LAYOUT.split()},
        **{name: " ".join(getattr(layout, name)) for name in LISTS_FROM_LAYOUT.split()},
        **_of_host(settings),
        **_of_database(settings),
        **_of_cluster(settings),
        **_of_backups(settings),
        **_of_retention(settings),
        **_of_packages(settings),
        **_of_image(settings),
        **_of_smoke_test(settings),
        **(_of_several(settings) if settings.members else {}),
        **(_of_serving(settings) if settings.serves else {}),
    }


def _of_host(settings: HostSettings) -> dict[str, str]:
    return {
        "ADMIN_USER": settings.web.admin_user,
        "AIRFLOW_UID": str(settings.airflow.uid),
        "CERTIFICATE_NAMES": " ".join(tls.names(settings)),
        "HOMES": str(PurePosixPath(layout.HOMES[CONTROL_USER]).parent),
        "OFFLINE_DIR": settings.offline.dir or "",
        "PROXY_EXCEPTIONS": settings.proxy_environment().get("no_proxy", ""),
        "PROXY_URL": settings.proxy.url or "",
        "WEB_CERTIFICATES": " ".join(sorted({layout.CERTIFICATE, tls.of_page(settings)})),
        "WEB_URL": settings.web.local_url,
    }


def _of_database(settings: HostSettings) -> dict[str, str]:
    # The exporter only asks a PostgreSQL that the deploy runs.
    has_exporter = settings.postgres.is_debians or settings.database_host
    return {
        "DAGS_CONNECTION": database.words(database.variables(settings, DAGS_USER)),
        "DAGS_ROLE": database.role(settings, DAGS_USER),
        "DAGS_URLS": database.words(database.urls_of_dags(settings)),
        "DATABASE": database.name(settings),
        "DATABASE_HELP": database.cure(settings),
        "DATABASE_PORT": str(settings.postgres_port),
        "METRICS_ROLE": layout.METRICS_USER if has_exporter else "",
        "OWNER_CONNECTION": database.words(database.variables(settings, CONTROL_USER)),
        "PGCLUSTER": settings.postgres_cluster if settings.postgres.is_debians else "",
    }


def _of_cluster(settings: HostSettings) -> dict[str, str]:
    kubernetes = settings.kubernetes
    # A command that runs another one in the node; none for a node that is a virtual machine.
    in_node = "env" if settings.node_is_host else ""
    if settings.node_engine:
        in_node = f"{settings.node_engine} exec -i minikube"
    certificates = layout.CLUSTER_CERTIFICATES if settings.node_sees_folders else ()
    accounts = (
        f"{account} {path} {group}" for account, (path, group) in kubernetes.accounts.items()
    )
    return {
        "CLUSTER_ACCOUNTS": " ".join(accounts),
        "CLUSTER_CERTIFICATES": " ".join(certificates),
        "CONTROL_KUBECONFIG": layout.KUBECONFIG,
        "CONTROL_NAMESPACE": kubernetes.control_namespace,
        "IN_NODE": in_node,
        "KUBEADM": f"/var/lib/minikube/binaries/v{kubernetes.version}/kubeadm",
        "KUBECTL": settings.kubectl,
        "KUBERNETES_VERSION": kubernetes.version,
        "NAMESPACE": kubernetes.namespace,
        "NAMESPACES": " ".join(kubernetes.namespaces),
        "NODE_IS_HOST": "yes" if settings.node_is_host else "",
        "TRIGGERER_KUBECONFIG": layout.TRIGGERERS_KUBECONFIG,
    }


def _of_backups(settings: HostSettings) -> dict[str, str]:
    return {
        "BACKED_UP": " ".join(path.lstrip("/") for path in layout.BACKED_UP),
        "BACKUP_RECIPIENT": settings.retention.backup_recipient or "",
        # At least one, so that an admin's own backup is not deleted at once.
        "BACKUPS_KEPT": str(max(settings.retention.backups, 1)),
        # Of those made before an upgrade, a restore or a rollback.
        "BACKUPS_KEPT_BEFORE": str(layout.BACKUPS_KEPT_BEFORE),
        "NOT_BACKED_UP": " ".join(path.lstrip("/") for path in layout.NOT_BACKED_UP),
    }


def _of_retention(settings: HostSettings) -> dict[str, str]:
    return {
        "FAILED_PODS_MINUTES": str(settings.retention.failed_pod_minutes),
        "HISTORY_DAYS": str(settings.retention.history_days),
        "LOG_CLAIMS": " ".join(settings.written_folders),
        "LOG_DAYS": str(settings.retention.log_days),
        "LOG_FOLDERS": f"{layout.LOGS} {layout.DAG_PROCESSOR_LOGS}",
        "WORKER_IMAGES_KEPT": str(settings.retention.worker_images),
    }


def _of_packages(settings: HostSettings) -> dict[str, str]:
    """For uv and pip. If a value is empty, they use their own."""
    return {
        "BUILDS_PACKAGES": "yes" if settings.build.apt_packages else "",
        "DEFAULT_INDEX": settings.build.default_index,
        "PACKAGE_AUTHORITY": layout.PACKAGE_AUTHORITY if settings.build.ca_certificate else "",
        "PACKAGE_INDEXES": layout.PACKAGE_INDEXES if settings.build.indexes else "",
    }


def _of_image(settings: HostSettings) -> dict[str, str]:
    registry = settings.worker.registry
    return {
        "PULL_SECRET": layout.PULL_SECRET if settings.worker.pulls_with_login else "",
        "REGISTRY_USER": (registry.username or "") if registry else "",
        "WORKER_PACKAGES": ",".join(settings.worker.extra_apt_packages),
        "WORKER_REGISTRY": registry.host if registry else "",
        "WORKER_REPOSITORY": registry.repository if registry else layout.LOCAL_REPOSITORY,
    }


def _of_smoke_test(settings: HostSettings) -> dict[str, str]:
    return {
        "SMOKE_TEST": "yes" if settings.airflow.smoke_test else "",
        "SMOKE_TEST_BUNDLE": "dags-folder" if settings.dags.source == "host" else "deploy",
        "SMOKE_TEST_LOG": _log_place(settings),
    }


def _of_serving(settings: HostSettings) -> dict[str, str]:
    """More values of a host that has the database or the cluster of others."""
    found = {"SERVES": " ".join(settings.serves)}
    if "database" not in settings.serves:
        return found
    return {
        **found,
        "DATABASE_LOGINS": " ".join(layout.DATABASE_LOGINS.values()),
        "DATABASE_SERVER_AUTHORITY": layout.PODS_AUTHORITY,
    }


def _of_several(settings: HostSettings) -> dict[str, str]:
    """More values if several hosts are one Airflow: the role of this host, and the shared files."""
    return {
        "SEVERAL_HOSTS": "first" if settings.is_first else "other",
        "ADDRESS_UNIT": layout.ADDRESS_UNIT if settings.web.virtual_address else "",
        "SHARED_SECRETS": " ".join(layout.SHARED_SECRETS),
        "SHARED_AUTHORITY": " ".join(layout.SHARED_AUTHORITY),
        "SHARED_USERS": " ".join(layout.SHARED_USERS),
    }


def _log_place(settings: HostSettings) -> str:
    """Where a person finds the logs of tasks, in words."""
    if store := settings.logs.s3:
        return f"{store.folder}, with the connection {store.connection}"
    if claim := settings.logs.claim:
        return f"{claim.host_path}, where the host should see the claim {claim.name}"
    return f"{layout.LOGS}; a node that is another machine must share it"


def render(settings: HostSettings) -> str:
    """The file, as sh and Python's shlex read it."""
    first = "# The deploy writes this file; the programs in /usr/local read it.\n"
    return first + assignments(values(settings))


def install(settings: HostSettings, some: Collection[str] | None = None) -> None:
    """The host has the values that the deploy's programs read, and the programs, or some of them
    by their names."""
    whole_file.put(
        name=f"Write {HOST_ENV}",
        src=StringIO(render(settings)),
        dest=HOST_ENV,
        mode="644",
    )
    # After their values, so that a program that a timer starts meanwhile finds them.
    top = ROOT / "files/usr/local"
    synced_folder(
        name="Install the deploy's programs",
        sources={
            str(path.relative_to(top)): path
            for path in sorted(top.rglob("*"))
            if path.is_file() and path.suffix != ".j2" and "__pycache__" not in path.parts
            if some is None or path.name in some
        },
        dest="/usr/local",
        record=layout.PROGRAMS_RECORD,
    )

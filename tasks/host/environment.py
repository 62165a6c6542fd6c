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


def values(settings: HostSettings) -> dict[str, str]:
    """Each value by its name. None of them is secret: units of both users read the file."""
    registry = settings.worker.registry
    return {
        "PGCLUSTER": settings.postgres_cluster if settings.postgres.is_debians else "",
        "PROXY_URL": settings.proxy.url or "",
        "PROXY_EXCEPTIONS": settings.proxy_environment().get("no_proxy", ""),
        "STATE": layout.STATE,
        "TEMPORARY": layout.TEMPORARY,
        "SECRETS": layout.SECRETS,
        "KUBECTL": settings.kubectl,
        "NAMESPACE": settings.kubernetes.namespace,
        "CONTROL_NAMESPACE": settings.kubernetes.control_namespace,
        "KUBEADM": f"/var/lib/minikube/binaries/v{settings.kubernetes.version}/kubeadm",
        "KUBEADM_CONFIG": layout.KUBEADM_CONFIG,
        "CLUSTER_CERTIFICATES": (
            " ".join(layout.CLUSTER_CERTIFICATES) if settings.node_sees_folders else ""
        ),
        "KUBELET_CERTIFICATE": layout.KUBELET_CERTIFICATE,
        "KUBELET_KUBECONFIG": layout.KUBELET_KUBECONFIG,
        "MINIKUBE_CERTIFICATES": layout.MINIKUBE_CERTIFICATES,
        "WEB_CERTIFICATES": " ".join(sorted({layout.CERTIFICATE, tls.of_page(settings)})),
        "KUBERNETES_VERSION": settings.kubernetes.version,
        "OFFLINE_DIR": settings.offline.dir or "",
        "REQUIREMENTS": layout.REQUIREMENTS,
        "MINIKUBE_UNIT": layout.MINIKUBE_UNIT,
        "MINIKUBE_PROFILE": layout.MINIKUBE_PROFILE,
        "API_SERVER_MANIFEST": layout.API_SERVER_MANIFEST,
        "NODE_IS_HOST": "yes" if settings.node_is_host else "",
        # A command that runs another one in the node; none for a node that is a virtual machine.
        "IN_NODE": (
            f"{settings.node_engine} exec -i minikube"
            if settings.node_engine
            else "env"
            if settings.node_is_host
            else ""
        ),
        "DEPLOY_LOCK": layout.DEPLOY_LOCK,
        # Airflow.
        "ADMIN_USER": settings.web.admin_user,
        "DATABASE": database.name(settings),
        "DATABASE_HELP": database.cure(settings),
        "DATABASE_PORT": str(settings.postgres_port),
        "OWNER_CONNECTION": database.words(database.variables(settings, CONTROL_USER)),
        "DAGS_CONNECTION": database.words(database.variables(settings, DAGS_USER)),
        "DAGS_ROLE": database.role(settings, DAGS_USER),
        "DAGS_URLS": database.words(database.urls_of_dags(settings)),
        # Of the exporter, which only asks a PostgreSQL that the deploy runs.
        "METRICS_ROLE": (
            layout.METRICS_USER if settings.postgres.is_debians or settings.database_host else ""
        ),
        "DISKS": " ".join(layout.DISKS),
        "MIGRATED": layout.MIGRATED,
        "POD_TEMPLATE": layout.POD_TEMPLATE,
        "STARTED_WITH": layout.STARTED_WITH,
        "UNITS": " ".join(layout.UNITS),
        "VENV": layout.VENV,
        "VENVS": layout.VENVS,
        "WEB_URL": settings.web.local_url,
        # Backups.
        "BACKED_UP": " ".join(path.lstrip("/") for path in layout.BACKED_UP),
        "RESTORE_MARK": layout.RESTORE_MARK,
        "NOT_BACKED_UP": " ".join(path.lstrip("/") for path in layout.NOT_BACKED_UP),
        "BACKUPS": layout.BACKUPS,
        "BACKUP_KEY": layout.BACKUP_KEY,
        "BACKUP_PENDING": layout.BACKUP_PENDING,
        "BACKUP_RECIPIENT": settings.retention.backup_recipient or "",
        # At least one, so that an admin's own backup is not deleted at once.
        "BACKUPS_KEPT": str(max(settings.retention.backups, 1)),
        # Of those made before an upgrade, a restore or a rollback.
        "BACKUPS_KEPT_BEFORE": str(layout.BACKUPS_KEPT_BEFORE),
        # Keys and tokens: only their places.
        "CLUSTER_ACCOUNTS": " ".join(
            f"{account} {path} {group}"
            for account, (path, group) in settings.kubernetes.accounts.items()
        ),
        "CONTROL_KUBECONFIG": layout.KUBECONFIG,
        "JWT_DROP_IN": layout.JWT_DROP_IN,
        "JWT_KEYS": layout.JWT_KEYS,
        "MADE_SECRETS": " ".join(layout.MADE_SECRETS),
        "RENEWAL_KUBECONFIG": layout.RENEWAL_KUBECONFIG,
        "TOKEN_MARK": layout.TOKEN_MARK,
        "USERS": layout.USERS,
        "USER_PASSWORDS": layout.USER_PASSWORDS,
        "TRIGGERER_KUBECONFIG": layout.TRIGGERERS_KUBECONFIG,
        # The smoke test.
        "SMOKE_TEST": "yes" if settings.airflow.smoke_test else "",
        "SMOKE_TEST_BUNDLE": "dags-folder" if settings.dags.source == "host" else "deploy",
        "SMOKE_TEST_INPUTS": " ".join(layout.SMOKE_TEST_INPUTS),
        "SMOKE_TEST_LOG": _log_place(settings),
        "SMOKE_TEST_PASSED": layout.SMOKE_TEST_PASSED,
        "SMOKE_TEST_PASSWORD": layout.SMOKE_TEST_PASSWORD,
        "SMOKE_TEST_USER": layout.SMOKE_TEST_USER,
        "CERTIFICATE_NAMES": " ".join(tls.names(settings)),
        # Retention.
        "FAILED_PODS_MINUTES": str(settings.retention.failed_pod_minutes),
        "HISTORY_DAYS": str(settings.retention.history_days),
        "LOG_DAYS": str(settings.retention.log_days),
        "LOG_FOLDERS": f"{layout.LOGS} {layout.DAG_PROCESSOR_LOGS}",
        "LOG_CLAIMS": " ".join(settings.written_folders),
        "NAMESPACES": " ".join(settings.kubernetes.namespaces),
        "CONFIG": layout.CONFIG,
        "RUN": layout.RUN,
        # The worker image.
        "HOST_AUTHORITIES": layout.HOST_AUTHORITIES,
        # For uv and pip. If a value is empty, they use their own.
        "BUILDS_PACKAGES": "yes" if settings.build.apt_packages else "",
        "DEFAULT_INDEX": settings.build.default_index,
        "PACKAGE_AUTHORITY": layout.PACKAGE_AUTHORITY if settings.build.ca_certificate else "",
        "PACKAGE_INDEXES": layout.PACKAGE_INDEXES if settings.build.indexes else "",
        "PACKAGE_LOGINS": layout.PACKAGE_LOGINS,
        "AIRFLOW_UID": str(settings.airflow.uid),
        "DAGS": layout.DAGS,
        "DAGS_ENV": layout.DAGS_ENV,
        "DAGS_ENV_CANDIDATE": layout.DAGS_ENV_CANDIDATE,
        "IMAGE_DAGS": layout.IMAGE_DAGS,
        "IMAGE_PLUGINS": layout.IMAGE_PLUGINS,
        "PLUGINS": layout.PLUGINS,
        "IMAGES": layout.IMAGES,
        "REGISTRY_USER": (registry.username or "") if registry else "",
        "START_TASK": layout.START_TASK,
        "TRIAL_POD": layout.TRIAL_POD,
        "EXTRA_LOCK": layout.EXTRA_LOCK,
        "UV": layout.UV,
        "WORKER_DIGESTS": layout.WORKER_DIGESTS,
        "CONTROL_USER": layout.CONTROL_USER,
        "WORKER_IMAGES_KEPT": str(settings.retention.worker_images),
        "WORKER_PACKAGES": ",".join(settings.worker.extra_apt_packages),
        "WORKER_REPOSITORIES": layout.WORKER_REPOSITORIES,
        "WORKER_REGISTRY": registry.host if registry else "",
        "WORKER_REPOSITORY": registry.repository if registry else layout.LOCAL_REPOSITORY,
        # Objects of the cluster.
        "PODS_AUTHORITY": layout.PODS_AUTHORITY,
        "AUTHORITY_CONFIG_MAP": layout.AUTHORITY_CONFIG_MAP,
        "KUBERNETES_OBJECTS": layout.KUBERNETES_OBJECTS,
        "KUBERNETES_UNWANTED": layout.KUBERNETES_UNWANTED,
        "POD_CANDIDATE": layout.POD_CANDIDATE,
        "PULL_SECRET": layout.PULL_SECRET if settings.worker.pulls_with_login else "",
        "REGISTRY_LOGIN": layout.REGISTRY_LOGIN,
        # Git repositories.
        "BUNDLES": layout.BUNDLES,
        "GIT_CONNECTIONS": layout.GIT_CONNECTIONS,
        "HOMES": str(PurePosixPath(layout.HOMES[layout.CONTROL_USER]).parent),
        "POD_POLICY": layout.POD_POLICY,
        **(_of_several(settings) if settings.members else {}),
        **(_of_serving(settings) if settings.serves else {}),
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
    secrets = [f"{layout.SECRETS}/{name}" for name in layout.MADE_SECRETS]
    return {
        "SEVERAL_HOSTS": "first" if settings.is_first else "other",
        "ADDRESS_UNIT": layout.ADDRESS_UNIT if settings.web.virtual_address else "",
        "SHARED_SECRETS": " ".join(secrets),
        "SHARED_AUTHORITY": f"{layout.TLS}/ca-key.pem {layout.PODS_AUTHORITY}",
        "SHARED_USERS": f"{layout.USERS_MADE} {layout.USER_PASSWORDS}",
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

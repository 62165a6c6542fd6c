"""What a deployed host must look like, written by hand from what README.md promises.

Nothing here comes from tasks/: a wrong value there must not become the expected value here. Only
the inventory's own values do, since they say what the host should have.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

from tasks.settings import Settings

Condition = Callable[[Settings], object]


class Row(Protocol):
    """A line of a table, with the settings that it holds for."""

    @property
    def when(self) -> Condition:
        """Whether it holds for these settings."""


R = TypeVar("R", bound=Row)


def wanted(table: Iterable[R], settings: Settings) -> list[R]:
    """The table's rows that hold for these settings."""
    return [row for row in table if row.when(settings)]


def always(settings: Settings) -> bool:
    """Whatever the settings say."""
    return True


def with_minikube(settings: Settings) -> bool:
    """The deploy brings the cluster."""
    return settings.kubernetes_provider == "minikube"


def node_is_this_host(settings: Settings) -> bool:
    """Kubernetes runs on this host itself."""
    return with_minikube(settings) and settings.minikube_driver == "none"


def page_is_open(settings: Settings) -> bool:
    """Others than this host reach the web page."""
    try:
        return not ipaddress.ip_address(settings.airflow_web_host).is_loopback
    except ValueError:
        return settings.airflow_web_host != "localhost"


def page_has_own_certificate(settings: Settings) -> bool:
    """The inventory gives the web page's certificate."""
    return settings.airflow_web_certificate is not None


def has_metrics(settings: Settings) -> bool:
    """There is an endpoint for Prometheus."""
    return settings.airflow_metrics_port is not None


def builds_image(settings: Settings) -> bool:
    """The deploy builds the worker image."""
    return settings.worker_image is None


def shapes_pods(settings: Settings) -> bool:
    """The deploy alone decides the shape of a task's pod."""
    return not settings.worker_pod and not settings.worker_pod_template


def may_run_tasks_here(settings: Settings) -> bool:
    """Tasks may run on this host, too."""
    return "LocalExecutor" in settings.airflow_executor


def registry_needs_login(settings: Settings) -> bool:
    """The worker image comes from a registry that wants a login."""
    return settings.worker_registry is not None and settings.worker_registry.password is not None


def git_needs_login(settings: Settings) -> bool:
    """A git bundle is read with a connection."""
    return any(bundle.connection for bundle in settings.airflow_git_bundles.values())


def names_objects(settings: Settings) -> bool:
    """The inventory names connections, variables or pools."""
    return bool(
        settings.airflow_connections or settings.airflow_variables or settings.airflow_pools
    )


# What each Debian release brings: https://packages.debian.org/python3, …/postgresql
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
POSTGRES = {"bookworm": 15, "trixie": 17}


class Package(NamedTuple):
    """A Debian package; `{postgres}` is PostgreSQL's version."""

    name: str
    why: str
    when: Condition = always


PACKAGES = [
    Package("ca-certificates", "the authorities that downloads are checked against"),
    Package("curl", "units and the liveness check ask Airflow with it"),
    Package("diffutils", "kubectl diff calls it"),
    Package("git", "Airflow's git bundles call it"),
    Package("iproute2", "the certificate's program asks for the host's address"),
    Package("nginx", "TLS in front of Airflow"),
    Package("openssh-client", "git calls it for ssh addresses"),
    Package("openssl", "makes the certificates"),
    Package("postgresql-{postgres}", "Airflow's database"),
    Package("python3", "runs Airflow"),
    Package("python3-venv", "makes the venv of uv"),
    Package("conntrack", "kube-proxy and kubeadm's checks call it", node_is_this_host),
    Package("containerd", "runs the pods", node_is_this_host),
    Package("containernetworking-plugins", "the pods' network", node_is_this_host),
    Package("ethtool", "kubeadm's checks ask for it", node_is_this_host),
    Package("iptables", "kube-proxy's rules", node_is_this_host),
    Package("kmod", "kubeadm loads modules with it", node_is_this_host),
    Package("runc", "containerd calls it", node_is_this_host),
    Package("socat", "kubectl port-forward needs it on the node", node_is_this_host),
    Package("buildah", "builds the worker image", builds_image),
    Package("mmdebstrap", "makes the worker image's Debian", builds_image),
    Package("netavark", "buildah of Debian 13 does not start without it", builds_image),
    Package(
        "skopeo",
        "asks the registry and copies the image there",
        lambda settings: settings.worker_registry is not None,
    ),
    Package("acl", "tasks on the host write logs beside those of pods", may_run_tasks_here),
    Package("prometheus-postgres-exporter", "the endpoint for Prometheus", has_metrics),
]


def packages(settings: Settings) -> list[str]:
    """Names of the packages that must be installed."""
    rows = wanted(PACKAGES, settings)
    return [row.name.format(postgres=settings.postgres_version) for row in rows]


class User(NamedTuple):
    """A Linux user who can't log in, and has the same role in PostgreSQL."""

    name: str
    groups: list[str]
    why: str


USERS = [
    # Who has the keys may read what DAGs' code writes, and not the other way round.
    User("airflow", ["airflow", "airflow-dags"], "has the keys: api-server, scheduler"),
    User("airflow-dags", ["airflow-dags"], "runs DAGs' code: dag-processor, triggerer, pods"),
]


class Path(NamedTuple):
    """Who may do what with a file or folder; `{postgres}` is PostgreSQL's version."""

    path: str
    owner: str
    group: str
    mode: str
    why: str
    when: Condition = always


def _root(mode: str, why: str, *paths: str, when: Condition = always) -> list[Path]:
    """Rows of what is root's."""
    return [Path(path, "root", "root", mode, why, when) for path in paths]


def _examples(settings: Settings) -> bool:
    return settings.airflow_examples


def _example_of_pods(settings: Settings) -> bool:
    return settings.airflow_examples and settings.kubernetes_pod_operator


def _example_of_s3(settings: Settings) -> bool:
    needed = {"example_rest", "example_s3"}
    return settings.airflow_examples and needed <= set(settings.airflow_connections)


class Dag(NamedTuple):
    """A DAG that the deploy brings."""

    name: str
    when: Condition


DAGS = [
    Dag("airflow_smoke_test", lambda settings: settings.airflow_smoke_test),
    Dag("example_bash", _examples),
    Dag("example_pod_override", _examples),
    Dag("example_pod_operator", _example_of_pods),
    Dag("example_rest_to_s3", _example_of_s3),
]


class Service(NamedTuple):
    """One of Airflow's four services."""

    unit: str
    user: str
    secrets: tuple[str, ...]  # which of the keys it is given


# https://airflow.apache.org/docs/apache-airflow/3.3.2/security/security_model.html: only who makes
# or checks tokens has the key of the tokens.
SERVICES = [
    Service(
        "airflow-api-server.service", "airflow", ("api-secret-key", "fernet-key", "jwt-secret")
    ),
    Service("airflow-scheduler.service", "airflow", ("api-secret-key", "fernet-key", "jwt-secret")),
    Service("airflow-dag-processor.service", "airflow-dags", ("fernet-key",)),
    Service("airflow-triggerer.service", "airflow-dags", ("api-secret-key", "fernet-key")),
]
UNITS = [service.unit for service in SERVICES]


def service(unit: str) -> Service:
    """The service of a unit."""
    (found,) = [each for each in SERVICES if each.unit == unit]
    return found


class Input(NamedTuple):
    """A file that a service must be restarted for when it changes."""

    path: str
    units: list[str]
    why: str
    when: Condition = always


API_SERVER, SCHEDULER, DAG_PROCESSOR, TRIGGERER = UNITS
INPUTS = [
    *(Input(f"/etc/systemd/system/{unit}", [unit], "the unit itself") for unit in UNITS),
    Input("/etc/airflow/airflow.cfg", UNITS, "its options"),
    *(
        Input(
            f"/etc/airflow/secrets/{name}",
            [service.unit for service in SERVICES if name in service.secrets],
            "it is read once, at the start",
        )
        for name in ("api-secret-key", "fernet-key", "jwt-secret")
    ),
    Input("/etc/airflow/kubeconfig", [API_SERVER, SCHEDULER], "a token that was replaced"),
    Input(
        "/etc/airflow/kubeconfig-triggerer",
        [TRIGGERER],
        "a token that was replaced",
        lambda settings: settings.kubernetes_pod_operator,
    ),
    Input(
        "/opt/airflow/baked-dags/current.name",
        [DAG_PROCESSOR],
        "it must read the DAGs that new pods have",
        lambda settings: settings.airflow_dags_source == "image",
    ),
    Input(
        "/var/lib/airflow-deploy/git-connections",
        [DAG_PROCESSOR],
        "it reads a connection only when it starts",
        git_needs_login,
    ),
    Input(
        "/etc/airflow/secrets/objects.json",
        [API_SERVER, TRIGGERER],
        "they keep the log store's login while they run",
        lambda settings: settings.airflow_logs == "s3" and settings.airflow_connections,
    ),
]

# Properties of each service, as `systemctl show` has them.
RESTARTS = {
    "Restart": "always",
    "RestartUSec": "500ms",  # "started again after half a second"
    "StartLimitIntervalUSec": "0",  # however long the database or the cluster is away
}


class Timer(NamedTuple):
    """What is done from time to time."""

    name: str
    user: str
    schedule: str  # as `systemctl show` has it
    does: str
    # Words of its commands, which follow the settings.
    words: Callable[[Settings], list[str]]
    when: Condition = always

    @property
    def timer(self) -> str:
        """The timer's unit."""
        return f"{self.name}.timer"

    @property
    def service(self) -> str:
        """The unit that it starts."""
        return f"{self.name}.service"

    @property
    def is_daily(self) -> bool:
        """Whether it has a time of the day."""
        return self.schedule.startswith("OnCalendar=")


TIMERS = [
    Timer(
        "airflow-liveness",
        "airflow",
        "OnUnitInactiveUSec=10s",
        "looks for services that hang",
        lambda settings: [f"http://127.0.0.1:{settings.airflow_web_port}"],
    ),
    Timer(
        "airflow-cleanup-pods",
        "airflow",
        "OnUnitInactiveUSec=10min",
        "deletes pods that failed and were kept",
        lambda settings: [
            f"--min-completed-minutes={settings.worker_failed_pods_minutes} ",
            *(
                f"--namespace={namespace} "
                for namespace in (
                    settings.kubernetes_namespace,
                    *settings.kubernetes_more_namespaces,
                )
            ),
        ],
        lambda settings: settings.worker_failed_pods_minutes > 0,
    ),
    Timer(
        "airflow-backup",
        "root",
        "OnCalendar=*-*-* 02:30:00",
        "makes a backup",
        lambda settings: ["/usr/local/bin/airflow-backup "],
        lambda settings: settings.airflow_backups_kept > 0,
    ),
    Timer(
        "airflow-cleanup-history",
        "airflow",
        "OnCalendar=*-*-* 03:30:00",
        "deletes old runs from the database",
        lambda settings: [f"clean-history {settings.airflow_history_days} "],
        lambda settings: settings.airflow_history_days > 0,
    ),
    Timer(
        "airflow-cleanup-logs",
        "airflow-dags",
        "OnCalendar=*-*-* 04:00:00",
        "deletes old log files",
        # find rounds an age down to whole days: +89 is what is 90 days old and older.
        lambda settings: [
            f"-name *.log -mtime +{settings.airflow_log_days - 1} -delete ",
            " /var/log/airflow ",
            *([f" {claim.host_path} "] if (claim := settings.airflow_logs_claim) else []),
        ],
        lambda settings: settings.airflow_log_days > 0,
    ),
    Timer(
        "airflow-cleanup-images",
        "root",
        "OnCalendar=*-*-* 04:30:00",
        "deletes built worker images that no pod uses any more",
        lambda settings: [f"prune-images remove {settings.worker_images_kept} "],
        node_is_this_host,
    ),
    Timer(
        "airflow-certificate",
        "root",
        "OnCalendar=*-*-* 05:00:00",
        "renews the certificate that the host made",
        lambda settings: ["certificate make /etc/airflow/tls ", *settings.airflow_host_names],
    ),
]


def stopped_by_target(settings: Settings) -> set[str]:
    """Everything that `systemctl stop airflow.target` stops, and `start` starts."""
    return {*UNITS, *(timer.timer for timer in wanted(TIMERS, settings))}


def _own_dags(settings: Settings) -> str:
    """The folder of the DAGs that the deploy brings."""
    return (
        "/opt/airflow/dags"
        if settings.airflow_dags_source == "host"
        else "/opt/airflow/deploy-dags"
    )


PUBLIC = "anybody may read it, only root changes it"
CLOSED = "only root, and systemd for a unit, may read it"
_FOLDERS = [
    Path("/etc/airflow", "root", "airflow-dags", "750", "both users read the configuration"),
    *_root("700", CLOSED, "/etc/airflow/secrets", "/var/lib/airflow-deploy"),
    *_root("700", "a backup has all keys and connections", "/var/backups/airflow"),
    *_root("755", PUBLIC, "/etc/airflow/tls", "/opt/airflow", "/usr/local/lib/airflow"),
    *_root("755", PUBLIC, "/opt/airflow/venvs", "/opt/airflow/requirements", "/run/airflow"),
    *_root("755", PUBLIC, "/opt/airflow/image", when=builds_image),
    Path("/var/lib/airflow", "airflow", "airflow", "750", "home of who has the keys"),
    Path("/var/lib/airflow-dags", "airflow-dags", "airflow-dags", "750", "home of DAGs' code"),
    Path(
        "/opt/airflow/dags",
        "root",
        "airflow",
        "2775",
        "people of the group airflow put DAGs here; who runs them must not change them",
    ),
    Path(
        "/opt/airflow/deploy-dags",
        "root",
        "airflow",
        "2755",
        "the deploy's own DAGs",
        lambda settings: settings.airflow_dags_source != "host",
    ),
    Path(
        "/opt/airflow/baked-dags",
        "root",
        "airflow",
        "755",
        "the DAGs of the worker image",
        lambda settings: settings.airflow_dags_source == "image",
    ),
    Path(
        "/opt/airflow/plugins",
        "root",
        "airflow",
        "2755",
        "the api-server, which has the keys, runs what is in here",
    ),
    Path(
        "/var/log/airflow",
        "airflow-dags",
        "airflow-dags",
        "2770",
        "pods and DAGs' code write logs; airflow reads them as a member of the group",
    ),
]
_FILES = [
    Path("/etc/airflow/airflow.cfg", "root", "airflow-dags", "640", "all services read it"),
    Path("/etc/airflow/pod_template.yaml", "root", "airflow", "640", "the scheduler reads it"),
    Path("/etc/airflow/kubeconfig", "root", "airflow", "640", "holds a token of the cluster"),
    Path(
        "/etc/airflow/kubeconfig-triggerer",
        "root",
        "airflow-dags",
        "640",
        "holds a token of the cluster",
        lambda settings: settings.kubernetes_pod_operator,
    ),
    Path("/etc/airflow/metrics.yaml", "root", "airflow", "640", "the exporter's", has_metrics),
    *(
        row
        for name in ("fernet-key", "jwt-secret", "api-secret-key", "admin-password")
        for row in _root("600", CLOSED, f"/etc/airflow/secrets/{name}")
    ),
    *_root("600", CLOSED, "/etc/airflow/secrets/objects.json", when=names_objects),
    *_root("600", CLOSED, "/etc/airflow/secrets/registry-login.json", when=registry_needs_login),
    *_root("600", CLOSED, "/etc/airflow/tls/ca-key.pem", "/etc/airflow/tls/server.pem"),
    *_root("600", CLOSED, "/etc/airflow/tls/web.pem", when=page_has_own_certificate),
    *_root("644", PUBLIC, "/etc/airflow/tls/ca.pem", "/etc/nginx/sites-available/airflow"),
    *_root("600", "an administrator of the cluster", "/root/.kube/config", when=with_minikube),
    *_root("644", PUBLIC, *(f"/etc/systemd/system/{unit}" for unit in ("airflow.target", *UNITS))),
    *_root("644", PUBLIC, "/etc/systemd/system/nginx.service.d/airflow.conf"),
    *_root(
        "644",
        PUBLIC,
        "/etc/systemd/system/prometheus-postgres-exporter.service.d/airflow.conf",
        when=has_metrics,
    ),
    *_root("644", PUBLIC, "/etc/systemd/system/minikube.service", when=with_minikube),
    *(
        row
        for timer in TIMERS
        for row in _root(
            "644",
            PUBLIC,
            f"/etc/systemd/system/{timer.timer}",
            f"/etc/systemd/system/{timer.service}",
            when=timer.when,
        )
    ),
    *_root(
        "755",
        PUBLIC,
        *(f"/usr/local/bin/{name}" for name in ("airflow", "airflow-backup", "airflow-restore")),
        *("/usr/local/bin/airflow-rotate", "/usr/local/bin/kubectl"),
    ),
    *_root(
        "755",
        PUBLIC,
        "/usr/local/bin/airflow-smoke-test",
        when=lambda settings: settings.airflow_smoke_test,
    ),
    *_root("755", PUBLIC, "/usr/local/bin/minikube", when=with_minikube),
    *_root("755", PUBLIC, "/usr/local/bin/crictl", when=node_is_this_host),
    *_root(
        "755",
        PUBLIC,
        *(
            f"/usr/local/lib/airflow/{name}"
            for name in ("run", "certificate", "clean-history", "liveness", "stop-scheduler")
        ),
    ),
    *_root("755", PUBLIC, "/usr/local/lib/airflow/prune-images", when=node_is_this_host),
    *_root("644", PUBLIC, "/usr/local/lib/airflow/grants.sql"),
    *_root("644", PUBLIC, "/usr/local/lib/airflow/objects", when=names_objects),
    *_root(
        "644",
        PUBLIC,
        "/usr/local/lib/airflow/ask-git",
        when=lambda settings: settings.airflow_git_bundles,
    ),
]
_POSTGRES = [
    Path(
        "/etc/postgresql/{postgres}/main/pg_hba.conf",
        "postgres",
        "postgres",
        "600",
        "says who may log in",
    ),
    Path(
        "/etc/postgresql/{postgres}/main/conf.d/airflow.conf",
        "postgres",
        "postgres",
        "640",
        "the inventory's options may hold something secret",
    ),
    Path("/var/lib/postgresql/{postgres}/main", "postgres", "postgres", "700", "the data"),
    Path(
        "/var/log/postgresql/postgresql-{postgres}-main.log",
        "postgres",
        "adm",
        "640",
        "statements that failed",
    ),
]


def paths(settings: Settings) -> list[Path]:
    """Whose the deploy's folders and files are."""
    dags = [
        Path(f"{_own_dags(settings)}/{dag.name}.py", "root", "airflow", "644", "a DAG")
        for dag in wanted(DAGS, settings)
    ]
    rows = [*wanted([*_FOLDERS, *_FILES, *_POSTGRES], settings), *dags]
    return [row._replace(path=row.path.format(postgres=settings.postgres_version)) for row in rows]


class Link(NamedTuple):
    """A symbolic link."""

    path: str
    leads_to: str
    when: Condition = always


LINKS = [
    Link("/usr/local/bin/airflow-rollback", "/usr/local/bin/airflow-restore"),
    Link("/etc/nginx/sites-enabled/airflow", "/etc/nginx/sites-available/airflow"),
    Link("/opt/cni/bin", "/usr/lib/cni", node_is_this_host),
]

# What must be followed by a task that ran as a pod, in the order in which the deploy sums them up.
PROVEN_BY_SMOKE_TEST = [
    "/etc/airflow/airflow.cfg",
    "/etc/airflow/pod_template.yaml",
    "/etc/airflow/kubeconfig",
    "/etc/airflow/secrets/objects.json",
    "/etc/nginx/sites-available/airflow",
    "/etc/airflow/tls/ca.pem",
    *(f"/etc/systemd/system/{unit}" for unit in UNITS),
]


class Option(NamedTuple):
    """An option of Airflow as it is in force."""

    section: str
    name: str
    value: Callable[[Settings], str]
    why: str
    when: Condition = always


OPTIONS = [
    Option("core", "executor", lambda settings: settings.airflow_executor, "where tasks run"),
    Option("core", "load_examples", lambda settings: "False", "Airflow's own examples stay out"),
    Option("api", "host", lambda settings: "127.0.0.1", "TLS is nginx's; others must not pass it"),
    Option("api", "port", lambda settings: str(settings.airflow_web_port), "nginx asks there"),
    Option(
        "api",
        "base_url",
        lambda settings: settings.airflow_base_url or "",
        "links in mails",
        lambda settings: settings.airflow_base_url,
    ),
    Option(
        "fab",
        "cookie_secure",
        lambda settings: "True",
        "cookies go over TLS only",
        page_is_open,
    ),
    Option(
        "kubernetes_executor",
        "namespace",
        lambda settings: settings.kubernetes_namespace,
        "where task pods are",
    ),
    Option(
        "kubernetes_executor",
        "pod_template_file",
        lambda settings: "/etc/airflow/pod_template.yaml",
        "the shape of a task's pod",
    ),
    Option(
        "kubernetes_executor",
        "delete_worker_pods",
        lambda settings: str(settings.worker_delete_finished_pods),
        "the pod of a task that ended well goes at once",
    ),
    Option(
        "logging",
        "base_log_folder",
        lambda settings: (
            settings.airflow_logs_claim.host_path
            if settings.airflow_logs_claim
            else "/var/log/airflow"
        ),
        "where the web page reads logs",
    ),
    Option(
        "usage_data_collection", "enabled", lambda settings: "False", "nothing is told to others"
    ),
]
# Seconds until a new DAG file is seen.
REFRESH_SECONDS = 30


def bundles(settings: Settings) -> dict[str, int]:
    """The DAG bundles, each with the seconds between two looks at it."""
    found = {}
    if settings.airflow_dags_source != "git":
        found["dags-folder"] = REFRESH_SECONDS
    if settings.airflow_dags_source != "host" and wanted(DAGS, settings):
        found["deploy"] = REFRESH_SECONDS
    for name, bundle in settings.airflow_git_bundles.items():
        found[name] = bundle.refresh_seconds
    return found


# Figures for Prometheus, as the README's table has them.
FIGURES = [
    'airflow_heartbeat_age_seconds{component="scheduler"}',
    'airflow_heartbeat_age_seconds{component="dag_processor"}',
    'airflow_heartbeat_age_seconds{component="triggerer"}',
    *(
        f'airflow_task_instances{{state="{state}"}}'
        for state in ("scheduled", "queued", "running", "deferred", "up_for_retry")
    ),
    "airflow_oldest_queued_task_seconds",
    'airflow_dag_runs{state="queued"}',
    'airflow_dag_runs{state="running"}',
    'airflow_dag_runs_ended_last_hour{state="success"}',
    'airflow_dag_runs_ended_last_hour{state="failed"}',
    "airflow_import_errors",
    'airflow_pool_slots{pool="default_pool"}',
    'airflow_pool_used{pool="default_pool"}',
]


class Listener(NamedTuple):
    """A program that waits for others, as `ss` shows it; `{node}` is the node's address."""

    program: str  # its first 15 characters
    address: str  # * is every address, of IPv6 too
    port: int | None  # none: one that the system chooses
    why: str
    when: Condition = always


# https://kubernetes.io/docs/reference/networking/ports-and-protocols/, and its health checks.
_KUBERNETES = [
    Listener("kube-apiserver", "*", 8443, "the cluster's API"),
    Listener("kubelet", "*", 10250, "the API server fetches logs here"),
    Listener("kubelet", "127.0.0.1", 10248, "health"),
    Listener("kube-proxy", "*", 10256, "health"),
    Listener("kube-proxy", "*", 10249, "metrics; minikube opens them"),
    Listener("kube-controller", "127.0.0.1", 10257, "health and metrics"),
    Listener("kube-scheduler", "127.0.0.1", 10259, "health and metrics"),
    Listener("etcd", "127.0.0.1", 2379, "the API server asks here"),
    Listener("etcd", "{node}", 2379, "the same, for other nodes"),
    Listener("etcd", "{node}", 2380, "other etcds"),
    Listener("etcd", "127.0.0.1", 2381, "health and metrics"),
    Listener("containerd", "127.0.0.1", None, "kubectl exec and port-forward"),
]


def listeners(settings: Settings, node: str) -> set[tuple[str, str, int | None]]:
    """Everything of the deploy's that listens, and where: program, address, port."""
    page = settings.airflow_web_host
    with_ipv6 = ":" in f"{page}{settings.airflow_address_for_pods}"
    everywhere = "*" if with_ipv6 else "0.0.0.0"
    table = [
        Listener("airflow api_ser", "127.0.0.1", settings.airflow_web_port, "for this host only"),
        Listener("nginx", everywhere, settings.airflow_pods_port, "the Execution API, for pods"),
        Listener(
            "nginx",
            {"0.0.0.0": everywhere, "::": "*"}.get(page, f"[{page}]" if ":" in page else page),
            settings.airflow_https_port,
            "the web page and the REST API, for people",
            page_is_open,
        ),
        Listener(
            "prometheus-post",
            "*",
            settings.airflow_metrics_port,
            "the figures for Prometheus",
            has_metrics,
        ),
        *(row._replace(when=node_is_this_host) for row in _KUBERNETES),
    ]
    return {
        (row.program, row.address.format(node=node), row.port) for row in wanted(table, settings)
    }


# Units whose programs listen where the table says, and nowhere else; so do all others in it.
LISTENING_UNITS = ("airflow", "nginx", "postgresql", "prometheus-postgres-exporter", "minikube")


def runs(settings: Settings) -> list[str]:
    """Everything that the deploy keeps running: units, and programs of Kubernetes' own pods."""
    postgres = f"postgresql@{settings.postgres_version}-main.service"
    found = [*UNITS, "nginx.service", postgres]
    if has_metrics(settings):
        found.append("prometheus-postgres-exporter.service")
    if node_is_this_host(settings):
        found += ["kubelet.service", "containerd.service", "coredns", "pause"]
        found += ["etcd", "kube-apiserver", "kube-controller", "kube-proxy", "kube-scheduler"]
    return found


# A backup holds these, and of what lies beside them nothing more.
BACKUP_HOLDS = [
    "etc/airflow/airflow.cfg",
    "etc/airflow/pod_template.yaml",
    "etc/airflow/secrets/admin-password",
    "etc/airflow/secrets/api-secret-key",
    "etc/airflow/secrets/fernet-key",
    "etc/airflow/secrets/jwt-secret",
    *(f"etc/systemd/system/{unit}" for unit in ("airflow.target", *UNITS)),
    "usr/local/bin/airflow",
    "usr/local/bin/airflow-restore",
    "usr/local/lib/airflow/run",
]
BACKUP_TABLES = ["ab_user", "connection", "dag_run", "serialized_dag", "task_instance", "xcom"]
BACKUP_LACKS = {
    "etc/airflow/tls": "the authority's key: a backup must not be able to make certificates",
    "etc/airflow/kubeconfig": "its token is replaced; a rollback would bring the old one back",
    "etc/airflow/kubeconfig-triggerer": "the same",
    "opt/airflow": "DAGs belong into a repository, venvs are made again",
    "var/log": "logs belong into a store of their own",
    "root": "the cluster's administrator",
}
BACKUPS_BEFORE = 3  # of those made before an upgrade, a rollback or a restore

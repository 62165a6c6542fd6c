"""The state of a deployed host, written by hand from the promises of README.md.

Nothing here comes from tasks/, so it repeats paths, owners and modes of tasks/layout.py: a mode
there that is too open must not become the expected one here. Only the inventory's own values come
from there, since they say how the host should be.

A table is text: on each line some words, then the reason. Its parts hold for different settings.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from tasks.settings import HostSettings

Condition = Callable[[HostSettings], object]
Table = dict[Condition, str]


class Row(Protocol):
    """Something that holds for some settings only."""

    @property
    def when(self) -> Condition:
        """Whether it holds for these settings."""


R = TypeVar("R", bound=Row)


def wanted(rows: Iterable[R], settings: HostSettings) -> list[R]:
    """The rows that hold for these settings."""
    return [row for row in rows if row.when(settings)]


def _lines(table: Table, settings: HostSettings, columns: int) -> Iterator[list[str]]:
    """The lines of a table's parts that hold for these settings, each as columns and a reason."""
    for when, text in table.items():
        for line in text.splitlines() if when(settings) else []:
            if line.strip():
                yield line.split(None, columns)


# Conditions of the settings.


def always(settings: HostSettings) -> bool:
    """Anything."""
    return True


def with_minikube(settings: HostSettings) -> bool:
    """A cluster of the deploy's own."""
    return settings.kubernetes.provider == "minikube"


def node_is_this_host(settings: HostSettings) -> bool:
    """Kubernetes on this host itself."""
    return with_minikube(settings) and settings.minikube.driver == "none"


def node_in_podman(settings: HostSettings) -> bool:
    """Kubernetes in a container of podman."""
    return with_minikube(settings) and settings.minikube.driver == "podman"


def node_in_docker(settings: HostSettings) -> bool:
    """Kubernetes in a container of docker."""
    return with_minikube(settings) and settings.minikube.driver == "docker"


def has_podman_of_nft(settings: HostSettings) -> bool:
    """Kubernetes in podman on a release where podman makes rules of nftables."""
    return node_in_podman(settings) and settings.codename in ("trixie", "resolute")


def has_parted_docker(settings: HostSettings) -> bool:
    """Kubernetes in docker on a release whose docker.io has no command docker."""
    return node_in_docker(settings) and settings.codename == "trixie"


def node_in_container(settings: HostSettings) -> bool:
    """Kubernetes in a container, which has one folder of the host."""
    return node_in_podman(settings) or node_in_docker(settings)


def page_is_open(settings: HostSettings) -> bool:
    """A web page that others than this host reach."""
    try:
        return not ipaddress.ip_address(settings.web.host).is_loopback
    except ValueError:
        return settings.web.host != "localhost"


def page_has_own_certificate(settings: HostSettings) -> bool:
    """A certificate of the inventory for the web page."""
    return settings.web.certificate is not None


def has_own_login(settings: HostSettings) -> bool:
    """A login of the inventory instead of passwords."""
    return settings.web.login_config is not None


def has_base_url(settings: HostSettings) -> bool:
    """An address of the web page in links."""
    return settings.web.base_url is not None


def own_postgres(settings: HostSettings) -> bool:
    """A PostgreSQL of the host itself."""
    return settings.postgres.provider == "debian"


def existing_postgres(settings: HostSettings) -> bool:
    """A PostgreSQL of others."""
    return not own_postgres(settings)


def has_metrics(settings: HostSettings) -> bool:
    """An endpoint for Prometheus."""
    return settings.metrics.port is not None


def builds_image(settings: HostSettings) -> bool:
    """A worker image that the deploy builds."""
    return settings.worker.image is None


def shapes_pods(settings: HostSettings) -> bool:
    """Pods in the shape that the deploy gives them."""
    return not settings.worker.pod_override and not settings.worker.pod_template


def has_smoke_test(settings: HostSettings) -> bool:
    """The proof at the end of a deploy."""
    return settings.airflow.smoke_test


def has_pod_operator(settings: HostSettings) -> bool:
    """Tasks that start pods of their own."""
    return settings.kubernetes.pod_operator


def may_run_tasks_here(settings: HostSettings) -> bool:
    """Tasks on this host, too."""
    return "LocalExecutor" in settings.airflow.executor


def has_registry(settings: HostSettings) -> bool:
    """A worker image that goes through a registry."""
    return settings.worker.registry is not None


def registry_needs_login(settings: HostSettings) -> bool:
    """A registry that wants a login."""
    return settings.worker.registry is not None and settings.worker.registry.password is not None


def has_git(settings: HostSettings) -> bool:
    """DAGs from git."""
    return bool(settings.dags.git_bundles)


def git_needs_login(settings: HostSettings) -> bool:
    """A git repository that is read with a connection."""
    return any(bundle.connection for bundle in settings.dags.git_bundles.values())


def dags_are_here(settings: HostSettings) -> bool:
    """DAGs in this host's folder."""
    return settings.dags.source == "host"


def dags_are_elsewhere(settings: HostSettings) -> bool:
    """DAGs in another place than this host's folder."""
    return not dags_are_here(settings)


def dags_are_in_image(settings: HostSettings) -> bool:
    """DAGs in the worker image."""
    return settings.dags.source == "image"


def names_objects(settings: HostSettings) -> bool:
    """Connections, variables or pools."""
    return bool(
        settings.airflow.connections or settings.airflow.variables or settings.airflow.pools
    )


def names_users(settings: HostSettings) -> bool:
    """Users or roles of the web page."""
    return bool(settings.web.users or settings.web.roles)


def makes_passwords(settings: HostSettings) -> bool:
    """Users of the web page whose first password is the host's."""
    return any(user.password is None for user in settings.web.users.values())


def logs_need_connection(settings: HostSettings) -> bool:
    """Logs in a store, which is reached with a connection that the inventory names."""
    return settings.logs.store == "s3" and bool(settings.airflow.connections)


# The versions of each release: https://packages.debian.org/python3, …/postgresql; and Ubuntu's
PYTHON = {"bookworm": "3.11", "trixie": "3.13", "noble": "3.12", "resolute": "3.14"}
POSTGRES = {"bookworm": 15, "trixie": 17, "noble": 16, "resolute": 18}

_PACKAGES: Table = {
    always: """
        acl                    logs and DAGs stay readable whatever a person's umask is
        ca-certificates        the authorities that downloads are checked against
        curl                   units and the liveness check ask Airflow with it
        diffutils              kubectl diff calls it
        git                    Airflow's git bundles call it
        iproute2               the certificate's program asks for the host's address
        nginx                  TLS in front of Airflow
        openssh-client         git calls it for ssh addresses
        openssl                makes the certificates
        python3                runs Airflow
        python3-venv           makes the venv of uv
    """,
    own_postgres: "postgresql-{postgres} Airflow's database",
    existing_postgres: "postgresql-client-{postgres} reaches Airflow's database",
    # https://minikube.sigs.k8s.io/docs/drivers/none/
    node_is_this_host: """
        apparmor                    containerd confines pods with its profile, if the kernel can
        conntrack                   kubeadm's checks ask for it, kube-proxy calls it
        containerd                  runs the pods
        containernetworking-plugins the pods' network
        ethtool                     kubeadm's checks ask for it
        iptables                    kube-proxy's rules
        kmod                        kubeadm loads modules with it
        runc                        containerd calls it
        socat                       kubeadm's checks ask for it
    """,
    # https://minikube.sigs.k8s.io/docs/drivers/podman/
    node_in_podman: """
        aardvark-dns names for containers
        iptables     netavark calls it
        netavark     the containers' networks
        podman       runs the node
        sudo         minikube calls podman with it
    """,
    node_in_docker: """
        docker.io runs the node, unless another package of docker is there
        iptables  the containers' networks
    """,
    has_podman_of_nft: "nftables netavark of these releases calls it instead of iptables",
    has_parted_docker: "docker-cli the command docker, by which minikube asks for its node",
    builds_image: """
        buildah     builds the worker image
        mmdebstrap  makes the worker image's Debian
        netavark    buildah of Debian 13 does not start without it
    """,
    has_registry: "skopeo asks the registry, and copies the image there",
    may_run_tasks_here: "acl tasks on the host write logs beside those of pods",
    has_metrics: "prometheus-postgres-exporter the endpoint for Prometheus",
}


def packages(settings: HostSettings) -> list[str]:
    """The Debian packages that must be installed."""
    names = (name for name, _ in _lines(_PACKAGES, settings, 1))
    of_the_deploy = (name.format(postgres=settings.postgres.version) for name in names)
    of_the_inventory = (*settings.build.apt_packages, *settings.worker.extra_apt_packages)
    return list(dict.fromkeys([*of_the_deploy, *of_the_inventory]))


# The Linux users, with the groups of each. The user with the keys may read the files that DAGs'
# code writes, and not the other way round.
USERS = {"airflow": ["airflow", "airflow-dags"], "airflow-dags": ["airflow-dags"]}


class Dag(NamedTuple):
    """A DAG that the deploy brings."""

    name: str
    when: Condition


def _has_examples(settings: HostSettings) -> bool:
    return settings.airflow.examples


def _has_example_of_pods(settings: HostSettings) -> bool:
    return settings.airflow.examples and settings.kubernetes.pod_operator


def _has_example_of_s3(settings: HostSettings) -> bool:
    needed = {"example_rest", "example_s3"}
    return settings.airflow.examples and needed <= set(settings.airflow.connections)


DAGS = [
    Dag("airflow_smoke_test", has_smoke_test),
    Dag("example_bash", _has_examples),
    Dag("example_pod_override", _has_examples),
    Dag("example_pod_operator", _has_example_of_pods),
    Dag("example_rest_to_s3", _has_example_of_s3),
]


class Service(NamedTuple):
    """One of Airflow's four services."""

    unit: str
    user: str
    secrets: tuple[str, ...]  # which of the keys it is given


API_SERVER, SCHEDULER, DAG_PROCESSOR, TRIGGERER = UNITS = [
    f"airflow-{name}.service" for name in ("api-server", "scheduler", "dag-processor", "triggerer")
]
# They hold the web page's port on this host, and pass connections on.
WEB_UNITS = ("airflow-web.socket", "airflow-web6.socket", "airflow-web.service")
# https://airflow.apache.org/docs/apache-airflow/3.3.2/security/security_model.html: only services
# that make or check tokens have their key.
SERVICES = {
    service.unit: service
    for service in (
        Service(API_SERVER, "airflow", ("api-secret-key", "fernet-key", "jwt-secret")),
        Service(SCHEDULER, "airflow", ("fernet-key", "jwt-secret")),
        Service(DAG_PROCESSOR, "airflow-dags", ("fernet-key",)),
        Service(TRIGGERER, "airflow-dags", ("fernet-key",)),
    )
}
# Properties of each service, as `systemctl show` has them.
RESTARTS = {
    "Restart": "always",
    "RestartUSec": "500ms",  # "started again after half a second"
    "StartLimitIntervalUSec": "0",  # however long the database or the cluster is away
}

# The files that a service must be restarted for when they change.
_INPUTS: dict[str, Table] = {
    API_SERVER: {
        always: "/etc/airflow/kubeconfig an account that was replaced",
        logs_need_connection: "/etc/airflow/secrets/objects.json it keeps the store's login",
        has_own_login: "/etc/airflow/webserver_config.py it reads the file when it starts",
    },
    SCHEDULER: {
        always: "/etc/airflow/kubeconfig an account that was replaced",
        may_run_tasks_here: "/etc/airflow/dags.env the code of DAGs reads these variables",
    },
    DAG_PROCESSOR: {
        always: "/etc/airflow/dags.env the code of DAGs reads these variables",
        dags_are_in_image: "/opt/airflow/baked-dags/current.name it must read the DAGs of new pods",
        git_needs_login: "/var/lib/airflow-deploy/git-connections it reads them when it starts",
    },
    TRIGGERER: {
        always: "/etc/airflow/dags.env the code of DAGs reads these variables",
        has_pod_operator: "/etc/airflow/kubeconfig-triggerer an account that was replaced",
        logs_need_connection: "/etc/airflow/secrets/objects.json it keeps the store's login",
    },
}


def inputs(unit: str, settings: HostSettings) -> set[str]:
    """The files that a running service must have started with."""
    return {
        f"/etc/systemd/system/{unit}",
        "/etc/systemd/system/airflow-.service.d/10-sandbox.conf",
        f"/etc/systemd/system/{unit}.d/30-host.conf",
        "/etc/airflow/airflow.cfg",
        *(  # Airflow loads them once
            f"/usr/local/lib/airflow/python/airflow_deploy_{name}.py"
            for name in (
                *("apart", "callbacks", "classes", "columns", "crashes", "files"),
                *("imports", "keys", "links", "logs", "memory", "outages", "params"),
                *("policy", "proxies", "triggers"),
            )
        ),
        *(f"/etc/airflow/secrets/{name}" for name in SERVICES[unit].secrets),
        *(path for path, _ in _lines(_INPUTS[unit], settings, 1)),
        *([f"/etc/systemd/system/{unit}.d/20-sandbox.conf"] if unit != SCHEDULER else []),
    }


LOG_FOLDERS = ("/var/log/airflow", "/var/log/airflow-dag-processor")


class Timer(NamedTuple):
    """A timer with the service that it starts."""

    name: str
    user: str
    schedule: str  # as `systemctl show` has it
    # Of its commands, and of the values that they read: these follow the settings.
    words: Callable[[HostSettings], list[str]]
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
    Timer(  # looks for services that hang
        "airflow-liveness",
        "airflow",
        "OnUnitInactiveUSec=10s",
        lambda settings: [
            "liveness.py ",
            "WEB_URL=http://127.0.0.1:78",
        ],
    ),
    Timer(  # deletes pods that failed and were kept
        "airflow-cleanup-pods",
        "airflow",
        "OnUnitInactiveUSec=10min",
        lambda settings: [
            "clean-pods.sh ",
            f"\nFAILED_PODS_MINUTES={settings.retention.failed_pod_minutes}\n",
            "\nNAMESPACES="
            + shlex.quote(
                " ".join([settings.kubernetes.namespace, *settings.kubernetes.extra_namespaces])
            )
            + "\n",
        ],
        lambda settings: settings.retention.failed_pod_minutes > 0,
    ),
    Timer(  # makes a backup
        "airflow-backup",
        "root",
        "OnCalendar=*-*-* 02:30:00",
        lambda settings: ["/usr/local/bin/airflow-backup "],
        lambda settings: settings.retention.backups > 0,
    ),
    Timer(  # deletes old runs from the database
        "airflow-cleanup-history",
        "airflow",
        "OnCalendar=*-*-* 03:30:00",
        lambda settings: [
            "clean-history.sh ",
            f"\nHISTORY_DAYS={settings.retention.history_days}\n",
        ],
        lambda settings: settings.retention.history_days > 0,
    ),
    Timer(  # deletes old log files
        "airflow-cleanup-logs",
        "airflow-dags",
        "OnCalendar=*-*-* 04:00:00",
        lambda settings: [
            "clean-logs.sh ",
            f"\nLOG_DAYS={settings.retention.log_days}\n",
            f"\nLOG_FOLDERS='{' '.join(LOG_FOLDERS)}'\n",
            f"\nLOG_CLAIMS={claim.host_path}\n"
            if (claim := settings.logs.claim)
            else "\nLOG_CLAIMS=''\n",
        ],
        lambda settings: settings.retention.log_days > 0,
    ),
    Timer(  # deletes built worker images that no pod uses any more
        "airflow-cleanup-images",
        "root",
        "OnCalendar=*-*-* 04:30:00",
        lambda settings: [
            "prune-images.sh apply ",
            f"IMAGES_KEPT={settings.retention.worker_images} ",
        ],
        node_is_this_host,
    ),
    Timer(  # renews the certificate that the host made
        "airflow-certificate",
        "root",
        "OnCalendar=*-*-* 05:00:00",
        lambda settings: [
            "host-certificate.py apply /etc/airflow/tls $CERTIFICATE_NAMES ",
            *settings.web.host_names,
        ],
    ),
    Timer(  # renews the tokens of the cluster
        "airflow-token",
        "root",
        "OnUnitInactiveUSec=1min",
        lambda settings: ["kubeconfig.py renew"],
    ),
    Timer(  # tells Prometheus the room of the file systems
        "airflow-disks",
        "airflow",
        "OnUnitInactiveUSec=1min",
        lambda settings: ["disks.sh apply "],
        has_metrics,
    ),
]


# The drop-ins of a timer's service: its rights beside the sandbox, and values of the host.
_RELAXED = (
    *("airflow-liveness", "airflow-backup", "airflow-cleanup-images", "airflow-certificate"),
    "airflow-token",
)
_TOLD = (
    *("airflow-liveness", "airflow-cleanup-pods", "airflow-backup"),
    *("airflow-cleanup-history", "airflow-cleanup-images"),
)


def drop_ins(timer: Timer, settings: HostSettings) -> list[str]:
    """Paths of the drop-ins of a timer's service."""
    has_values = timer.name in _TOLD or (
        timer.name == "airflow-cleanup-logs" and settings.logs.claim
    )
    names = ["20-sandbox.conf"] if timer.name in _RELAXED else []
    names += ["30-host.conf"] if has_values else []
    return [f"/etc/systemd/system/{timer.service}.d/{name}" for name in names]


def stopped_by_target(settings: HostSettings) -> set[str]:
    """Everything that `systemctl stop airflow.target` stops, and `start` starts."""
    return {*UNITS, *(timer.timer for timer in wanted(TIMERS, settings))}


# Path, owner, group and mode.
_PATHS: Table = {
    always: """
        /etc/airflow             root         airflow-dags 750  both users read their options
        /etc/airflow/secrets     root         root         700  systemd hands the secrets out
        /etc/airflow/tls         root         root         755  the authority is public
        /opt/airflow             root         root         755  public
        /opt/airflow/venvs       root         root         755  public
        /opt/airflow/requirements root        root         755  public
        /opt/airflow/dags        root         airflow      2775 people write here, DAGs do not
        /opt/airflow/plugins     root         airflow      2755 the api-server, with keys, runs it
        /usr/local/lib/airflow   root         root         755  public
        /run/airflow             root         root         755  the liveness check looks there
        /var/lib/airflow         airflow      airflow      750  home of the user with the keys
        /var/lib/airflow-dags    airflow-dags airflow-dags 750  home of the user of DAGs' code
        /var/lib/airflow-deploy  root         root         700  no link may be planted there
        /var/lib/airflow-deploy/tmp root      root         700  programs may run in it
        /var/log/airflow         root         airflow-dags 2770 pods write, the web page reads
        /var/log/airflow-dag-processor airflow-dags airflow-dags 2750 no pod sees it
        /var/backups/airflow     root         root         700  a backup has all keys

        /etc/airflow/airflow.cfg         root airflow-dags 640  all services read it
        /etc/airflow/pod_template.yaml   root airflow      640  the scheduler reads it
        /etc/airflow/pod_template.candidate.yaml root root 600  only the deploy reads it
        /etc/airflow/kubernetes.json     root root         600  the inventory may have secrets
        /etc/airflow/kubernetes-unwanted.json root root    600  only the deploy reads it
        /etc/airflow/pod-policy.yaml     root root         644  the cluster shows it to all
        /etc/airflow/kubeconfig          root airflow      640  leads to the cluster
        /etc/airflow/kubeconfig.d        root airflow      2750 its files belong to its group
        /etc/airflow/kubeconfig.d/token  root airflow      640  has a token of the cluster
        /etc/airflow/kubeconfig-renewal  root root         640  leads to the cluster
        /etc/airflow/kubeconfig-renewal.d root root        2750 its files belong to its group
        /etc/airflow/kubeconfig-renewal.d/token root root  640  can renew the others
        /etc/airflow/secrets/fernet-key      root root     600  a key
        /etc/airflow/secrets/jwt-secret      root root     600  a key
        /etc/airflow/secrets/api-secret-key  root root     600  a key
        /etc/airflow/secrets/admin-password  root root     600  a password
        /etc/airflow/secrets/smoke-test-password root root 600  a password
        /etc/airflow/tls/ca.pem          root root         644  the authority that people trust
        /etc/airflow/tls/pods-ca.pem     root root         644  the authority that pods trust
        /etc/airflow/tls/ca-key.pem      root root         600  makes certificates that both trust
        /etc/airflow/tls/server.pem      root root         600  has a key

        /etc/nginx/sites-available/airflow               root root 644  public
        /etc/systemd/system/nginx.service.d/airflow.conf root root 644  public
        /etc/systemd/system/airflow.target               root root 644  public
        /etc/systemd/system/airflow-api-server.service   root root 644  public
        /etc/systemd/system/airflow-scheduler.service    root root 644  public
        /etc/systemd/system/airflow-dag-processor.service root root 644  public
        /etc/systemd/system/airflow-triggerer.service    root root 644  public
        /etc/systemd/system/airflow-.service.d/10-sandbox.conf               root root 644  public
        /etc/systemd/system/airflow-api-server.service.d/20-sandbox.conf     root root 644  public
        /etc/systemd/system/airflow-dag-processor.service.d/20-sandbox.conf  root root 644  public
        /etc/systemd/system/airflow-triggerer.service.d/20-sandbox.conf      root root 644  public
        /etc/systemd/system/airflow-api-server.service.d/30-host.conf        root root 644  public
        /etc/systemd/system/airflow-web.socket           root root 644  public
        /etc/systemd/system/airflow-web.socket.d/30-host.conf                root root 644  public
        /etc/systemd/system/airflow-web6.socket          root root 644  public
        /etc/systemd/system/airflow-web6.socket.d/30-host.conf               root root 644  public
        /etc/systemd/system/airflow-web.service          root root 644  public
        /etc/systemd/system/airflow-scheduler.service.d/30-host.conf         root root 644  public
        /etc/systemd/system/airflow-dag-processor.service.d/30-host.conf     root root 644  public
        /etc/systemd/system/airflow-triggerer.service.d/30-host.conf         root root 644  public

        /usr/local/bin/airflow           root root         755  public; it refuses all but root
        /usr/local/bin/airflow-backup    root root         755  public; it refuses all but root
        /usr/local/bin/airflow-restore   root root         755  public; it refuses all but root
        /usr/local/bin/airflow-rotate    root root         755  public; it refuses all but root
        /usr/local/bin/airflow-smoke-test root root        755  public
        /usr/local/bin/kubectl           root root         755  public
        /usr/local/lib/airflow/run       root root         755  public; it refuses all but root
        /usr/local/lib/airflow/clean-history.sh      root root 755  airflow runs it
        /usr/local/lib/airflow/clean-logs.sh         root root 755  airflow-dags runs it
        /usr/local/lib/airflow/clean-pods.sh         root root 755  airflow runs it
        /usr/local/lib/airflow/disks.sh              root root 755  airflow runs it
        /usr/local/lib/airflow/dags-test.py          root root 644  airflow-dags runs it
        /usr/local/lib/airflow/health.py             root root 755  public
        /usr/local/lib/airflow/host-certificate.py   root root 755  public
        /usr/local/lib/airflow/lib.sh                root root 644  public
        /usr/local/lib/airflow/liveness.py           root root 755  airflow runs it
        /usr/local/lib/airflow/load-units.sh         root root 755  public
        /usr/local/lib/airflow/no-terminal.py        root root 644  public
        /usr/local/lib/airflow/readable.sh           root root 755  public
        /usr/local/lib/airflow/run-unit.sh           root root 755  public
        /usr/local/lib/airflow/stop-dag-processor.sh root root 755  airflow-dags runs it
        /usr/local/lib/airflow/stop-scheduler.sh     root root 755  airflow runs it
        /usr/local/lib/airflow/grants.sql     root root    644  airflow reads it
        /usr/local/lib/airflow/grants.sh      root root    755  public
        /usr/local/lib/airflow/owner.sh       root root    755  airflow runs it
        /etc/airflow/host.env                 root root    644  has no secret
        /etc/airflow/dags.env                 root root    644  has no secret
        /usr/local/lib/airflow/kubeconfig.py  root root    755  public
        /usr/local/lib/airflow/metrics.yaml   root root    644  public
        /usr/local/lib/airflow/secrets.sh     root root    755  public
        /usr/local/lib/airflow/smoke-test.sh  root root    755  public
        /usr/local/lib/airflow/upgrade.sh     root root    755  public
    """,
    existing_postgres: """
        /etc/airflow/database-owner.login airflow      root 400 has a password or a key
        /etc/airflow/database-dags.login  airflow-dags root 400 has a password or a key
    """,
    own_postgres: """
        /etc/postgresql/{postgres}/main/pg_hba.conf         postgres postgres 600 the logins
        /etc/postgresql/{postgres}/main/conf.d/airflow.conf postgres postgres 640 may be secret
        /var/lib/postgresql/{postgres}/main                 postgres postgres 700 the data
        /var/log/postgresql/postgresql-{postgres}-main.log  postgres adm 640 has statements
    """,
    names_objects: """
        /etc/airflow/secrets/objects.json  root root 600  has passwords
        /usr/local/lib/airflow/sync-objects.py root root 644 public
    """,
    names_users: """
        /etc/airflow/secrets/users.json       root root 600 has passwords
        /usr/local/lib/airflow/users.py       root root 755 public
        /usr/local/lib/airflow/sync-users.py  root root 644 public
    """,
    makes_passwords: "/etc/airflow/secrets/users root root 700 has passwords",
    registry_needs_login: "/etc/airflow/secrets/registry-login.json root root 600 has a password",
    page_has_own_certificate: "/etc/airflow/tls/web.pem root root 600 has a key",
    has_own_login: "/etc/airflow/webserver_config.py root airflow 640 may have secrets",
    has_pod_operator: """
        /etc/airflow/kubeconfig-triggerer       root airflow-dags 640 leads to the cluster
        /etc/airflow/kubeconfig-triggerer.d     root airflow-dags 2750 as the other one
        /etc/airflow/kubeconfig-triggerer.d/token root airflow-dags 640 has a token
    """,
    has_git: "/usr/local/lib/airflow/git-ask.py root root 644 public",
    has_metrics: """
        /etc/systemd/system/prometheus-postgres-exporter.socket root root 644 public
        /etc/systemd/system/prometheus-postgres-exporter.service.d/airflow.conf root root 644 public
        /etc/systemd/system/prometheus-postgres-exporter.service.d/10-airflow-sandbox.conf \
            root root 644 public
    """,
    builds_image: """
        /opt/airflow/image            root root 755 the lists of the images' packages are public
        /opt/airflow/image/start-task root root 644 public
    """,
    with_minikube: """
        /etc/systemd/system/minikube.service  root root 644  public
        /usr/local/bin/minikube               root root 755  public
        /root/.kube/config                    root root 600  an administrator of the cluster
    """,
    node_in_container: "/etc/systemd/system/opt-airflow-logs.mount root root 644 public",
    node_is_this_host: """
        /usr/local/bin/crictl                root root 755  public
        /usr/local/lib/airflow/prune-images.sh root root 755 public
    """,
    dags_are_elsewhere: "/opt/airflow/deploy-dags root airflow 2755 the deploy's own DAGs",
    dags_are_in_image: "/opt/airflow/baked-dags root airflow 755 the DAGs of the worker image",
}


class Attributes(NamedTuple):
    """Owner, group and mode of a file."""

    owner: str
    group: str
    mode: str


def paths(settings: HostSettings) -> dict[str, Attributes]:
    """Whose the deploy's folders and files are."""
    found = {
        path.format(postgres=settings.postgres.version): Attributes(owner, group, mode)
        for path, owner, group, mode, _ in _lines(_PATHS, settings, 4)
    }
    for timer in wanted(TIMERS, settings):
        for unit in (timer.timer, timer.service):
            found[f"/etc/systemd/system/{unit}"] = Attributes("root", "root", "644")
        for path in drop_ins(timer, settings):
            found[path] = Attributes("root", "root", "644")
    folder = "/opt/airflow/dags" if dags_are_here(settings) else "/opt/airflow/deploy-dags"
    for dag in wanted(DAGS, settings):
        found[f"{folder}/{dag.name}.py"] = Attributes("root", "airflow", "644")
    return found


# Path, and where it leads.
_LINKS: Table = {
    always: """
        /usr/local/bin/airflow-rollback  /usr/local/bin/airflow-restore      it knows its name
        /etc/nginx/sites-enabled/airflow /etc/nginx/sites-available/airflow  nginx reads it
    """,
    node_is_this_host: "/opt/cni/bin /usr/lib/cni Kubernetes looks for plugins there",
}


def links(settings: HostSettings) -> dict[str, str]:
    """The deploy's symbolic links."""
    return {path: leads_to for path, leads_to, _ in _lines(_LINKS, settings, 2)}


# The files whose changes make the smoke test run again, in the order of its checksum.
PROVEN_BY_SMOKE_TEST = [
    "/etc/airflow/airflow.cfg",
    "/etc/airflow/pod_template.yaml",
    "/etc/airflow/pod-policy.yaml",
    "/etc/airflow/kubeconfig",
    "/etc/airflow/secrets/objects.json",
    "/etc/nginx/sites-available/airflow",
    "/etc/airflow/tls/pods-ca.pem",
    "/etc/systemd/system/airflow-.service.d/10-sandbox.conf",
    *(f"/etc/systemd/system/{unit}" for unit in UNITS),
    *(f"/etc/systemd/system/{unit}.d/30-host.conf" for unit in UNITS),
]


class Option(NamedTuple):
    """An option of Airflow as it is in force."""

    section: str
    name: str
    value: Callable[[HostSettings], str]
    why: str
    when: Condition = always


def _log_folder(settings: HostSettings) -> str:
    claim = settings.logs.claim
    return claim.host_path if claim else "/var/log/airflow"


OPTIONS = [
    Option("core", "executor", lambda settings: settings.airflow.executor, "where tasks run"),
    Option("core", "load_examples", lambda _: "False", "Airflow's own examples stay out"),
    Option("api", "host", lambda _: "127.0.0.1", "others reach it through nginx, with TLS"),
    Option("api", "port", lambda _: "78", "a port that no other user can take"),
    Option(
        "api",
        "base_url",
        lambda settings: settings.web.base_url or "",
        "links in mails",
        has_base_url,
    ),
    Option("fab", "cookie_secure", lambda _: "True", "cookies go over TLS only", page_is_open),
    Option(
        "kubernetes_executor",
        "namespace",
        lambda settings: settings.kubernetes.namespace,
        "where task pods are",
    ),
    Option(
        "kubernetes_executor",
        "pod_template_file",
        lambda _: "/etc/airflow/pod_template.yaml",
        "the shape of task pods",
    ),
    Option(
        "kubernetes_executor",
        "delete_worker_pods",
        lambda settings: str(settings.worker.delete_finished_pods),
        "the pod of a task that ended well goes at once",
    ),
    Option("logging", "base_log_folder", _log_folder, "where the web page finds logs"),
    Option("usage_data_collection", "enabled", lambda _: "False", "nobody is told of this host"),
]
# A new DAG file is seen within 30 s: the dag-processor asks each 5 s whether the time is over, and
# then reads the file.
REFRESH_SECONDS = 15


def bundles(settings: HostSettings) -> dict[str, int]:
    """The DAG bundles, each with the seconds between two looks at it."""
    found = {}
    if settings.dags.source != "git":
        found["dags-folder"] = REFRESH_SECONDS
    if dags_are_elsewhere(settings) and wanted(DAGS, settings):
        found["deploy"] = REFRESH_SECONDS
    for name, bundle in settings.dags.git_bundles.items():
        found[name] = bundle.refresh_seconds
    return found


# Figures for Prometheus, as the README's table has them.
FIGURES = [
    *(
        f'airflow_heartbeat_age_seconds{{component="{component}"}}'
        for component in ("scheduler", "dag_processor", "triggerer")
    ),
    *(
        f'airflow_task_instances{{state="{state}"}}'
        for state in ("scheduled", "queued", "running", "deferred", "up_for_retry")
    ),
    "airflow_oldest_queued_task_seconds",
    *(f'airflow_dag_runs{{state="{state}"}}' for state in ("queued", "running")),
    *(f'airflow_dag_runs_ended_last_hour{{state="{state}"}}' for state in ("success", "failed")),
    "airflow_import_errors",
    'airflow_certificate_remaining_seconds{name="web"}',
    *(
        f'airflow_disk_{figure}{{folder="/"}}'
        for figure in ("free_bytes", "size_bytes", "free_files", "files")
    ),
    'airflow_pool_slots{pool="default_pool"}',
    'airflow_pool_used{pool="default_pool"}',
]

# Listeners with their address and port, as `ss` has them. Each is named by its unit, or,
# in a pod, by the first 15 characters of the program's name. * is every address, of IPv6
# too. Kubernetes' are those of https://kubernetes.io/docs/reference/networking/ports-and-protocols/
# and its health checks.
_LISTENERS: Table = {
    always: """
        airflow-api-server.service 127.0.0.1    78      Airflow, for the host's services
        airflow-web.socket         127.0.0.1    {web}   Airflow, for people on this host
        airflow-web6.socket        [::1]        {web}   the same, for the name localhost
        nginx.service              {everywhere} {pods}  the Execution API, for pods
    """,
    page_is_open: "nginx.service {page} {https} the web page and the REST API, for people",
    has_metrics: "prometheus-postgres-exporter.socket {everywhere} {metrics} for Prometheus",
    node_is_this_host: """
        kube-apiserver     *         8443  the cluster's API
        kubelet.service    *         10250 the API server fetches logs here
        kubelet.service    127.0.0.1 10248 health
        kube-proxy         127.0.0.1 10256 health
        kube-proxy         127.0.0.1 10249 figures
        kube-controller    127.0.0.1 10257 health and metrics
        kube-scheduler     127.0.0.1 10259 health and metrics
        etcd               127.0.0.1 2379  the API server asks here
        etcd               {node}    2379  the same, for other nodes
        etcd               {node}    2380  other etcds
        etcd               127.0.0.1 2381  health and metrics
        containerd.service 127.0.0.1 any   kubectl exec, attach and port-forward
    """,
}


def listeners(settings: HostSettings, node: str) -> set[tuple[str, str, str]]:
    """All listeners of the deploy: name, address, port."""
    page = settings.web.host
    # nginx listens on addresses of IPv6 only where the settings name one.
    everywhere = "*" if ":" in f"{page} {settings.execution_api.host}" else "0.0.0.0"
    values = {
        "node": node,
        "everywhere": everywhere,
        "page": everywhere if page in ("0.0.0.0", "::") else f"[{page}]" if ":" in page else page,
        "web": settings.web.port,
        "pods": settings.execution_api.port,
        "https": settings.web.https_port,
        "metrics": settings.metrics.port,
    }
    return {
        (who, address.format(**values), port.format(**values))
        for who, address, port, _ in _lines(_LISTENERS, settings, 3)
    }


def runs(settings: HostSettings) -> list[str]:
    """Everything that the deploy keeps running: units, and programs of Kubernetes' own pods."""
    postgres = f"postgresql@{settings.postgres.version}-main.service"
    found = [*UNITS, "nginx.service", *([postgres] if own_postgres(settings) else [])]
    if has_metrics(settings):
        found.append("prometheus-postgres-exporter.service")
    if node_is_this_host(settings):
        found += ["kubelet.service", "containerd.service", "coredns", "pause"]
        found += ["etcd", "kube-apiserver", "kube-controller", "kube-proxy", "kube-scheduler"]
    return found


# The rights of the role airflow-dags on each table of Airflow. Rights on single columns name them,
# sorted. Whether a new table is data that somebody trusts, a person decides.
_TABLES = {
    # Logins and passwords, notes and favorites of people.
    "": """
        ab_group ab_group_role ab_register_user ab_user ab_user_group ab_user_role
        connection_test_request dag_favorite dag_run_note revoked_token session task_instance_note
    """,
    # Tables that people, migrations, the scheduler, the api-server and tasks write.
    "select": """
        ab_role alembic_version alembic_version_fab asset_alias_asset asset_alias_asset_event
        backfill backfill_dag_run connection dag_bundle_team dag_run dagrun_asset_event deadline
        hitl_detail_history log_template rendered_task_instance_fields slot_pool task_map
        task_state_store team
    """,
    # Rows that the dag-processor makes of DAG files, and the triggerer of events; never deleted.
    "select insert": """
        ab_permission ab_permission_view ab_view_menu asset_active asset_event
        partitioned_asset_key_log task_instance_history
    """,
    "select insert update": """
        asset asset_alias asset_partition_dag_run dag_bundle dag_code
        dag_version serialized_dag
    """,
    # The same, but it goes with its DAG, or when it is done.
    "select insert delete": "ab_permission_view_role asset_dag_run_queue dag_tag xcom",
    "select insert update delete": """
        asset_state_store asset_watcher dag_owner_attributes dag_schedule_asset_alias_reference
        dag_schedule_asset_name_reference dag_schedule_asset_reference
        dag_schedule_asset_uri_reference dag_warning deadline_alert import_error
        task_inlet_asset_reference task_outlet_asset_reference variable
    """,
    "select delete": "dag_priority_parsing_request task_reschedule",
    # No pickle (executor_config), no name of another person, no kind of callback, no paused DAG.
    "select(id) insert": "log",
    "select insert update(end_date,latest_heartbeat,start_date,state)": "job",
    "select insert update(output,state,trigger_id) delete": "callback",
    "select insert update(triggerer_id) delete": "trigger",
    "select update(chosen_options,params_input,responded_at)": "hitl_detail",
    "select update(duration,end_date,id,next_kwargs,next_method,scheduled_dttm,start_date,state,"
    "trigger_id,updated_at)": "task_instance",
    "select insert update(allowed_run_types,asset_expression,bundle_name,bundle_version,"
    "dag_display_name,deadline,description,exceeds_max_non_backfill,fail_fast,fileloc,"
    "has_import_errors,has_task_concurrency_limits,is_stale,last_parse_duration,last_parsed_time,"
    "max_active_runs,max_active_tasks,max_consecutive_failed_dag_runs,next_dagrun,"
    "next_dagrun_create_after,next_dagrun_data_interval_end,next_dagrun_data_interval_start,"
    "next_dagrun_partition_date,next_dagrun_partition_key,owners,partition_mapper_info,"
    "relative_fileloc,timetable_description,timetable_partitioned,timetable_periodic,"
    "timetable_summary,timetable_type)": "dag",
}
DATABASE_RIGHTS = {table: rights for rights, tables in _TABLES.items() for table in tables.split()}
# A line for each table of the database, without those to which `airflow db clean` moves rows.
RIGHTS_QUERY = """
select c.relname || ':' || coalesce((
    select string_agg(case
        when has_table_privilege('airflow-dags', c.oid, p.name) then p.name
        when p.name in ('select', 'insert', 'update', 'references') then p.name || '(' || (
            select string_agg(a.attname, ',' order by a.attname) from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and has_column_privilege('airflow-dags', c.oid, a.attnum, p.name)
        ) || ')'
    end, ' ' order by p.place)
    from unnest(array[
        'select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'
    ]) with ordinality as p (name, place)
), '')
from pg_catalog.pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
and not starts_with(c.relname, '_airflow_deleted__') order by 1
"""


def database_rights(lines: str) -> dict[str, str]:
    """The rights in the lines of that query, by table."""
    return {
        table: rights for table, _, rights in (line.partition(":") for line in lines.split("\n"))
    }


def undecided(tables: Iterable[str]) -> str:
    """The advice about tables that nobody has decided on."""
    return (
        f"Airflow has new tables: {', '.join(sorted(tables))}. Decide in grants.sql and in"
        " tests/host/expected.py the rights of airflow-dags in them; until then they are closed."
    )


# A backup has at least these files and tables, and none of the last ones.
BACKUP_HOLDS = [
    "etc/airflow/airflow.cfg",
    "etc/airflow/pod_template.yaml",
    *(
        f"etc/airflow/secrets/{name}"
        for name in ("admin-password", "api-secret-key", "fernet-key", "jwt-secret")
    ),
    *(f"etc/systemd/system/{unit}" for unit in ("airflow.target", *UNITS)),
    "etc/systemd/system/airflow-.service.d/10-sandbox.conf",
    *(f"etc/systemd/system/{unit}.d/30-host.conf" for unit in UNITS),
    "usr/local/bin/airflow",
    "usr/local/bin/airflow-restore",
    "usr/local/lib/airflow/run",
]
BACKUP_TABLES = ["ab_user", "connection", "dag_run", "serialized_dag", "task_instance", "xcom"]
BACKUP_LACKS = {
    "etc/airflow/tls": "a thief of a backup could make certificates that pods trust",
    **{
        f"etc/airflow/kubeconfig{whose}{suffix}": "a rollback would bring back what was replaced"
        for whose in ("", "-triggerer", "-renewal")
        for suffix in ("", ".d")
    },
    "etc/airflow/cluster.kubeconfig": "the cluster's administrator is there",
    **{
        f"etc/airflow/database-{whose}.login": "a rollback would bring back an old password"
        for whose in ("owner", "dags")
    },
    "opt/airflow": "DAGs belong into a repository, and a deploy makes venvs again",
    "var/log": "logs belong into a store of their own",
    "root": "the cluster's administrator is there",
}
BACKUPS_BEFORE = 3  # kept of those that were made before an upgrade, a rollback or a restore

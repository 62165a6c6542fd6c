"""The map of the host: each user, path, unit and object of the cluster, once.

The names come first. PLACES below has the purpose of each path. Directories, backups and the
removal derive from it, and tests compare it with the README.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parent.parent  # of the repository, on the controller

# The Linux users, by their processes. Their roles in PostgreSQL have the same names, as peer
# authentication requires.
CONTROL_USER = "airflow"  # scheduler, api-server, command line: has the keys, owns the database
DAGS_USER = "airflow-dags"  # dag-processor and triggerer, which run the code of DAGs
HOMES = {user: f"/var/lib/{user}" for user in (CONTROL_USER, DAGS_USER)}

# Airflow's own accounts in the cluster.
CONTROL_PLANE, RENEWAL, TRIGGERER = (
    f"airflow-{each}" for each in ("control-plane", "renewal", "triggerer")
)

LOOPBACK = "127.0.0.1"  # the api-server listens only there
# Linux gives a port below 1024 to no user without a capability, so nobody else can ever listen
# there. Some hosts open 80 and above to all users.
API_SERVER_PORT = 78
POSTGRES_PORT = 5432  # PostgreSQL's own, and Debian's first choice for a cluster
DATABASE = CONTROL_USER
# The logins of both users to a PostgreSQL elsewhere, and the authority of its certificate. libpq
# wants each login in a file that only its user can read.
DATABASE_LOGINS = {
    CONTROL_USER: "/etc/airflow/database-owner.login",
    DAGS_USER: "/etc/airflow/database-dags.login",
}
DATABASE_AUTHORITY = "/etc/airflow/database-authority.pem"
# The certificate and the key of a PostgreSQL that the deploy runs for other hosts.
DATABASE_CERTIFICATE = "/etc/postgresql/*/main/airflow.pem"
# The Linux user that comes with Debian's exporter, and its role.
METRICS_USER = "prometheus"

# The deploy's own state. Only root writes there, so nobody can plant a link in it.
STATE = "/var/lib/airflow-deploy"
TEMPORARY = f"{STATE}/tmp"  # only root sees it, and programs may run in it
PACKAGES_RECORD = f"{STATE}/packages"  # the Debian packages that came with the deploy
PLUGINS_RECORD = f"{STATE}/plugins"  # the plugins of the inventory
IMAGE_PLUGINS_RECORD = f"{STATE}/image-plugins"  # the same, for the worker image
DAGS_RECORD = f"{STATE}/dags"  # the DAGs that the deploy copied
DEPLOY_DAGS_RECORD = f"{STATE}/deploy-dags"  # its own DAGs, such as that of the smoke test
# The heads of the database's two schemas, Airflow's own and the login's, after the venv that
# migrated them.
MIGRATED = f"{STATE}/migrated"
OFFLINE_STAMP = f"{STATE}/offline"  # how the offline folder looked when it was verified
# Checksums of the git repositories' connections, as the dag-processor read them when it started.
GIT_CONNECTIONS = f"{STATE}/git-connections"
POD_POLICY_REFUSED = f"{STATE}/pod-policy-refused"  # the policy that only an admin may apply
DATABASE_MADE = f"{STATE}/database-host"  # this host has had the database of others
POSTGRES_CLUSTER = f"{STATE}/postgres-cluster"  # the cluster that the deploy made, not a package
USERS_MADE = f"{STATE}/web-users"  # users of the web page that the deploy made once
SMOKE_TEST_PASSED = f"{STATE}/smoke-test-passed"
# The repositories of registries that built images came from, now or earlier.
WORKER_REPOSITORIES = f"{STATE}/worker-image-repositories"
# The digests of images of registries that this host pushed or tried.
WORKER_DIGESTS = f"{STATE}/worker-image-digests"

# Locks are in a folder that only root may enter: anybody who may read a file may lock it.
LOCKS = "/run/airflow-deploy"
DEPLOY_LOCK = f"{LOCKS}/deploy"  # held by a deploy, a rotation or a restore
COMMAND_LOCK = f"{LOCKS}/command"  # held while a command of a deploy changes the host

# Configuration and secrets.
CONFIG = "/etc/airflow/airflow.cfg"
DAGS_ENV = "/etc/airflow/dags.env"  # variables of the processes that run DAG code
# The same without the image's digest, which only the host knows.
DAGS_ENV_CANDIDATE = "/etc/airflow/dags.candidate.env"
POD_TEMPLATE = "/etc/airflow/pod_template.yaml"
# The template as the cluster checked it; POD_TEMPLATE adds the digest of its image.
POD_CANDIDATE = "/etc/airflow/pod_template.candidate.yaml"
TRIAL_POD = "/etc/airflow/trial_pod.json"  # the pod that tries the worker image
# The objects that the cluster should have, and those that it should not.
KUBERNETES_OBJECTS = "/etc/airflow/kubernetes.json"
KUBERNETES_UNWANTED = "/etc/airflow/kubernetes-unwanted.json"
POD_POLICY = "/etc/airflow/pod-policy.yaml"  # also for the admin of an existing cluster to apply
KUBECONFIG = "/etc/airflow/kubeconfig"
TRIGGERERS_KUBECONFIG = "/etc/airflow/kubeconfig-triggerer"  # deferred tasks follow their pods
# The deploy's own, with all rights, where the cluster is on the host of the group `cluster`.
CLUSTER_KUBECONFIG = "/etc/airflow/cluster.kubeconfig"
RENEWAL_KUBECONFIG = "/etc/airflow/kubeconfig-renewal"  # may renew the tokens of all three
SECRETS = "/etc/airflow/secrets"
ADMIN_PASSWORD = f"{SECRETS}/admin-password"
# Those that secrets.sh makes.
MADE_SECRETS = (
    "fernet-key",
    "jwt-secret",
    "api-secret-key",
    "admin-password",
    "smoke-test-password",
)
# The smoke test's own user of the web page, so it does not depend on people's users.
SMOKE_TEST_USER = "airflow-smoke-test"
SMOKE_TEST_PASSWORD = f"{SECRETS}/smoke-test-password"
LOGIN_CONFIG = "/etc/airflow/webserver_config.py"  # may hold secrets; for the user airflow
OBJECTS = f"{SECRETS}/objects.json"  # connections, variables and pools of the inventory
USERS = f"{SECRETS}/users.json"  # users and roles of the web page of the inventory
USER_PASSWORDS = f"{SECRETS}/users"  # those that the host made for them, in files by their names
# As `docker login` writes it: containers' tools and the cluster's pull secret read the same.
REGISTRY_LOGIN = f"{SECRETS}/registry-login.json"
PACKAGE_LOGINS = f"{SECRETS}/netrc"  # of indexes of Python packages
# While the jwt-secret changes: the keys that the api-server accepts.
JWT_KEYS = f"{SECRETS}/jwt-keys"
TLS = "/etc/airflow/tls"
# A certificate and its key are one file, so that both change in one step.
CERTIFICATE = f"{TLS}/server.pem"
WEB_CERTIFICATE = f"{TLS}/web.pem"  # from the inventory, for the web page
# The host's own CA: its certificate for people, limited to the host's names, and the one for pods.
AUTHORITY = f"{TLS}/ca.pem"
PODS_AUTHORITY = f"{TLS}/pods-ca.pem"
PACKAGE_INDEXES = "/etc/airflow/uv.toml"
PACKAGE_AUTHORITY = "/etc/airflow/package-authority.pem"
HOST_AUTHORITIES = "/usr/local/share/ca-certificates"  # update-ca-certificates(8) reads it
CONTAINERD_CONFIG = "/etc/containerd/config.toml"

# Airflow.
VENVS = "/opt/airflow/venvs"  # on the host and in the worker image
VENV = "/opt/airflow/venv"  # a link to the one in use, for people and the command line
REQUIREMENTS = "/opt/airflow/requirements"
EXTRA_LOCK = "/etc/airflow/extra-requirements.txt"  # of the inventory's additional requirements
UV = "/opt/airflow/uv"
IMAGES = "/opt/airflow/image"
LOCAL_REPOSITORY = "localhost/airflow-worker"  # of images that no registry has
START_TASK = f"{IMAGES}/start-task"  # for the image, where it starts a pod's task
DAGS = "/opt/airflow/dags"  # in pods, and on the host unless the source has its own place there
PLUGINS = "/opt/airflow/plugins"
# The deploy's own DAGs where DAGS is not the host's folder: a bundle that needs no volume and no
# image of its own.
BUILTIN_DAGS = "/opt/airflow/deploy-dags"
# The plugins of the worker image, for its build.
IMAGE_PLUGINS = "/opt/airflow/baked-plugins"
# The DAGs of the worker image, for the dag-processor: a folder for each version, named by its
# content, a link to the one in use, and a file with that one's name.
IMAGE_DAGS = "/opt/airflow/baked-dags"
IMAGE_DAGS_NAME = f"{IMAGE_DAGS}/current.name"
BUNDLES = "bundles"  # clones of git repositories, in the home of the user that reads them

# Programs. They read the values of this host from HOST_ENV.
LIB = "/usr/local/lib/airflow"
CONTAINERD_DEFAULTS = f"{LIB}/containerd.toml"  # CONTAINERD_CONFIG before minikube edits it
# Python modules that the host's Airflow loads when it starts, and pods do not.
MODULES = f"{LIB}/python"
GUARDS = tuple(
    f"{MODULES}/airflow_deploy_{name}.py"
    for name in (
        *("apart", "callbacks", "classes", "columns", "crashes", "files"),
        *("imports", "keys", "links", "logs", "memory", "outages", "params", "policy"),
        *("proxies", "triggers"),
    )
)
KUBECTL = "/usr/local/bin/kubectl"
HOST_ENV = "/etc/airflow/host.env"
PROGRAMS_RECORD = f"{STATE}/programs"
CLI = "/usr/local/bin/airflow"
RUN = f"{LIB}/run"
START_MINIKUBE = f"{LIB}/minikube.sh"
WATCH_NODE = f"{LIB}/watch-node.sh"
ACCEPT = f"{LIB}/accept.sh"  # looks at a new file before it takes its place
BACKUP = "/usr/local/bin/airflow-backup"
RESTORE = "/usr/local/bin/airflow-restore"
ROLLBACK = "/usr/local/bin/airflow-rollback"
ROTATE = "/usr/local/bin/airflow-rotate"
SMOKE_TEST = "/usr/local/bin/airflow-smoke-test"
# minikube, and nothing else, finds these programs: see tasks/cluster/minikube.py.
SHIMS = "/usr/local/lib/minikube/stand-ins"

# Units. Airflow's own are in the order in which they start.
UNITS_DIRECTORY = "/etc/systemd/system"
UNITS = (
    "airflow.target",
    "airflow-api-server.service",
    "airflow-scheduler.service",
    "airflow-dag-processor.service",
    "airflow-triggerer.service",
)
# Holds the port of the web page on the host itself, and passes connections on to the api-server.
WEB_SOCKET = "airflow-web.socket"
WEB_SOCKET_UNITS = (WEB_SOCKET, "airflow-web6.socket", "airflow-web.service")
UNITS_RECORD = f"{STATE}/units"  # the files of units that the deploy installed
# The drop-in that systemd reads with each airflow-*.service, and the one with the host's values.
SANDBOX = f"{UNITS_DIRECTORY}/airflow-.service.d/10-sandbox.conf"
HOST_DROP_IN = "30-host.conf"
STARTED_WITH = "/run/airflow"  # one file for each running unit: the checksums of its inputs
MINIKUBE_UNIT = f"{UNITS_DIRECTORY}/minikube.service"
NODE_LOGS_UNIT = f"{UNITS_DIRECTORY}/opt-airflow-logs.mount"  # systemd names it by its path
# Keeps minikube's files among the temporary ones, if the host is its node.
TEMPORARY_FILES = "/etc/tmpfiles.d/airflow-minikube.conf"
CONTAINERD_PROXY = f"{UNITS_DIRECTORY}/containerd.service.d/airflow-proxy.conf"
NGINX_UNIT = "nginx.service"
NGINX_DROP_IN = f"{UNITS_DIRECTORY}/{NGINX_UNIT}.d/airflow.conf"
POSTGRES_DROP_IN = f"{UNITS_DIRECTORY}/postgresql@*-main.service.d/airflow.conf"
ADDRESS_UNIT = "keepalived.service"
ADDRESS_DROP_IN = f"{UNITS_DIRECTORY}/{ADDRESS_UNIT}.d/airflow.conf"
METRICS_PACKAGE = "prometheus-postgres-exporter"
METRICS_UNIT = f"{METRICS_PACKAGE}.service"
METRICS_SOCKET = f"{METRICS_PACKAGE}.socket"
METRICS_DROP_IN = f"{UNITS_DIRECTORY}/{METRICS_UNIT}.d/airflow.conf"
METRICS_SANDBOX = f"{UNITS_DIRECTORY}/{METRICS_UNIT}.d/10-airflow-sandbox.conf"
# Tells the api-server of JWT_KEYS.
JWT_DROP_IN = f"{UNITS_DIRECTORY}/airflow-api-server.service.d/jwt-keys.conf"

# Data and logs.
LOGS = "/var/log/airflow"
# A node that is a container of the host has one folder of the host, at the same path, and minikube
# can't change that later: DAGS and PLUGINS are in it already, and LOGS is mounted there too.
NODE_FOLDER = "/opt/airflow"
NODE_MOUNT = f"{NODE_FOLDER}:{NODE_FOLDER}"  # as minikube knows it
NODE_LOGS = f"{NODE_FOLDER}/logs"
DAG_PROCESSOR_LOGS = "/var/log/airflow-dag-processor"  # no pod mounts it
BACKUPS = "/var/backups/airflow"
# Folders whose file systems must not fill: of programs, the database, images and pods of the node
# with any driver, logs and backups.
DISKS = (
    *("/", "/opt", "/var", "/var/lib/postgresql", "/var/lib/kubelet"),
    *("/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"),
    *(LOGS, BACKUPS),
)

# A node that runs Kubernetes itself needs these (minikube's driver none):
# https://minikube.sigs.k8s.io/docs/drivers/none/
NODE_PACKAGES = [
    # containerd confines pods with it where the kernel has AppArmor, as Debian's has. Some versions
    # start none without it: https://github.com/containerd/containerd/issues/8123
    "apparmor",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "iptables",
    "kmod",
    "runc",
    "socat",
]
# A container engine that runs the node, by minikube's driver. One that is there already stays.
ENGINE_PACKAGES = {
    "podman": ["podman", "aardvark-dns", "iptables", "netavark", "sudo"],  # minikube calls sudo
    "docker": ["docker.io|docker-ce|moby-engine", "iptables"],
}
# Parts of an engine that its package only recommends, by release.
ENGINE_PARTS = {
    # There netavark makes the networks' rules with nft.
    "trixie": {"podman": ["nftables"], "docker": ["docker-cli|docker-ce-cli|moby-cli"]},
    "resolute": {"podman": ["nftables"]},
}

# Objects of the cluster that several modules name.
API_SERVICE = "airflow-api"  # leads pods to all hosts, if there are several
AUTHORITY_CONFIG_MAP = "airflow-authority"
BUILTIN_DAGS_CONFIG_MAP = "airflow-deploy-dags"
PULL_SECRET = "airflow-registry"

# Of other programs.
NGINX_SITE = "/etc/nginx/sites-available/airflow"
ADDRESS_CONFIG = "/etc/keepalived/keepalived.conf"
# Kubernetes' own certificates, in its node; kubeconfigs have theirs inside.
KUBELET_KUBECONFIG = "/etc/kubernetes/kubelet.conf"
KUBELET_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
CLUSTER_CERTIFICATES = (
    "/var/lib/minikube/certs/*.crt",
    "/var/lib/minikube/certs/etcd/*.crt",
    "/etc/kubernetes/*.conf",
    KUBELET_CERTIFICATE,
)
MINIKUBE_CERTIFICATES = "/root/.minikube/profiles/minikube/*.crt"  # on the host
HOSTPATH_VOLUMES = "/tmp/hostpath-provisioner"  # of minikube's own storage class
KUBEADM_CONFIG = "/var/tmp/minikube/kubeadm.yaml"  # as minikube gave it to kubeadm last
API_SERVER_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"  # on the node
MINIKUBE_PROFILE = "/root/.minikube/profiles/minikube/config.json"  # how minikube knows its cluster
PIP_CONFIG = "/etc/pip.conf"
ORIGINAL = ".before-airflow"  # suffix of a file of PostgreSQL's own, for the removal

# Signs backups. No backup contains it, so a changed backup can't pass for the host's own.
BACKUP_KEY = f"{STATE}/backup-key"
# What the first of several hosts makes once, for all of them. Files of a change come first: a host
# that has both keys should know which one is new.
SHARED_SECRETS = tuple(
    f"{SECRETS}/{name}{suffix}" for suffix in (".next", "") for name in MADE_SECRETS
)
SHARED_AUTHORITY = (f"{TLS}/ca-key.pem", PODS_AUTHORITY)
SHARED_USERS = (USERS_MADE, USER_PASSWORDS)
# Exists while a restore changes database and keys; has the command that continues it.
RESTORE_MARK = f"{STATE}/restore-unfinished"
# Exists while the cluster has new accounts and the host has old tokens; says how to continue.
TOKEN_MARK = f"{STATE}/cluster-token-unfinished"
BACKUP_PENDING = "before-upgrade-pending"  # name of a backup during the upgrade
BACKUPS_KEPT_BEFORE = 3  # of those made before an upgrade, a restore or a rollback

# The smoke test runs again when one of these changes. The file of connections is missing if the
# inventory has none.
SMOKE_TEST_INPUTS = (
    *(CONFIG, POD_TEMPLATE, POD_POLICY, KUBECONFIG, OBJECTS, NGINX_SITE, PODS_AUTHORITY),
    SANDBOX,
    *(f"{UNITS_DIRECTORY}/{unit}" for unit in UNITS if unit.endswith(".service")),
    *(f"{UNITS_DIRECTORY}/{unit}.d/{HOST_DROP_IN}" for unit in UNITS if unit.endswith(".service")),
)


class Listener(NamedTuple):
    """A program that listens for connections."""

    who: str
    address: str
    port: str  # or several; with the setting that it follows
    purpose: str
    is_open: bool = False  # to other machines


# Addresses in words: the node's is one of the host's, and the page's comes from the inventory.
LISTENERS = (
    Listener("api-server", LOOPBACK, str(API_SERVER_PORT), "Airflow, for services of the host"),
    Listener("systemd", f"{LOOPBACK}, ::1", "8080 (`web_port`)", "the web page, for this host"),
    Listener("nginx", "all", "8081 (`execution_api_port`)", "the Execution API, for pods", True),
    Listener(
        *("nginx", "`web_host`", "443 (`web_https_port`)"),
        "the web page and the REST API, if others should reach them",
        True,
    ),
    Listener(
        *("keepalived", "`web_virtual_address`", "protocol 112"),
        "VRRP of the other hosts, if they have one address for people",
        True,
    ),
    Listener(
        *("systemd", "all", "`metrics_port`"),
        "figures for Prometheus without a login, if asked for",
        True,
    ),
    Listener(*("postgres", "all", "5432", "the database, on the host of a group `database`"), True),
    Listener("kube-apiserver", "all", "8443", "the cluster's API, by certificate or token", True),
    Listener("kubelet", "all", "10250", "the API server fetches logs, by certificate", True),
    Listener("etcd", "the node's", "2379, 2380", "the cluster's state, by certificate", True),
    Listener("etcd", LOOPBACK, "2379, 2381", "the same, and its health"),
    Listener("kubelet", LOOPBACK, "10248", "its health"),
    Listener("kube-proxy", LOOPBACK, "10249, 10256", "its figures and health"),
    Listener("kube-controller", LOOPBACK, "10257", "its figures and health"),
    Listener("kube-scheduler", LOOPBACK, "10259", "its figures and health"),
    Listener("containerd", LOOPBACK, "any", "`kubectl exec`, `attach` and `port-forward`"),
)

# Programs in LIB that an earlier version of the deploy installed under these names.
OLD_PROGRAMS = (
    "ask-git",
    "certificate",
    "clean-history",
    "liveness",
    "objects",
    "prune-images",
    "stop-scheduler",
)


class Place(NamedTuple):
    """A path on the host, or a pattern for several, and its purpose."""

    path: str
    # "made again": a deploy makes it again from the inventory. "data" and "secret" can't be made
    # again.
    kind: Literal["program", "configuration", "secret", "state", "data", "made again"]
    description: str
    # Owner, group and mode of a directory that tasks/host/system.py creates.
    access: tuple[str, str, str] | None = None
    # Whether a backup holds it, if that is different from the folder that it is in.
    backup: bool | None = None
    # The step of the removal that takes it away; the other steps know how to stop its program.
    removal: Literal[
        "files", "units", "address", "nginx", "metrics", "cluster", "database", "state"
    ] = "files"


_C, _D = CONTROL_USER, DAGS_USER

# Inside a folder come its parts. A rollback brings back all that a backup holds.
PLACES = (
    # Programs.
    Place(f"{CLI}*", "program", "the deploy's commands", backup=True),
    Place(LIB, "program", "the deploy's other programs", ("root", "root", "755"), backup=True),
    Place(KUBECTL, "program", "the cluster's client"),
    Place("/usr/local/bin/minikube", "program", "installs and starts the cluster"),
    Place("/usr/local/bin/crictl*", "program", "minikube's client of the container runtime"),
    Place("/usr/local/lib/minikube", "program", "programs that only minikube finds"),
    # Configuration and secrets.
    Place("/etc/airflow", "data", "configuration and secrets", ("root", _D, "750"), backup=True),
    Place("/etc/airflow/*.*", "configuration", "files that the deploy writes"),
    # An older token may have been replaced since.
    *(
        Place(f"{path}{suffix}", "configuration", f"{whose} {what}", backup=False)
        for path, whose in (
            (KUBECONFIG, "the scheduler's"),
            (TRIGGERERS_KUBECONFIG, "the triggerer's"),
            (RENEWAL_KUBECONFIG, "root's"),
        )
        for suffix, what in (("", "way into the cluster"), (".d", "token of the cluster"))
    ),
    # The inventory has the present ones.
    *(
        Place(path, "configuration", f"the login of {user} to a PostgreSQL elsewhere", backup=False)
        for user, path in DATABASE_LOGINS.items()
    ),
    # The cluster's host gives the present one.
    Place(
        CLUSTER_KUBECONFIG,
        "configuration",
        "the deploy's way into the cluster of another host",
        backup=False,
    ),
    Place(SECRETS, "secret", "keys and passwords", ("root", "root", "700")),
    # It exists only during a rotation, which a restore would leave half done.
    Place(JWT_KEYS, "secret", "both keys while the jwt-secret changes", backup=False),
    # With the authority's key a thief could pass for the host; and pods trust the present one.
    Place(TLS, "secret", "certificates and their keys", backup=False, removal="nginx"),
    # Airflow.
    Place("/opt/airflow", "data", "Airflow and its DAGs", ("root", "root", "755")),
    Place(VENVS, "made again", "virtual environments", ("root", "root", "755")),
    Place(VENV, "made again", "a link to the one in use"),
    Place(UV, "made again", "the program that installs them"),
    Place(REQUIREMENTS, "made again", "lock files"),
    Place(IMAGES, "made again", "archives of worker images"),
    Place(DAGS, "data", "DAGs", ("root", _C, "2775")),
    Place(PLUGINS, "data", "Airflow's plugins", ("root", _C, "2755")),
    Place(BUILTIN_DAGS, "made again", "the deploy's own DAGs"),
    Place(IMAGE_DAGS, "made again", "the DAGs of worker images"),
    Place(IMAGE_PLUGINS, "made again", "the plugins of the worker image"),
    # State and data.
    *(Place(home, "data", "a user's home", (user, user, "750")) for user, home in HOMES.items()),
    # Only root writes there, so nobody can plant a link in it.
    Place(STATE, "state", "the deploy's state", ("root", "root", "700"), removal="state"),
    Place(TEMPORARY, "state", "temporary files", ("root", "root", "700"), removal="state"),
    # Root owns it, so that no pod can close it to the others.
    Place(LOGS, "data", "logs of tasks", ("root", _D, "2770")),
    Place(DAG_PROCESSOR_LOGS, "data", "logs of the dag-processor", (_D, _D, "2750")),
    Place(NODE_LOGS, "made again", "the same, for a node in a container", removal="cluster"),
    Place(BACKUPS, "data", "backups", ("root", "root", "700")),
    Place(STARTED_WITH, "made again", "the inputs that each unit started with"),
    # systemd and other programs.
    Place(f"{UNITS_DIRECTORY}/airflow*", "configuration", "units", backup=True, removal="units"),
    Place(JWT_DROP_IN, "configuration", "names JWT_KEYS", backup=False, removal="units"),
    Place(MINIKUBE_UNIT, "configuration", "minikube's unit", removal="cluster"),
    Place(TEMPORARY_FILES, "configuration", "keeps minikube's temporary files", removal="cluster"),
    Place(NODE_LOGS_UNIT, "configuration", "shows the node the logs", removal="cluster"),
    Place(CONTAINERD_PROXY, "configuration", "containerd's proxy", removal="cluster"),
    Place(NGINX_SITE, "configuration", "nginx's site", removal="nginx"),
    Place(NGINX_DROP_IN, "configuration", "records nginx's inputs", removal="nginx"),
    Place(ADDRESS_CONFIG, "configuration", "the address of several hosts", removal="address"),
    Place(ADDRESS_DROP_IN, "configuration", "records keepalived's inputs", removal="address"),
    Place(
        f"{UNITS_DIRECTORY}/{METRICS_SOCKET}",
        "configuration",
        "the port of the Prometheus endpoint",
        removal="metrics",
    ),
    Place(
        METRICS_DROP_IN,
        "configuration",
        "the options of the Prometheus endpoint",
        removal="metrics",
    ),
    Place(
        METRICS_SANDBOX,
        "configuration",
        "the sandbox of the Prometheus endpoint",
        removal="metrics",
    ),
    Place(POSTGRES_DROP_IN, "configuration", "starts PostgreSQL again", removal="database"),
    Place(
        "/etc/postgresql/*/main/conf.d/airflow.conf",
        "configuration",
        "PostgreSQL's options",
        removal="database",
    ),
    Place(
        "/etc/postgresql/*/main/pg_hba.conf",
        "configuration",
        "the users that PostgreSQL accepts",
        removal="database",
    ),
    Place(
        DATABASE_CERTIFICATE,
        "configuration",
        "the certificate and key of a PostgreSQL for other hosts",
        removal="database",
    ),
)


def engine_packages(engine: str, *codenames: str) -> list[str]:
    """The packages of a container engine, with those that only these releases need."""
    parts = (ENGINE_PARTS.get(each, {}).get(engine, []) for each in codenames)
    return list(dict.fromkeys([*ENGINE_PACKAGES[engine], *chain.from_iterable(parts)]))


DIRECTORIES = {place.path: place.access for place in PLACES if place.access}
# The records list programs and units with their checksums: a rollback must bring back both, or the
# next deploy would install files that are already there.
BACKED_UP = (*(place.path for place in PLACES if place.backup), PROGRAMS_RECORD, UNITS_RECORD)
NOT_BACKED_UP = tuple(place.path for place in PLACES if place.backup is False)


def _files(*kinds: str) -> list[str]:
    return [place.path for place in PLACES if place.removal == "files" and place.kind in kinds]


# The removal deletes these files, and DATA only if it should not keep the data.
PROGRAMS = _files("program")
MADE_AGAIN = _files("program", "configuration", "made again")
DATA = _files("data", "secret")
# People may bring these before the first deploy, or keep them from an earlier one: a fernet key,
# DAGs, logs on a disk that several hosts share.
BROUGHT = (SECRETS, DAGS, PLUGINS, LOGS, DAG_PROCESSOR_LOGS, BACKUPS)
# A host without an earlier deploy has no file there, except those of BROUGHT.
NEW = tuple(
    path
    for path in (*MADE_AGAIN, *DATA)
    if not path.startswith(("/etc/airflow/", "/opt/airflow/", *BROUGHT))
)

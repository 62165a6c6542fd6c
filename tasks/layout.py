"""The map of the host: each user, path, unit and port of the deploy, once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the repository, on the controller

# The Linux users, by their processes. Their roles in PostgreSQL have the same names, as peer
# authentication needs it.
CONTROL_USER = "airflow"  # scheduler, api-server, command line: has the keys, owns the database
DAGS_USER = "airflow-dags"  # dag-processor and triggerer, which run the code of DAGs
HOMES = {user: f"/var/lib/{user}" for user in (CONTROL_USER, DAGS_USER)}

LOOPBACK = "127.0.0.1"  # the api-server listens only there
DATABASE = CONTROL_USER

# The deploy's own state. Only root writes there, so nobody can plant a link in it.
STATE = "/var/lib/airflow-deploy"
PACKAGES_RECORD = f"{STATE}/packages"  # the Debian packages that came with the deploy
# The heads of the database's two schemas, Airflow's own and the login's, after the venv that
# migrated them.
MIGRATED = f"{STATE}/migrated"
OFFLINE_STAMP = f"{STATE}/offline"  # how the offline folder looked when it was verified
# The connections of the git repositories as the dag-processor was given them: a checksum each.
GIT_CONNECTIONS = f"{STATE}/git-connections"
SMOKE_TEST_PASSED = f"{STATE}/smoke-test-passed"

# Configuration and secrets.
CONFIG = "/etc/airflow/airflow.cfg"
POD_TEMPLATE = "/etc/airflow/pod_template.yaml"
KUBECONFIG = "/etc/airflow/kubeconfig"
TRIGGERERS_KUBECONFIG = "/etc/airflow/kubeconfig-triggerer"  # deferred tasks follow their pods
SECRETS = "/etc/airflow/secrets"
ADMIN_PASSWORD = f"{SECRETS}/admin-password"
OBJECTS = f"{SECRETS}/objects.json"  # connections, variables and pools of the inventory
# As `docker login` writes it: containers' tools and the cluster's pull secret read the same.
REGISTRY_LOGIN = f"{SECRETS}/registry-login.json"
# While the jwt-secret changes: the keys that the api-server accepts.
JWT_KEYS = f"{SECRETS}/jwt-keys"
TLS = "/etc/airflow/tls"
# A certificate and its key are one file, so that both change in one step.
CERTIFICATE = f"{TLS}/server.pem"
WEB_CERTIFICATE = f"{TLS}/web.pem"  # from the inventory, for the web page
AUTHORITY = f"{TLS}/ca.pem"  # the CA that pods trust
CONTAINERD_CONFIG = "/etc/containerd/config.toml"

# Airflow.
VENVS = "/opt/airflow/venvs"  # on the host and in the worker image
VENV = "/opt/airflow/venv"  # a link to the one in use, for people and the command line
REQUIREMENTS = "/opt/airflow/requirements"
UV = "/opt/airflow/uv"
IMAGES = "/opt/airflow/image"
DAGS = "/opt/airflow/dags"  # in pods, and on the host unless the source has its own place there
PLUGINS = "/opt/airflow/plugins"
# The deploy's own DAGs where DAGS is not the host's folder: a bundle that needs no volume and no
# image of its own.
BUILTIN_DAGS = "/opt/airflow/deploy-dags"
# The DAGs of the worker image, for the dag-processor: a folder for each version, named by its
# content, a link to the one in use, and a file with that one's name.
IMAGE_DAGS = "/opt/airflow/baked-dags"
IMAGE_DAGS_NAME = f"{IMAGE_DAGS}/current.name"
BUNDLES = "bundles"  # clones of git repositories, in the home of the user who reads them

# Programs. They read the values of this host from HOST_ENV.
LIB = "/usr/local/lib/airflow"
HOST_ENV = "/etc/airflow/host.env"
PROGRAMS_RECORD = f"{STATE}/programs"
CLI = "/usr/local/bin/airflow"
RUN = f"{LIB}/run"
CERTIFICATE_PROGRAM = f"{LIB}/certificate"
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
UNITS_RECORD = f"{STATE}/units"  # the files of units that the deploy installed
# The drop-in that systemd reads with each airflow-*.service, and the one with the host's values.
SANDBOX = f"{UNITS_DIRECTORY}/airflow-.service.d/10-sandbox.conf"
HOST_DROP_IN = "30-host.conf"
STARTED_WITH = "/run/airflow"  # one file for each running unit: the checksums of its inputs
MINIKUBE_UNIT = f"{UNITS_DIRECTORY}/minikube.service"
NGINX_UNIT = "nginx.service"
METRICS_UNIT = "prometheus-postgres-exporter.service"
# Tells the api-server of JWT_KEYS.
JWT_DROP_IN = f"{UNITS_DIRECTORY}/airflow-api-server.service.d/jwt-keys.conf"

# Data and logs.
LOGS = "/var/log/airflow"
BACKUPS = "/var/backups/airflow"

# Objects of the cluster that several modules name.
AUTHORITY_CONFIG_MAP = "airflow-authority"
BUILTIN_DAGS_CONFIG_MAP = "airflow-deploy-dags"
PULL_SECRET = "airflow-registry"

# Of other programs.
NGINX_SITE = "/etc/nginx/sites-available/airflow"
MINIKUBE_PROFILE = "/root/.minikube/profiles/minikube/config.json"  # how minikube knows its cluster
ORIGINAL = ".before-airflow"  # suffix of a file of PostgreSQL's own, for the removal

# Programs that an earlier version of the deploy installed.
OLD_PROGRAMS: tuple[str, ...] = (
    f"{LIB}/clean-history",
    f"{LIB}/liveness",
    f"{LIB}/stop-scheduler",
)

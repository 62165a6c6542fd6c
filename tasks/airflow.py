"""Airflow itself: its venv, its configuration and secrets, its database schema, its first user."""

from __future__ import annotations

import shlex

import yaml
from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import dags, image, logs, pods, postgres, tls, tools
from tasks.kubernetes import KUBECONFIG
from tasks.operations import settled
from tasks.postgres import DATABASE
from tasks.settings import CONTROL_USER, DAGS_USER, LOOPBACK, MEMORY, VENVS, Settings
from tasks.tools import REQUIREMENTS, UV, UV_ENVIRONMENT

CONFIG = "/etc/airflow/airflow.cfg"
POD_TEMPLATE = "/etc/airflow/pod_template.yaml"
SECRETS = "/etc/airflow/secrets"
ADMIN_PASSWORD = f"{SECRETS}/admin-password"
CLI = "/usr/local/bin/airflow"
RUN = "/usr/local/lib/airflow/run"
VENV = "/opt/airflow/venv"  # the one in use, for people and the command line
BUNDLES = "bundles"  # clones of git repositories, in the home of who reads them

# One file a secret, so that each unit is given just those that it needs. Each is a line
# NAME=value; the Python expression makes the value.
SECRET_FILES = {
    "fernet-key": (
        "AIRFLOW__CORE__FERNET_KEY",
        "base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()",
    ),
    "jwt-secret": ("AIRFLOW__API_AUTH__JWT_SECRET", "secrets.token_urlsafe(64)"),
    "api-secret-key": ("AIRFLOW__API__SECRET_KEY", "secrets.token_urlsafe(48)"),
}
NEW_PASSWORD = "secrets.token_urlsafe(18)"

# The heads of the database's two schemas, Airflow's own and the login's, after the venv that
# migrated them.
MIGRATED = f"{MEMORY}/migrated"


@deploy("Airflow")
def install(settings: Settings) -> None:
    """The venv with Airflow stands, complete and compiled; older ones stand beside it."""
    tools.install_uv()
    tools.write_lock("Airflow", settings.lock_path.name)
    _install_venv(settings)


def _install_venv(settings: Settings) -> None:
    venv, lock = settings.venv, f"{REQUIREMENTS}/{settings.lock_path.name}"
    pip_install = (
        f"{UV_ENVIRONMENT} {UV}/bin/uv pip install --quiet --python {venv}/bin/python"
        " --only-binary :all: --compile-bytecode"
    )
    extra = " ".join(map(shlex.quote, settings.airflow_extra_requirements))
    settled(
        name="Install Airflow (200 packages, 10 to 60 s)",
        test=f"test -e {venv}/.complete && test {VENV} -ef {venv}",
        commands=[
            f"test -e {venv}/.complete || {{ rm -rf {venv} && {UV_ENVIRONMENT}"
            f" {UV}/bin/uv venv --quiet --python /usr/bin/python{settings.release.python} {venv}"
            f" && {pip_install} --require-hashes -r {lock}"
            # The lock wins over what the extra requirements would like to change.
            + (f" && {pip_install} --constraint {lock} {extra}" if extra else "")
            + f" && rm -f {venv}/.lock && touch {venv}/.complete; }}",
            # Units and pods name the venv itself.
            f"ln -sfn {venv} {VENV}.new && mv -T {VENV}.new {VENV}",
        ],
        because="this version with these requirements is installed",
    )


@deploy("Airflow")
def prune(settings: Settings) -> None:
    """No more venvs stand than there are to be: the current one, and the youngest of the others.

    Airflow's services run, so they run with the current one; pods have theirs in their image.
    """
    others = max(settings.worker_images_kept, 2) - 1  # one at least, to go back to
    # What a run that failed left behind counts for nothing.
    complete = f"ls -t {VENVS}/*/.complete | sed 's/[.]complete$//'"
    kept = f"$({complete} | grep -vxF {settings.venv}/ | head -n {others}; echo {settings.venv}/)"
    surplus = f'$(ls -d {VENVS}/*/ | grep -vxF "{kept}")'
    settled(
        name="Remove old venvs",
        test=f'surplus={surplus}; test -z "$surplus"',
        # First what says that it is complete: half a venv must not look like a whole one.
        commands=[f"for venv in {surplus}; do rm -f $venv.complete && rm -rf $venv; done"],
        because="there are no more than are wanted",
    )


@deploy("Airflow")
def configure(settings: Settings) -> None:
    """Configuration, secrets, schema, and first user are there."""
    manifest = yaml.safe_dump(_pod(settings), sort_keys=False)
    pods.let_the_cluster_check(settings, manifest)
    logs.share(settings)
    _make_secrets()
    files.template(
        name="Write airflow.cfg",
        src="files/etc/airflow/airflow.cfg.j2",
        dest=CONFIG,
        user="root",
        group=DAGS_USER,
        mode="640",
        options=options(settings),
    )
    files.template(
        name="Write pod_template.yaml",
        src="files/etc/airflow/pod_template.yaml.j2",
        dest=POD_TEMPLATE,
        user="root",
        group=CONTROL_USER,
        mode="640",
        manifest=manifest,
    )
    files.template(
        name="Write what runs a program as the services do",
        src=f"files{RUN}.j2",
        dest=RUN,
        mode="755",
        settings=settings,
        config=CONFIG,
        kubeconfig=KUBECONFIG,
        secrets=[f"{SECRETS}/{name}" for name in SECRET_FILES],
    )
    files.template(
        name="Write the command airflow",
        src=f"files{CLI}.j2",
        dest=CLI,
        mode="755",
        run=RUN,
    )
    _migrate(settings)
    postgres.provide_rights()
    _create_admin(settings)


def options(settings: Settings) -> dict[str, dict[str, str]]:
    """airflow.cfg by section and option: what the deploy wants, then what the inventory wants.

    Nothing secret is among it: secrets come to the units that need them as environment.
    Options and defaults: https://airflow.apache.org/docs/apache-airflow/3.3.2/configurations-ref.html
    """
    wanted = {
        "core": {
            "executor": settings.airflow_executor,
            "auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "dags_folder": dags.folder_on_host(settings),
            "plugins_folder": "/opt/airflow/plugins",
            "load_examples": "False",
            # For tasks that run on the host; pods are told in their environment.
            "execution_api_server_url": f"{settings.web_url}/execution/",
        },
        "database": {
            # Written out both: derived from each other they would need another driver.
            "sql_alchemy_conn": url("psycopg2"),
            "sql_alchemy_conn_async": url("psycopg"),
        },
        "api": {
            "host": LOOPBACK,
            "port": str(settings.airflow_web_port),
            "workers": "1",
            # Without it links are relative, and work under whatever name the host is reached.
            **({"base_url": settings.airflow_base_url} if settings.airflow_base_url else {}),
        },
        "dag_processor": {
            "dag_bundle_config_list": dags.bundles(settings),
            "dag_bundle_storage_path": f"$AIRFLOW_HOME/{BUNDLES}",
        },
        "kubernetes_executor": {
            "in_cluster": "False",
            "config_file": KUBECONFIG,
            "namespace": settings.kubernetes_namespace,
            "pod_template_file": POD_TEMPLATE,
            # The scheduler makes them one after the other and gives no heartbeat meanwhile: where
            # the cluster takes seconds for each, more would make it look dead.
            "worker_pods_creation_batch_size": "4",
            # A cluster that does not answer, or a full quota, makes a task wait, not fail.
            "task_publish_max_retries": "-1",
            **pods.options(settings),
        },
        "logging": logs.options(settings),
        "scheduler": {
            # Seconds between two looks for work; with the default of 1 a task waits half a second
            # for the next one on average.
            "scheduler_idle_sleep_time": "0.2",
            # A scheduler that was killed leaves finished pods to its successor, which looks for
            # them this often (seconds).
            "orphaned_tasks_check_interval": "60",
        },
        "usage_data_collection": {"enabled": "False"},
        # The cookie of the token is so by itself where the proxy says that it speaks TLS.
        **({"fab": {"cookie_secure": "True"}} if settings.page_is_public else {}),
    }
    for section, given in settings.airflow_config.items():
        wanted.setdefault(section, {}).update(given)
    return wanted


def url(driver: str, database: str = DATABASE) -> str:
    """Where a driver finds a database: over the socket, as the user that it runs as."""
    return f"postgresql+{driver}:///{database}?host=/var/run/postgresql"


def _pod(settings: Settings) -> pods.Manifest:
    return pods.template(
        settings,
        image.reference(settings),
        worker_environment(settings),
        [*dags.volumes(settings), *logs.volumes(settings)],
        [tls.volume()],
    )


def worker_environment(settings: Settings) -> dict[str, str]:
    """What a task pod is told about Airflow. Nothing secret: a pod needs no database and no key,
    it talks to the Execution API with the token that comes with its task."""
    return {
        "AIRFLOW_HOME": "/tmp/airflow",
        "AIRFLOW_WORKER_IMAGE": image.reference(settings),
        "AIRFLOW__CORE__DAGS_FOLDER": dags.FOLDER,
        "AIRFLOW__CORE__PLUGINS_FOLDER": "/opt/airflow/plugins",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": settings.execution_api_url,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": dags.bundles(settings),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": "/tmp/airflow/bundles",
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": settings.kubernetes_namespace,
        # A restart of the api-server (about 15 s) must cost no task: with the defaults a worker
        # gives up after some 20 s.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
        **logs.environment(settings),
        **tls.environment(),
        # The links in mails are made where the task runs.
        **(
            {"AIRFLOW__API__BASE_URL": settings.airflow_base_url}
            if settings.airflow_base_url
            else {}
        ),
        # Where a DAG names an executor, Airflow looks whether there is one.
        "AIRFLOW__CORE__EXECUTOR": settings.airflow_executor,
        **settings.worker_env,
    }


def _make_secrets() -> None:
    paths = {f"{SECRETS}/{name}": make for name, make in making_secrets().items()}
    settled(
        name="Make the secrets that are missing",
        test=" && ".join(f"test -s {path}" for path in paths),
        commands=[
            f"umask 077; test -s {path} || {{ {make} > {path}.new && mv {path}.new {path}; }}"
            for path, make in paths.items()
        ],
        because="all secrets were made before",
    )


def making_secrets() -> dict[str, str]:
    """Shell commands, by the secret's name, that print a new one as its file is to hold it."""
    lines = {name: (f"{variable}=", value) for name, (variable, value) in SECRET_FILES.items()}
    lines["admin-password"] = ("", NEW_PASSWORD)
    return {
        name: "python3 -c " + shlex.quote(f"import base64, secrets; print({prefix!r} + {value})")
        for name, (prefix, value) in lines.items()
    }


def typing(path: str, command: str) -> str:
    """Shell command that gives the password in a file to a command of Airflow's, which asks twice.

    It is to come from the file, not from arguments that every user of the host can see; setsid
    takes away the terminal that the command would else ask on.
    """
    return f"cat {path} {path} | setsid --wait {CLI} {command}"


def _migrate(settings: Settings) -> None:
    heads = (
        f"runuser -u postgres -- psql -XAtqd airflow -c \"select '{settings.venv_key} '"
        " || a.version_num || ' ' || f.version_num"
        ' from alembic_version a, alembic_version_fab f"'
    )
    settled(
        name="Migrate the database's schema (about 10 s)",
        test=f"test -s {MIGRATED} && {heads} | cmp -s - {MIGRATED}",
        commands=[
            f"{CLI} db migrate >/dev/null",
            f"{heads} > {MIGRATED}.new && mv {MIGRATED}.new {MIGRATED}",
        ],
        because="the schema is this version's",
    )


def _create_admin(settings: Settings) -> None:
    user = settings.airflow_admin_user
    settled(
        name=f"Create the web page's user {user}",
        test="runuser -u postgres -- psql -XAtqd airflow -c"
        f" \"select 1 from ab_user where username = '{user}'\" | grep -q 1",
        commands=[
            typing(
                ADMIN_PASSWORD,
                f"users create --username {user} --role Admin --email {user}@localhost"
                f" --firstname {user} --lastname Airflow >/dev/null",
            )
        ],
        because="the user exists",
    )

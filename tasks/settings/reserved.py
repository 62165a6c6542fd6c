"""Options of other programs that the deploy decides: setting them would undo the deploy.

Each has the reason or the setting to use instead. Settings that pass options on refuse these.
"""

from __future__ import annotations

_SECRET = "its value is in /etc/airflow/secrets, and airflow-rotate replaces it"
_DATABASE = "use postgres_provider and postgres_hosts"
_PROXY = "nginx serves TLS in front of the api-server: use web_certificate"
_LOGS = "use logs_store, and logs_claim or logs_s3"
_BUNDLES = "use dags_source and dags_git_bundles"
_NAMESPACES = "use kubernetes_namespace and kubernetes_extra_namespaces"
_FOLLOWED = "another part of the deploy relies on it: leave it out"

# By section and name; the variables AIRFLOW__SECTION__NAME of pods mean the same options.
_OPTIONS = {
    ("core", "executor"): "use airflow_executor",
    ("core", "auth_manager"): "the first user, the login's limit and the smoke test need it",
    ("core", "dags_folder"): "use dags_source, and dags_claim or dags_local_folder",
    (
        "core",
        "plugins_folder",
    ): "services and pods have /opt/airflow/plugins, where only root writes",
    ("core", "execution_api_server_url"): "use execution_api_host and execution_api_port",
    **{("core", name): _SECRET for name in ("fernet_key", "fernet_key_cmd", "fernet_key_secret")},
    **{
        ("database", f"{name}{suffix}"): _DATABASE
        for name in ("sql_alchemy_conn", "sql_alchemy_conn_async")
        for suffix in ("", "_cmd", "_secret")
    },
    ("database", "sql_alchemy_schema"): _DATABASE,
    ("api", "host"): "use web_host, which serves the web page over TLS",
    ("api", "port"): "use web_port",
    ("api", "base_url"): "use web_base_url",
    **{("api", name): _PROXY for name in ("ssl_cert", "ssl_key")},
    **{("api", name): _SECRET for name in ("secret_key", "secret_key_cmd", "secret_key_secret")},
    **{
        ("api_auth", name): _SECRET
        for name in ("jwt_secret", "jwt_secret_cmd", "jwt_secret_secret", "jwt_private_key_path")
    },
    ("dag_processor", "dag_bundle_config_list"): _BUNDLES,
    ("dag_processor", "dag_bundle_storage_path"): _FOLLOWED,
    ("fab", "cookie_secure"): "it follows web_host",
    ("fab", "config_file"): "use web_login_config",
    **{
        ("kubernetes_executor", name): "use kubernetes_provider and kubernetes_kubeconfig"
        for name in ("in_cluster", "config_file", "cluster_context")
    },
    ("kubernetes_executor", "namespace"): _NAMESPACES,
    ("kubernetes_executor", "multi_namespace_mode"): _NAMESPACES,
    ("kubernetes_executor", "multi_namespace_mode_namespace_list"): _NAMESPACES,
    ("kubernetes_executor", "async_pod_creation"): (
        "its client keeps the token of the cluster that it began with, which ends after a week"
    ),
    ("kubernetes_executor", "pod_template_file"): "use worker_pod_template or worker_pod_override",
    ("kubernetes_executor", "worker_container_repository"): "use worker_image",
    ("kubernetes_executor", "worker_container_tag"): "use worker_image",
    ("kubernetes_executor", "delete_worker_pods"): "use worker_delete_finished_pods",
    ("kubernetes_executor", "delete_worker_pods_on_failure"): "use retention_failed_pod_minutes",
    ("logging", "base_log_folder"): _LOGS,
    ("logging", "dag_processor_child_process_log_directory"): _FOLLOWED,
    ("scheduler", "enable_health_check"): (
        "it listens on all addresses, and airflow-liveness.timer looks at the scheduler anyway"
    ),
}
# Where Airflow still reads some of them: their former sections and names.
FORMER_NAMES = {
    ("api", "base_url"): ("webserver", "base_url"),
    ("api", "host"): ("webserver", "web_server_host"),
    ("api", "port"): ("webserver", "web_server_port"),
    ("api", "secret_key"): ("webserver", "secret_key"),
    ("api", "ssl_cert"): ("webserver", "web_server_ssl_cert"),
    ("api", "ssl_key"): ("webserver", "web_server_ssl_key"),
    ("core", "execution_api_server_url"): ("workers", "execution_api_server_url"),
    ("database", "sql_alchemy_conn"): ("core", "sql_alchemy_conn"),
}
AIRFLOW_OPTIONS = _OPTIONS | {
    (section, f"{former}{suffix}"): _OPTIONS[new, f"{name}{suffix}"]
    for (new, name), (section, former) in FORMER_NAMES.items()
    for suffix in ("", "_cmd", "_secret")
    if (new, f"{name}{suffix}") in _OPTIONS
}
# Values of other options that can't work.
_VALUES = {
    ("core", "default_timezone", "system"): (
        "is the host's time zone on the host and UTC in pods: write the name of a zone, such as"
        " Europe/Berlin"
    ),
}


def refusal(written: str, section: str, option: str, value: str) -> str:
    """Why people can't give an option of Airflow this value; empty if they can.

    + written: the option as they wrote it, in whichever setting
    """
    if reason := AIRFLOW_OPTIONS.get((section, option)):
        return f"the deploy itself decides {written}: {reason}"
    if reason := _VALUES.get((section, option, value.strip())):
        return f"{written} = {value.strip()} {reason}"
    return ""


POD_VARIABLES = {
    "HOST_IP": "it is the node's address in each pod: choose another name",
    "AIRFLOW_WORKER_IMAGE": "use worker_image",
    "AIRFLOW__API__SSL_CERT": "pods trust the host's own authority with it",
}

POSTGRES_OPTIONS = {
    **dict.fromkeys(
        ("listen_addresses", "port", "unix_socket_directories"),
        "PostgreSQL listens where the deploy's programs look for it",
    ),
    **dict.fromkeys(
        ("data_directory", "config_file", "ident_file", "external_pid_file"),
        "Debian's pg_ctlcluster keeps it, and backups and upgrades rely on it",
    ),
    "hba_file": "pg_hba.conf decides which users PostgreSQL accepts",
    **dict.fromkeys(
        ("include", "include_dir", "include_if_exists"), "write the options of that file here"
    ),
}

_PROFILE = "the host has one cluster, and the deploy knows it by its name"
MINIKUBE_ARGS = {
    "--driver": "use minikube_driver",
    "--vm-driver": "use minikube_driver",
    "--kubernetes-version": "use kubernetes_version",
    "--container-runtime": "it is containerd, whose images the deploy manages",
    "--interactive": "nobody could answer",
    "--profile": _PROFILE,
    "-p": _PROFILE,
}
# Of a node that is a container.
_MOUNT = "the node has one folder of the host, /opt/airflow, for DAGs, plugins and logs"
# https://github.com/kubernetes/minikube/blob/v1.38.1/pkg/drivers/kic/oci/network_create.go
_NETWORK = (
    "the node has minikube's own network, which the proxy's exceptions and the advice about"
    ' firewalls name too: use "--subnet=192.168.60.0/24", where the node has the address .2'
)
ENGINE_ARGS = {
    "--mount": _MOUNT,
    "--mount-string": _MOUNT,
    "--network": _NETWORK,
    "--static-ip": _NETWORK,
}

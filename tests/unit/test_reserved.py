"""Options of other programs with which an inventory would undo the deploy."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from tasks.settings.reserved import AIRFLOW_OPTIONS, FORMER_NAMES
from tests.unit import fake, formats
from tests.unit.fake import Plan

LISTED = Path(__file__).parent / "airflow_options.txt"

# Options that the deploy writes and people may change: they make it slower or faster, or hide less.
FREE = {
    ("api", "workers"),
    ("core", "load_examples"),
    ("core", "might_contain_dag_callable"),
    ("kubernetes_executor", "pod_launch_failure_retries"),
    ("kubernetes_executor", "task_publish_max_retries"),
    ("kubernetes_executor", "worker_pods_creation_batch_size"),
    ("logging", "log_filename_template"),
    ("metrics", "legacy_names_on"),
    ("scheduler", "orphaned_tasks_check_interval"),
    ("scheduler", "scheduler_idle_sleep_time"),
    ("usage_data_collection", "enabled"),
    # With logs_store = "s3" only; other stores are chosen with them.
    ("logging", "remote_logging"),
    ("logging", "remote_base_log_folder"),
    ("logging", "remote_log_conn_id"),
}


@functools.cache
def refusal_of(section: str, name: str) -> str:
    """The refusal of an option of airflow.cfg, which most variants have in common."""
    return fake.refusal({"airflow_config": {section: {name: "x"}}})


def test_each_option_that_the_deploy_writes_is_its_own_or_free(variant: Plan) -> None:
    config = formats.airflow_config(variant.uploads["/etc/airflow/airflow.cfg"])
    for section in config.sections():
        for name in config[section]:
            if (section, name) not in FREE:
                sentence = refusal_of(section, name)
                assert sentence.startswith(f"airflow_config: the deploy itself decides {section}.")


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ({"airflow_config": {"api": {"host": "0.0.0.0"}}}, "web_host"),
        ({"airflow_config": {"api": {"ssl_cert": "/c.pem"}}}, "web_certificate"),
        ({"airflow_config": {"api": {"secret_key": "s3cret"}}}, "airflow-rotate"),
        ({"airflow_config": {"api_auth": {"jwt_secret": "s3cret"}}}, "airflow-rotate"),
        ({"airflow_config": {"core": {"fernet_key": "s3cret"}}}, "airflow-rotate"),
        ({"airflow_config": {"core": {"executor": "CeleryExecutor"}}}, "airflow_executor"),
        ({"airflow_config": {"database": {"sql_alchemy_conn_cmd": "cat /x"}}}, "postgres_provider"),
        ({"airflow_config": {"webserver": {"web_server_ssl_cert": "/c.pem"}}}, "web_certificate"),
        ({"airflow_config": {"webserver": {"secret_key_cmd": "cat /x"}}}, "airflow-rotate"),
        ({"airflow_config": {"core": {"sql_alchemy_conn_secret": "x"}}}, "postgres_provider"),
        ({"airflow_config": {"scheduler": {"enable_health_check": "True"}}}, "airflow-liveness"),
        ({"dags_env": {"AIRFLOW__WORKERS__EXECUTION_API_SERVER_URL": "x"}}, "execution_api_port"),
        ({"dags_env": {"AIRFLOW__CORE__DAGS_FOLDER": "/x"}}, "dags_source"),
        ({"dags_env": {"AIRFLOW__API__SSL_CERT": "/x"}}, "authority"),
        ({"dags_env": {"HOST_IP": "192.0.2.1"}}, "another name"),
        ({"postgres_config": {"listen_addresses": "*"}}, "look for it"),
        ({"postgres_config": {"Port": "5433"}}, "look for it"),
        ({"postgres_config": {"hba_file": "/x"}}, "pg_hba.conf"),
        ({"minikube_extra_args": ["--driver=docker"]}, "minikube_driver"),
        ({"minikube_extra_args": ["--kubernetes-version", "v1.30.0"]}, "kubernetes_version"),
        ({"minikube_extra_args": ["-p", "other"]}, "one cluster"),
    ],
)
def test_an_option_that_undoes_the_deploy_is_refused_with_the_setting_to_use(
    given: dict[str, Any], instead: str
) -> None:
    (key,) = given
    sentence = fake.refusal(given)
    assert sentence.startswith(f"{key}: the deploy itself") and instead in sentence
    assert "s3cret" not in sentence


def test_an_option_is_the_deploys_own_by_its_former_name_too() -> None:
    # «section option < former section former option» of each that Airflow still reads.
    lines = LISTED.read_text().splitlines()
    moved = [line.replace("*", "").split() for line in lines if " < " in line]
    read = {(section, name): (old, former) for section, name, _, old, former in moved}
    own = {option: former for option, former in read.items() if option in AIRFLOW_OPTIONS}
    assert own and own == FORMER_NAMES


@pytest.mark.parametrize(
    "option",
    ["--service-cluster-ip-range=", "--extra-config=kubeadm.pod-network-cidr=", "--subnet="],
)
def test_a_network_of_the_cluster_is_one(option: str) -> None:
    for wrong in ("172.30.0.0/33", "fd00::/108", "172.30.0.0", ""):
        refused = fake.refusal({"minikube_extra_args": [f"{option}{wrong}"]})
        assert "minikube_extra_args" in refused and "172.30.0.0/16" in refused
    fake.settings({"minikube_extra_args": [f"{option}172.30.0.1/16"]})


@pytest.mark.parametrize(
    "option", ["--service-cluster-ip-range", "--extra-config", "--subnet", "--cni"]
)
def test_an_option_that_the_deploy_follows_has_its_value_in_the_same_argument(option: str) -> None:
    """minikube would read the next one, and the deploy would take its default."""
    refused = fake.refusal({"minikube_extra_args": [option, "172.30.0.0/16"]})
    assert refused.startswith("minikube_extra_args: ") and f"{option}=VALUE" in refused
    fake.settings({"minikube_extra_args": ["--cpus", "2"]})


def test_a_node_in_a_container_has_no_other_mount() -> None:
    mine = {"minikube_extra_args": ["--mount-string=/srv:/srv"]}
    assert "/opt/airflow" in fake.refusal({"minikube_driver": "podman", **mine})
    # A virtual machine may have one.
    fake.settings({**fake.ANOTHER_DRIVER, **mine})


@pytest.mark.parametrize("given", ["--static-ip=192.168.60.7", "--network=mine"])
@pytest.mark.parametrize("driver", ["podman", "docker"])
def test_a_node_in_a_container_has_no_address_beside_its_subnet(driver: str, given: str) -> None:
    mine = {"minikube_extra_args": [given]}
    sentence = fake.refusal({"minikube_driver": driver, **mine})
    assert sentence.startswith("minikube_extra_args: ") and "--subnet=" in sentence
    # Other drivers ignore the one, or have networks of their own.
    fake.settings({**fake.ANOTHER_DRIVER, **mine})


def test_logs_of_another_store_can_be_configured() -> None:
    options = {"remote_logging": "True", "remote_base_log_folder": "gs://logs"}
    variables = {f"AIRFLOW__LOGGING__{name.upper()}": value for name, value in options.items()}
    fake.settings({"airflow_config": {"logging": options}, "dags_env": variables})

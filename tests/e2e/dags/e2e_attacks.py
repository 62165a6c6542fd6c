"""Tasks that would leave their pods, and one that asks only for what it may; for the tests."""

import os

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag, task
from kubernetes.client import models as k8s

IMAGE = "@IMAGE@"  # the test writes the worker image here
AIRFLOW_UID = int("@UID@")  # and the id of the host's user airflow here


def pod(context=None, *, volumes=(), **spec):
    """An executor_config with volumes, each at its name below the root folder."""
    mounts = [k8s.V1VolumeMount(name=v.name, mount_path=f"/{v.name}") for v in volumes]
    return {
        "pod_override": k8s.V1Pod(
            spec=k8s.V1PodSpec(
                containers=[k8s.V1Container(name="base", volume_mounts=mounts)],
                volumes=list(volumes),
                security_context=context and k8s.V1PodSecurityContext(**context),
                **spec,
            )
        )
    }


def folder(path: str) -> k8s.V1Volume:
    """A folder of the host."""
    return k8s.V1Volume(name="h", host_path=k8s.V1HostPathVolumeSource(path=path))


@dag(schedule=None, catchup=False)
def e2e_attacks() -> None:
    """Each attack fails by itself; none prints the secret that it is after."""

    @task(
        executor_config=pod({"run_as_user": 0, "run_as_non_root": False}, volumes=[folder("/")]),
    )
    def read_the_fernet_key() -> None:
        print("stolen", os.path.getsize("/h/etc/airflow/secrets/fernet-key"))

    @task(executor_config=pod({"run_as_user": AIRFLOW_UID}, volumes=[folder("/run/postgresql")]))
    def log_in_to_the_database() -> None:
        print("stolen", os.listdir("/h"))

    @task(executor_config=pod({"run_as_user": AIRFLOW_UID}))
    def be_the_control_plane() -> None:
        print("stolen", os.getuid())

    @task(
        executor_config=pod(
            volumes=[
                k8s.V1Volume(
                    name="t",
                    secret=k8s.V1SecretVolumeSource(secret_name="airflow-control-plane-token"),
                )
            ]
        )
    )
    def read_the_clusters_token() -> None:
        print("stolen", os.path.getsize("/t/token"))

    @task(executor_config=pod(service_account_name="airflow-control-plane"))
    def be_the_scheduler_in_the_cluster() -> None:
        print("stolen")

    @task(
        executor_config=pod(
            volumes=[k8s.V1Volume(name="s", empty_dir=k8s.V1EmptyDirVolumeSource())]
        )
    )
    def ask_for_a_folder_of_its_own() -> None:
        print("may use", os.listdir("/s"))

    read_the_fernet_key()
    log_in_to_the_database()
    be_the_control_plane()
    read_the_clusters_token()
    be_the_scheduler_in_the_cluster()
    ask_for_a_folder_of_its_own()
    KubernetesPodOperator(
        task_id="start_a_pod_that_is_root",
        image=IMAGE,
        cmds=["id"],
        security_context={"runAsUser": 0},
        service_account_name="airflow-worker",
        executor_config=pod(
            service_account_name="airflow-pod-operator", automount_service_account_token=True
        ),
    )


e2e_attacks()

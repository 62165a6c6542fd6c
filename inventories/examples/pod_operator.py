"""Tasks that start pods of their own with KubernetesPodOperator."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # Brings the service account airflow-pod-operator, and the DAG example_pod_operator,
            # which shows how a task gets it.
            "kubernetes_pod_operator": True,
            # do_xcom_push=True starts a second container; this takes the worker image for it
            # instead of one from the internet.
            "dags_env": {
                "AIRFLOW_CONN_KUBERNETES_DEFAULT": '{"conn_type": "kubernetes", "extra":'
                ' {"xcom_sidecar_container_image": "$(AIRFLOW_WORKER_IMAGE)"}}'
            },
        },
    )
]

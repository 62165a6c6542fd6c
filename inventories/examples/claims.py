"""DAGs and task logs in volume claims, on storage that the host mounts too, such as NFS."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            "dags_source": "volume_claim",
            "dags_claim": {
                # Without a size, the claim must exist. The deploy writes nothing into it.
                "name": "dags",
                # Pods see only this folder of the claim.
                "subpath": "dags",
                # Where the host sees the same files: that same folder. Not below /home or /root.
                "host_path": "/srv/nfs/dags",
            },
            "logs_store": "volume_claim",
            "logs_claim": {
                "name": "logs",
                "host_path": "/srv/nfs/logs",
                # With a size, the deploy creates the claim; it never deletes it.
                "size": "20Gi",
                # Without it: the cluster's default. With minikube's driver none that is in /tmp.
                "storage_class": "nfs",
                "access_mode": "ReadWriteMany",
            },
            # The user id of task pods, which must be allowed to write logs.
            "airflow_uid": 50000,
        },
    )
]

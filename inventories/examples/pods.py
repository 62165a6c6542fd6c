"""Task pods with a shape of their own, in several namespaces, with quotas and a network policy."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # Variables of all that runs DAG code; not secret: a pod's manifest shows them.
            "dags_env": {
                "HTTPS_PROXY": "http://proxy.example.com:3128",
                # Task pods reach the Execution API of the host without the proxy.
                "NO_PROXY": "$(HOST_IP)",
            },
            # Merged into the pod's manifest as Airflow merges a task's pod_override.
            "worker_pod_override": {
                "metadata": {"labels": {"team": "data"}},
                "spec": {
                    "nodeSelector": {"disk": "ssd"},
                    "tolerations": [{"key": "batch", "operator": "Exists"}],
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    # The first container is the task's own, and its name is base.
                    "containers": [
                        {
                            "name": "base",
                            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                        }
                    ],
                },
            },
            # Keep pods that failed for two hours, to look at them.
            "retention_failed_pod_minutes": 120,
            # Tasks choose it with metadata.namespace of their pod_override.
            "kubernetes_extra_namespaces": ["team-a"],
            # Manifests; one without a namespace goes into that of the task pods.
            "kubernetes_extra_manifests": [
                # For containers that have no limits of their own, as a task may start them.
                {
                    "apiVersion": "v1",
                    "kind": "LimitRange",
                    "metadata": {"name": "tasks"},
                    "spec": {
                        "limits": [
                            {
                                "type": "Container",
                                "default": {"memory": "1Gi", "ephemeral-storage": "2Gi"},
                                "defaultRequest": {"memory": "256Mi", "ephemeral-storage": "100Mi"},
                            }
                        ]
                    },
                },
                {
                    "apiVersion": "v1",
                    "kind": "ResourceQuota",
                    "metadata": {"name": "tasks", "namespace": "team-a"},
                    "spec": {"hard": {"pods": "20", "requests.memory": "16Gi"}},
                },
                {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": "urgent"},
                    "value": 1000,
                },
            ],
            # Pods reach DNS, the Execution API and these networks. It needs a network plugin that
            # enforces policies; the one that minikube brings does not.
            "kubernetes_network_policy": True,
            "kubernetes_allowed_networks": ["10.0.0.0/8"],
        },
    )
]

"""Pairs of a pod and an override of it: the deploy must merge them as Airflow does."""

from __future__ import annotations

from typing import Any

BASE: dict[str, Any] = {
    "metadata": {"name": "worker", "labels": {"a": "1", "b": "1"}},
    "spec": {
        "serviceAccountName": "worker",
        "enableServiceLinks": True,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 50000},
        "volumes": [{"name": "dags", "emptyDir": {"sizeLimit": "1Gi"}}],
        "initContainers": [{"name": "first", "image": "first:1"}],
        "containers": [
            {
                "name": "base",
                "image": "worker:1",
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "dags", "mountPath": "/dags"}],
                "resources": {"limits": {"memory": "1Gi"}},
            },
            {"name": "second", "image": "second:1"},
        ],
    },
}
MERGED: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"labels": {"b": "2", "c": "2"}, "annotations": {"d": "2"}}},
    "metadata alone beside a spec": {"metadata": {"finalizers": ["example.com/x"]}},
    "lists that are added to": {
        "spec": {
            "volumes": [{"name": "more", "emptyDir": {"sizeLimit": "2Gi"}}],
            "containers": [
                {
                    "name": "base",
                    "env": [{"name": "B", "value": "2"}],
                    "volumeMounts": [{"name": "more", "mountPath": "/more"}],
                    "ports": [{"containerPort": 9}],
                }
            ],
        }
    },
    "replaced parts": {
        "spec": {
            "serviceAccountName": "other",
            "securityContext": {"fsGroup": 7},
            "tolerations": [{"key": "b", "operator": "Exists"}],
            "nodeSelector": {"zone": "x"},
            "containers": [{"name": "base", "resources": {"requests": {"cpu": "1"}}}],
        }
    },
    "false values": {
        "spec": {"enableServiceLinks": False, "containers": [{"name": "base", "image": ""}]}
    },
    "more containers": {
        "spec": {
            "containers": [
                {"name": "base"},
                {"name": "second", "image": "second:2"},
                {"name": "third", "image": "third:2"},
            ],
            "initContainers": [
                {"name": "zeroth", "image": "zeroth:2"},
                {"name": "first", "args": ["x"]},
            ],
        }
    },
}

"""The pod that every task runs in: the template that Airflow fills in with the task."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.kinds import Claim
from tasks.settings import Settings

Manifest = dict[str, Any]


class Volume(NamedTuple):
    """A volume of the pod, and how its container mounts it."""

    volume: Manifest
    mount: Manifest


def host_folder(name: str, path: str, *, read_only: bool = False) -> Volume:
    """A folder of the node, at the same path in the pod."""
    return Volume(
        {"name": name, "hostPath": {"path": path, "type": "Directory"}},
        {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})},
    )


def claimed(name: str, claim: Claim, path: str, *, read_only: bool = False) -> Volume:
    """A claim's volume, or a folder of it, at a path in the pod."""
    return Volume(
        {"name": name, "persistentVolumeClaim": {"claimName": claim.name}},
        {
            "name": name,
            "mountPath": path,
            **({"subPath": claim.subpath} if claim.subpath else {}),
            **({"readOnly": True} if read_only else {}),
        },
    )


def template(
    settings: Settings, image: str, environment: dict[str, str], volumes: list[Volume]
) -> Manifest:
    """The pod's manifest: not root, no rights in the cluster, no privilege to gain."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "airflow-worker", "namespace": settings.kubernetes_namespace},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "airflow-worker",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": settings.airflow_uid,
                "runAsGroup": settings.airflow_uid,
                "fsGroup": settings.airflow_uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "base",  # Airflow's name for the container that runs the task
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": settings.worker_resources,
                    "env": [
                        # The node's address; Kubernetes puts it in, also for $(HOST_IP) below.
                        {
                            "name": "HOST_IP",
                            "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}},
                        },
                        *({"name": name, "value": value} for name, value in environment.items()),
                    ],
                    "volumeMounts": [volume.mount for volume in volumes],
                }
            ],
            "volumes": [volume.volume for volume in volumes],
        },
    }

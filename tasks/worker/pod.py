"""The pod that every task runs in: the template that Airflow fills in with the task."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import yaml
from pyinfra.api import DeployError

from tasks.layout import POD_CANDIDATE, ROOT
from tasks.lib import whole_file
from tasks.lib.manifests import Manifest, Volume
from tasks.lib.operations import ensure
from tasks.settings import HostSettings
from tasks.settings.types import digest

# The labels in which Kubernetes has the system and the architecture of a node.
SYSTEM, ARCHITECTURE = "kubernetes.io/os", "kubernetes.io/arch"
BASE = "base"  # Airflow's name for the container that runs the task


def options(settings: HostSettings) -> dict[str, str]:
    """Options of airflow.cfg's section kubernetes_executor: pods that ended, and namespaces."""
    chosen = {
        "delete_worker_pods": str(settings.worker.delete_finished_pods),
        "delete_worker_pods_on_failure": str(not settings.retention.keeps_pods),
    }
    if settings.retention.keeps_pods and settings.worker.delete_finished_pods:
        # While a failed pod is kept, Airflow sees its failure every 30 s, and would blame the new
        # pod of the same try for it.
        chosen["pod_launch_failure_retries"] = "0"
    if settings.kubernetes.extra_namespaces:
        chosen["multi_namespace_mode"] = "True"
        chosen["multi_namespace_mode_namespace_list"] = ",".join(settings.kubernetes.namespaces)
    return chosen


def template(
    settings: HostSettings,
    image: str,
    environment: dict[str, str],
    volumes: list[Volume],
    needed: Sequence[Volume] = (),
) -> Manifest:
    """The manifest with which every task's pod begins. `needed` volumes are added to a template of
    the inventory, too."""
    if settings.worker.pod_template:
        own = own_template(settings.worker.pod_template)
        return _on_a_fitting_node(settings, image, _completed(own, image, environment, needed))
    generated = _generated(settings, image, environment, [*volumes, *needed])
    made = merged(generated, dict(settings.worker.pod_override))
    return _on_a_fitting_node(settings, image, made)


def _on_a_fitting_node(settings: HostSettings, image: str, pod: Manifest) -> Manifest:
    """The pod, on nodes with Linux, and of the host's architecture if its image is the one that the
    host builds. Another image may be for several architectures.
    """
    spec, fitting = pod["spec"], {SYSTEM: "linux"}
    if not settings.worker.image and spec["containers"][0].get("image") == image:
        fitting[ARCHITECTURE] = settings.architecture
    given = spec.get("nodeSelector") or {}
    return {**pod, "spec": {**spec, "nodeSelector": {**fitting, **given}}}


def _generated(
    settings: HostSettings, image: str, environment: dict[str, str], volumes: list[Volume]
) -> Manifest:
    """A pod that is not root, has no rights in the cluster, and no privilege to gain."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "airflow-worker", "namespace": settings.kubernetes.namespace},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "airflow-worker",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": settings.airflow.uid,
                "runAsGroup": settings.airflow.uid,
                "fsGroup": settings.airflow.uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": BASE,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": settings.worker.resources,
                    "env": _variables(environment),
                    "volumeMounts": [volume.mount for volume in volumes],
                }
            ],
            "volumes": [volume.volume for volume in volumes],
        },
    }


def _variables(environment: dict[str, str]) -> list[Manifest]:
    return [
        # The node's address; Kubernetes puts it in, also for $(HOST_IP) below.
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        *({"name": name, "value": value} for name, value in environment.items()),
    ]


# The inventory's own template


def own_template(path: str) -> Manifest:
    """The pod template in a file on this machine.

    Raises DeployError with a sentence if Airflow could not make task pods of it.
    """
    says = f"worker_pod_template: {path}"
    try:
        pod = yaml.safe_load(Path(ROOT, path).read_text())
    except OSError as error:
        raise DeployError(
            f"{says} can't be read ({error.strerror}): write the path of a file on your machine"
        ) from None
    except yaml.YAMLError as error:
        raise DeployError(f"{says} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        raise DeployError(f"{says} holds no Pod: write its manifest, with kind: Pod")
    spec = pod.get("spec") or {}
    first: Manifest = next(iter(spec.get("containers") or []), {})
    if first.get("name") != BASE:
        raise DeployError(
            f"{says}: the first of spec.containers runs the task and must have the name {BASE},"
            f" not {first.get('name')!r}"
        )
    if spec.get("restartPolicy") != "Never":
        raise DeployError(
            f"{says}: write spec.restartPolicy: Never, or Kubernetes would run a task that ended"
            " again and again"
        )
    return pod


def _completed(
    pod: Manifest, image: str, environment: dict[str, str], needed: Sequence[Volume]
) -> Manifest:
    """The inventory's template; the deploy adds the parts that it leaves out and only the deploy
    knows."""
    base, *others = pod["spec"]["containers"]
    there = {volume["name"] for volume in pod["spec"].get("volumes") or []}
    more = [volume for volume in needed if volume.volume["name"] not in there]
    own = base.get("env") or []
    names = {variable["name"] for variable in own}
    missing = [each for each in _variables(environment) if each["name"] not in names]
    # The missing ones first: variables may use those above them.
    completed = {"image": image, **base, "env": [*missing, *own]}
    spec = {**pod["spec"], "containers": [completed, *others]}
    if more:
        mounts = base.get("volumeMounts") or []
        completed["volumeMounts"] = [*mounts, *(volume.mount for volume in more)]
        spec["volumes"] = [*(spec.get("volumes") or []), *(volume.volume for volume in more)]
    return {**pod, "spec": spec}


# Merge manifests by the rules of Airflow's PodGenerator.reconcile_pods, which also merge a task's
# pod_override: the lists named here, labels and annotations are extended; any other list or
# structure, such as securityContext, is replaced. Airflow's own function can't be run: the manifest
# is made on this machine, which has no Airflow, before the host has a virtual environment with it.
# tests/host/test_kubernetes.py compares the two on a deployed host.

LISTS_OF_METADATA = ("finalizers", "managedFields", "ownerReferences")
LISTS_OF_A_CONTAINER = ("env", "envFrom", "ports", "volumeDevices", "volumeMounts")


def merged(pod: Manifest, more: Manifest) -> Manifest:
    """A pod with more of its manifest; an empty or false value changes nothing."""
    result = _filled(pod, more)
    for key, merge in (("metadata", _metadata), ("spec", _spec)):
        if pod.get(key) and more.get(key):
            result[key] = merge(pod[key], more[key])
    return result


def _metadata(ours: Manifest, more: Manifest) -> Manifest:
    result = _filled(ours, more, LISTS_OF_METADATA)
    for key in ("labels", "annotations"):
        if pairs := {**(ours.get(key) or {}), **(more.get(key) or {})}:
            result[key] = pairs
    return result


def _spec(ours: Manifest, more: Manifest) -> Manifest:
    result = _filled(ours, more, ("volumes",))
    # Containers are merged by their position, those that run before them by their name.
    our_containers, more_containers = ours.get("containers") or [], more.get("containers") or []
    shared = min(len(our_containers), len(more_containers))
    result["containers"] = [
        *map(_container, our_containers[:shared], more_containers[:shared]),
        *our_containers[shared:],
        *more_containers[shared:],
    ]
    by_name = {each.get("name"): each for each in more.get("initContainers") or []}
    if before := [
        *(
            _container(each, by_name.pop(each.get("name"), {}))
            for each in ours.get("initContainers") or []
        ),
        *by_name.values(),
    ]:
        result["initContainers"] = before
    return result


def _container(ours: Manifest, more: Manifest) -> Manifest:
    return _filled(ours, more, LISTS_OF_A_CONTAINER)


def _filled(ours: Manifest, more: Manifest, lists: tuple[str, ...] = ()) -> Manifest:
    result = {**ours, **{key: value for key, value in more.items() if value or key not in ours}}
    for key in lists:
        if both := [*(ours.get(key) or []), *(more.get(key) or [])]:
            result[key] = both
    return result


def let_the_cluster_check(settings: HostSettings, manifest: str) -> None:
    """The cluster accepts task pods like this manifest."""
    shaping = [
        f"worker_{name}"
        for name in ("pod_template", "pod_override", "resources")
        if settings.worker.gives(name)
    ]
    if settings.dags.env:
        shaping.append("dags_env")
    whole_file.put(
        name="Write the pod template for the cluster to check",
        src=StringIO(manifest),
        dest=POD_CANDIDATE,
        mode="600",
    )
    ensure(
        name="Let the cluster check the pod template",
        program="pod-template.sh",
        # Another cluster may refuse the same manifest.
        args=[digest(manifest, settings.kubectl, settings.kubernetes.version), *shaping],
        already="the cluster accepted it as it is",
    )

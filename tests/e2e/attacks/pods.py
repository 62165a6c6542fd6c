"""Pods that the policy should refuse, with the words that say why, and pods that it should admit.

Each is the pod template with a change. The template is the cluster's to judge, not this module's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Pod = dict[str, Any]
Change = Callable[[Pod], object]

FOLDER = "a pod may mount only these folders of the node"
READ_ONLY = "only with readOnly: true"
KIND = "a pod may have volumes of the kinds"
NODE = "may not have the node's network, processes or memory"
PORT = "may not take a port of the node"
PROBE = "may not name a host"
NODE_NAME = "may not name its node"
PRIORITY = "may not have the priority of the cluster's own pods"
TAINTS = "may not tolerate the taints of control-plane nodes"
USER = "each container must run as the user"
GROUP = "the groups of a pod"
NO_GROUP = "must name its group"
PRIVILEGES = "a container may not gain privileges"
SETUID = "allowPrivilegeEscalation: false"
CONFINEMENT = "may not loosen its confinement"
ACCOUNT = "may act only as the service account"
OTHERS = "e2e-others"  # an account of the namespace that no setting names
# It is in a namespace without pods.
NO_ACCOUNT = "error looking up service account airflow/airflow-control-plane"
FINALIZERS = "may not have finalizers"
END = "seconds to end (terminationGracePeriodSeconds)"
SECRET = "may not read the deploy's own Secrets"


def base(pod: Pod) -> Pod:
    """The container of the task."""
    container: Pod = pod["spec"]["containers"][0]
    return container


def volume(**source: Any) -> Change:
    """One more volume, mounted."""

    def change(pod: Pod) -> None:
        pod["spec"]["volumes"].append({"name": "more", **source})
        base(pod)["volumeMounts"].append({"name": "more", "mountPath": "/more"})

    return change


def host_path(path: str, **more: str) -> Change:
    """One more folder of the node, mounted."""
    return volume(hostPath={"path": path, **more})


def spec(**more: Any) -> Change:
    """Other fields of the pod."""
    return lambda pod: pod["spec"].update(more)


def context(**more: Any) -> Change:
    """Another context of the pod, whole as a pod_override replaces it."""
    return lambda pod: pod["spec"].update(securityContext=more)


def container(**more: Any) -> Change:
    """Other fields of the task's container."""
    return lambda pod: base(pod).update(more)


def container_context(**more: Any) -> Change:
    """Other fields of the context of the task's container."""
    return lambda pod: base(pod)["securityContext"].update(more)


def one_more(key: str, **more: Any) -> Change:
    """One more container of a kind, like the first one except for these fields."""

    def change(pod: Pod) -> None:
        first = base(pod)
        other = {"name": "other", "image": first["image"], "command": ["true"], **more}
        pod["spec"].setdefault(key, []).append(other)

    return change


def bare(*changes: Change) -> Change:
    """A pod that has nothing of the template, as tasks start them; with changes."""

    def change(pod: Pod) -> None:
        pod["metadata"] = {"name": "other"}
        pod["spec"] = {
            "restartPolicy": "Never",
            "serviceAccountName": "airflow-worker",
            "securityContext": {"runAsUser": pod["spec"]["securityContext"]["runAsUser"]},
            "volumes": [],
            "containers": [
                {
                    "name": "base",
                    "image": base(pod)["image"],
                    "volumeMounts": [],
                    "securityContext": {},
                }
            ],
        }
        for each in changes:
            each(pod)

    return change


def writable(pod: Pod) -> None:
    """The folder of DAGs, mounted to write into it."""
    for mount in base(pod)["volumeMounts"]:
        mount.pop("readOnly", None)


def finalized(pod: Pod) -> None:
    """A pod that stays until somebody takes the finalizer away, which nobody does."""
    pod["metadata"]["finalizers"] = ["example.com/e2e"]


def of_a_job(pod: Pod) -> None:
    """The finalizer that Kubernetes gives to pods of a Job, and takes away."""
    pod["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]


def own_group(pod: Pod) -> object:
    """The group of the task's container alone instead of the pod's."""
    group = pod["spec"]["securityContext"].pop("runAsGroup")
    return base(pod)["securityContext"].update(runAsGroup=group)


def annotated(pod: Pod) -> None:
    """AppArmor off, in the old spelling."""
    key = f"container.apparmor.security.beta.kubernetes.io/{base(pod)['name']}"
    pod["metadata"]["annotations"] = {key: "unconfined"}


TOKEN = "airflow-control-plane-token"
PROBING = {"httpGet": {"host": "127.0.0.1", "port": 8080, "path": "/"}}

# By what the pod attempts: the change, and the words that refuse it.
REFUSED: dict[str, tuple[Change, str]] = {
    "the host's root folder": (host_path("/"), FOLDER),
    "the database's socket": (host_path("/run/postgresql"), FOLDER),
    "a folder below one of the template, which may be a link": (
        host_path("/var/log/airflow/link"),
        FOLDER,
    ),
    "one of the template in another spelling": (host_path("/var/log/airflow/"), FOLDER),
    "containerd's socket": (host_path("/run/containerd/containerd.sock", type="Socket"), FOLDER),
    "a device": (host_path("/dev/sda", type="BlockDevice"), FOLDER),
    "a folder of the host in a container before": (
        lambda pod: [
            pod["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/etc"}}),
            one_more("initContainers", volumeMounts=[{"name": "h", "mountPath": "/h"}])(pod),
        ],
        FOLDER,
    ),
    "to stay for ever": (finalized, FINALIZERS),
    "to stay for ever, as if it were of a Job": (of_a_job, FINALIZERS),
    "a day to end": (spec(terminationGracePeriodSeconds=86400), END),
    "to write DAGs": (writable, READ_ONLY),
    "a kind of volume that mounts on the node": (
        volume(nfs={"server": "192.0.2.1", "path": "/"}),
        KIND,
    ),
    "the host's network": (spec(hostNetwork=True), NODE),
    "the host's processes": (spec(hostPID=True), NODE),
    "the host's memory": (spec(hostIPC=True), NODE),
    "a port of the host": (container(ports=[{"containerPort": 80, "hostPort": 80}]), PORT),
    "a request by the node": (container(livenessProbe=PROBING), PROBE),
    "a request by the node at the end": (container(lifecycle={"preStop": PROBING}), PROBE),
    "a node of its choice": (spec(nodeName="minikube"), NODE_NAME),
    "the nodes of the control plane": (
        spec(tolerations=[{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]),
        TAINTS,
    ),
    "the priority of the cluster's own pods": (
        spec(priorityClassName="system-node-critical"),
        PRIORITY,
    ),
    "all nodes": (spec(tolerations=[{"operator": "Exists"}]), TAINTS),
    "root": (context(runAsUser=0, runAsNonRoot=False), USER),
    "the host's user airflow": (context(runAsUser=998), USER),
    "the user of its image": (context(seccompProfile={"type": "RuntimeDefault"}), USER),
    "the user of its image, not root": (context(runAsNonRoot=True), USER),
    "root in the container alone": (container_context(runAsUser=0), USER),
    "root in a container before": (
        one_more(
            "initContainers", securityContext={"runAsUser": 0, "allowPrivilegeEscalation": False}
        ),
        USER,
    ),
    "root in a container beside": (
        one_more("containers", securityContext={"runAsUser": 0, "allowPrivilegeEscalation": False}),
        USER,
    ),
    "root in a pod without a folder of the host": (bare(context(runAsUser=0)), USER),
    "the group root": (lambda pod: pod["spec"]["securityContext"].update(runAsGroup=0), GROUP),
    "a group of the container alone": (container_context(runAsGroup=4), GROUP),
    "another group for its volumes": (
        lambda pod: pod["spec"]["securityContext"].update(fsGroup=4),
        GROUP,
    ),
    "more groups": (
        lambda pod: pod["spec"]["securityContext"].update(supplementalGroups=[4]),
        GROUP,
    ),
    "the group of its image": (
        lambda pod: pod["spec"]["securityContext"].pop("runAsGroup"),
        NO_GROUP,
    ),
    "the group of its image in a container beside": (
        lambda pod: [
            own_group(pod),
            one_more(
                "containers",
                volumeMounts=base(pod)["volumeMounts"],
                securityContext={"allowPrivilegeEscalation": False},
            )(pod),
        ],
        NO_GROUP,
    ),
    "privileges": (
        container_context(privileged=True, allowPrivilegeEscalation=True),
        PRIVILEGES,
    ),
    "privileges later": (container_context(allowPrivilegeEscalation=True), PRIVILEGES),
    "privileges later, without a folder of the host": (
        bare(container_context(allowPrivilegeEscalation=True)),
        PRIVILEGES,
    ),
    "a capability": (container_context(capabilities={"add": ["SYS_ADMIN"]}), PRIVILEGES),
    "privileges by a program of its image": (
        lambda pod: base(pod)["securityContext"].pop("allowPrivilegeEscalation"),
        SETUID,
    ),
    "privileges in a container that sees the processes of the first one": (
        lambda pod: [pod["spec"].update(shareProcessNamespace=True), one_more("containers")(pod)],
        SETUID,
    ),
    "no seccomp": (container_context(seccompProfile={"type": "Unconfined"}), CONFINEMENT),
    "no seccomp for the pod": (
        lambda pod: pod["spec"]["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        CONFINEMENT,
    ),
    "no AppArmor": (container_context(appArmorProfile={"type": "Unconfined"}), CONFINEMENT),
    "no AppArmor, as it was spelt": (annotated, CONFINEMENT),
    "a value of the kernel": (
        lambda pod: pod["spec"]["securityContext"].update(
            sysctls=[{"name": "kernel.shm_rmid_forced", "value": "0"}]
        ),
        CONFINEMENT,
    ),
    "another SELinux type": (container_context(seLinuxOptions={"type": "spc_t"}), CONFINEMENT),
    "another account of the namespace": (spec(serviceAccountName=OTHERS), ACCOUNT),
    "the control plane's token as a file": (volume(secret={"secretName": TOKEN}), SECRET),
    "the registry's login as a file": (volume(secret={"secretName": "airflow-registry"}), SECRET),
    "the token among other files": (
        volume(projected={"sources": [{"secret": {"name": TOKEN}}]}),
        SECRET,
    ),
    "the token as variables": (container(envFrom=[{"secretRef": {"name": TOKEN}}]), SECRET),
    "the token as a variable": (
        container(
            env=[
                {"name": "T", "valueFrom": {"secretKeyRef": {"name": TOKEN, "key": "token"}}},
            ]
        ),
        SECRET,
    ),
    "the token in a container before": (
        one_more(
            "initContainers",
            envFrom=[{"secretRef": {"name": TOKEN}}],
            securityContext={"allowPrivilegeEscalation": False},
        ),
        SECRET,
    ),
}

# Pods that tasks should be able to make.
ADMITTED: dict[str, Change] = {
    "the template as it is": lambda pod: None,
    "more memory and variables": container(
        resources={"limits": {"memory": "700Mi"}}, env=[{"name": "GREETING", "value": "hello"}]
    ),
    "a folder of its own": volume(emptyDir={}),
    "a claim": volume(persistentVolumeClaim={"claimName": "team"}),
    "a Secret of the team's": volume(secret={"secretName": "team"}),
    "a variable of a Secret of the team's": container(
        env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": "team", "key": "token"}}}]
    ),
    "facts about itself": volume(
        downwardAPI={"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}
    ),
    "ten minutes to end": spec(terminationGracePeriodSeconds=600),
    "a login for its image": spec(imagePullSecrets=[{"name": "airflow-registry"}]),
    "a node by its labels": spec(nodeSelector={"kubernetes.io/os": "linux"}),
    "a taint by its name": spec(tolerations=[{"key": "gpu", "operator": "Exists"}]),
    "a probe of itself": container(livenessProbe={"httpGet": {"port": 80, "path": "/"}}),
    "a port of its own": container(ports=[{"containerPort": 8000}]),
    "the group of its image in a container that sees no folder of the host": lambda pod: [
        own_group(pod),
        one_more("containers")(pod),
    ],
    "a container beside": one_more(
        "initContainers",
        restartPolicy="Always",
    ),
    "a pod that a task starts": bare(),
    "a pod that a task starts, with a container beside it": bare(one_more("containers")),
}


def changed(template: Pod, change: Change, number: int = 0) -> Pod:
    """The template with a change, under a name of its own."""
    pod = copy.deepcopy(template)
    change(pod)
    pod["metadata"] = {**pod["metadata"], "name": f"e2e-attack-{number}"}
    pod["metadata"].pop("namespace", None)
    return pod

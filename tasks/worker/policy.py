"""The policy that admits task pods: the cluster's API refuses pods that reach beyond themselves."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from io import StringIO
from typing import Any

import yaml
from pyinfra import host
from pyinfra.api import DeployError, deploy, operation
from pyinfra.facts.server import Command

from tasks.layout import (
    CONTROL_PLANE,
    POD_POLICY,
    POD_POLICY_REFUSED,
    POD_TEMPLATE,
    PULL_SECRET,
    ROOT,
    TRIGGERER,
)
from tasks.lib import progress, whole_file
from tasks.lib.manifests import Manifest, render
from tasks.lib.operations import ensure
from tasks.settings import HostSettings
from tasks.worker.template import manifest

TEMPLATE = ROOT / "files/cluster/pod-policy.yaml.j2"
# Every user, and also the one that an image names: no policy can see which one that is.
ANY_USER = -1
# The kinds of volumes that Kubernetes' standard "restricted" has, and images.
KINDS = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
}
# The labels of the pods that Airflow's executor makes for tasks.
EXECUTORS = ["airflow-worker", "kubernetes_executor"]
# Seconds that a pod may take to end after its deletion; a template may have more.
LONGEST_END = 600
# The accounts with rights of Airflow's own: no pod acts as one of them.
AIRFLOWS_OWN = {CONTROL_PLANE, TRIGGERER}


def name(settings: HostSettings) -> str:
    """Name of the policy and of its binding; a cluster may have several Airflows."""
    return f"airflow-pods-{settings.kubernetes.namespace}"


@deploy("Kubernetes")
def prepare(settings: HostSettings) -> None:
    """While the template changes, the cluster admits pods of the old one and of the new one.

    Raises DeployError if the policy would refuse the new one itself.
    """
    template = manifest(settings)
    if objections := refused(settings, template):
        raise DeployError("\n".join(objections))
    if not settings.is_first:
        return
    shown = host.get_fact(Command, command=f"cat {POD_TEMPLATE} 2>/dev/null; true")
    in_use = yaml.safe_load(shown or "")
    # A template from before the policy may have any form: the policy comes with the next one.
    if not in_use or _same(in_use, template) or refused(settings, in_use):
        return
    _apply(settings, [template, in_use], " while the template changes")


@deploy("Kubernetes")
def admit(settings: HostSettings) -> None:
    """The cluster admits only pods like the template, and those that settings allow."""
    if not settings.is_first:
        return
    _apply(settings, [manifest(settings)], "")
    _say_if_refused(name="Find out whether the cluster has the policy")


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether two templates differ in nothing but digests of images, which the host adds."""
    texts = {re.sub("@sha256:[0-9a-f]{64}", "", yaml.safe_dump(each)) for each in (one, other)}
    return len(texts) == 1


def _apply(settings: HostSettings, templates: Sequence[Manifest], while_: str) -> None:
    wanted = settings.kubernetes.pod_policy
    whole_file.put(
        name=f"Write the policy on task pods{while_}",
        src=StringIO(text(settings, templates)),
        dest=POD_POLICY,
        mode="644",
    )
    ensure(
        name=f"Admit only safe task pods{while_}",
        program="pod-policy.py",
        args=["present" if wanted else "absent"],
        already="the cluster has the policy" if wanted else "the cluster has no policy",
    )


@operation()
def _say_if_refused() -> Generator[str, None, None]:
    """Tell people at the end if only an admin of the cluster can apply the policy."""
    if host.get_fact(Command, command=f"ls {POD_POLICY_REFUSED} 2>/dev/null || true"):
        progress.print_at_end(
            "Nothing restricts task pods, so people who write DAGs can reach the cluster's nodes:"
            " the user of kubernetes_kubeconfig may not make admission policies, or the cluster is"
            " older than Kubernetes 1.30, which brought them. An admin of the cluster should"
            f" upgrade it if need be, and apply {POD_POLICY} of the host with kubectl."
        )
    host.noop("the run says at its end if it has none")
    yield from ()


def text(settings: HostSettings, templates: Sequence[Manifest]) -> str:
    """The policy and its binding, as YAML."""
    return render(TEMPLATE, settings, **values(settings, templates))


def values(settings: HostSettings, templates: Sequence[Manifest]) -> dict[str, Any]:
    """The values of the policy: those of the templates, and those that settings also allow."""
    specs = [template["spec"] for template in templates]
    folders = [_host_folders(spec) for spec in specs]
    own = {folder for each in folders for folder in each}
    written = {folder for each in folders for folder, is_written in each.items() if is_written}
    allowed = set(settings.kubernetes.allowed_host_folders)
    mounts = {mount for spec in specs for mount in _claim_mounts(spec)}
    read = {claim for claim, _, is_written in mounts if not is_written}
    users = {settings.airflow.uid, *settings.kubernetes.allowed_users}
    if 0 in users:
        users.add(ANY_USER)
    users |= {number for spec in specs for number in _ids(spec)}
    accounts = {spec["serviceAccountName"] for spec in specs if spec.get("serviceAccountName")}
    kinds = {kind for spec in specs for each in spec.get("volumes") or [] for kind in each}
    return {
        "name": name(settings),
        "namespaces": settings.kubernetes.namespaces,
        # Those that act in the name of a task: all accounts of the namespaces.
        "tasks": [f"system:serviceaccounts:{each}" for each in settings.kubernetes.namespaces],
        # It runs code of DAGs on the host, beside accounts of the same namespace that do not.
        "triggerer": f"system:serviceaccount:{settings.kubernetes.control_namespace}:{TRIGGERER}",
        "executors": EXECUTORS,
        "folders": sorted(own | allowed),
        "read_only": sorted(own - written - allowed),
        # Each with the folders in it that the template writes to: a claim may be for logs too.
        "read_only_claims": {
            claim: sorted(
                folder for name, folder, is_written in mounts if name == claim and is_written
            )
            for claim in sorted(read)
            if (claim, "", True) not in mounts
        },
        "finalizers": sorted(
            {
                each
                for template in templates
                for each in template.get("metadata", {}).get("finalizers") or []
            }
        ),
        "longest_end": max(
            LONGEST_END, *(spec.get("terminationGracePeriodSeconds") or 0 for spec in specs)
        ),
        # The one that is there by default comes first.
        "ids": sorted(users, key=lambda user: (user != settings.airflow.uid, user)),
        "accounts": sorted((_accounts(settings) | accounts) - AIRFLOWS_OWN),
        "kinds": sorted(KINDS | kinds - {"name", "hostPath"}),
        "secrets": [*(f"{account}-token" for account in sorted(AIRFLOWS_OWN)), PULL_SECRET],
        "names_node": any(spec.get("nodeName") for spec in specs),
        "system_priorities": sorted(
            {
                spec["priorityClassName"]
                for spec in specs
                if spec.get("priorityClassName", "").startswith("system-")
            }
        ),
        "tolerates_control_plane": any(
            _control_plane(toleration)
            for spec in specs
            for toleration in spec.get("tolerations") or []
        ),
    }


def _host_folders(spec: Manifest) -> dict[str, bool]:
    """The folders of the node that a pod mounts, and whether it may write into each."""
    by_name = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in spec.get("volumes") or []
        if volume.get("hostPath")
    }
    found = dict.fromkeys(by_name.values(), False)
    for container in _containers(spec):
        for mount in container.get("volumeMounts") or []:
            if mount["name"] in by_name and not mount.get("readOnly"):
                found[by_name[mount["name"]]] = True
    return found


def _claim_mounts(spec: Manifest) -> set[tuple[str, str, bool]]:
    """The claims that a pod mounts, the folder of each, and whether it may write there."""
    by_name = {
        volume["name"]: volume["persistentVolumeClaim"]
        for volume in spec.get("volumes") or []
        if volume.get("persistentVolumeClaim")
    }
    return {
        (
            claim["claimName"],
            mount.get("subPath") or "",
            not (mount.get("readOnly") or claim.get("readOnly")),
        )
        for container in _containers(spec)
        for mount in container.get("volumeMounts") or []
        if (claim := by_name.get(mount["name"]))
    }


def _ids(spec: Manifest) -> set[int]:
    """The numbers of users and groups that a pod names, except root's."""
    contexts = [each.get("securityContext") or {} for each in (spec, *_containers(spec))]
    keys = ("runAsUser", "runAsGroup", "fsGroup")
    named = {context[key] for context in contexts for key in keys if key in context}
    more = {number for each in contexts for number in each.get("supplementalGroups") or []}
    return (named | more) - {0}


def _containers(spec: Manifest) -> list[Manifest]:
    return [*spec["containers"], *(spec.get("initContainers") or [])]


def _accounts(settings: HostSettings) -> set[str]:
    """The service accounts of task pods, and of the pods that these start."""
    found = {"airflow-worker", *settings.kubernetes.allowed_service_accounts}
    if settings.kubernetes.pod_operator:
        # A pod that names no account has the second one, which has no rights.
        found |= {"airflow-pod-operator", "default"}
    return found


def _control_plane(toleration: Manifest) -> bool:
    key = toleration.get("key") or ""
    return key in (
        "",
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
    )


def refused(settings: HostSettings, template: Manifest) -> list[str]:
    """A sentence for each part of the template that the policy would refuse; before any change."""
    if not settings.kubernetes.pod_policy:
        return []
    given = "worker_pod_template" if settings.worker.pod_template else "worker_pod_override"
    spec, allowed = template["spec"], values(settings, [template])
    found = [
        f"{given}: the pods would have the node's {key[4:].lower()} ({key}), which the policy on"
        " task pods refuses: leave it out, or write kubernetes_pod_policy = false"
        for key in ("hostNetwork", "hostPID", "hostIPC")
        if spec.get(key)
    ]
    account = spec.get("serviceAccountName") or "default"
    if account not in allowed["accounts"]:
        found.append(
            f"{given}: the policy on task pods refuses the service account {account}: write"
            " airflow-worker or another one as serviceAccountName"
        )
    for container in _containers(spec):
        says = f"{given}: the policy on task pods refuses the container {container.get('name')}"
        found += [
            f"{says}, {why}" for why in _objections(settings, spec, container, allowed["ids"])
        ]
    return found


def _objections(
    settings: HostSettings, spec: Manifest, container: Manifest, ids: list[int]
) -> Iterator[str]:
    """Why the policy would refuse a container of a pod, each with what to do."""
    pod = spec.get("securityContext") or {}
    context = container.get("securityContext") or {}
    user = context.get("runAsUser", pod.get("runAsUser", ANY_USER))
    if user not in ids:
        as_whom = f"as the user {user}" if user != ANY_USER else "as its image's user"
        yield (
            f"which would run {as_whom}: write {settings.airflow.uid} as runAsUser, or"
            " allow another one with kubernetes_allowed_users"
        )
    of_host = {each["name"] for each in spec.get("volumes") or [] if each.get("hostPath")}
    mounted = {mount["name"] for mount in container.get("volumeMounts") or []}
    group = context.get("runAsGroup", pod.get("runAsGroup", ANY_USER))
    if of_host & mounted and group not in ids:
        yield (
            f"which mounts a folder of the node: write {settings.airflow.uid} as"
            " runAsGroup into the pod's securityContext"
        )
    if of_host & mounted and context.get("allowPrivilegeEscalation", True):
        yield (
            "which mounts a folder of the node: write"
            " allowPrivilegeEscalation: false into its securityContext"
        )
    gains = [key for key in ("privileged", "allowPrivilegeEscalation") if context.get(key)]
    if (context.get("capabilities") or {}).get("add"):
        gains.append("capabilities.add")
    if gains:
        yield (
            f"which would have {' and '.join(gains)}: leave that out, or write"
            " kubernetes_pod_policy = false"
        )

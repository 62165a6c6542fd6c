#!/usr/bin/python3 -B
"""cluster-objects.py check|apply: the cluster has the objects of /etc/airflow/kubernetes.json, the
host's authority and the registry's login, and none of the objects of kubernetes-unwanted.json.
cluster-objects.py replace [ACCOUNT...]: these service accounts of the host, or all, are new ones,
so that the cluster refuses their old tokens. Written by the deploy of Airflow.

No content of a secret is in an argument, in an output or in an annotation.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from commands import advised
from lib import fail, host, take_surroundings, usage, words

Manifest = dict[str, Any]
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Group(NamedTuple):
    """Objects that one call of kubectl applies: kubectl, its options, and their manifests."""

    kubectl: list[str]
    options: list[str]
    objects: list[Manifest]


def read(path: str) -> list[Manifest]:
    """The objects of a list in a file."""
    objects: list[Manifest] = json.loads(Path(path).read_text())["items"]
    return objects


def kubectl(command: list[str], objects: list[Manifest]) -> subprocess.CompletedProcess[bytes]:
    """Run kubectl with objects as its standard input."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return subprocess.run([*command, "-f", "-"], input=text.encode(), capture_output=True)


def groups() -> list[Group]:
    """All objects that the cluster should have."""
    admin = words("KUBECTL")
    namespaces = words("NAMESPACES")
    objects = read(host()["KUBERNETES_OBJECTS"])
    # kubectl accepts -n only if no object names another namespace.
    elsewhere = [each for each in objects if needs_no_namespace(each)]
    here = [each for each in objects if not needs_no_namespace(each)]
    authority = {"ca.pem": Path(host()["PODS_AUTHORITY"]).read_text()}
    elsewhere += [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": host()["AUTHORITY_CONFIG_MAP"], "namespace": namespace},
            "data": authority,
        }
        for namespace in namespaces
    ]
    found = [Group(admin, [], elsewhere)]
    if here:
        found.append(Group([*admin, "-n", host()["NAMESPACE"]], [], here))
    if host()["PULL_SECRET"]:
        login = base64.b64encode(Path(host()["REGISTRY_LOGIN"]).read_bytes()).decode()
        secrets: list[Manifest] = [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": host()["PULL_SECRET"], "namespace": namespace},
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": login},
            }
            for namespace in namespaces
        ]
        # Otherwise kubectl would copy the content into an annotation.
        found.append(Group(admin, ["--server-side", "--force-conflicts"], secrets))
    return found


def needs_no_namespace(manifest: Manifest) -> bool:
    """Whether an object names its namespace, or is a namespace."""
    return "namespace" in manifest["metadata"] or manifest["kind"] == "Namespace"


def are_there(group: Group) -> bool:
    """Whether the cluster has objects just as kubectl applied them. kubectl diff is always right,
    but takes ten times as long: the API tries to change each object."""
    done = kubectl([*group.kubectl, "get", "--ignore-not-found", "-o", "json"], group.objects)
    if done.returncode or not done.stdout.strip():
        return False
    answer = json.loads(done.stdout)
    found = answer["items"] if answer["kind"] == "List" else [answer]
    return len(found) == len(group.objects) and all(map(is_as_applied, found, group.objects))


def is_as_applied(found: Manifest, wanted: Manifest) -> bool:
    """Whether an object has the fields that it should, and kubectl applied these and no others.

    kubectl notes the fields that it applied in an annotation, since it deletes fields that are not
    wanted any more: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/
    """
    applied = json.loads(found["metadata"].get("annotations", {}).get(APPLIED, "{}"))
    if not applied:
        return False
    # kubectl adds these two, if they are not there.
    added = {"annotations": {}, "namespace": found["metadata"].get("namespace")}
    full = {**wanted, "metadata": {**added, **wanted["metadata"]}}
    applied["metadata"].setdefault("namespace", None)
    return bool(applied == full) and has(found, wanted)


def has(found: Any, wanted: Any) -> bool:
    """Whether a value has all of another one: the API adds fields with their defaults."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and has(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(has, found, wanted))
    return bool(found == wanted)


def check() -> None:
    """Exit with a sentence if an object should be applied or deleted."""
    for group in groups():
        if are_there(group):
            continue
        done = kubectl([*group.kubectl, "diff", *group.options], group.objects)
        if done.returncode > 1:
            fail(f"the cluster can't be asked about Airflow's objects: {said(done)}")
        if done.returncode:
            kinds = sorted({each["kind"] for each in group.objects})
            fail(f"the cluster lacks an object, or has another, of: {', '.join(kinds)}")
    command = [*words("KUBECTL"), "get", "--ignore-not-found", "-o", "name"]
    if unwanted := read(host()["KUBERNETES_UNWANTED"]):
        done = kubectl(command, unwanted)
        if done.returncode:
            fail(f"the cluster can't be asked about unwanted objects: {said(done)}")
        if found := done.stdout.decode().split():
            fail(f"the cluster has unwanted objects: {', '.join(found)}")


def apply() -> None:
    """Apply the wanted objects, and delete the unwanted ones."""
    for group in groups():
        act([*group.kubectl, "apply", *group.options], group.objects)
    if unwanted := read(host()["KUBERNETES_UNWANTED"]):
        act([*words("KUBECTL"), "delete", "--ignore-not-found"], unwanted)


def replace(accounts: list[str]) -> None:
    """Delete accounts, with which their tokens end, and make them again. Their rights are bound to
    their names, and stay."""
    chosen = [
        each
        for each in read(host()["KUBERNETES_OBJECTS"])
        if each["kind"] == "ServiceAccount"
        and each["metadata"].get("namespace") == host()["CONTROL_NAMESPACE"]
        and (not accounts or each["metadata"]["name"] in accounts)
    ]
    if not chosen:
        fail(f"{host()['KUBERNETES_OBJECTS']} has no such account of the host")
    admin = words("KUBECTL")
    act([*admin, "delete", "--ignore-not-found"], chosen)
    act([*admin, "apply"], chosen)


def act(command: list[str], objects: list[Manifest]) -> None:
    """Run kubectl, and exit with its words if it fails."""
    done = kubectl(command, objects)
    sys.stdout.write(done.stdout.decode())
    if done.returncode:
        fail(said(done))


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The error of a command."""
    return advised(done.stderr.decode().strip())


def main() -> None:
    """Check, apply or replace."""
    match sys.argv[1:]:
        case ["check"]:
            check()
        case ["apply"]:
            apply()
        case ["replace", *accounts]:
            replace(accounts)
        case _:
            usage()


if __name__ == "__main__":
    take_surroundings()
    main()

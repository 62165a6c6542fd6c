#!/usr/bin/python3 -B
"""pod-policy.py check|apply present|absent: the cluster has the policy that admits task pods, and
its binding, or neither. Written by the deploy of Airflow.

The policy is the file POD_POLICY of /etc/airflow/host.env. On an existing cluster the account of
the deploy may lack the right: then `apply` notes that in POD_POLICY_REFUSED, and ends well;
the deploy tells the cluster's admin at its end.
"""

import hashlib
import json
import subprocess
import sys
from typing import Any

from commands import path
from lib import fail, take_surroundings, usage, words

Object = dict[str, Any]


class NotAllowed(Exception):
    """The account may not do that, or the cluster is too old to know policies."""


def kubectl(*arguments: str, given: str = "") -> str:
    """The output of kubectl; raises NotAllowed or ends the program if it fails."""
    done = subprocess.run(
        [*words("KUBECTL"), *arguments], input=given, capture_output=True, text=True
    )
    if done.returncode:
        said = " ".join(done.stderr.split())
        if "(Forbidden)" in said or "have a resource type" in said or "no matches for kind" in said:
            raise NotAllowed(said)
        fail(f"{' '.join(arguments)}: {said}")
    return done.stdout


def wanted() -> list[Object]:
    """The objects of the file; Debian's Python reads JSON, and kubectl makes JSON of it."""
    lines = kubectl(
        *("create", "--dry-run=client", "--validate=false", "-o", "json"),
        *("-f", str(path("POD_POLICY"))),
    )
    found: list[Object] = []
    decoder = json.JSONDecoder()
    while lines := lines.lstrip():
        each, end = decoder.raw_decode(lines)
        found += each["items"] if each["kind"] == "List" else [each]
        lines = lines[end:]
    return found


def there(each: Object) -> Object | None:
    """The object as the cluster has it."""
    name, kind = each["metadata"]["name"], each["kind"]
    said = kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
    return json.loads(said) if said else None


def differing(present: bool) -> list[Object]:
    """The objects that are not as they should be."""
    found = []
    for each in wanted():
        now = there(each)
        if (now is None) == present or (now and present and now["spec"] != each["spec"]):
            found.append(each)
    return found


def noted() -> bool:
    """Whether this policy was refused before."""
    mark = path("POD_POLICY_REFUSED")
    return mark.exists() and mark.read_text() == checksum()


def checksum() -> str:
    """Names the policy."""
    return hashlib.sha256(path("POD_POLICY").read_bytes()).hexdigest()


def check(present: bool) -> None:
    """Fail if something differs."""
    try:
        found = differing(present)
        names = ", ".join(
            f"{each['kind']} {each['metadata']['name']}" for each in found if may(each, present)
        )
        if names:
            fail(f"the cluster's {names} should be {'as the file has it' if present else 'gone'}")
        refused = bool(found)
    except NotAllowed:
        refused = True
    mark = path("POD_POLICY_REFUSED")
    if not noted() if refused and present else mark.exists():
        fail(f"{mark} should say whether the cluster's admin has to apply {path('POD_POLICY')}")


def may(each: Object, present: bool) -> bool:
    """Whether the account may make the object as it should be."""
    verb = ("patch" if there(each) else "create") if present else "delete"
    what = f"{each['kind'].lower()}.admissionregistration.k8s.io/{each['metadata']['name']}"
    done = subprocess.run(
        [*words("KUBECTL"), "auth", "can-i", "--quiet", verb, what], capture_output=True
    )
    return done.returncode == 0


def apply(present: bool) -> None:
    """Make it so, or note that only the cluster's admin can."""
    mark = path("POD_POLICY_REFUSED")
    try:
        for each in differing(present):
            if present:
                kubectl("apply", "-f", "-", given=json.dumps(each))
            else:
                kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")
    except NotAllowed:
        if present:
            mark.write_text(checksum())
            return
    mark.unlink(missing_ok=True)


def main() -> None:
    """Check or apply."""
    match sys.argv[1:]:
        case ["check", "present" | "absent" as state]:
            check(state == "present")
        case ["apply", "present" | "absent" as state]:
            apply(state == "present")
        case _:
            usage()


if __name__ == "__main__":
    take_surroundings()
    main()

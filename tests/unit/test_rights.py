"""The rights in folders, files and the cluster that the deploy gives, by lists written by hand."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from typing import NamedTuple

from tasks import layout
from tasks.lib.operations import FOLDER_PROGRAM
from tests.unit import fake
from tests.unit.fake import Plan, Planned

# Each folder with a reason; DAGs' code runs as airflow-dags, and the control plane as airflow,
# which is in the group of the former, and not the other way round.
FOLDERS = {
    # Both read airflow.cfg there; nobody else has to.
    "/etc/airflow": ("root:airflow-dags", "750"),
    # systemd, which is root, gives each unit those that it needs.
    "/etc/airflow/secrets": ("root:root", "700"),
    # Everybody may read the authorities; keys have modes of their own.
    "/etc/airflow/tls": ("root:root", "755"),
    "/opt/airflow": ("root:root", "755"),
    "/opt/airflow/image": ("", "755"),
    # People of the group airflow put DAGs there. Code of DAGs must not change DAGs.
    "/opt/airflow/dags": ("root:airflow", "2775"),
    # Its files run in the api-server, with all keys: nobody but root may write.
    "/opt/airflow/plugins": ("root:airflow", "2755"),
    # DAGs that the deploy brings for other sources: only it writes.
    "/opt/airflow/baked-dags": ("root:airflow", "755"),
    "/opt/airflow/deploy-dags": ("root:airflow", "2755"),
    "/opt/airflow/baked-plugins": ("root:root", "755"),
    "/var/lib/airflow": ("airflow:airflow", "750"),
    "/var/lib/airflow-dags": ("airflow-dags:airflow-dags", "750"),
    # Root writes there: nobody may leave a link in its way.
    "/var/lib/airflow-deploy": ("root:root", "700"),
    "/var/lib/airflow-deploy/tmp": ("root:root", "700"),
    "/usr/local/lib/airflow": ("root:root", "755"),
    "/opt/airflow/venvs": ("root:root", "755"),
    # Pods write as airflow-dags, the web page reads by the group; logs may quote secrets.
    "/var/log/airflow": ("root:airflow-dags", "2770"),
    "/var/log/airflow-dag-processor": ("airflow-dags:airflow-dags", "2750"),
    # A backup holds every key.
    "/var/backups/airflow": ("root:root", "700"),
    # The registry's authority, for the tools of containers.
    "/etc/containers/certs.d": ("", "755"),
    "/etc/containers/certs.d/registry.example:5000": ("", "755"),
    "/etc/containerd/certs.d": ("", "755"),
    "/etc/containerd/certs.d/registry.example:5000": ("", "755"),
}
# Files, by patterns, of which the first counts. Without an owner they are root's, which makes them.
FILES = {
    # Options may be secret, as a mail server's password.
    "/etc/airflow/airflow.cfg": ("root:airflow-dags", "640"),
    # It holds no secret.
    "/etc/airflow/host.env": ("root:root", "644"),
    "/etc/airflow/extra-requirements.txt": ("root:root", "644"),
    "/etc/airflow/uv.toml": ("root:root", "644"),
    "/etc/airflow/package-authority.pem": ("root:root", "644"),
    "/etc/airflow/database-authority.pem": ("root:root", "644"),
    "/etc/airflow/dags.env": ("root:root", "644"),
    # Only the deploy reads these.
    "/etc/airflow/*.candidate.yaml": ("root:root", "600"),
    "/etc/airflow/*.candidate.env": ("root:root", "600"),
    "/etc/airflow/*.json": ("root:root", "600"),
    "/opt/airflow/image/start-task": ("root:root", "644"),
    # The cluster shows it to all, and an admin of the cluster may fetch it.
    "/etc/airflow/pod-policy.yaml": ("root:root", "644"),
    "/etc/postgresql/15/main/conf.d/airflow.conf": ("postgres:postgres", "640"),
    "/etc/postgresql/15/main/pg_hba.conf": ("postgres:postgres", "600"),
    "/etc/systemd/system/*": ("root:root", "644"),
    "/etc/tmpfiles.d/*": ("root:root", "644"),
    "/etc/keepalived/keepalived.conf": ("root:root", "644"),
    "/etc/nginx/sites-available/airflow": ("root:root", "644"),
    "/etc/container*/certs.d/*": ("root:root", "644"),
    "/opt/airflow/requirements/*.txt": ("root:root", "644"),
}


class Rights(NamedTuple):
    """Owner and group, empty where root has made it and keeps it, and the mode."""

    owner: str
    mode: str


def rights(operation: Planned, path: str) -> Rights:
    """The rights that an operation gives to a path."""
    commands = operation.commands
    for command in commands:
        if fake.WHOLE_FILE in command:
            _, _, file, owner, mode, *_ = shlex.split(command.splitlines()[1])
            assert file == path
            return Rights(owner, mode)
    # A file gets its rights where it is, or before it is moved there.
    end = rf"(\S+) {re.escape(path)}(?:\.new)?(?: && |$)"
    owners = [found[1] for c in commands if (found := re.search(rf"(?:^| )chown {end}", c))]
    (mode,) = [found[1] for c in commands if (found := re.search(rf"(?:^| )chmod {end}", c))]
    return Rights("".join(owners), mode)


def test_each_folder_has_the_rights_of_the_list(variants: dict[str, Plan]) -> None:
    seen: dict[str, Rights] = {}
    for plan in variants.values():
        for operation in plan.operations:
            if match := re.search(r"Create (/\S+)$", operation.name):
                found = rights(operation, match[1])
                assert seen.setdefault(match[1], found) == found
    assert seen == FOLDERS


def test_each_file_has_the_rights_of_the_list(variants: dict[str, Plan]) -> None:
    used = set()
    for plan in variants.values():
        for operation in plan.operations:
            if any(FOLDER_PROGRAM.read_text().strip() in command for command in operation.commands):
                continue  # files of an archive have the modes that it gives them
            for path in operation.uploads:
                pattern = next((each for each in FILES if fnmatch(path, each)), None)
                assert pattern, f"add the rights of {path} to FILES"
                assert rights(operation, path) == FILES[pattern], path
                used.add(pattern)
    assert used == FILES.keys()


def test_programs_that_are_uploaded_at_once_can_be_run() -> None:
    top = fake.FILES / "usr/local"
    files = [path for path in top.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) > 5
    for path in files:  # the host has the mode of this file; see `_archive`
        # The others are given to a program, and are none.
        is_program = path.read_text().startswith("#!") and path.name != "lib.sh"
        assert path.stat().st_mode & 0o777 == (0o755 if is_program else 0o644), path


def test_of_the_two_users_only_the_control_plane_is_in_the_others_group(plan: Plan) -> None:
    groups = {}
    for name in ("airflow", "airflow-dags"):
        (command,) = plan.named(f"System | Create user {name}").commands
        (groups[name],) = re.findall(r"-g (\S+)(?: -G (\S+))?", command)
        assert "-s /usr/sbin/nologin" in command and f"-d /var/lib/{name} " in command
    assert groups == {
        "airflow": ("airflow", "airflow-dags"),
        "airflow-dags": ("airflow-dags", ""),
    }


def test_the_user_of_pods_has_the_id_of_the_setting() -> None:
    plan = fake.plan(fake.settings({"airflow_uid": 4321}))
    for kind, option in (("group", "--gid"), ("user", "--uid")):
        (command,) = plan.named(f"System | Create {kind} airflow-dags").commands
        assert f"{option} 4321 " in f"{command} "


# The rights of each account in the cluster, in each namespace of tasks.
_PODS = {f"{verb} pods" for verb in ("create", "get", "list", "watch", "patch", "delete")}
_FOLLOW = {"get pods/log", "list events", "watch events"}
ACCOUNTS = {
    "airflow-control-plane": {*_PODS, "get pods/log"},
    # It deletes the pods of deferred tasks, and never makes one.
    "airflow-triggerer": {*(_PODS - {"create pods"}), *_FOLLOW},
    # The operator reads its result from a container of the pod.
    # It may ask for tokens of the others, by name, and for nothing else: see test_kubeconfig.
    "airflow-renewal": set(),
    "airflow-pod-operator": {*_PODS, *_FOLLOW, "create pods/exec", "get pods/exec"},
}


def test_each_account_of_the_cluster_has_just_the_rights_of_the_list(
    variants: dict[str, Plan],
) -> None:
    seen: dict[str, set[str]] = {}
    for plan in variants.values():
        # Another one of several hosts makes none.
        objects = json.loads(plan.uploads.get(layout.KUBERNETES_OBJECTS, '{"items": []}'))["items"]
        # Rights in all of the cluster would be of these kinds.
        assert not [each for each in objects if each["kind"].startswith("Cluster")]
        roles = {
            (each["metadata"]["namespace"], each["metadata"]["name"]): {
                f"{verb} {resource}"
                for rule in each["rules"]
                for verb in rule["verbs"]
                for resource in rule["resources"]
                if rule["apiGroups"] == [""] and not rule.get("resourceNames")
            }
            for each in objects
            if each["kind"] == "Role"
        }
        bindings = [each for each in objects if each["kind"] == "RoleBinding"]
        # Each role is given to one account, which has no other.
        assert len(bindings) == len(roles)
        for each in bindings:
            (account,) = each["subjects"]
            role, namespace = each["roleRef"]["name"], each["metadata"]["namespace"]
            assert (account["kind"], account["name"]) == ("ServiceAccount", role)
            rights = roles.pop((namespace, role))
            assert seen.setdefault(role, rights) == rights
        assert not roles
    assert seen == ACCOUNTS

"""The removal as a list of operations, without a host; only a real one shows its effect."""

from __future__ import annotations

import fcntl
import functools
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tasks import layout, remove
from tasks.layout import ROOT
from tasks.lib import operations
from tests.unit import fake, postgres, shell
from tests.unit.fake import Plan


@pytest.fixture(
    scope="module", params=["defaults", "existing cluster", "another driver", "a container as node"]
)
def given(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that take different ways."""
    return fake.VARIANTS[request.param]


def commands_of(plan: Plan) -> list[str]:
    """All commands of all operations."""
    return [command for each in plan.operations for command in each.commands]


@pytest.mark.parametrize("keep_data", [False, True])
def test_commands_and_questions_are_shell(given: dict[str, Any], keep_data: bool) -> None:
    plan = fake.removal(given, keep_data)
    commands = commands_of(plan)
    assert len(commands) > 3
    assert shell.unreadable({*commands, *plan.facts}) == []


# A path as it stands in a command; variables of the shell are not followed.
PATH = r"/(?:etc|opt|root|run|srv|tmp|usr|var)/[\w./@+*-]*[\w*]"
# A path that a command makes: of a redirection, a move, a copy, a link or a folder.
MADE = re.compile(
    rf">>? ?({PATH})|\bmkdir (?:-p )?({PATH})|\binstall -d -m \d+ ({PATH})"
    rf"|\b(?:mv|cp|ln)(?: -\w+)* \S+ ({PATH})|\bvenv[^;&]* ({PATH})"
)
# Paths that the deploy makes and the removal leaves, each with the reason.
LEFT = {
    "/etc/postgresql/15/main": "Debian's; the deploy's changes in it are undone",
    "/etc/containerd": "purged with the package, and then emptied",
    "/etc/containers": "purged with the package, and then emptied",
    "/usr/local": "Debian's",
    "/usr/local/bin": "Debian's",
    "/etc/systemd/system": "Debian's",
    "/etc/tmpfiles.d": "Debian's",
    "/etc/keepalived": "Debian's",
    "/etc/nginx/sites-available": "Debian's",
    "/etc/nginx/sites-enabled": "Debian's",
    layout.LOCKS: "in memory, and held by the removal itself",
}
# Paths that a removal with keep_data=True leaves as well.
DATA = {
    "/etc/airflow": "the folder of the secrets",
    "/etc/airflow/secrets": "keys that the data is encrypted with",
    "/opt/airflow": "the folder of the DAGs",
    "/opt/airflow/dags": "people's, with those of the deploy",
    "/opt/airflow/plugins": "people's",
    "/etc/systemd/system/postgresql@15-main.service.d": "starts the PostgreSQL of the data again",
    "/var/lib/airflow": "homes",
    "/var/lib/airflow-dags": "homes",
    "/var/lib/airflow-deploy": "notes about the database and the folders",
    "/var/log/airflow": "logs",
    "/var/log/airflow-dag-processor": "logs",
    "/var/backups/airflow": "backups",
}


def made(plan: Plan) -> set[str]:
    """The paths on the host that a deploy makes, but for those that it only has for a moment."""
    paths = set(plan.uploads)
    units = [text for path, text in plan.uploads.items() if path.endswith(".service")]
    for command in [*commands_of(plan), *units]:
        paths |= {path for found in MADE.findall(command) for path in found if path}
        # The folders into which files are brought.
        paths |= set(re.findall(r"^action=apply\ndest=(\S+)$", command, re.MULTILINE))
    return {path for path in paths if not re.search(r"\.(new|part|before|tar)$", path)}


# A program that is sent as text, and its arguments; and the patterns that each deletes.
SENT = r"#!/bin/sh\nset -- (apply .*)\n# ([\w-]+\.sh) "
DELETED_BY: dict[str, Callable[[list[str]], set[str]]] = {
    "buildah.sh": lambda arguments: set(),
    "cluster.sh": lambda arguments: {arguments[0]},
    "database.sh": lambda arguments: {
        f"{arguments[0]}/conf.d/airflow.conf",
        *(arguments[5], str(Path(arguments[5]).parent)),
        arguments[6],
    },
    "files.sh": set,
    "keep-used.sh": lambda arguments: set(),
    "node-image.sh": lambda arguments: {arguments[1]} if arguments[0] == "gone" else set(),
    "node-logs.sh": lambda arguments: {arguments[0]},  # the folder is empty by then
    "node-network.sh": lambda arguments: set(),
    "node-reset.sh": set,
    "objects.sh": lambda arguments: set(),
    "nginx-remove.sh": set,
    "purge.sh": lambda arguments: set(arguments[:2]),  # it empties the folders after them
    "unit-gone.sh": lambda arguments: {arguments[0], *arguments[2:]},
    "units.sh": lambda arguments: {f"{arguments[0]}/airflow*", *arguments[1:]},
    "unused.sh": lambda arguments: {arguments[0]},
    "users.sh": lambda arguments: set(),
}


def deleted(plan: Plan) -> set[str]:
    """The patterns of all paths that a removal deletes with their content."""
    found: set[str] = set()
    for command in commands_of(plan):
        if program := re.match(SENT, command):
            arguments, name = program.groups()
            found |= DELETED_BY[name](shlex.split(arguments)[1:])
            continue
        for words in re.findall(r"\brm ((?:-\w+ )?(?:\S+ ?)+)", re.sub("[;&|}]", "\n", command)):
            found |= set(re.findall(PATH, words))
    return found


def is_deleted(path: str, patterns: Iterable[str]) -> bool:
    """Whether it is, or a folder that it is in; by patterns as a shell has them."""
    whole = Path(path)
    return any(is_like(each, pattern) for each in (whole, *whole.parents) for pattern in patterns)


@functools.cache
def is_like(path: Path, pattern: str) -> bool:
    """Whether a path is one of a pattern, of which no part reaches over a slash."""
    parts = Path(pattern).parts
    return len(path.parts) == len(parts) and all(map(fnmatch, path.parts, parts))


# The place of the drop-in in the arguments of a program.
DROP_INS = {"nginx-remove.sh": 3, "unit-gone.sh": 1}


def left(plan: Plan, removal: Plan) -> set[str]:
    """Paths that a deploy makes and a removal leaves; those in claims are not the deploy's."""
    patterns = deleted(removal)
    empty = {path for each in commands_of(removal) for path in re.findall(f"rmdir ({PATH})", each)}
    for command in commands_of(removal):
        program = re.match(SENT, command)
        # The folders of drop-ins, if they are empty.
        if program and program[2] in DROP_INS:
            empty.add(str(Path(shlex.split(program[1])[DROP_INS[program[2]]]).parent))
    return {path for path in made(plan) - empty if not is_deleted(path, [*patterns, "/srv"])}


def reasons(path: str, known: Iterable[str]) -> set[str]:
    """Why it is left: entries of a list for itself, or for a folder that holds only such things."""
    inside = {"/etc/postgresql/15/main", "/etc/containerd", "/etc/containers", *DATA} - {
        "/etc/airflow",
        "/opt/airflow",
    }
    return {each for each in known if path == each or (each in inside and is_deleted(path, [each]))}


@pytest.mark.parametrize("keep_data", [False, True])
def test_all_that_a_deploy_makes_is_removed_or_has_a_reason_to_stay(
    variants: dict[str, Plan], keep_data: bool
) -> None:
    known = {**LEFT, **(DATA if keep_data else {})}
    used = {layout.LOCKS}  # which these plans do not show
    for name, plan in variants.items():
        paths = made(plan)
        assert {"/etc/airflow/airflow.cfg", "/var/log/airflow", "/run/airflow"} <= paths
        for path in left(plan, fake.removal_of(name, keep_data)):
            assert reasons(path, known), f"{name}: the removal leaves {path}"
            used |= reasons(path, known)
    assert used == known.keys()


def test_data_is_kept_when_it_is_asked_for() -> None:
    patterns = deleted(fake.removal({}, True))
    for path in (
        "/etc/airflow/secrets/objects.json",
        "/opt/airflow/dags/team.py",
        "/opt/airflow/plugins/team.py",
        "/var/lib/airflow-deploy/migrated",
        "/var/log/airflow/dag_id=a/task.log",
        "/var/backups/airflow/airflow-20260101T023000Z.tar",
        "/etc/postgresql/15/main/conf.d/airflow.conf",
    ):
        assert not is_deleted(path, patterns), path


# Paths that the deploy's programs leave on a node, as their manuals say:
# https://minikube.sigs.k8s.io/docs/handbook/persistent_volumes/,
# https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
OF_THE_NODE = {
    "/root/.minikube": "profiles, certificates and downloads",
    "/root/.kube": "the kubeconfig of the cluster",
    "/etc/kubernetes": "kubeadm's manifests, and the administrator's kubeconfig",
    "/var/lib/minikube": "certificates, the programs, and etcd's data",
    "/var/lib/kubelet/pods": "volumes of pods",
    "/etc/cni/net.d/1-k8s.conflist": "the network of the pods",
    "/var/lib/cni/networks/bridge/10.244.0.2": "addresses of pods",
    f"/var/lib/cni/results/bridge-{'7f' * 32}-eth0": "what a pod got",
    "/opt/cni": "the link to Debian's plugins",
    "/tmp/hostpath-provisioner": "volumes of claims",
    "/tmp/hostpath_pv": "volumes that minikube makes",
    "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf": "how kubelet is started",
    "/usr/lib/systemd/system/kubelet.service": "kubelet's unit",
    "/usr/libexec/kubernetes": "kubelet's plugins",
    "/usr/share/ca-certificates/minikubeCA.pem": "the authority of the cluster",
    "/etc/crictl.yaml": "where crictl finds the runtime",
}


def test_the_remains_of_kubernetes_on_the_node_are_removed() -> None:
    patterns = deleted(fake.removal({}, False))
    assert [path for path in OF_THE_NODE if not is_deleted(path, patterns)] == []
    # With another node there are only minikube's own files here.
    elsewhere = commands_of(fake.removal(fake.ANOTHER_DRIVER, False))
    assert any("minikube delete" in command for command in elsewhere)


def test_each_path_of_the_readmes_table_is_removed() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith("## What it puts on the"))
    rows = [line.split("|")[1:4] for line in lines[begin:] if line.startswith("| ")]
    end = next(at for at, row in enumerate(rows) if "Listening ports" in row[0])
    paths = {path for _, where, _ in rows[1:end] for path in re.findall(rf"`({PATH})`", where)}
    assert len(paths) > 20
    given = {**fake.VARIANTS["registry"], **fake.VARIANTS["metrics"]}
    container = fake.VARIANTS["a container as node"]
    patterns = deleted(fake.removal(given, False)) | deleted(fake.removal(container, False))
    purged = {"/etc/containerd/config.toml", "/etc/containers/certs.d", "/etc/containerd/certs.d"}
    # They stand in PostgreSQL's own folder, which the table names with a pattern.
    of_postgres = {
        f"/etc/postgresql/*/main/{name}"
        for name in ("conf.d/airflow.conf", "pg_hba.conf", "airflow.pem")
    }
    left = {path for path in paths if not is_deleted(path.removesuffix("*"), patterns)}
    assert left == of_postgres | purged


def test_the_database_goes_and_the_files_of_postgres_are_put_back(tmp_path: Path) -> None:
    (command,) = fake.removal({}, False).named("Remove the database and the roles").commands
    given = shlex.split(command.splitlines()[1])[3:]
    assert given[0] == "/etc/postgresql/15/main" and given[6] == ""
    folder, drop_ins = tmp_path / "15/main", tmp_path / "units/postgresql@15-main.service.d"
    made = tmp_path / "postgres-cluster"
    for path in (folder / "conf.d", drop_ins):
        path.mkdir(parents=True)
    config, access = folder / "conf.d/airflow.conf", folder / "pg_hba.conf"
    for path in (config, access, folder / "airflow.pem", drop_ins / "airflow.conf", made):
        path.touch()
    (folder / given[3]).write_text("Debian's own\n")
    for name in ("runuser", "systemctl", "pg_dropcluster"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\n')
        (tmp_path / name).chmod(0o755)
    pattern = layout.POSTGRES_DROP_IN.replace(layout.UNITS_DIRECTORY, f"{tmp_path}/units")
    arguments = [str(folder), *given[1:4], str(made), pattern, f"{folder}/airflow.pem"]
    check = call("database.sh", "check", *arguments)
    assert (check.returncode, check.stderr) == (1, f"there still is {config}\n")
    assert call("database.sh", "apply", *arguments, path=tmp_path).returncode == 0
    assert call("database.sh", "check", *arguments).returncode == 0
    assert access.read_text() == "Debian's own\n"
    assert [path.name for path in folder.iterdir() if path != access] == ["conf.d"]
    assert not drop_ins.exists()
    calls = [each.split() for each in (tmp_path / "calls").read_text().splitlines()]
    # A role goes after the databases that it owns; a restore may leave the other two.
    assert [(each[4], each[-1]) for each in calls if each[0] == "runuser"] == [
        ("dropdb", "airflow"),
        ("dropdb", "airflow_new"),
        ("dropdb", "airflow_old"),
        ("dropuser", "prometheus"),
        ("dropuser", "airflow-dags"),
        ("dropuser", "airflow"),
    ]
    assert calls[-2:] == [
        ["systemctl", "restart", "postgresql@15-main"],
        ["pg_dropcluster", "--stop", "15", "main"],
    ]


@pytest.mark.parametrize("used", [True, False])
def test_a_folder_that_others_use_stays(used: bool, tmp_path: Path) -> None:
    folder, known = tmp_path / "kube", tmp_path / "known"
    arguments = (str(folder), f"{folder}/config", "cat", str(known))
    assert call("unused.sh", "check", *arguments).returncode == 0
    folder.mkdir()
    (folder / "config").touch()
    if used:
        known.write_text("other\n")
    check = call("unused.sh", "check", *arguments)
    assert check.returncode == (0 if used else 1)
    assert call("unused.sh", "apply", *arguments).returncode == 0
    assert folder.exists() is used
    assert call("unused.sh", "check", *arguments).returncode == 0


def test_a_deleted_cluster_leaves_the_locks_of_the_run(tmp_path: Path) -> None:
    locks, unit = tmp_path / "locks", tmp_path / "minikube.service"
    (locks / "juju").mkdir(parents=True)
    for path in (locks / "deploy", locks / "command", locks / "juju/lock", unit):
        path.touch()
    for name in ("minikube", "systemctl"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" "${{TMPDIR-}}" >>{tmp_path}/calls\n'
        )
        (tmp_path / name).chmod(0o755)
    held = [f"{locks}/deploy", f"{locks}/command"]
    arguments = (str(unit), f"{tmp_path}/none", str(locks), *held)
    assert call("cluster.sh", "check", *arguments).returncode == 1
    assert call("cluster.sh", "apply", *arguments, path=tmp_path).returncode == 0
    assert {str(path) for path in locks.iterdir()} == {*held} and not unit.exists()
    assert (tmp_path / "calls").read_text().startswith(f"minikube delete {locks}\n")
    assert call("cluster.sh", "check", *arguments).returncode == 0
    unit.touch()
    (tmp_path / "minikube").write_text("#!/bin/sh\nexit 3\n")
    assert call("cluster.sh", "apply", *arguments, path=tmp_path).returncode == 3
    assert unit.exists()


def test_the_mount_of_the_logs_goes_unless_it_is_busy(tmp_path: Path) -> None:
    unit, folder = tmp_path / "opt-logs.mount", tmp_path / "logs"
    unit.touch()
    folder.mkdir()
    for name, script in (("systemctl", "exit 5"), ("mountpoint", f"test -e {tmp_path}/busy")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    arguments = (str(unit), str(folder))
    (tmp_path / "busy").touch()
    busy = call("node-logs.sh", "apply", *arguments, path=tmp_path)
    assert busy.returncode == 1 and f"{folder} is still mounted" in busy.stderr
    assert unit.exists() and folder.exists()
    (tmp_path / "busy").unlink()
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    assert call("node-logs.sh", "check", *arguments).returncode == 1
    assert call("node-logs.sh", "apply", *arguments, path=tmp_path).returncode == 0
    assert not unit.exists() and not folder.exists()
    assert call("node-logs.sh", "check", *arguments).returncode == 0


def test_the_image_of_the_node_is_noted_and_later_removed(tmp_path: Path) -> None:
    note, unit, engine = tmp_path / "note", tmp_path / "minikube.service", tmp_path / "engine"
    engine.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ntest $1 != rmi || exit 2\necho sha256:1\n'
    )
    engine.chmod(0o755)
    arguments = (str(note), str(engine), "minikube", str(unit))
    assert call("node-image.sh", "check", "noted", *arguments).returncode == 0
    unit.touch()
    assert call("node-image.sh", "check", "noted", *arguments).returncode == 1
    assert call("node-image.sh", "apply", "noted", *arguments).returncode == 0
    assert note.read_text() == "sha256:1\n"
    assert call("node-image.sh", "check", "noted", *arguments).returncode == 0
    assert call("node-image.sh", "check", "gone", *arguments).returncode == 1
    # Another container needs it.
    assert call("node-image.sh", "apply", "gone", *arguments).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "rmi sha256:1"
    assert call("node-image.sh", "check", "gone", *arguments).returncode == 0


@pytest.mark.parametrize("admins", [True, False])
def test_units_of_packages_lose_the_deploys_files_only(admins: bool, tmp_path: Path) -> None:
    drop_in, config = tmp_path / "some.service.d/airflow.conf", tmp_path / "some.conf"
    drop_in.parent.mkdir()
    drop_in.touch()
    config.touch()
    if admins:
        (drop_in.parent / "admin.conf").touch()
    (tmp_path / "systemctl").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ntest $1 != disable\n'
    )
    (tmp_path / "systemctl").chmod(0o755)
    arguments = (str(drop_in), "some.socket,some.service", str(config), f"{tmp_path}/none")
    is_there = f"there still is {drop_in}\n"
    assert call("unit-gone.sh", "check", *arguments).stderr == is_there
    # A removal that ends in its midst knows that it is not done.
    (tmp_path / "rm").write_text('#!/bin/sh\n/usr/bin/rm "$@"\nexit 1\n')
    (tmp_path / "rm").chmod(0o755)
    assert call("unit-gone.sh", "apply", *arguments, path=tmp_path).returncode == 1
    assert call("unit-gone.sh", "check", *arguments).stderr == is_there
    (tmp_path / "rm").unlink()
    (tmp_path / "calls").unlink()
    assert call("unit-gone.sh", "apply", *arguments, path=tmp_path).returncode == 0
    assert call("unit-gone.sh", "check", *arguments).returncode == 0
    assert drop_in.parent.exists() is admins and not drop_in.exists() and not config.exists()
    assert (tmp_path / "calls").read_text().splitlines() == [
        "disable --quiet --now some.socket",
        "disable --quiet --now some.service",
        "daemon-reload",
    ]


def test_users_and_groups_are_removed_once(tmp_path: Path) -> None:
    for kind, names in (("passwd", "one two"), ("group", "one two other")):
        (tmp_path / kind).write_text("".join(f"{name}\n" for name in names.split()))
    delete = f'grep -qx "$1" {tmp_path}/$kind && sed -i "/^$1$/d" {tmp_path}/$kind'
    for name, script in {
        "getent": f'grep -qx "$2" {tmp_path}/$1',
        # The group of one user goes with the user, as login.defs has it.
        "userdel": f"kind=passwd; {delete}; test $1 = two || groupdel $1",
        "groupdel": f"kind=group; {delete}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    check = call("users.sh", "check", "one", "two", path=tmp_path)
    assert (check.returncode, check.stderr) == (1, "one is still in passwd\n")
    for _ in range(2):
        assert call("users.sh", "apply", "one", "two", path=tmp_path).returncode == 0
    assert call("users.sh", "check", "one", "two", path=tmp_path).returncode == 0
    assert (tmp_path / "passwd").read_text() == ""
    assert (tmp_path / "group").read_text() == "other\n"


def test_buildah_that_others_use_keeps_only_their_images(tmp_path: Path) -> None:
    assert call("buildah.sh", "check", path=tmp_path / "none").returncode == 0
    there = tmp_path / "there"
    there.write_text("localhost/airflow-worker-base\n")
    (tmp_path / "buildah").write_text(
        "#!/bin/sh\n"
        f'case "$*" in images) cat {there} ;; "images -q"*) echo b; echo a; echo b ;;'
        f' rmi*) echo "$@" >>{tmp_path}/calls; : >{there} ;; rm*) exit 1 ;; esac\n'
    )
    (tmp_path / "buildah").chmod(0o755)
    check = call("buildah.sh", "check", path=tmp_path)
    said = "buildah still has localhost/airflow-worker-base\n"
    assert (check.returncode, check.stderr) == (1, said)
    assert call("buildah.sh", "apply", path=tmp_path).returncode == 0
    assert (tmp_path / "calls").read_text() == "rmi --force a b\n"
    assert call("buildah.sh", "check", path=tmp_path).returncode == 0


def test_users_and_packages_go_with_the_data_only() -> None:
    for keep_data in (False, True):
        said = " ".join(commands_of(fake.removal({}, keep_data)))
        for word in ("dropdb", "set -- apply airflow airflow-dags\n# users.sh", "purge"):
            assert (word in said) is not keep_data


def test_an_existing_cluster_is_kept() -> None:
    plan = fake.removal(fake.VARIANTS["existing cluster"], False)
    said = " ".join(commands_of(plan))
    assert "minikube delete" not in said and "node-reset.sh" not in said
    (namespaces,) = plan.named("Delete Airflow's objects").commands
    kubectl = fake.settings(fake.VARIANTS["existing cluster"]).kubectl
    assert objects_of(namespaces) == [kubectl, "namespace airflow airflow-control"]
    kept = fake.removal(fake.VARIANTS["existing cluster"], True)
    (others,) = kept.named("Delete Airflow's objects").commands
    client, of_airflow, of_control = objects_of(others)
    assert client == kubectl and of_airflow.startswith("-n airflow ")
    assert set(of_control.split()) >= {
        "serviceaccount/airflow-control-plane",
        "rolebinding/airflow-renewal",
        "secret/airflow-control-plane-token",  # of an earlier deploy
    }
    names = set(of_airflow.split())
    assert {"role/airflow-control-plane", "secret/airflow-registry"} <= names
    # Also of an earlier deploy.
    assert {"rolebinding/airflow-control-plane", "secret/airflow-triggerer-token"} <= names
    assert not [name for name in names if name.startswith(("namespace", "persistentvolumeclaim"))]


def objects_of(command: str) -> list[str]:
    """The client and the objects that a command deletes."""
    program = re.match(SENT, command)
    assert program and program[2] == "objects.sh"
    return shlex.split(program[1])[1:]


def call(name: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the removal on this machine."""
    folder = ROOT / "tasks" / ("lib" if name in ("objects.sh", "unit-gone.sh") else "remove")
    text = operations.with_arguments(folder / name, arguments)
    env = {"PATH": f"{path}:/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", text], env=env, text=True, capture_output=True)


def test_files_are_removed_by_patterns(tmp_path: Path) -> None:
    for name in ("airflow", "airflow-backup", "other", "kept/deep"):
        (tmp_path / name).mkdir(parents=True)
    patterns = (f"{tmp_path}/airflow*", f"{tmp_path}/kept", f"{tmp_path}/none")
    assert call("files.sh", "check", *patterns).returncode == 1
    assert call("files.sh", "check", *patterns).stderr == f"there still is {tmp_path}/airflow\n"
    assert call("files.sh", "apply", *patterns).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert call("files.sh", "check", *patterns).returncode == 0
    assert call("files.sh", "apply", *patterns).returncode == 0


def test_units_are_stopped_and_removed_also_those_that_a_killed_removal_left(
    tmp_path: Path,
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    systemctl.chmod(0o755)
    units, stamp = tmp_path / "units", tmp_path / "stamp-airflow-backup.timer"
    units.mkdir()
    for name in ("airflow.target", "airflow-backup.timer", "airflow-scheduler.service", "other"):
        (units / name).touch()
    (units / "airflow-old.service").symlink_to("/dev/null")  # somebody masked it
    (units / "airflow-api-server.service.d").mkdir()
    stamp.touch()
    arguments = (str(units), f"{tmp_path}/stamp-airflow-*")
    assert call("units.sh", "check", *arguments).returncode == 1
    for _ in range(2):
        assert call("units.sh", "apply", *arguments, path=tmp_path).returncode == 0
    assert [path.name for path in units.iterdir()] == ["other"] and not stamp.exists()
    assert call("units.sh", "check", *arguments).returncode == 0
    disabled = re.findall("disable --quiet (.*)", (tmp_path / "calls").read_text())
    assert disabled == ["airflow-backup.timer", "airflow-scheduler.service", "airflow.target"]


def test_objects_are_deleted_and_a_cluster_that_does_not_answer_is_an_error(
    tmp_path: Path,
) -> None:
    kubectl, there = tmp_path / "kubectl", tmp_path / "there"
    kubectl.write_text(
        f"#!/bin/sh\ntest ! -e {tmp_path}/down || exit 1\n"
        f'case $2 in get) cat {there} ;; delete) echo "$@" >>{tmp_path}/calls; : >{there} ;; esac\n'
    )
    kubectl.chmod(0o755)
    there.write_text("role/airflow\n")
    arguments = (f"{kubectl} --kubeconfig=some", "-n airflow role/airflow", "-n team role/airflow")
    check = call("objects.sh", "check", *arguments)
    assert (check.returncode, check.stderr) == (1, "the cluster still has role/airflow\n")
    (tmp_path / "down").touch()
    assert call("objects.sh", "check", *arguments).returncode == 1
    assert call("objects.sh", "apply", *arguments).returncode == 1
    (tmp_path / "down").unlink()
    assert call("objects.sh", "apply", *arguments).returncode == 0
    assert call("objects.sh", "check", *arguments).returncode == 0
    deletes = [
        f"--kubeconfig=some delete --ignore-not-found -n {namespace} role/airflow"
        for namespace in ("airflow", "team")
    ]
    assert (tmp_path / "calls").read_text().splitlines() == deletes
    kubectl.unlink()
    there.write_text("role/airflow\n")
    assert call("objects.sh", "check", *arguments).returncode == 0


# Programs that would change this machine.
HARMLESS = (
    *("systemctl", "crictl", "ctr", "iptables-save", "iptables-restore", "ip", "find", "sed"),
    *("ip6tables-save", "ip6tables-restore", "rmdir", "iptables", "ip6tables"),
)
RENAMED = "87-podman.conflist.mk_disabled"


def test_networks_of_others_stay_and_get_their_names_again(tmp_path: Path) -> None:
    """As minikube renames them: https://github.com/kubernetes/minikube/blob/v1.38.1/pkg/minikube/cni/cni.go"""
    folder, networks = tmp_path / "bin", tmp_path / "net.d"
    for each in (folder, networks):
        each.mkdir()
    for name in (*HARMLESS, "findmnt"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (command,) = fake.removal({}, False).named("Remove Kubernetes' files from the host").commands
    given = shlex.split(command.splitlines()[1])
    patterns = [
        each.replace("/etc/cni", str(tmp_path)) for each in given if each.startswith("/etc/cni/")
    ]

    def is_done(action: str) -> bool:
        program = ROOT / "tasks/remove/node-reset.sh"
        path = {"PATH": f"{folder}:/usr/bin:/bin"}
        return not subprocess.run(["sh", program, action, *patterns], env=path).returncode

    (networks / "mine.conf").write_text("mine")
    assert is_done("check")
    for name in ("1-k8s.conflist", "10-calico.conflist", RENAMED):
        (networks / name).write_text(name)
        assert not is_done("check")
        assert is_done("apply") and is_done("check")
    left = {path.name: path.read_text() for path in networks.iterdir()}
    assert left == {"87-podman.conflist": RENAMED, "mine.conf": "mine"}


POD, THEIRS = "7f" * 32, "0a" * 32  # ids of containers
RESULTS = (
    f"bridge-{POD}-eth0",
    f"cni-loopback-{POD}-lo",
    f"bridge-two-{THEIRS}-eth0",
    f"podman-{THEIRS}-eth0",
)


def test_addresses_of_other_networks_stay() -> None:
    patterns = deleted(fake.removal({}, False))
    folder = "/var/lib/cni"
    paths = [f"{folder}/networks/{name}/lock" for name in ("bridge", "bridge-two", "podman")]
    paths += [f"{folder}/results/{name}" for name in RESULTS]
    stay = [path for path in paths if not is_deleted(path, patterns)]
    assert stay == [*paths[1:3], *paths[-2:]]


# As the plugins bridge, portmap and firewall have them, the latter two for all networks together.
RULES = r"""*filter
:INPUT ACCEPT [0:0]
:CNI-ADMIN - [0:0]
:CNI-FORWARD - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -s 10.244.0.0/16 -p tcp -m tcp --dport 8081 -j ACCEPT
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
-A CNI-FORWARD -d 10.244.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.244.0.2/32 -j ACCEPT
COMMIT
*nat
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-aaaa - [0:0]
:CNI-DN-bbbb - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"bridge\" id: \"7f\"" -j CNI-aaaa
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8080 -j CNI-DN-bbbb
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-aaaa -d 10.244.0.0/16 -m comment --comment "name: \"bridge\" id: \"7f\"" -j ACCEPT
-A CNI-aaaa ! -d 224.0.0.0/4 -m comment --comment "name: \"bridge\" id: \"7f\"" -j MASQUERADE
-A CNI-DN-bbbb -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.0.2:80
COMMIT"""
NO_NETWORK = """*filter
:INPUT ACCEPT [0:0]
-A INPUT -s 10.244.0.0/16 -p tcp -m tcp --dport 8081 -j ACCEPT
COMMIT
*nat
COMMIT"""
# Of a podman's network, by the tables that they are in.
OF_PODMAN = {
    "*filter": r"""
-A CNI-FORWARD -d 10.88.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.88.0.2/32 -j ACCEPT""",
    "*nat": r"""
:CNI-cccc - [0:0]
:CNI-DN-dddd - [0:0]
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"0a\"" -j CNI-cccc
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 9090 -j CNI-DN-dddd
-A CNI-cccc -d 10.88.0.0/16 -j ACCEPT
-A CNI-cccc ! -d 224.0.0.0/4 -j MASQUERADE
-A CNI-DN-dddd -p tcp -m tcp --dport 9090 -j DNAT --to-destination 10.88.0.2:80""",
}
SHARED = {
    line
    for line in RULES.splitlines()
    if re.search("CNI-(ADMIN|FORWARD|HOSTPORT)", line) and not re.search(r"10\.244|bbbb", line)
}
ADDRESSES = {
    "bridge": "3: bridge    inet 10.244.0.1/16 brd 10.244.255.255 scope global bridge",
    "cni0": "4: cni0    inet 10.88.0.1/16 brd 10.88.255.255 scope global cni0",
}


@pytest.mark.parametrize("with_podman", [False, True])
def test_rules_and_links_of_other_networks_stay(with_podman: bool, tmp_path: Path) -> None:
    folder, rules, link = tmp_path / "bin", tmp_path / "rules", tmp_path / "bridge"
    folder.mkdir()
    (tmp_path / "cni0").write_text(ADDRESSES["cni0"])
    for name, script in {
        "iptables-save": f"cat {rules}",
        "iptables-restore": f"cat > {rules}",
        "ip6tables-save": "exit 1",
        "ip": f"""case "$*" in
"-4 -o address show dev "*) cat {tmp_path}/$6 ;;
"link delete "*) rm {tmp_path}/$3 ;;
esac""",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    def is_done(action: str) -> bool:
        (command,) = fake.removal({}, False).named("Remove the network of pods").commands
        text = command.replace("set -- apply ", f"set -- {action} ")
        path = {"PATH": f"{folder}:/usr/bin:/bin"}
        return not subprocess.run(["sh", "-c", text], env=path).returncode

    text, expected = RULES, set(NO_NETWORK.splitlines())
    if with_podman:
        for table, theirs in OF_PODMAN.items():
            text = text.replace(table, f"{table}{theirs}")
            expected |= {*theirs.strip().splitlines()}
        expected |= SHARED
    rules.write_text(text)
    for _ in range(2):  # the second time the link is all that is left
        link.write_text(ADDRESSES["bridge"])
        assert not is_done("check")
        assert is_done("apply") and is_done("check")
        assert {*rules.read_text().splitlines()} == expected
        assert not link.exists() and (tmp_path / "cni0").exists()


VOLUME = "/var/lib/kubelet/pods/some/volumes/claim"


@pytest.mark.parametrize("busy", [True, False])
def test_files_of_a_volume_that_stays_mounted_are_not_deleted(busy: bool, tmp_path: Path) -> None:
    folder, kept = tmp_path / "bin", tmp_path / "node/file"
    folder.mkdir()
    kept.parent.mkdir()
    kept.touch()
    unmounted = "" if busy else f"touch {tmp_path}/unmounted"
    stand_ins = dict.fromkeys(HARMLESS, "") | {
        # The folder itself is no mount point: then findmnt knows nothing of it.
        "findmnt": f"case $* in *kubelet*) exit 1 ;; esac; echo /\n"
        f"test -e {tmp_path}/unmounted || echo {VOLUME}",
        "umount": f"test $1 = {VOLUME} || exit 2\n{unmounted}",
        "rm": f'echo "$@" >>{tmp_path}/removed\nexec /usr/bin/rm "$@"',
    }
    for name, script in stand_ins.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    done = subprocess.run(
        ["sh", ROOT / "tasks/remove/node-reset.sh", "apply", f"{tmp_path}/node"],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        text=True,
        capture_output=True,
    )
    assert kept.exists() is busy and (done.returncode != 0) is busy
    assert (VOLUME in done.stderr) is busy
    # Others may have mounted something in a folder of the cluster.
    assert busy or " --one-file-system " in (tmp_path / "removed").read_text()


def test_the_folder_of_kubelet_is_unmounted_as_often_as_it_is_mounted(tmp_path: Path) -> None:
    """Also if an earlier run was killed when the files were gone. A disk of its own stays."""
    folder, mounts = tmp_path / "bin", tmp_path / "mounts"
    folder.mkdir()
    stand_ins = dict.fromkeys(HARMLESS, "") | {
        "findmnt": f'test "$*" != "-no FSROOT /var/lib/kubelet" || cat {mounts}',
        "umount": f'test "$*" = /var/lib/kubelet && left=$(tail -n +2 {mounts}) &&'
        f' echo "$left" > {mounts}',
    }
    for name, script in stand_ins.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    def run(action: str) -> int:
        program = ROOT / "tasks/remove/node-reset.sh"
        path = {"PATH": f"{folder}:/usr/bin:/bin"}
        return subprocess.run(["sh", program, action, f"{tmp_path}/none"], env=path).returncode

    mounts.write_text("/root/var/lib/kubelet\n" * 2)
    assert (run("check"), run("apply"), run("check")) == (1, 0, 0)
    assert mounts.read_text().strip() == ""
    mounts.write_text("/\n")
    assert (run("check"), run("apply")) == (0, 0)
    assert mounts.read_text() == "/\n"


STAND_INS = {
    # The names that it gets and that are installed.
    "dpkg-query": """
case "$*" in
*Status-Status*) for name; do case " $THERE " in *" $name "*) echo installed ;; esac; done ;;
*) for name in $THERE; do echo "ii $name"; done ;;
esac""",
    "apt-get": "true",
}


@pytest.mark.parametrize("podman", [True, False])
def test_the_storage_of_another_engine_stays(podman: bool, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("containerd", "containers")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "image").touch()
    for name, script in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "record").write_text("buildah\ncontainerd\n")
    arguments = [
        *("apply", str(tmp_path / "record"), str(tmp_path / "no page")),
        f"containerd,docker.io:{folders['containerd']}",
        f"podman,buildah:{folders['containers']}",
    ]
    done = subprocess.run(
        ["sh", ROOT / "tasks/remove/purge.sh", *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "THERE": "bash podman" if podman else "bash"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not folders["containerd"].exists()
    assert folders["containers"].exists() is podman
    assert not (tmp_path / "record").exists()


# apt as it is, but for its folders; it only says how it would call dpkg.
APT_CONFIG = """
Dir::State "{0}/state";
Dir::State::status "{0}/dpkg/status";
Dir::Cache "{0}/cache";
Dir::Log "{0}/log";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Debug::pkgDPkgPM "true";
"""
STATUS = """Package: age
Status: install ok installed
Maintainer: nobody
Architecture: all
Version: 1
Description: some
"""


def test_an_apt_that_is_at_work_ends_no_removal(tmp_path: Path) -> None:
    for name in ("dpkg/updates", "dpkg/info", "state/lists/partial", "cache/archives", "log"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dpkg/status").write_text(STATUS)
    (tmp_path / "apt.conf").write_text(APT_CONFIG.format(tmp_path))
    record, calls = tmp_path / "record", tmp_path / "calls"
    record.write_text("age\ngone\n")
    apt = tmp_path / "bin/apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec /usr/bin/apt-get "$@"\n')
    apt.chmod(0o755)
    with (tmp_path / "cache/archives/lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # as while that one downloads
        done = subprocess.run(
            ["sh", ROOT / "tasks/remove/purge.sh", "apply", record, tmp_path / "no page"],
            env={
                "PATH": f"{apt.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                "APT_CONFIG": str(tmp_path / "apt.conf"),
                "DPKG_ADMINDIR": str(tmp_path / "dpkg"),
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "echo 'age:all purge' | " in done.stderr
    simulated, purged = calls.read_text().splitlines()
    assert "--simulate" in simulated and purged.endswith(" purge --yes age")
    assert "DPkg::Lock::Timeout=900" in purged.split()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("record")]


CONTAINER = fake.VARIANTS["a container as node"]


# Each of these packages needs the others that belong to it, and something that was there before.
NEEDED = {
    "postgresql-15": ["postgresql-15", "postgresql-common", "libpq5", "libc6"],
    "nginx": ["nginx", "nginx-common", "libc6"],
    "podman": ["podman", "conmon", "libc6"],
    "nftables": ["nftables", "libnftables1", "libc6"],
}
CAME_WITH_THE_DEPLOY = {name for names in NEEDED.values() for name in names} - {"libc6"}


class Used:
    """A host with what others may use by now."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.nginx, self.postgres = (
            folder / name for name in ("bin", "nginx", "postgres")
        )
        for name in ("bin", "nginx/sites-available", "nginx/sites-enabled", "nginx/conf.d"):
            (folder / name).mkdir(parents=True)
        self.record = folder / "packages"
        self.came(CAME_WITH_THE_DEPLOY)
        self.site = self.nginx / "sites-available/airflow"
        self.link(self.site)
        self.link(self.nginx / "sites-available/default")
        self.cluster("15/main")
        for engine in ("podman", "docker"):
            self.program(engine, "echo minikube")
        self.program("dpkg", "true")
        self.program("systemctl", "exit 1")
        self.program("dpkg-query", 'shift 2; for each; do echo "installed $each"; done')
        needed = "\n".join(
            f"{name}) printf '%s\\n  Depends: some\\n' {' '.join(names)} ;;"
            for name, names in NEEDED.items()
        )
        self.program("apt-cache", f"shift 4; for each; do case $each in\n{needed}\nesac; done")

    def came(self, packages: Iterable[str]) -> None:
        """Have only these packages come with the deploy."""
        self.record.write_text("".join(f"{name}\n" for name in sorted(packages)))

    def program(self, name: str, script: str) -> None:
        """Add a program."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def link(self, site: Path) -> None:
        """Enable a site of nginx."""
        site.touch()
        (self.nginx / "sites-enabled" / site.name).symlink_to(site)

    def cluster(self, name: str) -> None:
        """Add a cluster of PostgreSQL."""
        (self.postgres / name).mkdir(parents=True)
        (self.postgres / name / "postgresql.conf").touch()

    def run(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Ask or apply the program, as the removal does: a check is the test of a condition."""
        names = {name: each[0] for name, each in layout.ENGINE_PACKAGES.items()}
        engines = [f"{name}:{first.split('|')[0]}" for name, first in names.items()]
        places = map(str, (self.record, self.postgres, self.nginx, self.site))
        program = ROOT / "tasks/remove/keep-used.sh"
        text = operations.with_arguments(program, [verb, *places, "minikube", *engines])
        if verb == "check":
            text = f"if (\n{text}); then exit 0; fi; exit 1"
        env = {"PATH": f"{self.bin}:/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", text], env=env, text=True, capture_output=True)

    @property
    def recorded(self) -> set[str]:
        """The packages that would be purged."""
        return set(self.record.read_text().split())


@pytest.fixture
def used(tmp_path: Path) -> Used:
    """A host on which nobody else uses anything."""
    return Used(tmp_path)


def test_packages_that_nobody_else_uses_are_purged(used: Used) -> None:
    (used.postgres / "15/removed").mkdir()  # without a configuration it is no cluster
    # A site that leads nowhere, and a file that nginx does not read.
    (used.nginx / "sites-enabled/gone").symlink_to(used.nginx / "none")
    (used.nginx / "conf.d/shop.conf.old").touch()
    check = used.run("check")
    assert (check.returncode, check.stderr) == (0, "")
    assert used.run("apply").returncode == 0
    assert used.recorded == CAME_WITH_THE_DEPLOY
    used.record.unlink()
    assert used.run("check").returncode == used.run("apply").returncode == 0
    assert not used.record.exists()


def an_own_welcome_page(used: Used) -> None:
    """Somebody changed Debian's page, which is enabled."""
    used.program("dpkg", "echo '??5?????? c /etc/nginx/sites-available/default'")


OTHERS: dict[str, tuple[Callable[[Used], object], str, str]] = {
    "a cluster": (lambda used: used.cluster("15/shop"), "postgresql-15", "cluster 15/shop"),
    "a site": (
        lambda used: used.link(used.nginx / "sites-available/shop"),
        "nginx",
        "{nginx}/sites-enabled/shop",
    ),
    "a site that is a file": (
        lambda used: (used.nginx / "conf.d/shop.conf").touch(),
        "nginx",
        "{nginx}/conf.d/shop.conf",
    ),
    "a welcome page": (an_own_welcome_page, "nginx", "{nginx}/sites-enabled/default"),
    "a container": (
        lambda used: used.program("podman", "echo minikube; echo shop"),
        "podman",
        "container shop",
    ),
    "a firewall": (
        lambda used: used.program("systemctl", 'test "$*" = "-q is-enabled nftables.service"'),
        "nftables",
        "nftables.service",
    ),
}


@pytest.mark.parametrize("which", OTHERS)
def test_packages_that_others_use_by_now_stay_with_all_that_they_need(
    which: str, used: Used
) -> None:
    use, package, reason = OTHERS[which]
    use(used)
    check = used.run("check")
    said = "these packages came with the deploy and stay, since others use them: "
    assert check.stderr == f"{said}{package} ({reason.format(nginx=used.nginx)})\n"
    assert check.returncode == 1 and used.recorded == CAME_WITH_THE_DEPLOY
    assert used.run("apply").returncode == 0
    assert used.recorded == CAME_WITH_THE_DEPLOY - {*NEEDED[package]}
    # All of it is done, and not said again.
    again = used.run("check")
    assert (again.returncode, again.stderr) == (0, "")


def test_packages_that_were_there_before_are_not_spoken_of(used: Used) -> None:
    for use, _, _ in OTHERS.values():
        use(used)
    used.program("docker", "exit 1")  # it is not the deploy's to ask
    used.came(["keepalived"])
    assert used.run("check").stderr == ""
    used.came(CAME_WITH_THE_DEPLOY)
    assert used.run("check").stderr.count("(") == 4
    assert used.run("apply").returncode == 0
    assert used.recorded == set()


def test_a_cluster_of_a_server_that_others_installed_keeps_what_both_servers_need(
    used: Used,
) -> None:
    used.cluster("17/main")
    used.program("apt-cache", "printf 'postgresql-17\\npostgresql-common\\nlibpq5:amd64\\n'")
    assert "postgresql-common" not in used.run("check").stderr
    assert used.run("apply").returncode == 0
    assert used.recorded == CAME_WITH_THE_DEPLOY - {"postgresql-common", "libpq5"}


@pytest.mark.parametrize("broken", ["apt-cache", "podman"])
def test_nothing_counts_as_unused_when_a_program_cannot_say(broken: str, used: Used) -> None:
    used.cluster("15/shop")
    used.program(broken, f"echo {broken} is broken >&2; exit 3")
    check, apply = used.run("check"), used.run("apply")
    assert check.returncode == 1 and apply.returncode == 3
    assert check.stderr == apply.stderr == f"{broken} is broken\n"
    assert used.recorded == CAME_WITH_THE_DEPLOY


def test_what_a_package_needs_is_what_debian_says(used: Used) -> None:
    """Of the PostgreSQL of this machine, with the real programs."""
    for name in ("apt-cache", "dpkg-query"):
        (used.bin / name).unlink()
    version = postgres.PROGRAMS[-1].parent.name
    used.cluster(f"{version}/shop")
    names = {f"postgresql-{version}", f"postgresql-client-{version}", "postgresql-common"}
    used.came({*names, "ssl-cert", "age"})
    assert used.run("apply").returncode == 0
    assert used.recorded == {"age"}


def test_the_removal_says_which_packages_stay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pyinfra")
    said = "these stay: nginx (/etc/nginx/conf.d/\033shop.conf)"
    state_of = {"VERSION_CODENAME": "bookworm", "# keep-used.sh": said}
    names = [each.name for each in fake.planned(remove.airflow, state_of, keep_data=False)]
    assert "these stay: nginx (/etc/nginx/conf.d/\\x1bshop.conf)" in caplog.text
    kept, purged = (
        next(at for at, name in enumerate(names) if word in name)
        for word in ("Keep the packages", "Purge the Debian packages")
    )
    assert kept < purged


def test_the_logs_are_no_longer_mounted_when_folders_are_deleted() -> None:
    """What is below the mount is the logs themselves, which a removal may have to keep."""
    for keep_data in (False, True):
        plan = fake.removal(CONTAINER, keep_data)
        unmount = next(
            n for n, name in enumerate(plan.names) if "Remove the mount of the logs" in name
        )
        delete = next(
            n for n, name in enumerate(plan.names) if "files" in name and "Remove " in name
        )
        assert unmount < delete
        assert not is_deleted(layout.NODE_LOGS, deleted(plan)) or not keep_data

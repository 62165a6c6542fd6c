"""The surroundings of DAG code: the same variables and options on the host and in pods."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasks import layout
from tasks.worker import options, policy, template, variables
from tests.unit import fake, formats
from tests.unit.stand_ins import Host

ENV = {
    "DEPLOY_ENV": "prod",
    "QUOTES": """it's "one" \\ `two` $HOME $(whoami) 100% é""",
    "LINES": "one\ntwo",
    "NO_PROXY": "$(HOST_IP),example",
    "IMAGE": "$(AIRFLOW_WORKER_IMAGE)",
    "AGAIN": "$$(HOST_IP) $(DEPLOY_ENV) $(UNKNOWN)",
}
LISTED = Path(__file__).parent / "airflow_options.txt"
OPTIONS = [
    tuple(line.split()[:2]) for line in LISTED.read_text().splitlines() if not line.startswith("#")
]


def pods_variables(given: dict[str, Any]) -> dict[str, str]:
    """The variables of the generated pod template that have a fixed value."""
    env = formats.pod(fake.plan(fake.settings(given)))["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in env if "value" in each}


def test_libraries_of_debian_are_where_dags_are_read_and_where_they_run() -> None:
    plan = fake.plan(fake.settings({"worker_extra_apt_packages": ["libmagic1", "jq"]}))
    (command,) = plan.named("Install Debian packages").commands
    assert {"libmagic1", "jq"} <= {*command.split()}
    assert formats.host_values(plan)["WORKER_PACKAGES"].split(",") == ["libmagic1", "jq"]


# Variables


def read_by_sh(path: Path) -> dict[str, str]:
    """The variables of a file as sh reads it."""
    done = subprocess.run(
        ["env", "-i", "sh", "-c", f"set -a; . {path}; exec env -0"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(each.split("=", 1) for each in done.stdout.split("\0") if each)


@pytest.mark.parametrize("digest", ["", f"sha256:{'a' * 64}"])
def test_the_host_has_the_variables_of_the_pods(digest: str, tmp_path: Path) -> None:
    env = {**ENV, "TWICE": "\\$(AIRFLOW_WORKER_IMAGE)$$(AIRFLOW_WORKER_IMAGE)"}
    settings = fake.settings({"dags_env": env})
    assert env.items() <= pods_variables({"dags_env": env}).items()
    file = tmp_path / "dags.env"
    host = Host(tmp_path)
    (tmp_path / "candidate").write_text(fake.plan(settings).uploads[layout.DAGS_ENV_CANDIDATE])
    image = variables.of_pods(settings)["AIRFLOW_WORKER_IMAGE"]
    (tmp_path / "digests").write_text(f"{image} {digest}\nother sha256:b\n")
    host.values |= {"DAGS_ENV": str(file), "DAGS_ENV_CANDIDATE": f"{tmp_path}/candidate"}
    host.values["WORKER_DIGESTS"] = f"{tmp_path}/digests"
    host.program("chown")
    host.program("find", "echo right")
    assert "with the digest of the image" in host.check("dags-env.sh", image)
    assert host.apply("dags-env.sh", image) == host.check("dags-env.sh", image) == ""
    found = read_by_sh(file)
    reference = f"{image}@{digest}" if digest else image
    assert {name: found.get(name) for name in env} == {
        **ENV,
        # Kubernetes puts these into a pod.
        "NO_PROXY": "127.0.0.1,example",
        "IMAGE": reference,
        "AGAIN": "$(HOST_IP) prod $(UNKNOWN)",
        "TWICE": f"\\{reference}$(AIRFLOW_WORKER_IMAGE)",
    }


def test_tasks_on_the_host_find_the_image_of_pods() -> None:
    on_host = fake.settings({"airflow_executor": "KubernetesExecutor,LocalExecutor"})
    assert f'AIRFLOW_WORKER_IMAGE="{variables.IN_FILE}"\n' in variables.file(on_host)
    # A change of the image restarts no service that does not run tasks.
    assert "AIRFLOW_WORKER_IMAGE" not in variables.file(fake.settings())


def test_the_host_keeps_its_own_places() -> None:
    given = {"AIRFLOW_HOME": "/home/airflow", "HOME": "/home/airflow", "HERE": "$(AIRFLOW_HOME)"}
    settings = fake.settings({"dags_env": given})
    assert variables.of_host(settings) == {"HERE": "/home/airflow"}
    assert given.items() <= variables.of_pods(settings).items()


@pytest.mark.parametrize(
    ("executor", "services"),
    [
        ("KubernetesExecutor", {"dag-processor", "triggerer"}),
        ("KubernetesExecutor,LocalExecutor", {"dag-processor", "triggerer", "scheduler"}),
    ],
)
def test_each_service_that_runs_dags_has_the_variables(executor: str, services: set[str]) -> None:
    plan = fake.plan(fake.settings({"airflow_executor": executor}))
    having = set()
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        unit = formats.Unit.of(plan, f"airflow-{name}.service")
        if layout.DAGS_ENV in (files := unit.all("Service.EnvironmentFile")):
            having.add(name)
            # The deploy restarts it when they change.
            assert layout.DAGS_ENV in unit.environment["INPUTS"].split()
            # A secret that comes later wins.
            assert name == "scheduler" or files[0] == layout.DAGS_ENV
    assert having == services


def test_the_command_line_has_the_variables(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for name in ("SECRETS", "airflow", "venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    secrets = tmp_path / "SECRETS"
    for name in ("fernet-key", "jwt-secret", "api-secret-key"):
        (secrets / name).write_text(f"{name.replace('-', '_').upper()}=hidden\n")
    (tmp_path / "venv/bin/airflow").write_text("#!/bin/sh\nenv -0\n")
    (tmp_path / "venv/bin/airflow").chmod(0o755)
    host.values |= {"VENV": f"{tmp_path}/venv", "SECRETS": str(secrets), "HOMES": str(tmp_path)}
    host.values["DAGS_ENV"] = f"{tmp_path}/dags.env"
    host.program("id", "echo 0")
    host.program("setpriv", 'shift 3; exec "$@"')
    # Names that the program itself uses do no harm.
    given = {"DEPLOY_ENV": "prod", "CONFIG": "x", "home": "x", "VENV": "x", "AIRFLOW_HOME": "x"}
    settings = fake.settings({"dags_env": given})
    (tmp_path / "dags.env").write_text(variables.file(settings))
    done = host.run("run", "airflow", "dags", "trigger")
    assert done.returncode == 0, done.stderr
    found = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    assert (found["DEPLOY_ENV"], found["CONFIG"], found["home"]) == ("prod", "x", "x")
    assert found["AIRFLOW_CONFIG"] == "/etc/airflow/airflow.cfg"
    assert found["AIRFLOW_HOME"] == found["HOME"] == f"{tmp_path}/airflow"
    assert found["FERNET_KEY"] == "hidden"
    # A host of before has no such file yet.
    (tmp_path / "dags.env").unlink()
    assert host.run("run", "airflow", "version").returncode == 0


# Plugins

IMAGE = {"plugins_source": "image"}


def mounts(given: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The volumes at the plugins' place in a pod, each with its mount."""
    spec = formats.pod(fake.plan(fake.settings(given)))["spec"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    found = spec["containers"][0]["volumeMounts"]
    return [(volumes[m["name"]], m) for m in found if m["mountPath"] == layout.PLUGINS]


def test_pods_read_the_hosts_folder_of_plugins_where_they_see_it() -> None:
    for given in ({}, {"minikube_driver": "podman"}):
        ((volume, mount),) = mounts(given)
        assert volume["hostPath"]["path"] == layout.PLUGINS and mount["readOnly"]
    assert mounts(fake.ANOTHER_DRIVER) == mounts(fake.EXISTING) == []


def test_the_policy_lets_pods_read_the_folder_of_plugins() -> None:
    settings = fake.settings()
    values = policy.values(settings, [template.manifest(settings)])
    assert layout.PLUGINS in values["folders"] and layout.PLUGINS in values["read_only"]


def test_copied_plugins_are_loaded_by_all_services(tmp_path: Path) -> None:
    given = {"plugins_local_folder": str(tmp_path)}
    records = set()
    for text in ("one", "two"):
        (tmp_path / "shout.py").write_text(text)
        plan = fake.plan(fake.settings(given))
        assert plan.uploads[f"{layout.PLUGINS}/shout.py"] == text
        for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
            unit = formats.Unit.of(plan, f"airflow-{name}.service")
            assert layout.PLUGINS_RECORD in unit.environment["INPUTS"].split()
        records.add(plan.contents([layout.PLUGINS_RECORD])[layout.PLUGINS_RECORD])
    assert len(records) == 2
    assert plan.position("Copy the plugins") < plan.position("Run airflow-api-server")


def test_plugins_in_the_image_are_a_layer(tmp_path: Path) -> None:
    given = {**IMAGE, "plugins_local_folder": str(tmp_path)}
    images, bases = set(), set()
    for text in ("one", "two"):
        (tmp_path / "shout.py").write_text(text)
        plan = fake.plan(fake.settings(given))
        images.add(formats.pod(plan)["spec"]["containers"][0]["image"])
        (command,) = plan.named("Build the worker image").commands
        *_, base, layer = command.split()
        bases.add(base)
        assert layer.startswith("plugins-")
        assert plan.uploads[f"{layout.IMAGE_PLUGINS}/shout.py"] == text
        assert plan.uploads[f"{layout.PLUGINS}/shout.py"] == text  # for the services
    assert (len(images), len(bases)) == (2, 1)
    assert mounts(given) == []


# Options


def test_options_of_the_inventory_reach_the_pods() -> None:
    config = {
        "core": {"default_timezone": "Europe/Berlin", "xcom_backend": "own.Backend"},
        "email": {"from_email": "airflow@example.com"},
        "workers": {"max_failed_heartbeats": "3"},
        "common.io": {"xcom_objectstorage_path": "s3://$BUCKET/$(HOST_IP)"},
        "own_provider": {"colour": "green"},
    }
    assert (
        pods_variables({"airflow_config": config}).items()
        >= {
            "AIRFLOW__CORE__DEFAULT_TIMEZONE": "Europe/Berlin",
            "AIRFLOW__CORE__XCOM_BACKEND": "own.Backend",
            "AIRFLOW__EMAIL__FROM_EMAIL": "airflow@example.com",
            "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "3",  # instead of the deploy's own
            # Kubernetes makes the value of airflow.cfg of it.
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": "s3://$$BUCKET/$$(HOST_IP)",
            "AIRFLOW__OWN_PROVIDER__COLOUR": "green",
        }.items()
    )


def test_variables_of_the_inventory_win_over_options() -> None:
    given = {
        "airflow_config": {"metrics": {"statsd_on": "True"}},
        "dags_env": {"AIRFLOW__METRICS__STATSD_ON": "False"},
    }
    assert pods_variables(given)["AIRFLOW__METRICS__STATSD_ON"] == "False"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "False"),
        ({"airflow_config": {"metrics": {"statsd_on": "True"}}}, None),
        ({"airflow_config": {"metrics": {"legacy_names_on": "True"}}}, "True"),
        ({"dags_env": {"AIRFLOW__METRICS__STATSD_ON": "True"}}, None),
    ],
)
def test_metrics_have_their_former_names_only_if_they_go_somewhere(
    given: dict[str, Any], expected: str | None
) -> None:
    config = formats.airflow_config(fake.plan(fake.settings(given)).uploads[layout.CONFIG])
    assert config.get("metrics", "legacy_names_on", fallback=None) == expected
    assert pods_variables(given).get("AIRFLOW__METRICS__LEGACY_NAMES_ON") == expected


STAYING = {
    "core": {"asset_manager_kwargs": "{}"},
    "api": {"workers": "2"},
    "database": {"sql_alchemy_pool_size": "9"},
    "logging": {"trigger_log_server_port": "1"},
    "scheduler": {"parsing_cleanup_interval": "9"},
    "smtp": {"smtp_password": "x"},  # of no option of Airflow's
}


def test_options_of_the_host_do_not_reach_the_pods() -> None:
    assert pods_variables({"airflow_config": STAYING}) == pods_variables({})


def test_a_secret_option_that_pods_lack_is_told() -> None:
    config = {"sentry": {"sentry_on": "True", "sentry_dsn": "hidden"}, "api": {"workers": "2"}}
    settings = fake.settings({"airflow_config": config})
    assert options.hidden(settings) == ["sentry.sentry_dsn"]
    assert "hidden" not in str(pods_variables({"airflow_config": config}))
    reference = {"secretKeyRef": {"name": "sentry", "key": "dsn"}}
    env = [{"name": "AIRFLOW__SENTRY__SENTRY_DSN", "valueFrom": reference}]
    override = {"spec": {"containers": [{"name": "base", "env": env}]}}
    settings = fake.settings({"airflow_config": config, "worker_pod_override": override})
    assert options.hidden(settings) == []


def test_the_list_of_options_is_that_of_the_locked_airflow() -> None:
    heads = [line[2:] for line in LISTED.read_text().splitlines() if line.startswith("# ")]
    lock = fake.settings().airflow.lock
    locked = {line.split()[0] for line in lock.splitlines() if "==" in line}
    command = "write the list again, as tests/unit/airflow_options.py says, and look at its diff"
    assert heads and set(heads) <= locked, command


def test_each_section_of_airflow_is_decided_and_no_name_is_misspelt() -> None:
    known = {f"{section}.{option.rstrip('*')}" for section, option in OPTIONS}
    sections = {section for section, _ in OPTIONS}
    decided = options.WHERE.keys()
    assert sections - decided == set(), "decide in tasks/worker/options.py where they are read"
    assert decided - known - sections == set()


def test_no_secret_of_airflow_reaches_a_pod() -> None:
    secret = [(section, name.rstrip("*")) for section, name in OPTIONS if name.endswith("*")]
    assert ("core", "fernet_key") in secret
    assert [each for each in secret if not options.where(*each)] == []


# Files that people put into the folders

# Tells the entries that setfacl was given; users can't read the files in $folder/closed.
GETFACL = (
    'cat {folder}/acl 2>/dev/null | tr , "\\n" | sed -n "s/^d:u:/default:user:/p" | sed s/rX/r-x/'
)
# It is given files that are open; the file system keeps a mode in the place of an ACL.
SETFACL = """
echo "$2" >> {folder}/acl
rm -f {folder}/closed
shift 2
sh {folder}/attack
chmod o+r "$@"
"""


@pytest.fixture
def folders(tmp_path: Path) -> Host:
    """A host with stand-ins for the programs of ACLs."""
    host = Host(tmp_path)
    host.program("getfacl", GETFACL.format(folder=tmp_path))
    host.program("setfacl", SETFACL.format(folder=tmp_path))
    (tmp_path / "attack").touch()
    for name in ("srv/team", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("srv/dag.py", "srv/team/lib.py", "elsewhere/dag.py", "elsewhere/lib.py"):
        (tmp_path / name).touch(0o600)
    host.program("runuser", f"cat {tmp_path}/closed 2>/dev/null; true")
    return host


def test_files_that_people_put_into_a_folder_become_readable(folders: Host) -> None:
    srv = folders.folder / "srv"
    arguments = ("readable.sh", str(srv), "airflow-dags", "airflow")
    assert folders.check(*arguments) == f"{srv} has no default:user:airflow-dags:r-x in its ACL"
    assert folders.apply(*arguments) == folders.check(*arguments) == ""
    # A file that was brought with a mode of its own.
    (folders.folder / "closed").write_text("/srv/hello.py\n")
    assert folders.check(*arguments) == "airflow-dags can't read /srv/hello.py"
    assert folders.apply(*arguments) == folders.check(*arguments) == ""
    assert is_open(srv / "dag.py") and is_open(srv / "team/lib.py")


def is_open(path: Path) -> bool:
    """Whether users can read a file, as the stand-in for setfacl lets them."""
    return bool(path.stat().st_mode & 0o004)


@pytest.mark.parametrize("place", ["dag.py", "team"])
def test_a_link_that_takes_the_place_of_a_file_gives_no_right_to_others(
    place: str, folders: Host
) -> None:
    """The attack: who may write in the folder swaps a file while root works, after it looked."""
    folder, secrets = folders.folder, folders.folder / "elsewhere"
    target = secrets / "dag.py" if place == "dag.py" else secrets
    (folder / "attack").write_text(
        f"cd {folder}/srv; test -L {place} || {{ mv {place} ../away; ln -s {target} {place}; }}"
    )
    assert folders.apply("acl.py", f"{folder}/srv", "u:airflow-dags:rX") == ""
    assert (folder / "srv" / place).is_symlink()
    assert not any(is_open(path) for path in secrets.iterdir())
    away = folder / "away"
    assert is_open(away if place == "dag.py" else away / "lib.py")


def test_links_and_pipes_that_are_there_before_are_left_alone(folders: Host) -> None:
    srv, secrets = folders.folder / "srv", folders.folder / "elsewhere"
    os.mkfifo(srv / "pipe")
    (srv / "link").symlink_to(secrets / "dag.py")
    (srv / "folder").symlink_to(secrets)
    for number in range(250):  # more than one call of setfacl takes
        (srv / f"{number}.log").touch(0o600)
    assert folders.apply("acl.py", str(srv), "g:airflow-dags:rwX") == ""
    assert not any(is_open(path) for path in secrets.iterdir())
    assert all(is_open(path) for path in srv.glob("*.log"))
    entry = "g:airflow-dags:rwX"
    given = (folders.folder / "acl").read_text().splitlines()
    assert given == [entry] * 3 + [f"{entry},d:{entry}"] * 2


def test_a_file_system_without_acls_is_told(folders: Host) -> None:
    folders.program("setfacl", "exit 1")
    said = folders.apply("readable.sh", f"{folders.folder}/srv", "airflow")
    assert said.startswith("it needs a file system with ACLs")


def test_both_folders_become_readable_for_both_users(plan: fake.Plan) -> None:
    for folder in (layout.DAGS, layout.PLUGINS):
        (command,) = plan.named(f"Let Airflow read the files in {folder}").commands
        assert command.split()[1:] == ["apply", folder, "airflow-dags", "airflow"]
    assert " acl " in " ".join(plan.named("Install Debian packages").commands)


def test_a_file_that_may_not_be_read_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow then reads it, and shows its import error."""

    def heuristic(file_path: str, zip_file: object) -> bool:
        if "closed" in file_path:
            raise PermissionError(file_path)
        return "dag" in file_path

    stand_in = ModuleType("airflow.utils.file")
    stand_in.might_contain_dag_via_default_heuristic = heuristic  # type: ignore[attr-defined]
    for name in ("airflow", "airflow.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "airflow.utils.file", stand_in)
    asked = runpy.run_path(
        str(fake.FILES / "usr/local/lib/airflow/python/airflow_deploy_files.py")
    )["might_contain_dag"]
    assert [asked(file_path=name) for name in ("dag.py", "lib.py", "closed.py")] == [
        *(True, False, True),
    ]


def test_airflow_asks_the_deploy_which_files_to_read(plan: fake.Plan) -> None:
    config = formats.airflow_config(plan.uploads[layout.CONFIG])
    module, _, function = config["core"]["might_contain_dag_callable"].rpartition(".")
    assert f"def {function}(" in plan.uploads[f"{layout.MODULES}/{module}.py"]


# Logs of tasks of several users

SHARE = "Let tasks of all users write logs beside each other's"


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({}, "/var/log/airflow"),
        (fake.VARIANTS["s3 logs"], "/var/log/airflow"),
        (fake.VARIANTS["claims"], None),  # whose storage may have no ACLs
        (
            {**fake.VARIANTS["claims"], "airflow_executor": "KubernetesExecutor,LocalExecutor"},
            "/srv/logs",
        ),
    ],
)
def test_tasks_of_all_users_share_the_folder_of_logs(
    given: dict[str, Any], folder: str | None
) -> None:
    plan = fake.plan(fake.settings(given))
    found = [each.commands for each in plan.operations if SHARE in each.name]
    entry = "g:airflow-dags:rwX"
    command = f"{layout.LIB}/acl.py apply {folder} {entry}"
    assert [each.splitlines()[-1] for (each,) in found] == ([command] if folder else [])

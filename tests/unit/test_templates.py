"""Every file that the deploy writes, as it writes it, read by its own format's parser."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tasks import layout
from tasks.airflow import services
from tasks.layout import ROOT
from tests.support import BACKUP_EXPOSURE, MAX_EXPOSURE
from tests.unit import fake, formats
from tests.unit.fake import FILES, Plan
from tests.unit.formats import Unit
from tests.unit.stand_ins import owner

UNITS = "/etc/systemd/system"
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
REGISTRY = fake.VARIANTS["registry"]
SECRET_VARIABLES = (
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
)
# Variants whose database is elsewhere.
ON_ANOTHER_HOST = (
    "beside a database",
    "existing database",
    "first of several",
    "another of several",
)
ALERTS = FILES / "etc/prometheus/airflow.rules.yaml"  # an example, for another host


# Which files


def test_every_file_is_used() -> None:
    # In a process of its own: pyinfra reads a template once a process.
    script = """
import sys
from tests.unit import fake
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
names = ("pod operator", "objects", "git", "metrics", "page with TLS")
given = {key: value for name in names for key, value in fake.VARIANTS[name].items()}
hosts = [
    *map(fake.settings, (given, fake.VARIANTS["a container as node"])),
    fake.several(0, fake.ONE_ADDRESS),
    fake.with_cluster(),
]
for settings in hosts:
    plan = fake.plan(settings)
    opened.update(str(source) for each in plan.operations for source in each.sources)
print(*opened, sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=True
    )
    used = {(ROOT / line).resolve() for line in done.stdout.splitlines()}
    there = {path for path in FILES.rglob("*") if path.is_file() and "__pycache__" not in str(path)}
    locks = set((FILES / "opt/airflow/requirements").glob("[0-9]*.txt"))  # of which one is used
    assert there - used - locks == {ALERTS, FILES / "README.md"}


def test_no_template_is_written_as_it_is(variant: Plan) -> None:
    for operation in variant.operations:
        assert not [path for path in operation.sources if path.suffix == ".j2"]
        for dest, text in operation.uploads.items():
            if dest.startswith("/usr/local/") and (FILES / dest[1:]).exists():
                continue  # a program as it is
            # Those of kubectl and of Airflow itself.
            left = re.sub("go-template='[^']*'|(?m:^log_filename_template = .*$)", "", text)
            assert operation.sources or not re.search(r"{{|{%|%}", left), dest


# airflow.cfg


def test_airflow_config_runs_tasks_as_pods_and_loads_no_foreign_examples(variant: Plan) -> None:
    config = formats.config_of(variant)
    assert "KubernetesExecutor" in config["core"]["executor"]
    assert not config.getboolean("core", "load_examples")
    assert json.loads(config["dag_processor"]["dag_bundle_config_list"])


def test_airflow_config_tells_nobody_and_lets_in_by_login(variant: Plan) -> None:
    config = formats.config_of(variant)
    assert not config.getboolean("usage_data_collection", "enabled")
    assert config["core"]["auth_manager"].endswith(".FabAuthManager")
    assert config["core"]["plugins_folder"] == "/opt/airflow/plugins"  # in which only root writes
    executor = config["kubernetes_executor"]
    assert not executor.getboolean("in_cluster")
    assert executor["config_file"] == "/etc/airflow/kubeconfig"  # of the account with least rights
    template = executor["pod_template_file"]
    assert variant.contents([template])[template]


def test_airflow_config_holds_no_secret(plan: Plan) -> None:
    config = formats.config_of(plan)
    for option in ("sql_alchemy_conn", "sql_alchemy_conn_async"):
        assert urlsplit(config["database"][option]).password is None
    options = {f"airflow__{section}__{name}" for section in config for name in config[section]}
    assert options.isdisjoint(variable.lower() for variable in SECRET_VARIABLES)


VALUES = [
    "100%",
    "[%(asctime)s] {%(filename)s:%(lineno)d} %(message)s",
    "%%",
    '{"a": [1, "b"]}',
    "a = b: c",
    "# no comment; none",
    "",
    '[\n{"name": "dags-folder"},\n\n{"name": "team"}\n]',
]


def test_an_option_of_the_inventory_arrives_as_it_is() -> None:
    options = {f"option_{number}": value for number, value in enumerate(VALUES)}
    given = {"logging": {**options, "log_format": VALUES[1]}, "new_section": options}
    config = formats.config_of(fake.plan(fake.settings({"airflow_config": given})))
    for section in given:
        assert {name: config[section][name] for name in options} == options
    # The deploy's own options of that section are still there.
    assert config["logging"]["base_log_folder"] == "/var/log/airflow"
    assert config["logging"]["log_format"] == VALUES[1]


def test_an_option_of_the_inventory_wins() -> None:
    given = {"airflow_config": {"core": {"load_examples": "True"}}}
    assert formats.config_of(fake.plan(fake.settings(given))).getboolean("core", "load_examples")


# The pod template


@pytest.fixture
def pod(variant: Plan) -> dict[str, Any]:
    """The pod template as Kubernetes reads it."""
    return formats.pod(variant)


def environment_of(pod: dict[str, Any]) -> dict[str, str]:
    """The variables with fixed values, in their order."""
    env = pod["spec"]["containers"][0]["env"]
    assert len({entry["name"] for entry in env}) == len(env), "a variable is set twice"
    return {entry["name"]: entry["value"] for entry in env if "value" in entry}


def test_airflow_finds_its_container_in_the_pod(pod: dict[str, Any]) -> None:
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    assert pod["spec"]["containers"][0]["name"] == "base"
    assert pod["spec"]["restartPolicy"] == "Never"


def test_the_pod_has_least_rights(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = spec["containers"][0]["securityContext"]
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))


def test_the_pod_runs_as_the_user_of_the_setting() -> None:
    pod = formats.pod(fake.plan(fake.settings({"airflow_uid": 4321})))
    context = pod["spec"]["securityContext"]
    ids = {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert ids == {4321}


def test_the_pod_is_told_no_secret(pod: dict[str, Any]) -> None:
    environment = environment_of(pod)
    assert environment.keys().isdisjoint(SECRET_VARIABLES)
    assert not [name for name in environment if re.search("SECRET|KEY|PASSWORD|TOKEN|CONN$", name)]
    assert not [value for value in environment.values() if "postgres" in value]


def test_the_pod_uses_variables_after_they_are_defined(pod: dict[str, Any]) -> None:
    # Kubernetes leaves $(NAME) as it is where NAME is defined further down or not at all.
    defined: set[str] = set()
    for entry in pod["spec"]["containers"][0]["env"]:
        assert set(re.findall(r"\$\((\w+)\)", entry.get("value", ""))) <= defined, entry
        defined.add(entry["name"])


def test_the_pods_values_are_text_and_their_json_is_json(pod: dict[str, Any]) -> None:
    environment = environment_of(pod)
    assert all(isinstance(value, str) for value in environment.values())
    structured = [value for value in environment.values() if value.startswith(("[", "{"))]
    assert structured and all(json.loads(value) for value in structured)


def test_host_and_pod_agree_on_the_dag_bundles(variant: Plan) -> None:
    on_host = formats.config_of(variant)["dag_processor"]["dag_bundle_config_list"]
    in_pod = environment_of(formats.pod(variant))["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
    assert json.loads(on_host) == json.loads(in_pod)


@pytest.mark.parametrize(
    ("given", "options"), [({}, {}), ({"submodules": True}, {"submodules": True})]
)
def test_a_repository_has_submodules_only_if_it_is_asked_for(
    given: dict[str, Any], options: dict[str, Any]
) -> None:
    bundle = {"url": "https://git.example/dags.git", **given}
    plan = fake.plan(fake.settings({"dags_git_bundles": {"team": bundle}}))
    text = formats.config_of(plan)["dag_processor"]["dag_bundle_config_list"]
    (team,) = [each["kwargs"] for each in json.loads(text) if each["name"] == "team"]
    assert {key: value for key, value in team.items() if key == "submodules"} == options


SOURCES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    # settings, names of the bundles, where a pod mounts DAGs
    "host": (fake.VARIANTS["git"], ["dags-folder", "team", "others"], ["/opt/airflow/dags"]),
    "claim": (
        fake.VARIANTS["claim"],
        ["dags-folder", "deploy"],
        ["/opt/airflow/dags", "/opt/airflow/deploy-dags"],
    ),
    "image": (
        {"dags_source": "image", "dags_local_folder": "tests/e2e/dags"},
        ["dags-folder", "deploy"],
        ["/opt/airflow/deploy-dags"],
    ),
    "git": (
        {**fake.VARIANTS["git"], "dags_source": "git"},
        ["deploy", "team", "others"],
        ["/opt/airflow/deploy-dags"],
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_pods_have_the_dags_of_each_bundle(source: str) -> None:
    given, names, folders = SOURCES[source]
    plan = fake.plan(fake.settings(given))
    pod = formats.pod(plan)
    bundles = json.loads(environment_of(pod)["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["name"] for bundle in bundles] == names
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    dags_mounts = [mount for mount in mounts if "dags" in mount["name"]]
    assert [mount["mountPath"] for mount in dags_mounts] == folders
    assert all(mount["readOnly"] for mount in dags_mounts)


@pytest.mark.parametrize("source", ["claim", "image", "git"])
def test_host_and_pods_have_the_same_dags_of_the_deploys_own(source: str) -> None:
    plan = fake.plan(fake.settings(SOURCES[source][0]))
    (config_map,) = (each for each in objects_of(plan) if each["kind"] == "ConfigMap")
    top = "/opt/airflow/deploy-dags/"
    on_host = {k.removeprefix(top): v for k, v in plan.uploads.items() if k.startswith(top)}
    assert on_host == config_map["data"] and "airflow_smoke_test.py" in on_host


def test_a_claims_folder_is_where_the_dag_processor_reads_it() -> None:
    plan = fake.plan(fake.settings(fake.VARIANTS["claim"]))
    assert formats.config_of(plan)["core"]["dags_folder"] == "/srv/dags/team"
    unit = unit_of(plan, "airflow-dag-processor.service")
    assert unit.one("Service.BindReadOnlyPaths") == "/srv/dags/team"
    assert unit.one("Unit.RequiresMountsFor") == "/srv/dags/team"
    # DAGs should not stop a service that does not read them.
    assert not unit_of(plan, "airflow-api-server.service").all("Service.BindReadOnlyPaths")


def test_other_dags_are_another_image_on_the_same_base(tmp_path: Path) -> None:
    given = {"dags_source": "image", "dags_local_folder": str(tmp_path)}
    bases, images = set(), set()
    for text in ("one", "two"):
        (tmp_path / "dag.py").write_text(text)
        plan = fake.plan(fake.settings(given))
        images.add(formats.pod(plan)["spec"]["containers"][0]["image"])
        (command,) = plan.named("Build the worker image").commands
        *_, base, version = command.split()
        bases.add(base)
        (folder,) = {k.rpartition("/")[0] for k, v in plan.uploads.items() if v == text}
        assert folder == f"{layout.IMAGE_DAGS}/{version}"
        assert folder.endswith(plan.named("Switch to the version").name.split()[-4])
    assert (len(bases), len(images)) == (1, 2)


def test_the_pods_volumes_are_defined(pod: dict[str, Any]) -> None:
    mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_the_pods_resources_are_the_settings() -> None:
    resources = {"limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}}
    pod = formats.pod(fake.plan(fake.settings({"worker_resources": resources})))
    assert pod["spec"]["containers"][0]["resources"] == resources


# kubernetes.json


def objects_of(plan: Plan) -> list[dict[str, Any]]:
    """The objects that the deploy applies in the cluster."""
    (command,) = plan.named("Apply Airflow's objects").commands
    assert command == f"{layout.LIB}/cluster-objects.py apply"
    items: list[dict[str, Any]] = json.loads(plan.uploads[layout.KUBERNETES_OBJECTS])["items"]
    return items


def unwanted_by(plan: Plan) -> set[str]:
    """The objects that the deploy deletes, by kind and name."""
    items = json.loads(plan.uploads[layout.KUBERNETES_UNWANTED])["items"]
    return {f"{each['kind']}/{each['metadata']['name']}" for each in items}


def test_all_objects_are_in_the_namespace() -> None:
    plan = fake.plan(
        fake.settings({"kubernetes_namespace": "team-a", "kubernetes_pod_operator": True})
    )
    namespaces, others = objects_of(plan)[:2], objects_of(plan)[2:]
    # Nothing can be made in a namespace that is not there yet.
    assert [each["kind"] for each in namespaces] == ["Namespace"] * 2
    places = {"team-a", "team-a-control"}
    assert {each["metadata"]["name"] for each in namespaces} == places
    assert {each["metadata"]["namespace"] for each in others} == places
    subjects = {
        (subject["name"], subject["namespace"])
        for each in others
        for subject in each.get("subjects", [])
    }
    assert subjects == {
        ("airflow-control-plane", "team-a-control"),
        ("airflow-triggerer", "team-a-control"),
        ("airflow-renewal", "team-a-control"),
        ("airflow-pod-operator", "team-a"),
    }


def test_nobody_may_more_than_handle_pods(of_cluster: Plan) -> None:
    roles = [each for each in objects_of(of_cluster) if each["kind"] == "Role"]
    # That of root may give tokens to the host's accounts by their names, and nothing else.
    (renewal,) = (each for each in roles if each["metadata"]["name"] == "airflow-renewal")
    (rule,) = renewal["rules"]
    control = renewal["metadata"]["namespace"]
    accounts = {
        each["metadata"]["name"]
        for each in objects_of(of_cluster)
        if each["kind"] == "ServiceAccount" and each["metadata"]["namespace"] == control
    }
    assert (rule["resources"], rule["verbs"]) == (["serviceaccounts/token"], ["create"])
    assert set(rule["resourceNames"]) == accounts
    roles.remove(renewal)
    assert all(each["metadata"]["namespace"] != control for each in roles)
    rules = [rule for role in roles for rule in role["rules"]]
    assert rules and all("*" not in str(rule) for rule in rules)
    assert {name for rule in rules for name in rule["resources"]} <= {
        "pods",
        "pods/log",
        "pods/exec",
        "events",
    }


def test_bindings_name_roles_and_accounts_that_are_there(of_cluster: Plan) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects_of(of_cluster)}
    bindings = [each for each in objects_of(of_cluster) if each["kind"] == "RoleBinding"]
    for binding in bindings:
        assert ("Role", binding["roleRef"]["name"]) in there
        assert all((s["kind"], s["name"]) in there for s in binding["subjects"])
    assert bindings


def test_task_pods_act_as_an_account_without_rights(of_cluster: Plan) -> None:
    pod = formats.pod(of_cluster)
    account = pod["spec"]["serviceAccountName"]
    objects = objects_of(of_cluster)
    found = [
        each
        for each in objects
        if each["kind"] == "ServiceAccount" and each["metadata"]["name"] == account
    ]
    # Each namespace but that of the host's programs, where no pod is.
    namespaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    assert {each["metadata"]["namespace"] for each in found} == namespaces - {"airflow-control"}
    assert all(each["automountServiceAccountToken"] is False for each in found)
    bound = {s["name"] for each in objects for s in each.get("subjects", [])}
    assert account not in bound


@pytest.mark.parametrize("wanted", [True, False])
def test_rights_of_the_pod_operator_are_given_only_on_demand(wanted: bool) -> None:
    plan = fake.plan(fake.settings({"kubernetes_pod_operator": wanted}))
    names = {each["metadata"]["name"] for each in objects_of(plan)}
    assert ("airflow-pod-operator" in names) is wanted
    assert ("Role/airflow-pod-operator" in unwanted_by(plan)) is not wanted


def test_a_login_for_the_registry_is_given_to_pods_only_on_demand() -> None:
    for given in (REGISTRY, {"worker_registry": {"repository": "registry.example/airflow"}}):
        plan = fake.plan(fake.settings(given))
        (account,) = (
            each
            for each in objects_of(plan)
            if each["kind"] == "ServiceAccount" and each["metadata"]["name"] == "airflow-worker"
        )
        named = account.get("imagePullSecrets", [])
        assert (named == [{"name": "airflow-registry"}]) is (given is REGISTRY)
        assert ("Secret/airflow-registry" in unwanted_by(plan)) is (given is not REGISTRY)
        assert ("PULL_SECRET=airflow-registry\n" in plan.uploads[layout.HOST_ENV]) is (
            given is REGISTRY
        )


def test_containerd_trusts_the_registrys_authority() -> None:
    plan = fake.plan(fake.settings(REGISTRY))
    host = REGISTRY["worker_registry"]["repository"].partition("/")[0]
    hosts = tomllib.loads(plan.uploads[f"/etc/containerd/certs.d/{host}/hosts.toml"])
    assert hosts["server"] == f"https://{host}"
    (ca,) = (each["ca"] for each in hosts["host"].values())
    assert plan.uploads[ca] == REGISTRY["worker_registry"]["ca_certificate"]


def test_every_namespace_has_the_rights_and_accounts() -> None:
    given = {"kubernetes_extra_namespaces": ["team-a", "team-b"], "kubernetes_pod_operator": True}
    plan = fake.plan(fake.settings(given))
    objects = objects_of(plan)
    kinds: dict[str, set[tuple[str, str]]] = {}
    for each in objects:
        if each["kind"] != "Namespace":
            place = each["metadata"]["namespace"]
            kinds.setdefault(place, set()).add((each["kind"], each["metadata"]["name"]))
    assert set(kinds) == {"airflow-control", "airflow", "team-a", "team-b"}
    # The accounts of the host's programs, and their tokens, are where no pod can be.
    accounts = ("control-plane", "renewal", "triggerer")
    only = {("ServiceAccount", f"airflow-{account}") for account in accounts}
    only |= {(kind, "airflow-renewal") for kind in ("Role", "RoleBinding")}
    assert kinds["airflow-control"] == only
    assert kinds["team-a"] == kinds["team-b"] == kinds["airflow"]
    assert not kinds["airflow"] & only
    subjects = [
        subject
        for each in objects
        for subject in each.get("subjects", [])
        if subject["name"] == "airflow-control-plane"
    ]
    assert [subject["namespace"] for subject in subjects] == ["airflow-control"] * 3
    config = formats.config_of(plan)["kubernetes_executor"]
    assert config["multi_namespace_mode"] == "True"
    assert config["multi_namespace_mode_namespace_list"] == "airflow,team-a,team-b"


@pytest.mark.parametrize(
    ("given", "egress"),
    [
        ({}, []),
        ({"kubernetes_allowed_networks": ["10.0.0.0/8", "2001:db8::/32"]}, [2]),
        ({"execution_api_host": "192.0.2.7"}, [1]),
    ],
)
def test_a_policy_lets_pods_reach_only_the_servers_that_they_need(
    given: dict[str, Any], egress: list[int]
) -> None:
    plan = fake.plan(fake.settings({"kubernetes_network_policy": True, **given}))
    (policy,) = (each for each in objects_of(plan) if each["kind"] == "NetworkPolicy")
    assert policy["spec"]["podSelector"] == {}
    assert policy["spec"]["policyTypes"] == ["Egress"]
    dns, *others = policy["spec"]["egress"]
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert [len(rule["to"]) for rule in others] == egress
    if "execution_api_host" in given:
        assert others == [
            {
                "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}],
                "ports": [{"protocol": "TCP", "port": 8081}],
            }
        ]


def test_no_policy_is_left_where_none_is_wanted(plan: Plan) -> None:
    assert "NetworkPolicy/airflow-worker" in unwanted_by(plan)


def test_objects_of_the_inventory_are_applied_where_they_say() -> None:
    def quota(**metadata: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}

    here, there = quota(name="here"), quota(name="there", namespace="elsewhere")
    plan = fake.plan(fake.settings({"kubernetes_extra_manifests": [here, there]}))
    # cluster-objects.py gives kubectl the namespace for objects that name none.
    assert there in objects_of(plan) and here in objects_of(plan)
    assert "NAMESPACE=airflow\n" in plan.uploads[layout.HOST_ENV]


# Pods that ended


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {"delete_worker_pods": True, "delete_worker_pods_on_failure": False}),
        (
            {"retention_failed_pod_minutes": 0},
            {"delete_worker_pods": True, "delete_worker_pods_on_failure": True},
        ),
        (
            {"worker_delete_finished_pods": False},
            {"delete_worker_pods": False, "delete_worker_pods_on_failure": False},
        ),
    ],
)
def test_pods_that_ended_are_deleted_or_cleaned_up(
    given: dict[str, Any], options: dict[str, bool]
) -> None:
    plan = fake.plan(fake.settings(given))
    section = formats.config_of(plan)["kubernetes_executor"]
    assert {name: section.getboolean(name) for name in options} == options
    kept = not all(options.values())
    assert (f"{UNITS}/airflow-cleanup-pods.timer" in plan.uploads) is kept
    assert any(name.endswith("Remove airflow-cleanup-pods") for name in plan.names) is not kept
    # Airflow would take the kept pod's end for that of a new pod of the same try.
    again = section.get("pod_launch_failure_retries", "1")
    assert (again == "0") is (
        options == {"delete_worker_pods": True} | {"delete_worker_pods_on_failure": False}
    )


def test_the_cleaner_is_told_namespaces_and_minutes_and_is_closed_in() -> None:
    given = {"kubernetes_extra_namespaces": ["team"], "retention_failed_pod_minutes": 90}
    plan = fake.plan(fake.settings(given))
    unit = unit_of(plan, "airflow-cleanup-pods.service")
    assert unit.commands("Service.ExecStart") == [["/usr/local/lib/airflow/clean-pods.sh"]]
    values = formats.host_values(plan)
    assert values["NAMESPACES"].split() == ["airflow", "team"]
    assert values["FAILED_PODS_MINUTES"] == "90"
    # It prints whole pods, which hold tokens.
    assert unit.one("Service.StandardOutput") == "null"
    assert unit.one("Service.User") == "airflow"
    assert unit.one("Service.ProtectSystem") == "strict"
    assert not unit.all("Service.EnvironmentFile")
    timer = unit_of(plan, "airflow-cleanup-pods.timer")
    assert timer.one("Unit.PartOf") == timer.one("Install.WantedBy") == "airflow.target"


# Executors


@pytest.mark.parametrize(
    "executor",
    ["KubernetesExecutor", "KubernetesExecutor,LocalExecutor", "LocalExecutor,KubernetesExecutor"],
)
def test_host_and_pods_know_the_same_executors(executor: str) -> None:
    plan = fake.plan(fake.settings({"airflow_executor": executor}))
    assert formats.config_of(plan)["core"]["executor"] == executor
    assert environment_of(formats.pod(plan))["AIRFLOW__CORE__EXECUTOR"] == executor
    url = urlsplit(formats.config_of(plan)["core"]["execution_api_server_url"])
    assert (url.hostname, url.port) == ("127.0.0.1", layout.API_SERVER_PORT)
    unit = unit_of(plan, "airflow-scheduler.service")
    # A log server would listen on all addresses.
    (command,) = unit.commands("Service.ExecStart")
    assert command[2:] == ["--skip-serve-logs"]
    # Airflow hides a task's process even from itself where only a user's own are visible.
    assert (unit.last("Service.ProtectProc") == "default") is ("Local" in executor)
    # Programs of tasks may compile their code while it runs.
    assert (unit.last("Service.MemoryDenyWriteExecute") == "no") is ("Local" in executor)
    # A stop waits for tasks of the host.
    assert (int(unit.last("Service.TimeoutStopSec")) > 300) is ("Local" in executor)


# Units


def unit_of(plan: Plan, name: str) -> Unit:
    """A unit as systemd reads it, with its drop-ins."""
    return Unit.of(plan, name)


def units_of(plan: Plan) -> dict[str, Unit]:
    """The units of the services, by the services' names."""
    return {service: unit_of(plan, f"airflow-{service}.service") for service in SERVICES}


def test_services_belong_to_the_target(variant: Plan) -> None:
    for unit in units_of(variant).values():
        assert unit.one("Unit.PartOf") == unit.one("Install.WantedBy") == "airflow.target"
        assert unit.one("Service.Restart") == "always"


def test_services_run_the_program_of_the_venv(variant: Plan) -> None:
    for service, unit in units_of(variant).items():
        (words,) = unit.commands("Service.ExecStart")
        if words[0].endswith("/one-active.py"):
            words = [f"{unit.one('Service.ExecSearchPath').split(':')[0]}/{words[1]}", *words[2:]]
        program, command, *_ = words
        venv, _, rest = program.partition("/bin/")
        assert (rest, command) == ("airflow", service)
        # The real venv, not the link: a unit changes, and so is restarted, with its venv.
        assert venv in variant.named("Install Airflow").commands[0].split()
        assert venv != "/opt/airflow/venv"
        # systemd makes $PATH of it.
        assert unit.one("Service.ExecSearchPath").split(":")[0] == f"{venv}/bin"
        assert "PATH" not in unit.environment


# https://airflow.apache.org/docs/apache-airflow/3.3.2/security/security_model.html
SECRETS_OF = {
    "api-server": {"fernet-key", "jwt-secret", "api-secret-key"},
    "scheduler": {"fernet-key", "jwt-secret"},
    "dag-processor": {"fernet-key"},
    "triggerer": {"fernet-key"},
}
KEYS = {f"/etc/airflow/secrets/{name}" for name in SECRETS_OF["api-server"]}


def test_the_table_of_keys_gives_a_reason_for_each() -> None:
    table = {process: set(keys) for process, keys in services.NEEDED.items()}
    assert table == {**SECRETS_OF, "command line": {"fernet-key"}}
    assert all(reason for keys in services.NEEDED.values() for reason in keys.values())


def test_no_process_that_runs_dags_can_make_tokens_or_sessions() -> None:
    for process, keys in services.NEEDED.items():
        user = "airflow-dags" if process in ("dag-processor", "triggerer") else "airflow"
        assert user == "airflow" or set(keys) == {"fernet-key"}


def test_each_service_has_its_secrets_and_no_other(variant: Plan) -> None:
    for service, unit in units_of(variant).items():
        files = set(unit.all("Service.EnvironmentFile")) - {layout.DAGS_ENV}
        assert files == {f"/etc/airflow/secrets/{name}" for name in SECRETS_OF[service]}
        # The deploy restarts it when one of them changes.
        recorded = unit.environment["INPUTS"].split()
        assert files == {path for path in recorded if path in KEYS}
        # Anybody on the host can read a unit.
        assert unit.environment.keys().isdisjoint(SECRET_VARIABLES)


def test_services_are_sandboxed(variant: Plan) -> None:
    for service, unit in units_of(variant).items():
        # The services that run DAGs' code have another user than those with the keys.
        user = "airflow-dags" if service in ("dag-processor", "triggerer") else "airflow"
        assert unit.one("Service.User") == unit.one("Service.Group") == user
        assert unit.environment["HOME"] == unit.environment["AIRFLOW_HOME"] == f"/var/lib/{user}"
        assert f"/var/lib/{user}" in unit.all("Service.ReadWritePaths")[0].split()
        assert unit.one("Service.NoNewPrivileges") == "yes"
        assert unit.one("Service.ProtectSystem") == "strict"
        port = "CAP_NET_BIND_SERVICE" if service == "api-server" else ""
        for option in ("CapabilityBoundingSet", "AmbientCapabilities"):
            assert unit.all(f"Service.{option}")[-1] == port


def exposures(folder: Path, plan: Plan, units: Iterable[str]) -> dict[str, float]:
    """The exposure of each of these units with its drop-ins, as systemd computes it."""
    for path, text in plan.uploads.items():
        if path.startswith(f"{UNITS}/"):
            target = folder / path.removeprefix(f"{UNITS}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    judge = ["systemd-analyze", "security", "--no-pager", "--offline=true"]  # Debian's systemd
    done = subprocess.run(
        [*judge, *(folder / name for name in units)], text=True, capture_output=True, check=True
    )
    levels = re.findall(r"Overall exposure level for (\S+): ([\d.]+)", done.stdout)
    return {name: float(level) for name, level in levels}


def test_services_and_the_programs_of_timers_are_sandboxed(
    variants: dict[str, Plan], tmp_path: Path
) -> None:
    seen: set[str] = set()
    for variant, plan in variants.items():
        # The same unit in different variants, unless it is the same there.
        texts = {
            Path(path).name: "\n".join(
                plan.uploads[each] for each in formats.paths_of(plan, Path(path).name)
            )
            for path in plan.uploads
            if Path(path).match(f"{UNITS}/airflow-*.service")
        }
        units = {name for name, text in texts.items() if text not in seen}
        seen |= set(texts.values())
        if not units:
            continue
        levels = exposures(tmp_path / variant, plan, units)
        assert levels.keys() == units
        # A backup is root's, and has the network where the database is elsewhere.
        is_remote = variant in ON_ANOTHER_HOST
        allowed = {"airflow-backup.service": BACKUP_EXPOSURE} if is_remote else {}
        # One of several hosts asks the database for its own services.
        allowed |= {"airflow-liveness.service": MAX_EXPOSURE + 1} if "several" in variant else {}
        for name, level in levels.items():
            assert level * 10 <= allowed.get(name, MAX_EXPOSURE), (variant, name)
    assert len(seen) > len(SERVICES)


# How much each unit is exposed by default, which may not grow.
EXPOSED = {
    **dict.fromkeys((*SERVICES, "cleanup-pods", "cleanup-history", "cleanup-logs"), 1.2),
    "api-server": 1.4,  # it may take its port
    **dict.fromkeys(("dag-processor", "triggerer"), 1.3),  # as the code of DAGs needs it
    "cleanup-images": 1.4,
    **dict.fromkeys(("liveness", "backup", "certificate"), 1.5),
}


def test_no_unit_is_more_exposed_than_it_has_to_be(plan: Plan, tmp_path: Path) -> None:
    levels = exposures(tmp_path, plan, [f"airflow-{name}.service" for name in EXPOSED])
    assert levels == {f"airflow-{name}.service": level for name, level in EXPOSED.items()}


def test_a_relaxation_is_read_after_the_sandbox(plan: Plan) -> None:
    for folder in {Path(path).parent for path in plan.uploads if path.endswith("-sandbox.conf")}:
        if folder.name == "airflow-.service.d":
            continue
        unit = folder.name.removesuffix(".d")
        own, shared, *others = formats.paths_of(plan, unit)
        assert shared == "/etc/systemd/system/airflow-.service.d/10-sandbox.conf"
        assert f"{folder}/20-sandbox.conf" in others
        # In the unit itself a line that the sandbox has too would have no effect.
        of_sandbox = Unit.parse(plan.uploads[shared]).options.keys()
        assert not of_sandbox & Unit.parse(plan.uploads[own]).options.keys()


def test_the_code_of_dags_may_do_what_it_may_in_pods(plan: Plan) -> None:
    for service, unit in units_of(plan).items():
        relaxed = service in ("dag-processor", "triggerer")
        assert (unit.last("Service.MemoryDenyWriteExecute") == "no") is relaxed
        assert (unit.last("Service.ProcSubset") == "all") is relaxed
        # Whose processes are there stays hidden.
        assert unit.last("Service.ProtectProc") == "invisible"


def test_a_missing_sandbox_would_be_noticed(plan: Plan, tmp_path: Path) -> None:
    name = "minikube.service"  # it is root's, and needs the host
    assert exposures(tmp_path, plan, [name])[name] * 10 > MAX_EXPOSURE


def has_plugins(plan: Plan) -> bool:
    """Whether the deploy copies plugins."""
    return any(path.startswith("/opt/airflow/plugins/") for path in plan.uploads)


def test_a_start_records_all_files_that_it_reads(variant: Plan) -> None:
    for service, unit in units_of(variant).items():
        name = f"airflow-{service}.service"
        *_, script = formats.unit_words(unit.one("Service.ExecStartPre"))
        assert "sha256sum $INPUTS > " in script
        files, record = unit.environment["INPUTS"], script.split(" > ")[1]
        expected = {
            *formats.paths_of(variant, name),
            unit.environment["AIRFLOW_CONFIG"],
            *([unit.environment["KUBECONFIG"]] if "KUBECONFIG" in unit.environment else []),
            *unit.all("Service.EnvironmentFile"),
            # Modules that Airflow loads once.
            "/usr/local/lib/airflow/python/airflow_deploy_apart.py",
            "/usr/local/lib/airflow/python/airflow_deploy_callbacks.py",
            "/usr/local/lib/airflow/python/airflow_deploy_classes.py",
            "/usr/local/lib/airflow/python/airflow_deploy_columns.py",
            "/usr/local/lib/airflow/python/airflow_deploy_crashes.py",
            "/usr/local/lib/airflow/python/airflow_deploy_files.py",
            "/usr/local/lib/airflow/python/airflow_deploy_imports.py",
            "/usr/local/lib/airflow/python/airflow_deploy_keys.py",
            "/usr/local/lib/airflow/python/airflow_deploy_links.py",
            "/usr/local/lib/airflow/python/airflow_deploy_logs.py",
            "/usr/local/lib/airflow/python/airflow_deploy_memory.py",
            "/usr/local/lib/airflow/python/airflow_deploy_outages.py",
            "/usr/local/lib/airflow/python/airflow_deploy_params.py",
            "/usr/local/lib/airflow/python/airflow_deploy_proxies.py",
            "/usr/local/lib/airflow/python/airflow_deploy_policy.py",
            "/usr/local/lib/airflow/python/airflow_deploy_triggers.py",
            # Its plugins, if the deploy copies some.
            *(["/var/lib/airflow-deploy/plugins"] if has_plugins(variant) else []),
        }
        if service == "api-server":  # the login
            files_of_login = re.findall(
                r"(?m)^config_file = (.+)$", variant.uploads["/etc/airflow/airflow.cfg"]
            )
            expected |= {*files_of_login}
        if service == "dag-processor":  # and the other changes that it would not notice
            memories = {
                "dags-switch.sh": "/opt/airflow/baked-dags/current.name",
                "git-connections.sh": "/var/lib/airflow-deploy/git-connections",
            }
            said = " ".join(command for each in variant.operations for command in each.commands)
            expected |= {path for name, path in memories.items() if f"/{name} apply " in said}
            program = unit.commands("Service.ExecStart")[-1][0]
            expected |= {program} if program.endswith("/one-active.py") else set()
        assert set(files.split()) == expected
        # The deploy compares with this very file; %n is the unit's name.
        assert record == f"{formats.host_values(variant)['STARTED_WITH']}/%n"
        # One of several hosts compares all of its units at once.
        compared = rf"run-unit.sh check {re.escape(name)}\s|services.sh check\s"
        assert any(re.search(compared, fact) for fact in variant.facts)


def test_the_target_starts_with_the_machine(plan: Plan) -> None:
    assert unit_of(plan, "airflow.target").one("Install.WantedBy") == "multi-user.target"


def test_services_wait_for_minikube_only_where_it_runs(plan: Plan) -> None:
    existing = fake.plan(fake.settings(fake.EXISTING))
    for each, expected in ((plan, True), (existing, False)):
        after = " ".join(unit_of(each, "airflow-scheduler.service").all("Unit.After")).split()
        assert ("minikube.service" in after) is expected


@pytest.mark.parametrize("driver", ["none", "podman", "docker", "kvm2"])
def test_minikube_is_started_with_driver_and_versions(driver: str) -> None:
    given = {**fake.ANOTHER_DRIVER, "minikube_driver": driver} | fake.pinned(
        kubernetes_version="1.35.9"
    )
    unit = unit_of(fake.plan(fake.settings(given)), "minikube.service")
    start, program = unit.one("Service.ExecStart"), "/usr/local/lib/airflow/minikube.sh"
    # A node's container has nothing but this unit that starts it again.
    if driver in ("podman", "docker"):
        assert formats.unit_words(start) == ["/usr/local/lib/airflow/watch-node.sh"]
        assert (unit.one("Service.Type"), unit.one("Service.Restart")) == ("exec", "on-failure")
        start = unit.one("Service.ExecStartPre")
    words = formats.unit_words(start)
    assert words[:2] == [program, "start"]
    versions = words[2].split()
    assert [each.rpartition(".")[0] for each in versions] == ["1.33", "1.34", "1.35"]
    assert versions[-1] == "1.35.9"
    assert f"--driver={driver}" in words
    assert ("--container-runtime=containerd" in words) == (driver != "kvm2")
    # A container gets the host's folder when it is made, and all of the processor and memory.
    in_container = {*words} >= {
        *("--mount-string=/opt/airflow:/opt/airflow", "--cpus=no-limit", "--memory=no-limit"),
    }
    assert in_container == (driver in ("podman", "docker"))
    assert all(word.startswith("--") for word in words[3:])
    # The same makes another version of a cluster that runs.
    assert formats.unit_words(unit.all("Service.ExecReload")[-1]) == words
    # Each version has the time that one takes at most.
    assert unit.one("Service.TimeoutStartSec") == f"{15 * len(versions)}min"


@pytest.mark.parametrize(
    "change",
    [
        fake.pinned(kubernetes_version="1.33.2"),
        fake.pinned(minikube_version="1.36.1"),
        {"minikube_extra_args": ["--v=3"]},
    ],
)
def test_each_setting_of_minikube_shows_in_its_unit(plan: Plan, change: dict[str, Any]) -> None:
    """It is the unit that the deploy compares."""
    path = f"{UNITS}/minikube.service"
    assert fake.plan(fake.settings(change)).uploads[path] != plan.uploads[path]


ARGUMENTS = [
    "--cpus=2",
    "--extra-config=kubelet.eviction-hard=nodefs.available<10%",
    "--docker-opt=label=100%sure",
    "--docker-opt=label=${HOME}",
    "--docker-opt=label=two words",
    "--docker-opt=label=it's",
    '--docker-opt=label="quoted"',
]


def test_arguments_for_minikube_arrive_as_they_are() -> None:
    plan = fake.plan(fake.settings({"minikube_extra_args": ARGUMENTS}))
    unit = unit_of(plan, "minikube.service")
    words = formats.unit_words(unit.one("Service.ExecStart"))
    assert words[-len(ARGUMENTS) :] == ARGUMENTS


def test_the_node_protects_itself_and_listens_for_others_only_where_it_has_to(plan: Plan) -> None:
    unit = unit_of(plan, "minikube.service")
    words = formats.unit_words(unit.one("Service.ExecStart"))
    options = dict(word.split("=", 2)[1:] for word in words if word.startswith("--extra-config="))
    # minikube writes them into kubelet's own unit, as they are.
    (eviction,) = formats.unit_words(options["kubelet.eviction-hard"])
    least = dict(each.split("<") for each in eviction.split(","))
    assert least == {
        **dict.fromkeys(("nodefs.available", "imagefs.available"), "1Gi"),
        **dict.fromkeys(("nodefs.inodesFree", "imagefs.inodesFree"), "5%"),
    }
    assert options["kubelet.system-reserved"] == "memory=2Gi"
    assert options["kube-proxy.metricsBindAddress"] == "127.0.0.1:10249"
    assert options["kube-proxy.healthzBindAddress"] == "127.0.0.1:10256"


def test_the_clean_up_of_temporary_files_leaves_minikubes(plan: Plan, tmp_path: Path) -> None:
    kept = [layout.KUBEADM_CONFIG, f"{layout.HOSTPATH_VOLUMES}/airflow/claim/file"]
    for path in [*kept, "/tmp/other/file", "/var/tmp/other"]:
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).touch()
    user, group = owner().values()
    # Debian 13's lines, for which any age is too old.
    debians = tmp_path / "tmp.conf"
    debians.write_text("q /tmp 1777 root root 0\nq /var/tmp 1777 root root 0\n")
    text = debians.read_text() + plan.uploads[layout.TEMPORARY_FILES]
    text = text.replace("root root", f"{user} {group}")
    for prefix in ("/tmp", "/var/tmp"):
        text = text.replace(f" {prefix}", f" {tmp_path}{prefix}")
    debians.write_text(text)
    for what in ("--create", "--clean"):
        subprocess.run(["systemd-tmpfiles", what, str(debians)], check=True)
    left = {str(path)[len(str(tmp_path)) :] for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "/tmp.conf"}
    assert (tmp_path / layout.HOSTPATH_VOLUMES[1:]).stat().st_mode & 0o7777 == 0o755


def test_only_a_host_that_is_its_node_has_minikubes_temporary_files(
    variants: dict[str, Plan],
) -> None:
    having = {name for name, plan in variants.items() if layout.TEMPORARY_FILES in plan.uploads}
    assert "defaults" in having
    assert having.isdisjoint({"existing cluster", "another driver", "a container as node"})


@pytest.mark.parametrize(("driver", "pods"), [("none", "10.244.0.0/16"), ("docker", "192.168.")])
def test_connections_of_pods_fit_through_the_hosts_interface(
    driver: str, pods: str, tmp_path: Path
) -> None:
    unit = unit_of(fake.plan(fake.settings({"minikube_driver": driver})), "minikube.service")
    begin, reload = unit.one("Service.ExecStartPost"), unit.all("Service.ExecReload")
    assert begin in reload[:-1]
    rules, program = tmp_path / "rules", tmp_path / "iptables"
    # A table of rules: each is a line.
    program.write_text(f"""#!/bin/sh
way=$5
shift 5
case $way in
-C) grep -qxF -- "$*" {rules} ;;
-A) echo "$*" >> {rules} ;;
-D) grep -vxF -- "$*" {rules} > {rules}.new; mv {rules}.new {rules} ;;
esac
""")
    program.chmod(0o755)
    rules.touch()

    def run(command: str) -> str:
        # A kernel without this target is no reason to have no cluster.
        assert command.startswith("-")
        words = formats.unit_words(command.removeprefix("-"))
        subprocess.run(words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
        return rules.read_text()

    once = run(begin)
    assert once.count("\n") == 1 and once.startswith(f"FORWARD -s {pods}")
    assert once.endswith(" -j TCPMSS --clamp-mss-to-pmtu\n")
    assert run(begin) == once
    assert run(unit.one("Service.ExecStopPost")) == ""


@pytest.mark.parametrize("planted", ["nothing", "root's folder", "a link", "another's folder"])
def test_nobody_can_plant_the_folder_of_minikubes_volumes(
    planted: str, plan: Plan, tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "volumes", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    if planted == "a link":
        folder.symlink_to(elsewhere)
    elif planted != "nothing":
        folder.mkdir()
        (folder / "link").symlink_to(elsewhere)
    claim, create = plan.named("Create the folder of minikube's volumes").commands
    claim = claim.replace(layout.HOSTPATH_VOLUMES, str(folder))
    # Who runs the tests stands for root, and for somebody else.
    root = os.getuid() + (planted != "root's folder")
    claim = claim.replace("find /tmp ", f"find {tmp_path} ").replace("-uid 0 ", f"-uid {root} ")
    subprocess.run(["sh", "-c", claim], check=True)
    assert os.path.lexists(folder) is (planted == "root's folder")
    assert str(folder) in claim and (elsewhere / "file").exists()
    assert create == f"systemd-tmpfiles --create {layout.TEMPORARY_FILES}"


@pytest.mark.parametrize("planted", ["nothing", "root's folder", "a link", "another's folder"])
def test_nobody_can_plant_minikubes_folder(planted: str, plan: Plan, tmp_path: Path) -> None:
    unit = unit_of(plan, "minikube.service")
    words = formats.unit_words(unit.one("Service.ExecStartPre"))
    assert formats.unit_words(unit.all("Service.ExecReload")[-2]) == words
    folder, elsewhere = tmp_path / "minikube", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kubeadm.yaml").touch()
    if planted == "a link":
        folder.symlink_to(elsewhere)
    elif planted != "nothing":
        folder.mkdir()
        (folder / "kubeadm.yaml").touch()
    command = words[2].replace("/var/tmp/minikube", str(folder))
    if planted == "another's folder":
        command = command.replace("-O", "-z")  # which is false of a path, as -O of another's
    subprocess.run(["sh", "-c", command], check=True)
    assert folder.is_dir() and not folder.is_symlink()
    assert (folder / "kubeadm.yaml").exists() is (planted == "root's folder")
    assert (elsewhere / "kubeadm.yaml").exists()
    if planted != "root's folder":
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_code_of_dags_can_not_take_all_of_the_host(plan: Plan) -> None:
    for name in ("dag-processor", "triggerer"):
        unit = unit_of(plan, f"airflow-{name}.service")
        assert 0 < int(unit.one("Service.MemoryMax").rstrip("%")) < 50
        assert unit.one("Service.OOMPolicy") == "continue"  # one file ends, not the service
        assert unit.one("Service.MemorySwapMax") and unit.one("Service.TasksMax")


# PostgreSQL


def test_postgres_listens_to_nobody_outside(variants: dict[str, Plan]) -> None:
    for plan in own_postgres(variants):
        text = plan.uploads["/etc/postgresql/15/main/conf.d/airflow.conf"]
        assert formats.postgres_config(text)["listen_addresses"] == ""


def own_postgres(variants: dict[str, Plan]) -> list[Plan]:
    """The plans of hosts with a PostgreSQL of their own."""
    return [plan for name, plan in variants.items() if name not in ON_ANOTHER_HOST]


def test_the_log_of_postgres_has_no_statement(variants: dict[str, Plan]) -> None:
    """Statements hold logins, XComs and rendered fields."""
    for plan in own_postgres(variants):
        text = plan.uploads["/etc/postgresql/15/main/conf.d/airflow.conf"]
        assert formats.postgres_config(text)["log_min_error_statement"] == "panic"


def test_options_for_postgres_arrive_as_they_are() -> None:
    values = ["500", "it's", "", "%m [%p] ", r"cp %p C:\archive\%f"]
    given = {f"auto_explain.option_{number}": value for number, value in enumerate(values)}
    given["work_mem"] = "32MB"  # one of the deploy's own
    plan = fake.plan(fake.settings({"postgres_config": given}))
    text = plan.uploads["/etc/postgresql/15/main/conf.d/airflow.conf"]
    assert formats.postgres_config(text).items() >= given.items()


EXPORTER = f"{UNITS}/prometheus-postgres-exporter.service.d/airflow.conf"


def test_postgres_lets_in_only_users_of_the_host(variants: dict[str, Plan]) -> None:
    for plan in own_postgres(variants):
        lines = plan.uploads["/etc/postgresql/15/main/pg_hba.conf"].splitlines()
        rules = [tuple(line.split()) for line in lines if not line.startswith("#")]
        assert set(rules) == {
            ("local", "all", "postgres", "peer"),
            # The second one is where a backup is restored.
            ("local", "airflow,airflow_new", "airflow", "peer"),
            ("local", "airflow", "airflow-dags", "peer"),
            *({("local", "airflow", "prometheus", "peer")} if EXPORTER in plan.uploads else ()),
        }


# Programs


@pytest.mark.parametrize(
    "path", sorted((FILES / "opt/airflow/dags").glob("*.py")), ids=lambda p: p.stem
)
def test_a_dag_is_called_like_its_file(path: Path) -> None:
    last = ast.parse(path.read_text()).body[-1]
    assert ast.unparse(last) == f"{path.stem}()"


def test_the_smoke_test_knows_its_dag(plan: Plan) -> None:
    script = plan.uploads["/usr/local/bin/airflow-smoke-test"]
    (named,) = re.findall(r"^DAG, TASK, GREETING = (.*)$", script, re.MULTILINE)
    dag, task, greeting = ast.literal_eval(named)
    tree = ast.parse(plan.uploads[f"/opt/airflow/dags/{dag}.py"])
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {dag, task} <= functions
    assert greeting in ast.unparse(tree)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::1"])
def test_the_smoke_test_finds_the_web_page(host: str) -> None:
    plan = fake.plan(fake.settings({"web_host": host, "web_port": 8090}))
    values = dict(
        word.split("=", 1)
        for word in shlex.split(plan.uploads["/etc/airflow/host.env"], comments=True)
    )
    url = urlsplit(values["WEB_URL"])
    assert 'host()["WEB_URL"] + path,' in plan.uploads["/usr/local/bin/airflow-smoke-test"]
    assert (url.scheme, url.hostname, url.port) == ("http", "127.0.0.1", layout.API_SERVER_PORT)


# Figures for Prometheus


def test_alerts_name_figures_that_there_are() -> None:
    queries = yaml.safe_load((FILES / "usr/local/lib/airflow/metrics.yaml").read_text())
    named = {
        f"{query}_{column}"
        for query, each in queries.items()
        for metric in each["metrics"]
        for column, about in metric.items()
        if about["usage"] == "GAUGE"
    }
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    asked = {
        name
        for rule in group["rules"]
        for name in re.findall(r"\b[a-z]+_\w+", re.sub("{.*?}", "", rule["expr"]))
    }
    assert asked - {"pg_up"} <= named
    assert len(group["rules"]) > 3 and len(asked) > 3


def test_alerts_come_when_they_say() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    summaries = {rule["alert"]: rule["annotations"]["summary"] for rule in group["rules"]}
    rules = {rule["alert"]: (rule["expr"], rule.get("for")) for rule in group["rules"]}
    assert rules["AirflowTasksWait"] == ("airflow_oldest_queued_task_seconds > 600", None)
    assert "for ten minutes" in summaries["AirflowTasksWait"]
    assert rules["AirflowPoolFull"] == ("airflow_pool_used >= airflow_pool_slots", "15m")
    assert "for 15 minutes" in summaries["AirflowPoolFull"]
    assert rules["AirflowRunsFail"] == (
        'airflow_dag_runs_ended_last_hour{state="failed"} > 0',
        None,
    )
    assert "within an hour" in summaries["AirflowRunsFail"]
    assert rules["AirflowDagsBroken"][0] == "airflow_import_errors > 0"
    assert rules["AirflowDatabaseDown"][0] == "pg_up == 0"
    # A renewal comes 30 days before the end, and is tried each day.
    assert rules["AirflowCertificateEnds"][0] == (
        "airflow_certificate_remaining_seconds < 14 * 86400"
    )
    # The node stops pods below 1 GiB, which a small disk may never have.
    assert rules["AirflowDiskFills"][0] == (
        "airflow_disk_free_bytes < 3 * 2 ^ 30"
        " and airflow_disk_free_bytes < 0.2 * airflow_disk_size_bytes"
        " or airflow_disk_free_files < 0.05 * airflow_disk_files"
    )
    # Twice the time after which Airflow itself takes a component for dead.
    assert rules["AirflowComponentSilent"][0] == "airflow_heartbeat_age_seconds > 60"

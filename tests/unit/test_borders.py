"""Every text of every setting is refused with a sentence, or arrives unchanged.

It has arrived where a file's own parser, or a program's own rules of quoting, return it as the
inventory had it. Settings are taken from the model: a new one fails here until SCENARIOS has a
value with all of its parts, and ARRIVES says where a text that the setting lets through is found.
"""

from __future__ import annotations

import configparser
import copy
import functools
import json
import netrc
import os
import re
import shlex
import subprocess
import tempfile
import tomllib
import types
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
import yaml
from pydantic import BaseModel, SecretStr
from pyinfra.api import DeployError

from tasks import layout
from tasks.settings import SECTIONS, SETTINGS, Settings
from tasks.worker.pod import own_template
from tests.unit import fake, formats
from tests.unit.fake import Plan
from tests.unit.postgres import NOBODY, PROGRAMS

NASTY = {
    "empty": "",
    "spaces around": " a b ",
    "single quote": "it's",
    "double quote": 'a"b',
    "variable": "$HOME ${HOME}",
    "command": "$(touch /tmp/x)`id`",
    "pod's variable": "$(HOST_IP)",
    "specifier": "%n %h %(a)s",
    "percent signs": "100% %%",
    "backslash": "a\\b\\",
    "newline": "a\n[core]\nb = c\n",
    "comments": "a\n# b\n; c",
    "carriage return": "a\r\nb\rc",
    "tab": "a\tb",
    "nul": "a\0b",
    "escape": "\033[2J",
    "delete": "a\x7fb",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "half a character": "a\udce9",
    "no character": "a\uffffb",
    "unicode": "münchen 東京 \U0001f600",
    "unicode digits": "١٢٣",
    "brackets": "{{ 1 }}{% x %}[a]{b}",
    "separators": "a;b,c|d&e<f>g:h#i=j",
    "pattern": "*?~!",
    "dash": "-x",
    "option": "--help",
    "up": "../../no/such",
    # Words of YAML.
    **{word: word for word in ("no", "y", "null", "0x1F", "1e3", ".5", "~", "<<", "2001-01-01")},
    "long": "long " * 20_000,
}
WORDS = re.compile(r"[A-Za-z0-9_]*")  # they would be ordinary ones at the end of a value

PEM = fake.VARIANTS["registry"]["worker_registry"]["ca_certificate"]
RECIPIENT = "age1" + "q" * 58
CLAIM = {"subpath": "team", "size": "1Gi", "storage_class": "nfs", "access_mode": "ReadOnlyMany"}

# Inventories that together have a value for each setting that holds text, with all of its parts.
# They are few, since each costs a plan for each nasty text.
SCENARIOS: dict[str, dict[str, Any]] = {
    "minikube": {
        "airflow_extra_requirements": ["boto3>=1"],
        "airflow_config": {"smtp": {"smtp_host": "mail.example"}},
        "airflow_connections": {
            "api": {
                "conn_type": "http",
                "host": "api.example",
                "login": "ada",
                "password": "hidden",
                "schema": "https",
                "port": 443,
                "extra": {"headers": {"colour": ["green"]}},
            }
        },
        "airflow_variables": {"colour": "green"},
        "airflow_pools": {"narrow": {"slots": 2, "description": "few", "include_deferred": True}},
        "web_host": "airflow.example",
        "web_host_names": ["other.example"],
        "web_base_url": "https://airflow.example/team",
        "web_certificate": fake.PAIR,
        "web_admin_user": "admin",
        "web_users": {
            "ada": {
                "roles": ["Viewer"],
                "password": "hidden",
                "email": "ada@example",
                "first_name": "Ada",
                "last_name": "L",
            }
        },
        "web_roles": {"team": {"DAGs": ["read"]}},
        "web_login_config": "AUTH_TYPE = 2  # it's LDAP",
        "execution_api_host": "host.example",
        "dags_git_bundles": {
            "team": {
                "url": "https://git.example/dags.git",
                "branch": "main",
                "folder": "dags",
                "refresh_seconds": 60,
                "connection": "git_team",
                "submodules": True,
            }
        },
        "logs_store": "s3",
        "logs_s3": {"folder": "s3://logs/tasks", "connection": "s3_logs"},
        "worker_extra_apt_packages": ["jq"],
        "worker_registry": {
            "repository": "registry.example/airflow",
            "username": "deploy",
            "password": "hidden",
            "ca_certificate": PEM,
        },
        "worker_resources": {"limits": {"memory": "1Gi"}},
        "dags_env": {"COLOUR": "green"},
        "worker_pod_override": {
            "metadata": {"labels": {"team": "data"}, "annotations": {"note": "none"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "containers": [{"name": "base", "env": [{"name": "SIZE", "value": "big"}]}],
                "serviceAccountName": "reader",
                "initContainers": [{"name": "first", "image": "busybox", "command": ["true"]}],
                "volumes": [
                    {"name": "scratch", "emptyDir": {"medium": "Memory"}},
                    {"name": "data", "hostPath": {"path": "/srv/data", "type": "Directory"}},
                ],
            },
        },
        "kubernetes_namespace": "airflow",
        "kubernetes_extra_namespaces": ["team"],
        "kubernetes_extra_manifests": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "some", "namespace": "team"},
                "data": {"colour": "green"},
            }
        ],
        "kubernetes_network_policy": False,
        "kubernetes_allowed_host_folders": ["/srv/data"],
        "kubernetes_allowed_service_accounts": ["reader"],
        "kubernetes_kubectl_sha256": "1" * 64,
        "minikube_driver": "none",
        "minikube_sha256": "2" * 64,
        "minikube_crictl_sha256": "3" * 64,
        "minikube_extra_args": ["--wait=all"],
        "minikube_addons": ["dashboard"],
        "offline_dir": "/srv/offline",
        "proxy_url": "http://proxy.example:3128",
        "proxy_extra_exceptions": [".example"],
        "retention_backup_recipient": RECIPIENT,
        "postgres_config": {"work_mem": "16MB", "deploy.note": "none"},
    },
    "everything existing": {
        "kubernetes_provider": "existing",
        "kubernetes_kubeconfig": "/root/cluster.yaml",
        "kubernetes_context": "there",
        "kubernetes_network_policy": True,
        "kubernetes_allowed_networks": ["10.0.0.0/8"],
        "execution_api_host": "192.0.2.7",
        "worker_image": "registry.example/airflow-worker:1",
        "dags_source": "volume_claim",
        "dags_claim": {"name": "dags", "host_path": "/srv/dags", **CLAIM},
        "logs_store": "volume_claim",
        "logs_claim": {"name": "logs", "host_path": "/srv/logs", **CLAIM},
        **fake.VARIANTS["package index"],
        "build_ca_certificate": PEM,
        "postgres_provider": "existing",
        "postgres_hosts": ["db.example:5433"],
        "postgres_database": "team",
        "postgres_owner_login": {"username": "team_owner", "password": "hidden", **fake.PAIR},
        "postgres_dags_login": {"username": "team_dags", "password": "hidden", **fake.PAIR},
        "postgres_ca_certificate": PEM,
    },
    # Of files on this machine, which a text would have to name.
    "folder": {"dags_local_folder": "tests/e2e/dags", "plugins_local_folder": "tests/e2e/dags"},
    "lock": {"airflow_extra_requirements_lock": fake.extra_lock([])},
    "file": {"worker_pod_template": "tests/e2e/dags/no-such-file"},
}


# Of hosts that are not alone: see test_database_host.py and test_address.py.
OF_OTHER_HOSTS = ("postgres_certificate", "web_virtual_address")


# The model


def holds_text(annotation: Any) -> bool:
    """Whether a value of this type may have a text that the inventory chooses."""
    if annotation in (str, SecretStr, Any):
        return True
    if get_origin(annotation) is Literal:
        return False
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(holds_text(field.annotation) for field in annotation.model_fields.values())
    if hasattr(annotation, "__required_keys__"):  # a TypedDict
        return True
    return any(holds_text(part) for part in get_args(annotation))


def lacking(annotation: Any, value: Any, name: str) -> Iterator[str]:
    """The parts of this type that a value does not have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from lacking(get_args(annotation)[0], value, name)
    elif origin in (Union, types.UnionType):
        (part,) = (each for each in get_args(annotation) if each is not types.NoneType)
        yield from lacking(part, value, name)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for field, info in annotation.model_fields.items():
            key = info.alias or field
            if key not in value:
                yield f"{name}.{key}"
            else:
                yield from lacking(info.annotation, value[key], f"{name}.{key}")
    elif origin in (dict, list):
        if not value:
            yield f"{name}, which is empty"
        for each in value.values() if origin is dict else value:
            yield from lacking(get_args(annotation)[-1], each, name)


def test_the_scenarios_have_each_part_of_each_setting() -> None:
    found = []
    for key, setting in SETTINGS.items():
        if not holds_text(setting.field.annotation) or key in OF_OTHER_HOSTS:
            continue
        values = [given[key] for given in SCENARIOS.values() if key in given]
        if not values and isinstance(setting.field.default, str):
            values = [setting.field.default]  # a single text, in all scenarios
        parts = [list(lacking(setting.field.annotation, value, key)) for value in values]
        found += [key] if not values else [] if [] in parts else parts[0]
    assert found == []


# Places of texts


class Place(NamedTuple):
    """A text in an inventory: the way to it, and whether it is the key of a dictionary."""

    way: tuple[str | int, ...]
    is_key: bool

    @property
    def setting(self) -> str:
        """The setting's key."""
        return str(self.way[0])

    def text(self, given: dict[str, Any]) -> str:
        """The text that is there."""
        if self.is_key:
            return str(self.way[-1])
        return str(functools.reduce(lambda part, key: part[key], self.way, given))  # type: ignore[index]

    def changed(self, given: dict[str, Any], text: str) -> dict[str, Any]:
        """An inventory with another text; the given one stays as it is."""
        result = dict(given)
        parent: Any = result
        for key in self.way[:-1]:  # the rest stays the same
            parent[key] = copy.copy(parent[key])
            parent = parent[key]
        if self.is_key:
            value = parent[self.way[-1]]
            items = [(text if k == self.way[-1] else k, v) for k, v in parent.items()]
            parent.clear()
            parent.update(items)
            parent[text] = value
        else:
            parent[self.way[-1]] = text
        return result


def places(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """All texts in a value; keys last, since a changed key moves everything below it."""
    if isinstance(value, str):
        yield Place(way, is_key=False)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from places(each, (*way, number))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*way, key))
        if len(way) > 0:
            yield from (Place((*way, key), is_key=True) for key in value)


def inventory(name: str) -> dict[str, Any]:
    """A scenario, with the single texts that have a default."""
    given = SCENARIOS[name]
    if name != "minikube":
        return given
    simple = {
        key: setting.field.default
        for key, setting in SETTINGS.items()
        if isinstance(setting.field.default, str) and holds_text(setting.field.annotation)
    }
    return simple | given


CASES = [
    (name, place)
    for name in SCENARIOS
    for place in places(inventory(name))
    if holds_text(SETTINGS[place.setting].field.annotation)
]


def stands_alone(given: dict[str, Any], section: str) -> bool:
    """Whether the settings of a section are valid without those of the others."""
    return not refused(part(given, section))


def part(given: dict[str, Any], section: str) -> dict[str, Any]:
    """The settings of a section."""
    return {key: value for key, value in given.items() if SETTINGS[key].section == section}


def refused(given: dict[str, Any]) -> str:
    """The sentences with which the deploy refuses an inventory, nothing if it accepts it."""
    try:
        settings = Settings.from_data(given)
        if settings.worker.pod_template:
            own_template(settings.worker.pod_template)
    except DeployError as error:
        return str(error)
    return ""


def texts(place: Place, given: dict[str, Any], nasty: str) -> list[str]:
    """A nasty text itself, and one that is no plain word also at the end of the right text."""
    right = place.text(given)
    return [nasty] if WORDS.fullmatch(nasty) else [nasty, right + nasty]


# The sections of each scenario that can be asked without the others.
ALONE = {
    name: {each for each in SECTIONS if stands_alone(inventory(name), each)} for name in SCENARIOS
}


@pytest.mark.parametrize("kind", NASTY)
def test_a_text_is_refused_with_its_setting_or_arrives_unchanged(kind: str, tmp_path: Path) -> None:
    batches: dict[str, list[dict[str, Any]]] = {name: [] for name in SCENARIOS}
    for name, place in CASES:
        right = inventory(name)
        section = SETTINGS[place.setting].section
        for text in texts(place, right, NASTY[kind]):
            changed = place.changed(right, text)
            # Most texts are refused by the section itself, which is quicker to ask.
            alone = section in ALONE[name] and refused(part(changed, section))
            if sentence := alone or refused(changed):
                assert_readable(sentence, place)
                continue
            assert place.setting in ARRIVES, f"{place} accepts {text!r}: where does it arrive?"
            add(batches[name], place, right, text)
            break  # of several that are accepted, the first
    for batch in batches.values():
        for given in batch:
            assert_arrives(given, fake.plan(fake.settings(given)), tmp_path)


def add(batch: list[dict[str, Any]], place: Place, right: dict[str, Any], text: str) -> None:
    """Change an inventory of the batch, or begin another one if this excludes it."""
    for number, given in enumerate(batch):
        try:
            changed = place.changed(given, text)
        except KeyError:  # below a key that is another one now
            continue
        if not refused(changed) and len(changed) == len(given):
            batch[number] = changed
            return
    batch.append(place.changed(right, text))


def assert_readable(sentence: str, place: Place) -> None:
    """The sentence names the setting, and can be shown on a terminal."""
    assert all(line.isprintable() for line in sentence.splitlines()), repr(sentence)
    assert len(sentence) < 3000
    assert place.setting in sentence


# Where a text arrives


def words_of(plan: Plan, program: str) -> list[str]:
    """The arguments of a program of the deploy that applies something."""
    (command,) = (
        command
        for each in plan.operations
        for command in each.commands
        if re.match(rf"/usr/local/lib/airflow/{re.escape(program)} apply\b", command)
    )
    return shlex.split(command)[2:]


def words_in(plan: Plan, name: str) -> list[str]:
    """The words of the commands of an operation."""
    return [word for command in plan.named(name).commands for word in command.split()]


def config(plan: Plan) -> configparser.ConfigParser:
    """airflow.cfg, read as Airflow reads the file."""
    return formats.airflow_config(plan.uploads["/etc/airflow/airflow.cfg"].replace("\r", "\n"))


def users(plan: Plan) -> Any:
    """The users and roles of the web page."""
    (text,) = plan.named("Write /etc/airflow/secrets/users.json").inputs
    return json.loads(text)


def objects(plan: Plan) -> Any:
    """Connections, variables and pools, as the program that writes them reads them."""
    (text,) = plan.named("Write /etc/airflow/secrets/objects.json").inputs
    return json.loads(text)


def pod(plan: Plan) -> Any:
    """The pod template, as Airflow and as Kubernetes read it."""
    return pod_in(plan.uploads["/etc/airflow/pod_template.candidate.yaml"])


@functools.lru_cache(1)
def pod_in(text: str) -> Any:
    """The pod in a text; read once, since many settings are looked for in it."""
    loaded = yaml.load(text, Loader=yaml.CSafeLoader)
    assert yaml.load(text, Loader=KubernetesLoader) == loaded
    return loaded


class KubernetesLoader(yaml.CSafeLoader):
    """Knows the numbers and booleans that Kubernetes' reader knows beyond PyYAML's.

    https://github.com/kubernetes-sigs/yaml/blob/master/goyaml.v2/resolve.go
    """


KubernetesLoader.yaml_implicit_resolvers = {
    first: list(found) for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _pattern, _first in (
    (r"[yYnN]", "yYnN"),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (r"[-+]?0[oOxXbB][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*", "-+0123456789"),
):
    # PyYAML's own, such as those of whole numbers, come first.
    KubernetesLoader.add_implicit_resolver("!more", re.compile(f"^(?:{_pattern})$"), list(_first))
KubernetesLoader.add_constructor("!more", lambda loader, node: "no text for Kubernetes")


def base(plan: Plan) -> Any:
    """The container of the task."""
    return pod(plan)["spec"]["containers"][0]


def environment(plan: Plan) -> dict[str, str]:
    """The variables of the task's container."""
    return {each["name"]: each.get("value", "") for each in base(plan)["env"]}


def cluster(plan: Plan, kind: str) -> list[Any]:
    """The objects of a kind that the cluster should have."""
    items = json.loads(plan.uploads["/etc/airflow/kubernetes.json"])["items"]
    return [each for each in items if each["kind"] == kind]


def started(plan: Plan) -> list[str]:
    """The words with which systemd starts minikube."""
    unit = formats.Unit.parse(plan.uploads["/etc/systemd/system/minikube.service"])
    return formats.unit_words(unit.one("Service.ExecStart"))


def site(plan: Plan, name: str) -> list[list[str]]:
    """The words of each directive of a name, as nginx reads its files."""
    text = re.sub(r"(?m)^\s*#.*", "", plan.uploads["/etc/nginx/sites-available/airflow"])
    found: list[list[str]] = [[]]
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[;{}]|[^\s;{}"]+', text):
        if token in ";{}":
            found.append([])
        else:
            found[-1].append(token)
    return [words for words in found if words and words[0] == name]


def git_bundles(plan: Plan) -> Any:
    """The repositories, which host and pods must have alike."""
    text = config(plan)["dag_processor"]["dag_bundle_config_list"]
    in_pods = environment(plan)["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
    assert json.loads(in_pods) == json.loads(text)
    assert "$" not in text  # Airflow would look for a variable, Kubernetes as well
    keys = {
        "url": "repo_url",
        "branch": "tracking_ref",
        "folder": "subdir",
        "refresh_seconds": "refresh_interval",
        "connection": "git_conn_id",
        "submodules": "submodules",
    }
    return {
        each["name"]: {key: each["kwargs"][name] for key, name in keys.items()}
        for each in json.loads(text)
        if each["classpath"].endswith("GitDagBundle")
    }


def registry(plan: Plan) -> dict[str, str]:
    """The registry's image, login and authority."""
    repository = base(plan)["image"].rpartition(":")[0]
    (text,) = plan.named("Write the registry's login").inputs
    ((host, login),) = json.loads(text)["auths"].items()
    username, _, password = b64decode(login["auth"]).decode().partition(":")
    assert host == repository.partition("/")[0]
    assert formats.host_values(plan)["REGISTRY_USER"] == username
    return {
        "repository": repository,
        "username": username,
        "password": password,
        "ca_certificate": plan.uploads[f"/etc/containers/certs.d/{host}/ca.crt"],
    }


def claim(plan: Plan, setting: str) -> dict[str, str]:
    """A claim as the cluster, the pod and the host have it."""
    volume = setting.partition("_")[0]
    (mount,) = (each for each in base(plan)["volumeMounts"] if each["name"] == volume)
    (found,) = (each for each in pod(plan)["spec"]["volumes"] if each["name"] == volume)
    name = found["persistentVolumeClaim"]["claimName"]
    (wanted,) = (
        each for each in cluster(plan, "PersistentVolumeClaim") if each["metadata"]["name"] == name
    )
    ((key, _, folder, *_),) = (
        shlex.split(command)[2:]
        for each in plan.operations
        for command in each.commands
        if "/claim.sh apply" in command and f" {setting} " in command
    )
    assert key == setting
    return {
        "name": name,
        "host_path": folder,
        "subpath": mount.get("subPath", ""),
        "size": wanted["spec"]["resources"]["requests"]["storage"],
        "storage_class": wanted["spec"]["storageClassName"],
        "access_mode": wanted["spec"]["accessModes"][0],
    }


def in_policy(plan: Plan, expression: str) -> list[str]:
    """A list in the policy on pods."""
    policy = policy_in(plan.uploads["/etc/airflow/pod-policy.yaml"])
    (found,) = (
        match[1]
        for each in policy["spec"]["validations"]
        if (match := re.search(expression + r" in (\[[^\]]*\])", each["expression"]))
        and "readOnly" not in each["expression"]
    )
    return list(json.loads(found))


@functools.lru_cache(1)
def policy_in(text: str) -> Any:
    """The policy in a text."""
    (policy, *_) = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return policy


def indexes(plan: Plan) -> Any:
    """The package indexes as uv reads its file, with the logins as programs read netrc."""
    found = tomllib.loads(plan.uploads["/etc/airflow/uv.toml"])["index"]
    (text,) = plan.named("Write the logins of the package indexes").inputs
    with tempfile.NamedTemporaryFile("w", suffix="netrc") as file:
        file.write(text)
        file.flush()
        logins = netrc.netrc(file.name)
    result = {}
    for index in found:
        login = logins.authenticators(urlsplit(index["url"]).hostname or "")
        assert login is not None
        more = {"default": index["default"], "username": login[0], "password": login[2]}
        result[index["name"]] = {"url": index["url"], **more}
    return result


def database_login(plan: Plan, user: str) -> dict[str, str]:
    """A login to an existing PostgreSQL, as libpq reads its file, and the URLs of its processes."""
    ((text,),) = (
        each.inputs
        for each in plan.operations
        if each.name == f"PostgreSQL | Write the login of {user}"
    )
    line, certificate, key = (
        text.split("\n", 1)[0],
        *re.split(r"(?m)^(?=-----BEGIN [A-Z ]*KEY)", text.split("\n", 1)[1]),
    )
    *_, role, password = re.split(r"(?<!\\):", re.sub(r"\\\\", "\0", line), maxsplit=4)
    return {
        "username": role,
        "password": re.sub(r"\\(.)", r"\1", password).replace("\0", "\\"),
        "certificate": certificate,
        "key": key,
    }


def database_url(plan: Plan) -> SplitResult:
    """The URL with which Airflow reaches its database."""
    return urlsplit(config(plan)["database"]["sql_alchemy_conn"])


# The value of each setting as it arrives; a dictionary or list may have more.
ARRIVES: dict[str, Callable[[Plan], Any]] = {
    "airflow_extra_requirements": lambda plan: words_of(plan, "venv.sh")[3:],
    "airflow_extra_requirements_lock": lambda plan: plan.uploads[
        "/etc/airflow/extra-requirements.txt"
    ],
    "airflow_config": lambda plan: {name: dict(config(plan)[name]) for name in config(plan)},
    "airflow_connections": lambda plan: objects(plan)["connections"],
    "airflow_variables": lambda plan: objects(plan)["variables"],
    "airflow_pools": lambda plan: objects(plan)["pools"],
    "build_apt_packages": lambda plan: words_in(plan, "Install Debian packages"),
    "build_indexes": indexes,
    "build_ca_certificate": lambda plan: plan.uploads["/etc/airflow/package-authority.pem"],
    "proxy_url": lambda plan: environment(plan)["http_proxy"],
    "proxy_extra_exceptions": lambda plan: environment(plan)["no_proxy"].split(","),
    "retention_backup_recipient": lambda plan: formats.host_values(plan)["BACKUP_RECIPIENT"],
    "web_host": lambda plan: site(plan, "listen")[-1][1].rpartition(":")[0],
    "web_host_names": lambda plan: words_of(plan, "host-certificate.py")[1:],
    "web_base_url": lambda plan: config(plan)["api"]["base_url"],
    "web_certificate": lambda plan: plan.named("Write the web page's own certificate").inputs[0],
    "web_login_config": lambda plan: plan.named("Write webserver_config.py").inputs[0],
    "web_users": lambda plan: users(plan)["users"],
    "web_roles": lambda plan: users(plan)["roles"],
    "web_admin_user": lambda plan: formats.host_values(plan)["ADMIN_USER"],
    "execution_api_host": lambda plan: re.findall(
        r"//(.*):", environment(plan)["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    )[0],
    "dags_git_bundles": git_bundles,
    "dags_claim": lambda plan: claim(plan, "dags_claim"),
    "logs_claim": lambda plan: claim(plan, "logs_claim"),
    "logs_s3": lambda plan: {
        "folder": config(plan)["logging"]["remote_base_log_folder"],
        "connection": environment(plan)["AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID"],
    },
    "worker_image": lambda plan: base(plan)["image"],
    "worker_extra_apt_packages": lambda plan: formats.host_values(plan)["WORKER_PACKAGES"].split(
        ","
    ),
    "worker_registry": registry,
    "worker_resources": lambda plan: base(plan)["resources"],
    "dags_env": environment,
    "worker_pod_override": pod,
    "kubernetes_namespace": lambda plan: pod(plan)["metadata"]["namespace"],
    "kubernetes_extra_namespaces": lambda plan: [
        each["metadata"]["name"] for each in cluster(plan, "Namespace")
    ],
    "kubernetes_extra_manifests": lambda plan: json.loads(
        plan.uploads["/etc/airflow/kubernetes.json"]
    )["items"],
    "kubernetes_kubeconfig": lambda plan: shlex.split(formats.host_values(plan)["KUBECTL"])[
        1
    ].partition("=")[2],
    "kubernetes_context": lambda plan: shlex.split(formats.host_values(plan)["KUBECTL"])[
        2
    ].partition("=")[2],
    "kubernetes_allowed_host_folders": lambda plan: in_policy(plan, "hostPath.path"),
    "kubernetes_allowed_service_accounts": lambda plan: in_policy(plan, r'orValue\("default"\)'),
    "kubernetes_kubectl_sha256": lambda plan: words_in(plan, "Install kubectl")[4],
    "minikube_sha256": lambda plan: words_in(plan, "Install minikube")[4],
    "minikube_crictl_sha256": lambda plan: words_in(plan, "Install crictl")[4],
    "minikube_driver": lambda plan: next(
        word.partition("=")[2] for word in started(plan) if word.startswith("--driver=")
    ),
    "minikube_extra_args": started,
    "minikube_addons": lambda plan: words_of(plan, "cluster-addons.py"),
    "offline_dir": lambda plan: formats.host_values(plan)["OFFLINE_DIR"],
    "postgres_hosts": lambda plan: [
        ":".join(parse_qs(database_url(plan).query)[name][0] for name in ("host", "port"))
    ],
    "postgres_database": lambda plan: database_url(plan).path.removeprefix("/"),
    "postgres_owner_login": lambda plan: database_login(plan, "airflow"),
    "postgres_dags_login": lambda plan: database_login(plan, "airflow-dags"),
    "postgres_ca_certificate": lambda plan: plan.uploads["/etc/airflow/database-authority.pem"],
    "postgres_config": lambda plan: formats.postgres_config(
        plan.uploads[
            next(path for path in plan.uploads if "postgresql" in path and "conf.d" in path)
        ]
    ),
}


def holds(there: Any, given: Any) -> bool:
    """Whether a value has all of a given one."""
    if isinstance(given, dict):
        return isinstance(there, dict) and all(
            key in there and holds(there[key], value) for key, value in given.items()
        )
    if isinstance(given, list):
        return isinstance(there, list) and all(
            any(holds(each, value) for each in there) for value in given
        )
    return type(there) is type(given) and there == given


def expected(key: str, value: Any) -> Any:
    """A setting's value as it should arrive; airflow.cfg has no spaces at the ends of lines."""
    if key == "web_certificate":  # both in one file
        return value["certificate"].rstrip() + "\n" + value["key"].removesuffix("\n") + "\n"
    if key == "postgres_hosts":
        return [each if ":" in each else f"{each}:5432" for each in value]
    if key in ("postgres_owner_login", "postgres_dags_login"):
        return value | {name: value[name].strip() + "\n" for name in ("certificate", "key")}
    if key == "web_login_config":
        return value.removesuffix("\n") + "\n"
    if key != "airflow_config":
        return value
    return {
        section: {
            name: "\n".join(line.strip() for line in text.strip().split("\n"))
            for name, text in options.items()
        }
        for section, options in value.items()
    }


def assert_arrives(given: dict[str, Any], plan: Plan, folder: Path) -> None:
    """Each setting of the inventory is found where it belongs, as it is."""
    for key, value in given.items():
        if key in ARRIVES:
            wanted, there = expected(key, value), ARRIVES[key](plan)
            assert holds(there, wanted), f"{key}: {wanted!r} is not in {there!r}"[:3000]
    assert as_sh_reads(plan.uploads["/etc/airflow/host.env"], folder) == formats.host_values(plan)
    if "minikube_extra_args" in given:
        assert_systemd_reads(plan.uploads["/etc/systemd/system/minikube.service"], folder)
    if "postgres_config" in given:
        assert_postgres_reads(given["postgres_config"], plan)
    # One argument of a program has at most 128 KiB, and pyinfra gives a whole command as one.
    assert max(len(each.encode()) for op in plan.operations for each in op.commands) < 100_000


def assert_systemd_reads(unit: str, folder: Path) -> None:
    """systemd itself finds no error in a unit."""
    file = folder / "minikube.service"
    for program in (layout.START_MINIKUBE, "/usr/local/bin/minikube"):
        unit = unit.replace(program, "/bin/true")
    file.write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], text=True, capture_output=True
    )
    said = [line for line in done.stderr.splitlines() if "minikube.service" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def as_sh_reads(text: str, folder: Path) -> dict[str, str]:
    """The variables of a file, as a shell on the host has them."""
    file = folder / "host.env"
    file.write_text(text)
    done = subprocess.run(
        ["sh", "-c", f"set -a; . {file}; exec env -0"], env={}, capture_output=True, check=True
    )
    found = dict(each.split("=", 1) for each in done.stdout.decode().split("\0") if each)
    return {name: value for name, value in found.items() if name not in ("PWD", "OLDPWD", "_")}


def assert_postgres_reads(options: dict[str, str], plan: Plan) -> None:
    """PostgreSQL itself finds an option of an extension as the inventory has it."""
    text = plan.uploads[
        next(path for path in plan.uploads if path.endswith("/conf.d/airflow.conf"))
    ]
    for name, value in options.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        if "." in name:
            assert postgres_says(name, "\n".join(lines)) == value


def postgres_says(name: str, config: str) -> str:
    """The value of an option in a configuration file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "postgresql.conf").write_text(config + "\n")
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [PROGRAMS[-1] / "postgres", "-D", folder, "-C", name],
            user=NOBODY if os.getuid() == 0 else None,
            text=True,
            capture_output=True,
            check=True,
        )
    return done.stdout.removesuffix("\n")

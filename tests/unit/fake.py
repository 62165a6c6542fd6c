"""Run pieces of the deploy without a host.

`plan` asks pyinfra's connector @fake about the whole deploy on a bare host; `commands`
asks it for one operation. `run` and `fact` use the connector @local, so that the shell code runs
for real on this machine: give them paths in a temporary directory only.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from pyinfra.api import Config, DeployError, FactBase, FileUploadCommand, Inventory, State
from pyinfra.api import arguments as pyinfra_arguments
from pyinfra.api import command as pyinfra_command
from pyinfra.api import inventory as pyinfra_inventory
from pyinfra.api.connect import connect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_facts
from pyinfra.api.host import Host, HostData
from pyinfra.api.operation import OperationMeta, add_op
from pyinfra.api.operations import run_ops
from pyinfra.context import ctx_host, ctx_state

from deploy import deploy_role
from tasks import layout, remove
from tasks.layout import ROOT
from tasks.lib import operations, pyinfra_cache
from tasks.settings import SECTIONS, HostSettings, Server, Settings

FILES = ROOT / "files"

BARE_HOST_DATA: dict[str, Any] = {}  # of pyinfra's own, for all hosts

pyinfra_cache.use()
# pyinfra looks up each of its arguments in the data of the host, where tests have none but this: a
# third of the time. With an attribute of the class it finds at once that there is nothing.
for _name in {*pyinfra_arguments.all_argument_meta} - {"_temp_dir"}:
    setattr(HostData, _name, pyinfra_arguments.default_sentinel)
# It looks for installed connectors for each inventory, and splits the same texts for each question.
for _name in ("get_all_connectors", "get_execution_connectors"):
    setattr(pyinfra_inventory, _name, functools.cache(getattr(pyinfra_inventory, _name)))
_split = functools.cache(shlex.split)
pyinfra_command.shlex = SimpleNamespace(  # type: ignore[assignment]
    split=lambda text: [*_split(text)], quote=shlex.quote
)

# Answers that pyinfra's own operations need of a host before they plan anything. Nothing else is
# answered: to all facts the host is bare.
BARE_HOST = {"uname -s": "Linux", "command -v useradd": "/usr/sbin/useradd"}

KUBECONFIGS = (layout.KUBECONFIG, layout.TRIGGERERS_KUBECONFIG)
# The program that puts an uploaded file in its place, without its first line.
WHOLE_FILE = operations.WHOLE_FILE.read_text().partition("\n")[2].strip()
# Calls of programs that write a file, as expressions.
WRITERS = {
    layout.GIT_CONNECTIONS: "/git-connections.sh apply ",
    layout.IMAGE_DAGS_NAME: "/dags-switch.sh apply ",
    layout.POD_TEMPLATE: "/pod-image.sh apply ",
    layout.DAGS_ENV: "/dags-env.sh apply ",
    **{path: rf"/kubeconfig\.py apply \S+ {path} " for path in KUBECONFIGS},
}

DEFAULTS = Settings.from_data({})

# An existing cluster needs all of these.
EXISTING = {
    "kubernetes_provider": "existing",
    "kubernetes_kubeconfig": "/root/cluster.yaml",
    "execution_api_host": "192.0.2.7",
    "worker_image": "registry.example/airflow-worker:1",
    "dags_source": "git",
    "dags_git_bundles": {"team": {"url": "https://git.example/dags.git"}},
}
# A node that is a virtual machine does not see the host's files.
ANOTHER_DRIVER = {
    "minikube_driver": "kvm2",
    "dags_source": "image",
    "dags_local_folder": "tests/e2e/dags",
}


def pair(days: int = 90, *names: x509.GeneralName) -> dict[str, str]:
    """A certificate, of no authority, that is valid for so many days and names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "airflow.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName(names or [x509.DNSName("airflow.example")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": certificate.public_bytes(pem).decode(), "key": secret.decode()}


PAIR = pair()

# An existing PostgreSQL, with one login of each kind.
EXISTING_DATABASE = {
    "postgres_provider": "existing",
    "postgres_hosts": ["db-1.example", "db-2.example:5433", "[2001:db8::5]:5434"],
    "postgres_database": "team",
    "postgres_owner_login": {"username": "team_owner", "password": "hidden:in\\file"},
    "postgres_dags_login": {"username": "team-dags", **PAIR},
    "postgres_ca_certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
}

# Settings that take different ways through the deploy.
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "another driver": ANOTHER_DRIVER,
    "a container as node": {"minikube_driver": "podman"},
    "existing cluster": EXISTING,
    "pod operator": {"kubernetes_pod_operator": True},
    "offline": {"offline_dir": "/srv/offline"},
    "offline, another driver": {"offline_dir": "/srv/offline", **ANOTHER_DRIVER},
    "offline, a container as node": {"offline_dir": "/srv/offline", "minikube_driver": "docker"},
    "claim": {
        "dags_source": "volume_claim",
        "dags_claim": {
            "name": "dags",
            "host_path": "/srv/dags/team",
            "subpath": "team",
            "size": "1Gi",
            "storage_class": "nfs",
        },
    },
    "git": {
        "dags_git_bundles": {
            "team": {
                "url": "ssh://git@git.example/dags.git",
                "folder": "dags",
                "connection": "git_team",
            },
            "others": {"url": "https://git.example/other.git", "branch": "stable"},
        },
    },
    "package index": {
        "build_apt_packages": ["build-essential"],
        "build_indexes": {
            "company": {
                "url": "https://pypi.example/simple",
                "default": True,
                "username": "deploy",
                "password": "hidden",
            }
        },
        "build_ca_certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    },
    "more packages": {
        "airflow_extra_requirements": ["boto3>=1; python_version < '4'", "httpx[http2]"],
        "worker_extra_apt_packages": ["jq", "libpq5"],
    },
    "objects": {
        "airflow_connections": {
            "example_rest": {"conn_type": "http", "password": "hidden"},
            "example_s3": {"conn_type": "aws", "extra": {"endpoint_url": "http://s3.example"}},
        },
        "airflow_variables": {"colour": "green"},
        "airflow_pools": {"narrow": {"slots": 2}},
        "web_users": {"ada": {"roles": ["team"], "password": "hidden"}, "bob": {"roles": ["Op"]}},
        "web_roles": {"team": {"DAGs": ["read"]}},
    },
    "claims": {
        "logs_store": "volume_claim",
        "logs_claim": {"name": "logs", "host_path": "/srv/logs", "size": "1Gi"},
    },
    "plugins": {"plugins_source": "image", "plugins_local_folder": "tests/e2e/dags"},
    "s3 logs": {
        "logs_store": "s3",
        "logs_s3": {"folder": "s3://logs/tasks", "connection": "s3_logs"},
    },
    "registry": {
        "worker_registry": {
            "repository": "registry.example:5000/team/airflow",
            "username": "deploy",
            "password": "hidden",
            "ca_certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
        },
    },
    "registry without a login": {"worker_registry": {"repository": "registry.example/airflow"}},
    "page with TLS": {"web_host": "0.0.0.0", "web_host_names": ["airflow.example"]},
    "page with an own certificate": {
        "web_host": "::",
        "web_https_port": 8443,
        "web_certificate": PAIR,
        "web_login_config": "AUTH_TYPE = 2\nAUTH_LDAP_BIND_PASSWORD = 'hunter2'\n",
        "web_base_url": "https://airflow.example:8443/team",
    },
    "metrics": {"metrics_port": 9187},
    "existing database": EXISTING_DATABASE,
    "proxy": {"proxy_url": "http://proxy.example:3128", "proxy_extra_exceptions": [".example"]},
    "addons": {"minikube_addons": ["dashboard", "metrics-server"]},
    "pods to measure": {
        "airflow_executor": "LocalExecutor,KubernetesExecutor",
        "kubernetes_extra_namespaces": ["team"],
        "kubernetes_network_policy": True,
        "kubernetes_extra_manifests": [
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "some"}}
        ],
        "dags_env": {"COLOUR": "it's green"},
        "worker_pod_override": {"spec": {"nodeSelector": {"disk": "ssd"}}},
    },
    "nothing optional": {
        "airflow_smoke_test": False,
        "airflow_examples": False,
        "retention_failed_pod_minutes": 0,
    },
}

# Hosts that are one Airflow, and their settings.
MEMBERS = ("@fake/air-1", "@fake/air-2", "@fake/air-3")
SEVERAL = {
    **{key: value for key, value in EXISTING.items() if key != "execution_api_host"},
    **EXISTING_DATABASE,
    **VARIANTS["s3 logs"],
    "web_users": {"bob": {"roles": ["Op"]}},
}
SEVERAL.pop("worker_image")
SEVERAL |= VARIANTS["registry"]
# One address that they have in turn.
ONE_ADDRESS = {"web_host": "0.0.0.0", "web_virtual_address": "198.51.100.10"}

# A host that has only the database of others, and what it has made for them; nothing is secret.
DATABASE_HOST = "@fake/db-1"
# That host again, and another one, which has only the cluster of others, or both.
CLUSTER_HOST = "@fake/node-1"
BESIDE_CLUSTER = {
    key: value
    for key, value in SEVERAL.items()
    if key not in (*EXISTING_DATABASE, "kubernetes_provider", "kubernetes_kubeconfig")
}
MADE = (
    *("# owner", "*:*:*:airflow:owner-pass", "# dags", "*:*:*:airflow-dags:dags-pass"),
    *("# authority", "-----BEGIN CERTIFICATE-----", "…", "-----END CERTIFICATE-----"),
)
MADE_KUBECONFIG = ("# kubeconfig", '{"users": [{"user": {"client-key-data": "admin-key"}}]}')


class Planned(NamedTuple):
    """An operation that a bare host would see."""

    name: str
    arguments: set[str]  # pyinfra shows these beside operations that have no name
    commands: list[str]
    uploads: dict[str, str]  # text by destination
    sources: list[Path]  # files that are uploaded as they are
    inputs: list[str]  # the standard input of commands; pyinfra shows none of it
    shell: str  # that runs the commands


@dataclass(frozen=True)
class Plan:
    """All operations of the deploy in their order, and the questions that facts asked."""

    operations: list[Planned]
    facts: list[str]

    @property
    def names(self) -> list[str]:
        """Names of the operations."""
        return [operation.name for operation in self.operations]

    @functools.cached_property
    def uploads(self) -> dict[str, str]:
        """The text of each file that is written, by destination."""
        return {dest: text for each in self.operations for dest, text in each.uploads.items()}

    def contents(self, paths: Iterable[str]) -> dict[str, str]:
        """The content of these files; if a command writes one, the command and its input count.
        One that nothing writes has none."""
        found = dict.fromkeys(paths, "")
        commands = [" ".join(each.commands) for each in self.operations]
        for path in found:
            written, writer = rf"(\.new|>) {path}(?![\w-])", WRITERS.get(path)
            for each, text in zip(self.operations, commands, strict=True):
                if upload := each.uploads.get(path) or each.uploads.get(f"{path}.new"):
                    found[path] = upload
                # Most commands have nothing of the path, which takes less time to see.
                elif (path in text and re.search(written, text)) or (
                    writer and re.search(writer, text)
                ):
                    found[path] = " ".join([*each.commands, *each.inputs])
                    if path in KUBECONFIGS:  # the program asks the cluster that these name
                        values = self.uploads[layout.HOST_ENV]
                        found[path] += str(re.findall("^(?:KUBECTL|NAMESPACE)=.*", values, re.M))
                    if path == layout.POD_TEMPLATE:
                        found[path] += self.uploads[layout.POD_CANDIDATE]
                    if path == layout.DAGS_ENV:
                        found[path] += self.uploads[layout.DAGS_ENV_CANDIDATE]
        return found

    def position(self, name: str) -> int:
        """The position of the one operation with this name, or with a name that contains it."""
        if name in self.names:
            return self.names.index(name)
        found = [place for place, each in enumerate(self.names) if name in each]
        assert len(found) == 1, f"{len(found)} operations are named like {name!r}: {self.names}"
        return found[0]

    def named(self, name: str) -> Planned:
        """The one operation whose name contains this."""
        return self.operations[self.position(name)]


SUMS = {
    "kubernetes_version": "kubernetes_kubectl_sha256",
    "minikube_version": "minikube_sha256",
    "minikube_crictl_version": "minikube_crictl_sha256",
}


def pinned(**versions: str) -> dict[str, Any]:
    """Versions of Kubernetes' programs in an inventory, each with a checksum."""
    return {**versions, **{SUMS[key]: "0" * 64 for key in versions}}


def refusal(given: Mapping[str, Any]) -> str:
    """The deploy's answer to settings that are wrong."""
    try:
        Settings.from_data(dict(given))
    except DeployError as error:
        return str(error)
    raise AssertionError(f"nothing is wrong with {given}")


def settings(
    given: Mapping[str, Any] | None = None, codename: str = "bookworm", architecture: str = "amd64"
) -> HostSettings:
    """Settings as preflight hands them to the tasks, on Debian 12 if nothing else is said."""
    return Settings.from_data(given or {}).for_release(codename, architecture=architecture)


def several(position: int, given: Mapping[str, Any] | None = None) -> HostSettings:
    """The settings of one of several hosts that are one Airflow, as preflight hands them on."""
    return _of_members(Settings.from_data({**SEVERAL, **(given or {})}, MEMBERS), position)


def several_beside_database(
    position: int,
    given: Mapping[str, Any] | None = None,
    there: Mapping[str, Any] | None = None,
) -> HostSettings:
    """The same for hosts that have their database on another one."""
    data = {key: value for key, value in SEVERAL.items() if key not in EXISTING_DATABASE}
    data |= given or {}
    found = Settings.from_data(data, MEMBERS, servers(database=there or {}))
    return _of_members(found.reaching("192.0.2.9", 5432, 15), position)


def several_beside_both(
    position: int,
    given: Mapping[str, Any] | None = None,
    there: Mapping[str, Any] | None = None,
) -> HostSettings:
    """The same for hosts that have database and cluster on another one."""
    found = Settings.from_data({**BESIDE_CLUSTER, **(given or {})}, MEMBERS, both(there or {}))
    return _of_members(found.reaching("192.0.2.9", 5432, 15), position)


def servers(
    database: Mapping[str, Any] | None = None, cluster: Mapping[str, Any] | None = None
) -> dict[str, Server]:
    """The hosts of the groups with these data, each another one."""
    given = {"database": (DATABASE_HOST, database), "cluster": (CLUSTER_HOST, cluster)}
    return {group: Server(name, data) for group, (name, data) in given.items() if data is not None}


def both(data: Mapping[str, Any]) -> dict[str, Server]:
    """The host with these data in both groups."""
    return dict.fromkeys(("database", "cluster"), Server(DATABASE_HOST, data))


def _of_members(settings: Settings, position: int) -> HostSettings:
    names = [f"air-{number}" for number in (1, 2, 3)]
    addresses = [f"192.0.2.{number}" for number in (1, 2, 3)]
    one_address = bool(settings.web.virtual_address)
    return settings.for_release(
        "bookworm",
        own_names=(*names, *addresses),
        addresses=tuple(addresses),
        position=position,
        interface="ens4" if one_address else "",
        link_addresses=tuple(f"198.51.100.{number}" for number in (1, 2, 3) if one_address),
    )


def beside_database(
    given: Mapping[str, Any] | None = None, there: Mapping[str, Any] | None = None
) -> HostSettings:
    """The settings of the one host of Airflow, which has its database on another one."""
    found = Settings.from_data(given or {}, (), servers(database=there or {}))
    return found.reaching("192.0.2.9", 5432, 15).for_release("bookworm")


def beside_cluster(
    given: Mapping[str, Any] | None = None, there: Mapping[str, Any] | None = None
) -> HostSettings:
    """The settings of the one host of Airflow, which has its cluster on another one."""
    data = {**BESIDE_CLUSTER, **(given or {})}
    found = Settings.from_data(data, (), servers(cluster=there or {}))
    found = found.model_copy(update={"cluster_address": "192.0.2.8"})
    return found.for_release("bookworm", addresses=("192.0.2.1",))


def with_database(there: Mapping[str, Any] | None = None, hosts: int = 2) -> HostSettings:
    """The settings of a host that has the database of so many others."""
    return Settings.of_server(DATABASE_HOST, servers(database=there or {})).for_release(
        "bookworm",
        own_names=("db-1", "192.0.2.9"),
        database_clients=tuple(f"192.0.2.{number + 1}" for number in range(hosts)),
    )


def with_cluster(there: Mapping[str, Any] | None = None) -> HostSettings:
    """The settings of a host that has the cluster of others."""
    registry = VARIANTS["registry"]["worker_registry"]
    found = Settings.of_server(CLUSTER_HOST, servers(cluster=there or {}), registry)
    return found.for_release("bookworm", own_names=("node-1", "192.0.2.8"))


def with_both(there: Mapping[str, Any] | None = None) -> HostSettings:
    """The settings of a host that has the database and the cluster of others."""
    return Settings.of_server(DATABASE_HOST, both(there or {})).for_release(
        "bookworm", own_names=("db-1", "192.0.2.9"), database_clients=("192.0.2.1", "192.0.2.2")
    )


@functools.cache
def every_variant() -> dict[str, HostSettings]:
    """The settings of each variant, and those of the first and of another one of several hosts."""
    one = {name: settings(given) for name, given in VARIANTS.items()}
    several_too = {
        "first of several": several(0, ONE_ADDRESS),
        "another of several": several(1),
    }
    beside = {"beside a database": beside_database(), "beside a cluster": beside_cluster()}
    return {**one, **several_too, **beside}


@functools.cache
def every_host() -> dict[str, HostSettings]:
    """The same, and the settings of hosts that have only the database or the cluster of others."""
    serving = {
        "only a database": with_database({"metrics_port": 9187}),
        "only a cluster": with_cluster(),
        "database and cluster": with_both(),
    }
    return {**every_variant(), **serving}


def extra_lock(requirements: list[str]) -> str:
    """The lock of additional requirements, as a host has it."""
    venv = settings({"airflow_extra_requirements": requirements}).venv
    return f"# For {venv}\nboto3==1.40.0 \\\n    --hash=sha256:{'a' * 64}\n"


VARIANTS["more packages"]["airflow_extra_requirements_lock"] = extra_lock(
    VARIANTS["more packages"]["airflow_extra_requirements"]
)
_plans: dict[str, Plan] = {}


def plan(settings: HostSettings) -> Plan:
    """The plan of a deploy on a bare host; made once for the same settings.

    Nobody may change it.
    """
    named = {name: sorted(getattr(settings, name).model_fields_set) for name in SECTIONS}
    key = json.dumps([named, settings.model_dump()], default=_revealed)
    # A folder or file of the test's own may have changed since.
    folders = (settings.dags.local_folder, settings.plugins.local_folder)
    if settings.worker.pod_template or any(Path(each or "").is_absolute() for each in folders):
        return _plan(settings)
    if key not in _plans:
        _plans[key] = _plan(settings)
    return _plans[key]


@functools.cache
def plan_of(host: str) -> Plan:
    """The plan of one of every_host. Its settings are compared with no others, which takes longer
    than most tests."""
    return plan(every_host()[host])


def _revealed(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _plan(settings: HostSettings) -> Plan:
    serving = {"database": settings.database_host, "cluster": settings.cluster_host}
    state = _state("@fake", members=settings.members, serving=serving)
    name = serving[settings.serves[0]] if settings.serves else ""
    host = state.inventory.get_host(name) if name else [*state.inventory][settings.position]
    add_deploy(state, deploy_role, settings=settings, host=host)
    return _planned(state, host)


def planned(what: Any, responses: Mapping[str, Any], **arguments: Any) -> list[Planned]:
    """The operations of a part of the deploy on a host that answers its facts with `responses`."""
    state = _state("@fake", responses)
    add_deploy(state, what, **arguments)
    return _planned(state).operations


def removal(given: Mapping[str, Any], keep_data: bool, position: int | None = None) -> Plan:
    """The plan of the removal from a deployed Debian 12; made once, as that of a deploy.

    With a position the host is that one of several.
    """
    key = json.dumps(["removal", given, keep_data, position], default=_revealed)
    if key not in _plans:
        members = () if position is None else MEMBERS
        state = _state("@fake", {"VERSION_CODENAME": "bookworm"}, given, members)
        host = [*state.inventory][position or 0]
        add_deploy(state, remove.airflow, keep_data=keep_data, host=host)
        _plans[key] = _planned(state, host)
    return _plans[key]


def removal_of(variant: str, keep_data: bool) -> Plan:
    """The plan of the removal of one of every_variant."""
    if serving := SERVING.get(variant):
        return removal_beside(serving, keep_data, int(not variant.startswith("beside")))
    position = {"first of several": 0, "another of several": 1}.get(variant)
    return removal(VARIANTS.get(variant, SEVERAL), keep_data, position)


# The hosts of the groups, for each variant of a deploy with them.
SERVING = {
    **{key: {"database": DATABASE_HOST} for key in ("beside a database", "only a database")},
    **{key: {"cluster": CLUSTER_HOST} for key in ("beside a cluster", "only a cluster")},
    "database and cluster": {"database": DATABASE_HOST, "cluster": DATABASE_HOST},
}


def removal_beside(
    serving: Mapping[str, str], keep_data: bool, position: int, in_run: Sequence[int] = (0, 1)
) -> Plan:
    """The plan of the removal from the one host of Airflow, or from the one that serves it."""
    given = BESIDE_CLUSTER if "cluster" in serving else {}
    state = _state("@fake", {"VERSION_CODENAME": "bookworm"}, given, serving=serving)
    for place, each in enumerate(state.inventory):
        each.connected = place in in_run
    host = [*state.inventory][position]
    add_deploy(state, remove.airflow, keep_data=keep_data, host=host)
    return _planned(state, host)


def commands(
    operation: Any, responses: Mapping[str, Any] | None = None, **arguments: Any
) -> list[str]:
    """The commands of one operation on a host that answers its facts with `responses`."""
    state = _state("@fake", responses)
    add_op(state, operation, name="Under test", **arguments)
    (planned,) = _operations(state, _host(state))
    return planned.commands


def run(operation: Any, **arguments: Any) -> OperationMeta:
    """Run one operation for real on this machine; returns its result."""
    state = _state("@local")
    result: OperationMeta
    (result,) = add_op(state, operation, name="Under test", **arguments).values()
    try:
        run_ops(state)
    except PyinfraError:  # the only host failed; the result says so too
        assert result.did_error()
    return result


def fact(question: type[FactBase[Any]], **arguments: Any) -> Any:
    """The answer of this machine to a fact."""
    (answer,) = get_facts(_state("@local"), question, kwargs=arguments).values()
    return answer


def _state(
    connector: str,
    responses: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    members: Sequence[str] = (),
    serving: Mapping[str, str] | None = None,
) -> State:
    data = {
        **BARE_HOST_DATA,
        **(given or {}),
        "fake_responses": {**(responses or {}), **BARE_HOST},
        "fake_delay": 0,
        "fake_delay_jitter": 0,
    }
    # pyinfra would remember the folder for all hosts of this name, and not ask again.
    Host._get_temp_directory.cache.clear()
    groups: dict[str, Any] = {"airflow": (members, {})}
    every = [*(members or [connector])]
    made = {"database-logins.py print": MADE, "kubeconfig.py print": MADE_KUBECONFIG}
    named = {group: name for group, name in (serving or {}).items() if name}
    if named:
        its_own = {"fake_responses": {**made, **data["fake_responses"]}}
        groups = {"airflow": (every, {})}
        groups |= {group: ([(name, its_own)], {}) for group, name in named.items()}
        every = list(dict.fromkeys([*every, *named.values()]))
    inventory = Inventory((every, data), **groups)
    state = State(inventory=inventory, config=Config())
    state.cwd = str(ROOT)
    connect_all(state)
    return state


def hosts(
    groups: Mapping[str, tuple[str, ...]],
    responses: Mapping[str, Mapping[str, Any]] | None = None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
    extra: tuple[str, ...] = (),
) -> State:
    """The hosts of an inventory, as pyinfra's command line makes them."""
    names = list(dict.fromkeys([*extra, *(name for each in groups.values() for name in each)]))
    given = [
        (name, {"fake_responses": (responses or {}).get(name, {}), **(data or {}).get(name, {})})
        for name in names
    ]
    quick = {"fake_delay": 0, "fake_delay_jitter": 0}
    named: dict[str, Any] = {name: ([*each], {}) for name, each in groups.items()}
    state = State(inventory=Inventory((given, quick), **named), config=Config())
    state.cwd = str(ROOT)
    connect_all(state)
    return state


def _planned(state: State, host: Any = None) -> Plan:
    host = host or _host(state)
    operations = list(_operations(state, host))
    return Plan(operations, list(host.connector.executed_commands))


def _host(state: State) -> Any:
    return next(iter(state.inventory))


def _operations(state: State, host: Any) -> Iterator[Planned]:
    with ctx_state.use(state), ctx_host.use(host):
        for key in state.get_op_order():
            (name,) = state.op_meta[key].names
            used = state.ops[host][key].global_arguments["_shell_executable"]
            planned = Planned(name, set(state.op_meta[key].args), [], {}, [], [], str(used))
            for command in state.ops[host][key].command_generator():
                _add(planned, command)
            yield planned


def _add(planned: Planned, command: Any) -> None:
    if not isinstance(command, FileUploadCommand):
        text = command if isinstance(command, str) else str(command.get_raw_value())
        planned.commands.append(text.removeprefix(operations.ALONE))
        if WHOLE_FILE in text:
            dest = shlex.split(text.splitlines()[1])[2]
            if (uploaded := planned.uploads.pop(f"{dest}.new", None)) is not None:
                planned.uploads[dest] = uploaded
        if given := getattr(command, "connector_arguments", {}).get("_stdin"):
            planned.inputs.append(given.getvalue())
            if text.endswith(f" {layout.CONFIG}.new"):  # nothing secret in tests
                planned.uploads[layout.CONFIG] = given.getvalue()
    elif command.dest.endswith(".tar"):
        planned.uploads.update(_unpacked(cast(BytesIO, command.src).getvalue()))
    elif isinstance(command.src, str):
        planned.sources.append(Path(command.src))
        planned.uploads[command.dest] = Path(command.src).read_text()
    else:
        content = command.src.getvalue()  # type: ignore[attr-defined]
        text = content.decode() if isinstance(content, bytes) else content
        planned.uploads[command.dest] = text


@functools.cache
def _unpacked(archive: bytes) -> dict[str, str]:
    """The files of an archive; most plans have the same ones."""
    found = {}
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        for member in opened:
            content = opened.extractfile(member)
            assert content, f"{member.name} is no file"
            found[f"/{member.name}"] = content.read().decode()
    return found

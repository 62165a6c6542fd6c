"""The cluster as Airflow sees it: enough rights for its work, and none beyond."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from tasks.cluster import programs
from tasks.settings import HostSettings
from tasks.worker import image, pod
from tests.host import expected, mergers
from tests.host.support import Host, InVenv, only_if

AIRFLOWS_KUBECTL = "/usr/local/bin/kubectl --kubeconfig=/etc/airflow/kubeconfig"
if_cluster_is_ours = only_if(
    lambda facts: expected.with_minikube(facts.settings),
    "an existing cluster's administrator may not be allowed to ask for others",
)
if_pods_are_the_deploys = only_if(
    lambda facts: expected.shapes_pods(facts.settings), "the inventory shapes the tasks' pods"
)
if_pods_may_start_pods = only_if(
    lambda facts: facts.settings.kubernetes.pod_operator,
    "kubernetes_pod_operator is off, and there is no such account",
)


class Right(NamedTuple):
    """A right that somebody has or not; without a namespace, in that of the task pods."""

    verb: str
    resource: str
    group: str = ""
    namespace: str | None = None  # "": in all of them

    def review(self, namespace: str) -> str:
        """The question whether the asking account has it."""
        resource, _, subresource = self.resource.partition("/")
        attributes = {
            "verb": self.verb,
            "resource": resource,
            "subresource": subresource,
            "group": self.group,
            "namespace": namespace if self.namespace is None else self.namespace,
        }
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        return json.dumps({**kind, "spec": {"resourceAttributes": attributes}})


RBAC = "rbac.authorization.k8s.io"
MAY = [
    *(Right(verb, "pods") for verb in ("create", "get", "list", "watch", "patch", "delete")),
    Right("get", "pods/log"),
]
MAY_NOT = [
    Right("get", "secrets"),
    Right("list", "secrets"),
    Right("get", "configmaps"),
    Right("create", "pods/exec"),
    Right("create", "serviceaccounts/token"),  # another account's rights
    Right("patch", "roles", RBAC),
    Right("create", "rolebindings", RBAC),
    Right("deletecollection", "pods"),
    Right("get", "nodes", namespace=""),
    Right("get", "namespaces", namespace=""),
    Right("create", "pods", namespace="kube-system"),
    Right("list", "pods", namespace=""),
    Right("get", "secrets", namespace="kube-system"),
]
each_right = pytest.mark.parametrize(
    "right",
    [*MAY, *MAY_NOT],
    ids=lambda right: f"{right.verb} {right.resource} {right.namespace or ''}".strip(),
)


def allowed(host: Host, kubectl: str, namespace: str) -> dict[Right, bool]:
    """The cluster's answers, in one round trip."""
    rights = [*MAY, *MAY_NOT]
    asked = shlex.quote("\n".join(right.review(namespace) for right in rights))
    # To validate, kubectl would ask for objects that these accounts may not see.
    create = f"{kubectl} create --validate=false -o json -f -"
    answers = objects(host.check_output(f"printf %s {asked} | {create}"))
    return {
        right: bool(answer["status"]["allowed"])
        for right, answer in zip(rights, answers, strict=True)
    }


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects that a text of JSON has one after the other."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        found, end = decoder.raw_decode(text)
        yield found
        text = text[end:]


@pytest.fixture(scope="module")
def of_control_plane(host: Host, settings: HostSettings) -> dict[Right, bool]:
    """The rights of Airflow's account."""
    return allowed(host, AIRFLOWS_KUBECTL, settings.kubernetes.namespace)


@pytest.fixture(scope="module")
def of_task_pods(host: Host, settings: HostSettings) -> dict[Right, bool]:
    """The rights of the account of task pods."""
    namespace = settings.kubernetes.namespace
    account = f"system:serviceaccount:{namespace}:airflow-worker"
    return allowed(host, f"{settings.kubectl} --as={account}", namespace)


@each_right
def test_control_plane_may_just_do_its_work(
    right: Right, of_control_plane: dict[Right, bool]
) -> None:
    assert of_control_plane[right] is (right in MAY)


@if_cluster_is_ours
@each_right
def test_task_pods_may_nothing(right: Right, of_task_pods: dict[Right, bool]) -> None:
    assert of_task_pods[right] is False


def test_control_plane_is_a_service_account(host: Host, settings: HostSettings) -> None:
    account = f"system:serviceaccount:{settings.kubernetes.namespace}-control:airflow-control-plane"
    who = json.loads(host.check_output(f"{AIRFLOWS_KUBECTL} auth whoami -o json"))
    assert who["status"]["userInfo"]["username"] == account
    assert "system:masters" not in who["status"]["userInfo"]["groups"]


def test_kubeconfig_holds_no_secret_and_names_a_token_that_ends(
    host: Host, settings: HostSettings
) -> None:
    seen = json.loads(host.check_output(f"{AIRFLOWS_KUBECTL} config view -o json"))
    assert [set(user["user"]) for user in seen["users"]] == [{"exec"}]
    credential = json.loads(host.check_output("cat /etc/airflow/kubeconfig.d/token"))
    end = datetime.fromisoformat(credential["status"]["expirationTimestamp"])
    # A cluster may give less than the week.
    assert timedelta(0) < end - datetime.now(UTC) <= timedelta(days=7)
    assert [c["context"]["namespace"] for c in seen["contexts"]] == [settings.kubernetes.namespace]
    assert "insecure-skip-tls-verify" not in seen["clusters"][0]["cluster"]


def test_pods_get_no_token_by_themselves(host: Host, settings: HostSettings) -> None:
    accounts = accounts_in(settings.kubernetes.namespace, host, settings)
    assert accounts["airflow-worker"] is False
    # A task asks for this one, and gets its token.
    wanted = settings.kubernetes.pod_operator
    assert ("airflow-pod-operator" in accounts) is wanted


def accounts_in(namespace: str, host: Host, settings: HostSettings) -> dict[str, bool | None]:
    """The service accounts of a namespace, and whether its pods get their tokens."""
    names = " ".join(RIGHTS)
    get = f"{settings.kubectl} -n {namespace} get --ignore-not-found -o json serviceaccount {names}"
    found = json.loads(host.check_output(get) or '{"items": []}')
    return {
        each["metadata"]["name"]: each.get("automountServiceAccountToken")
        for each in found.get("items", [found])
    }


def test_accounts_of_the_host_are_where_no_pod_can_be(host: Host, settings: HostSettings) -> None:
    """An account that makes pods in a namespace can read its secrets and act as its accounts."""
    control = f"{settings.kubernetes.namespace}-control"
    wanted = {"airflow-control-plane": False, "airflow-renewal": False}
    if settings.kubernetes.pod_operator:
        wanted["airflow-triggerer"] = False
    assert accounts_in(control, host, settings) == wanted
    namespaces = (settings.kubernetes.namespace, *settings.kubernetes.extra_namespaces)
    for namespace in (*namespaces, control):
        if namespace != control:
            assert not accounts_in(namespace, host, settings).keys() & wanted.keys()
        # Their tokens would never end.
        tokens = "secret airflow-control-plane-token airflow-triggerer-token"
        get = f"{settings.kubectl} -n {namespace} get --ignore-not-found -o name {tokens}"
        assert host.check_output(get) == ""


def test_the_control_plane_may_nothing_there(host: Host, settings: HostSettings) -> None:
    control = f"{settings.kubernetes.namespace}-control"
    for right in (
        "create pods",
        "list pods",
        "get secrets",
        "create serviceaccounts --subresource=token",
    ):
        ask = f"{AIRFLOWS_KUBECTL} -n {control} auth can-i {right}"
        assert host.run(ask).stdout.strip() == "no", right


# The rights of any account with a token: it may ask for its rights and its name.
ANYBODYS = {
    "create selfsubjectaccessreviews.authorization.k8s.io",
    "create selfsubjectrulesreviews.authorization.k8s.io",
    "create selfsubjectreviews.authentication.k8s.io",
}
WHOLE = "create get list watch patch delete"
FOLLOWING = ("get pods/log", "list events", "watch events")
# All that each account may do in the namespace of the tasks.
RIGHTS = {
    "airflow-control-plane": {*(f"{verb} pods" for verb in WHOLE.split()), "get pods/log"},
    "airflow-renewal": set[str](),
    "airflow-worker": set[str](),
    "airflow-triggerer": {
        *(f"{verb} pods" for verb in WHOLE.split() if verb != "create"),
        *FOLLOWING,
    },
    "airflow-pod-operator": {
        *(f"{verb} pods" for verb in WHOLE.split()),
        *FOLLOWING,
        "create pods/exec",
        "get pods/exec",
    },
}


@if_cluster_is_ours
@pytest.mark.parametrize(
    "account",
    [
        "airflow-control-plane",
        "airflow-worker",
        pytest.param("airflow-triggerer", marks=if_pods_may_start_pods),
        pytest.param("airflow-pod-operator", marks=if_pods_may_start_pods),
    ],
)
def test_rights_are_just_these(account: str, host: Host, settings: HostSettings) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": settings.kubernetes.namespace},
    }
    of_host = account in ("airflow-control-plane", "airflow-triggerer")
    place = f"{settings.kubernetes.namespace}{'-control' if of_host else ''}"
    who = f"--as=system:serviceaccount:{place}:{account}"
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    ask = f"{settings.kubectl} {who} create --raw {path} -f -"
    answer = json.loads(host.check_output(f"echo {shlex.quote(json.dumps(review))} | {ask}"))
    assert not answer["status"]["incomplete"]
    may = {
        " ".join([verb, ".".join(filter(None, [resource, group]))])
        for rule in answer["status"]["resourceRules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    assert may == ANYBODYS | RIGHTS[account]


def test_cluster_accepts_the_pod_template(pod: dict[str, Any], settings: HostSettings) -> None:
    assert pod["metadata"]["namespace"] == settings.kubernetes.namespace
    assert pod["spec"]["containers"][0]["name"] == "base"


@if_pods_are_the_deploys
def test_task_pods_run_the_worker_image(pod: dict[str, Any], settings: HostSettings) -> None:
    found, _, digest = pod["spec"]["containers"][0]["image"].partition("@")
    registry = settings.worker.registry
    repository = registry.repository if registry else "localhost/airflow-worker"
    built = rf"{re.escape(repository)}:{re.escape(settings.airflow.version)}-[0-9a-f]{{12}}"
    assert re.fullmatch(re.escape(settings.worker.image or "") or built, found)
    # It is the one that the next deploy would make, or the image of the inventory.
    assert found == image.reference(settings).partition("@")[0]
    # Nobody who may push to the registry can replace it.
    if registry:
        assert re.fullmatch("sha256:[0-9a-f]{64}", digest)


@if_pods_are_the_deploys
def test_task_pods_are_confined(pod: dict[str, Any], settings: HostSettings) -> None:
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["serviceAccountName"] == "airflow-worker"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == settings.airflow.uid
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["resources"] == settings.worker.resources
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert "envFrom" not in container


@if_pods_are_the_deploys
def test_task_pods_see_only_dags_plugins_and_logs_of_the_host(
    pod: dict[str, Any], settings: HostSettings
) -> None:
    paths = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in pod["spec"]["volumes"]
        if "hostPath" in volume
    }
    read_only = {
        paths[mount["name"]]: mount.get("readOnly", False)
        for mount in pod["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] in paths
    }
    wanted = {"/opt/airflow/dags": True} if settings.dags.source == "host" else {}
    source = settings.plugins.source
    in_container = expected.node_in_container(settings)
    sees_folders = in_container or expected.node_is_this_host(settings)
    if source == "host" or (source is None and sees_folders):
        wanted["/opt/airflow/plugins"] = True
    # Also with a store: a pod that is killed uploads nothing.
    if settings.logs.store == "host" or (settings.logs.store == "s3" and sees_folders):
        wanted["/opt/airflow/logs" if in_container else "/var/log/airflow"] = False
    assert read_only == wanted


# The names of options that hold a key or lead to the database; more words may follow, as _CMD.
CONFIDENTIAL = (
    "AIRFLOW__DATABASE",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
)


def test_task_pods_know_no_database_and_no_key(pod: dict[str, Any]) -> None:
    """Also where the inventory shapes the pods, and in the containers that it adds."""
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    names = [{each["name"] for each in container.get("env", [])} for container in containers]
    assert "AIRFLOW__CORE__EXECUTION_API_SERVER_URL" in names[0]
    # Airflow gets the value of such an option from a backend of secrets.
    secret = re.compile(rf"{'|'.join(CONFIDENTIAL)}|AIRFLOW__.*_SECRET$")
    assert [name for name in set.union(*names) if secret.match(name)] == []


@pytest.mark.parametrize("name", mergers.MERGED)
def test_worker_pod_is_merged_as_airflow_merges(name: str, in_venv: InVenv) -> None:
    assert pod.merged(mergers.BASE, mergers.MERGED[name]) == in_venv.pods[name]


@pytest.fixture(scope="module")
def checksums(host: Host, settings: HostSettings) -> tuple[dict[str, str], dict[str, str]]:
    """Checksums of the programs that are there, and of an offline folder, by file."""
    programs = host.run("cd /usr/local/bin && sha256sum kubectl minikube").stdout
    offline = ""
    if settings.offline.dir:
        offline = host.check_output("cat %s", f"{settings.offline.dir}/SHA256SUMS")
    actual, given = (
        {name.removeprefix("*"): sha256 for sha256, name in map(str.split, text.splitlines())}
        for text in (programs, offline)
    )
    return actual, given


@pytest.mark.parametrize(
    "program",
    [
        "kubectl",
        pytest.param(
            "minikube",
            marks=only_if(
                lambda facts: expected.with_minikube(facts.settings),
                "the cluster is not the deploy's",
            ),
        ),
    ],
)
def test_program_has_the_pinned_checksum(
    program: str,
    checksums: tuple[dict[str, str], dict[str, str]],
    settings: HostSettings,
) -> None:
    actual, offline = checksums
    needed = {each.name: each for each in programs.needed(settings, settings.architecture)}
    pinned = needed[program]
    assert actual[program] == (offline[pinned.file] if settings.offline.dir else pinned.sha256)


@only_if(lambda facts: expected.node_is_this_host(facts.settings), "the node is another machine")
def test_containerd_wants_a_pause_image_that_the_node_has(host: Host) -> None:
    # Each version of the format has another key; an offline folder has no other pause image.
    dumped = host.run("containerd config dump").stdout
    (image,) = re.findall(r"^ *sandbox(?:_image)? = [\"'](.+)[\"']$", dumped, re.M)
    assert image in host.run("ctr -n k8s.io images ls -q").stdout.split()

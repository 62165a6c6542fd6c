"""The cluster as Airflow sees it: enough rights for its work, and none beyond."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tasks import image, pods
from tasks.airflow import POD_TEMPLATE
from tasks.downloads import Download
from tasks.kubernetes import KUBECONFIG
from tasks.settings import Settings
from tests.host.support import Host, python

AIRFLOWS_KUBECTL = f"/usr/local/bin/kubectl --kubeconfig={KUBECONFIG}"
MAY = [
    *(f"{verb} pods" for verb in ("create", "get", "list", "watch", "patch", "delete")),
    "get pods --subresource=log",
]
MAY_NOT = [
    "get secrets",
    "list secrets",
    "get configmaps",
    "create pods --subresource=exec",
    "create serviceaccounts --subresource=token",  # another account's rights
    "patch roles",
    "create rolebindings",
    "deletecollection pods",
    "get nodes",
    "get namespaces",
    "create pods -n kube-system",
    "list pods --all-namespaces",
    "get secrets -n kube-system",
]


def answers(host: Host, kubectl: str, questions: list[str]) -> dict[str, str]:
    """«yes» or «no» to each question of `kubectl auth can-i`, in one round trip."""
    asked = [f"{kubectl} auth can-i {question} 2>/dev/null" for question in questions]
    # The question's exit code is the answer, too.
    lines = host.run("; ".join(asked)).stdout.splitlines()
    return dict(zip(questions, lines, strict=True))


@pytest.fixture(scope="module")
def rights(host: Host) -> dict[str, str]:
    """What Airflow's account may do."""
    return answers(host, AIRFLOWS_KUBECTL, [*MAY, *MAY_NOT])


@pytest.mark.parametrize("what", MAY)
def test_control_plane_may(what: str, rights: dict[str, str]) -> None:
    assert rights[what] == "yes"


@pytest.mark.parametrize("what", MAY_NOT)
def test_control_plane_may_not(what: str, rights: dict[str, str]) -> None:
    assert rights[what] == "no"


def test_control_plane_is_a_service_account(host: Host, settings: Settings) -> None:
    account = f"system:serviceaccount:{settings.kubernetes_namespace}:airflow-control-plane"
    who = json.loads(host.check_output(f"{AIRFLOWS_KUBECTL} auth whoami -o json"))
    assert who["status"]["userInfo"]["username"] == account
    assert "system:masters" not in who["status"]["userInfo"]["groups"]


def test_kubeconfig_holds_a_token_and_no_certificate(host: Host, settings: Settings) -> None:
    # What is secret comes as the word REDACTED.
    seen = json.loads(host.check_output(f"{AIRFLOWS_KUBECTL} config view -o json"))
    assert [set(user["user"]) for user in seen["users"]] == [{"token"}]
    assert [c["context"]["namespace"] for c in seen["contexts"]] == [settings.kubernetes_namespace]
    assert "insecure-skip-tls-verify" not in seen["clusters"][0]["cluster"]


ACCOUNTS = ["airflow-control-plane", "airflow-worker"]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_pods_get_no_token_of(account: str, host: Host, settings: Settings) -> None:
    get = f"{settings.kubectl} -n {settings.kubernetes_namespace} get serviceaccount {account}"
    assert host.check_output(f"{get} -o jsonpath={{.automountServiceAccountToken}}") == "false"


# What anybody may who has a token: ask what they may, and who they are.
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


@pytest.mark.parametrize("account", RIGHTS)
def test_rights_are_just_these(account: str, host: Host, settings: Settings) -> None:
    if not settings.uses_minikube:
        pytest.skip("an existing cluster's administrator may not be allowed to ask for others")
    wants_it = "airflow-triggerer", "airflow-pod-operator"
    if account in wants_it and not settings.kubernetes_pod_operator:
        pytest.skip("there is no such account without kubernetes_pod_operator")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": settings.kubernetes_namespace},
    }
    who = f"--as=system:serviceaccount:{settings.kubernetes_namespace}:{account}"
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


def test_task_pods_may_nothing(host: Host, settings: Settings) -> None:
    if not settings.uses_minikube:
        pytest.skip("an existing cluster's administrator may not be allowed to ask for others")
    account = f"system:serviceaccount:{settings.kubernetes_namespace}:airflow-worker"
    kubectl = f"{settings.kubectl} -n {settings.kubernetes_namespace} --as={account}"
    assert set(answers(host, kubectl, [*MAY, *MAY_NOT]).values()) == {"no"}


@pytest.fixture(scope="module")
def pod(host: Host, settings: Settings) -> dict[str, Any]:
    """The pod that the cluster would make of the template; it checks all and creates nothing."""
    create = f"create --dry-run=server -f {POD_TEMPLATE} -o json"
    return dict(json.loads(host.check_output(f"{settings.kubectl} {create}")))


def test_cluster_accepts_the_pod_template(pod: dict[str, Any], settings: Settings) -> None:
    assert pod["metadata"]["namespace"] == settings.kubernetes_namespace
    container = pod["spec"]["containers"][0]
    assert container["name"] == "base"
    if not shaped_by_hand(settings):
        assert container["image"] == image.reference(settings)


def shaped_by_hand(settings: Settings) -> bool:
    """Whether the inventory says itself what a task's pod is like."""
    return bool(settings.worker_pod or settings.worker_pod_template)


def test_task_pods_are_confined(pod: dict[str, Any], settings: Settings) -> None:
    if shaped_by_hand(settings):
        pytest.skip("the inventory may ask for other pods")
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["serviceAccountName"] == "airflow-worker"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == settings.airflow_uid
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    mounted = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert mounted <= {"/opt/airflow/dags", "/var/log/airflow"}
    if settings.airflow_dags_source == "host":
        assert "/opt/airflow/dags" in mounted


def test_task_pods_know_no_database_and_no_key(pod: dict[str, Any], settings: Settings) -> None:
    container = pod["spec"]["containers"][0]
    names = {variable["name"] for variable in container["env"]}
    assert "AIRFLOW__CORE__EXECUTION_API_SERVER_URL" in names
    assert not [n for n in names if n.startswith("AIRFLOW__DATABASE") or n.endswith("_SECRET")]
    assert shaped_by_hand(settings) or "envFrom" not in container


# Pairs of a pod and what is merged into it.
BASE: dict[str, Any] = {
    "metadata": {"name": "worker", "labels": {"a": "1", "b": "1"}},
    "spec": {
        "serviceAccountName": "worker",
        "enableServiceLinks": True,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 50000},
        "volumes": [{"name": "dags", "emptyDir": {"sizeLimit": "1Gi"}}],
        "initContainers": [{"name": "first", "image": "first:1"}],
        "containers": [
            {
                "name": "base",
                "image": "worker:1",
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "dags", "mountPath": "/dags"}],
                "resources": {"limits": {"memory": "1Gi"}},
            },
            {"name": "second", "image": "second:1"},
        ],
    },
}
MERGED: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"labels": {"b": "2", "c": "2"}, "annotations": {"d": "2"}}},
    "metadata alone beside a spec": {"metadata": {"finalizers": ["example.com/x"]}},
    "lists that are added to": {
        "spec": {
            "volumes": [{"name": "more", "emptyDir": {"sizeLimit": "2Gi"}}],
            "containers": [
                {
                    "name": "base",
                    "env": [{"name": "B", "value": "2"}],
                    "volumeMounts": [{"name": "more", "mountPath": "/more"}],
                    "ports": [{"containerPort": 9}],
                }
            ],
        }
    },
    "what is replaced": {
        "spec": {
            "serviceAccountName": "other",
            "securityContext": {"fsGroup": 7},
            "tolerations": [{"key": "b", "operator": "Exists"}],
            "nodeSelector": {"zone": "x"},
            "containers": [{"name": "base", "resources": {"requests": {"cpu": "1"}}}],
        }
    },
    "false values": {
        "spec": {"enableServiceLinks": False, "containers": [{"name": "base", "image": ""}]}
    },
    "more containers": {
        "spec": {
            "containers": [
                {"name": "base"},
                {"name": "second", "image": "second:2"},
                {"name": "third", "image": "third:2"},
            ],
            "initContainers": [
                {"name": "zeroth", "image": "zeroth:2"},
                {"name": "first", "args": ["x"]},
            ],
        }
    },
}


def test_worker_pod_is_merged_as_airflow_merges(host: Host, settings: Settings) -> None:
    interpreter = f"{settings.venv}/bin/python"
    given = json.dumps([[BASE, more] for more in MERGED.values()])
    theirs = python(host, "merge_pods", given, interpreter=interpreter)
    for (name, more), wanted in zip(MERGED.items(), theirs, strict=True):
        assert pods.merged(BASE, more) == wanted, name


@pytest.fixture(scope="module")
def checksums(host: Host, settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Checksums of the programs that are there, by path, and of an offline folder, by file."""
    programs = host.run("sha256sum /usr/local/bin/kubectl /usr/local/bin/minikube").stdout
    offline = ""
    if settings.offline_dir:
        offline = host.check_output("cat %s", f"{settings.offline_dir}/SHA256SUMS")
    actual, given = (
        {name.removeprefix("*"): sha256 for sha256, name in map(str.split, text.splitlines())}
        for text in (programs, offline)
    )
    return actual, given


def test_program_has_the_pinned_checksum(
    download: Download, checksums: tuple[dict[str, str], dict[str, str]], settings: Settings
) -> None:
    actual, given = checksums
    wanted = given[download.file] if settings.offline_dir else download.sha256
    assert actual[f"/usr/local/bin/{download.file.partition('-')[0]}"] == wanted

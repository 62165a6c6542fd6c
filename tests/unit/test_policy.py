"""The policy that admits task pods: its text for different settings, and how it is applied.

Whether the cluster refuses the right pods, the story of attacks tells.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api import DeployError

from tasks import layout
from tasks.layout import ROOT
from tasks.lib.manifests import render
from tasks.worker import policy, template
from tests.e2e.attacks import pods
from tests.unit import fake, formats
from tests.unit.fake import FILES, Plan, Planned

PATH = "/etc/airflow/pod-policy.yaml"
WITH_OPERATOR = {"kubernetes_pod_operator": True}
OF_UPDATES = '|| (request.operation == "UPDATE" && '
OF_TASKS = "request.userInfo.?groups.orValue([]).exists(group, group in "
PROGRAM = FILES / "usr/local/lib/airflow/pod-policy.py"


def values(given: dict[str, Any]) -> dict[str, Any]:
    """The permissions of the policy with these settings."""
    settings = fake.settings(given)
    return policy.values(settings, [template.manifest(settings)])


def test_the_policy_is_for_the_namespaces_of_tasks_and_refuses_pods_that_it_cannot_judge(
    of_cluster: Plan,
) -> None:
    rules, binding = yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader)
    assert rules["kind"] == "ValidatingAdmissionPolicy"
    assert rules["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["validationActions"] == ["Deny"]
    assert binding["spec"]["policyName"] == rules["metadata"]["name"] == binding["metadata"]["name"]
    for selector in (rules["spec"]["matchConstraints"], binding["spec"]["matchResources"]):
        (namespaces,) = selector["namespaceSelector"]["matchExpressions"]
        assert formats.pod(of_cluster)["metadata"]["namespace"] in namespaces["values"]
        assert namespaces["key"] == "kubernetes.io/metadata.name"


def test_each_refusal_is_a_sentence_that_the_table_of_attacks_knows(of_cluster: Plan) -> None:
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))
    messages = [each["message"] for each in rules["spec"]["validations"]]
    assert all(len(message) < 400 and "\n" not in message for message in messages)
    assert all(each["reason"] == "Forbidden" for each in rules["spec"]["validations"])
    for _, words in pods.REFUSED.values():
        assert sum(words in message for message in messages) == 1, words


# Fields with which a pod would reach beyond its containers.
BEYOND = (
    # Those of Kubernetes' standard "baseline", except folders of the host:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
    *("hostNetwork", "hostPID", "hostIPC", "hostPort", "windowsOptions.hostProcess"),
    *("privileged", "capabilities.add", "appArmorProfile.type", "seccompProfile.type"),
    *("seLinuxOptions.type", "seLinuxOptions.user", "seLinuxOptions.role", "procMount", "sysctls"),
    *("httpGet.host", "tcpSocket.host", "livenessProbe", "readinessProbe", "startupProbe"),
    *("lifecycle.postStart", "lifecycle.preStop"),
    # The processes of another container.
    *("shareProcessNamespace", "targetContainerName"),
    # Where a pod names a Secret, except the login for its image, which is for the node.
    *("secret.secretName", "csi.nodePublishSecretRef.name", "secretRef.name"),
    *("sources.orValue([]).all(s, !(s.secret.name", "valueFrom.secretKeyRef.name"),
)


def test_the_policy_looks_at_each_field_that_reaches_beyond_a_pod(of_cluster: Plan) -> None:
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))["spec"]
    text = " ".join(each["expression"] for each in rules["validations"]).replace("?", "")
    assert [field for field in BEYOND if not re.search(rf"\.{re.escape(field)}\b", text)] == []
    changes = {
        resource: each["operations"]
        for each in rules["matchConstraints"]["resourceRules"]
        for resource in each["resources"]
    }
    assert changes == {
        "pods": ["CREATE", "UPDATE", "DELETE"],
        "pods/ephemeralcontainers": ["CREATE", "UPDATE"],
    }


def test_the_folders_of_the_template_are_allowed_and_no_others(of_cluster: Plan) -> None:
    pod = formats.pod(of_cluster)["spec"]
    folders = {each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))
    (of_folders,) = (
        each["expression"]
        for each in rules["spec"]["validations"]
        if each["expression"].startswith("variables.hostFolders.all(v, v.hostPath.path in ")
    )
    assert set(json.loads(of_folders.partition(" in ")[2].rstrip(")"))) == folders


def test_settings_allow_more_by_name() -> None:
    assert values({})["folders"] == [
        "/opt/airflow/dags",
        "/opt/airflow/plugins",
        "/var/log/airflow",
    ]
    assert values({})["read_only"] == ["/opt/airflow/dags", "/opt/airflow/plugins"]
    assert values({})["ids"] == [50000]
    assert values({})["accounts"] == ["airflow-worker"]
    more = values(
        {
            "airflow_uid": 4321,
            "kubernetes_allowed_host_folders": ["/srv/models", "/opt/airflow/dags"],
            "kubernetes_allowed_users": [1000],
            "kubernetes_allowed_service_accounts": ["team"],
            "kubernetes_pod_operator": True,
            "kubernetes_extra_namespaces": ["team"],
        }
    )
    assert more["folders"] == [
        "/opt/airflow/dags",
        "/opt/airflow/plugins",
        "/srv/models",
        "/var/log/airflow",
    ]
    assert more["read_only"] == ["/opt/airflow/plugins"]
    assert more["ids"] == [4321, 1000]
    assert more["accounts"] == ["airflow-pod-operator", "airflow-worker", "default", "team"]
    assert more["namespaces"] == ["airflow", "team"]


def test_the_triggerer_may_change_no_more_than_a_task(of_cluster: Plan) -> None:
    """It runs code of DAGs on the host, and its account is in the namespace of Airflow's own."""
    roles = yaml.safe_load_all(
        render(ROOT / "files/etc/airflow/kubernetes.yaml.j2", fake.settings(WITH_OPERATOR))
    )
    (subject,) = next(
        each["subjects"]
        for each in roles
        if (each["kind"], each["metadata"]["name"]) == ("RoleBinding", "airflow-triggerer-account")
    )
    user = f'"system:serviceaccount:{subject["namespace"]}:{subject["name"]}"'
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))["spec"]
    counts = rules["matchConditions"][0]["expression"]
    late, first = (each["expression"] for each in rules["validations"][:2])
    assert f"{OF_UPDATES}({OF_TASKS}" in counts and first.startswith(f"!({OF_TASKS}")
    for expression in (counts, late, first):
        assert f'|| request.userInfo.?username.orValue("") == {user})' in expression


@pytest.mark.parametrize(
    ("given", "read_only"),
    [
        ({}, {}),
        (fake.VARIANTS["claim"], {"dags": []}),
        (fake.VARIANTS["claims"], {}),  # of logs alone
        # One claim for both.
        (
            {
                **fake.VARIANTS["claim"],
                "logs_store": "volume_claim",
                "logs_claim": {"name": "dags", "host_path": "/srv/logs", "subpath": "logs"},
            },
            {"dags": ["logs"]},
        ),
        # The inventory's own wish.
        (
            {
                **fake.VARIANTS["claim"],
                "worker_pod_override": {
                    "spec": {
                        "containers": [
                            {
                                "name": "base",
                                "volumeMounts": [{"name": "dags", "mountPath": "/all"}],
                            }
                        ]
                    }
                },
            },
            {},
        ),
        (
            {
                "worker_pod_override": {
                    "spec": {
                        "volumes": [
                            {
                                "name": "models",
                                "persistentVolumeClaim": {"claimName": "m", "readOnly": True},
                            }
                        ],
                        "containers": [
                            {
                                "name": "base",
                                "volumeMounts": [{"name": "models", "mountPath": "/m"}],
                            }
                        ],
                    }
                }
            },
            {"m": []},
        ),
    ],
)
def test_claims_that_the_template_only_reads_stay_so(
    given: dict[str, Any], read_only: dict[str, list[str]]
) -> None:
    assert values(given)["read_only_claims"] == read_only
    settings = fake.settings(given)
    text = policy.text(settings, [template.manifest(settings)])
    (rule,) = (
        each
        for each in next(yaml.safe_load_all(text))["spec"]["validations"]
        if pods.READ_ONLY in each["message"]
    )
    assert f'?claimName.orValue("") in {json.dumps(read_only)} ' in rule["expression"]
    assert f"{json.dumps(read_only)}[v.persistentVolumeClaim.claimName]" in rule["expression"]
    assert all(claim in rule["message"] for claim in read_only)


def test_pods_of_tasks_end_and_go_unless_the_template_has_it_otherwise() -> None:
    assert (values({})["finalizers"], values({})["longest_end"]) == ([], policy.LONGEST_END)
    found = values(
        {
            "worker_pod_override": {
                "metadata": {"finalizers": ["example.com/x"]},
                "spec": {"terminationGracePeriodSeconds": 7200},
            }
        }
    )
    assert (found["finalizers"], found["longest_end"]) == (["example.com/x"], 7200)


def test_only_a_task_that_adds_finalizers_to_a_pod_is_looked_at(of_cluster: Plan) -> None:
    """Kubernetes itself changes finalizers while it deletes."""
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))["spec"]
    added = "!object.metadata.?finalizers.orValue([]).all(each, each in oldObject.metadata."
    before, found, _ = rules["matchConditions"][0]["expression"].partition(added)
    assert found and before.count("(") - before.count(")") == 2
    assert before.rpartition(f"{OF_UPDATES}(")[2].startswith(OF_TASKS)


def test_a_task_may_not_delete_a_pod_so_that_it_goes_in_years(of_cluster: Plan) -> None:
    """The rule comes first: a request that deletes has no object, which the others look at."""
    rules = next(yaml.load_all(of_cluster.uploads[PATH], yaml.CSafeLoader))["spec"]
    of_pods = rules["matchConstraints"]["resourceRules"][0]
    assert of_pods["resources"] == ["pods"] and "DELETE" in of_pods["operations"]
    first = rules["validations"][0]
    assert first["expression"].startswith('!(request.operation == "DELETE" && (')
    late = "request.?options.?gracePeriodSeconds.orValue(0) > "
    longest = first["expression"].rpartition(late)[2].rstrip(")\n")
    assert int(longest) >= policy.LONGEST_END and f"more than {longest} seconds" in first["message"]
    assert f"|| {first['expression'][1:].strip()}" in rules["matchConditions"][0]["expression"]


def test_root_among_the_users_allows_every_images_own() -> None:
    assert values({"kubernetes_allowed_users": [0]})["ids"] == [50000, policy.ANY_USER, 0]


def test_a_template_of_the_inventory_is_allowed_as_it_is() -> None:
    found = values(
        {
            "worker_pod_override": {
                "spec": {
                    "serviceAccountName": "team",
                    "securityContext": {
                        "runAsUser": 1000,
                        "fsGroup": 2000,
                        "supplementalGroups": [3000],
                    },
                    "tolerations": [{"operator": "Exists"}],
                    "priorityClassName": "system-node-critical",
                    "volumes": [
                        {"name": "models", "hostPath": {"path": "/srv/models"}},
                        {"name": "share", "nfs": {"server": "nfs.example", "path": "/"}},
                    ],
                }
            }
        }
    )
    assert "/srv/models" in found["folders"]
    assert {1000, 2000, 3000} <= set(found["ids"])
    assert "team" in found["accounts"]
    assert "nfs" in found["kinds"]
    assert found["tolerates_control_plane"]
    assert found["system_priorities"] == ["system-node-critical"]


def test_a_template_never_allows_root_nor_airflows_own_accounts() -> None:
    shape = {"serviceAccountName": "airflow-control-plane", "securityContext": {"runAsUser": 0}}
    found = values({"worker_pod_override": {"spec": shape}})
    assert 0 not in found["ids"] and "airflow-control-plane" not in found["accounts"]


def with_template_in_use(settings: Any, in_use: dict[str, Any]) -> dict[str, Any]:
    """The permissions of the policy while the template changes."""
    return policy.values(settings, [template.manifest(settings), in_use])


def test_while_the_template_changes_pods_of_both_are_admitted() -> None:
    before = template.manifest(fake.settings({}))
    after = fake.settings(fake.VARIANTS["claim"])
    found = with_template_in_use(after, before)
    assert found["folders"] == ["/opt/airflow/dags", "/opt/airflow/plugins", "/var/log/airflow"]


IN_USE = f"cat {layout.POD_TEMPLATE} 2>/dev/null; true"


def prepared(given: dict[str, Any], in_use: dict[str, Any]) -> list[Planned]:
    """The calls for the policy before the template changes from the one in use."""
    settings = fake.settings(given)
    return fake.planned(
        policy.prepare,
        {IN_USE: yaml.safe_dump(in_use, sort_keys=False)},
        settings=settings,
    )


def test_only_a_change_of_the_template_is_prepared() -> None:
    default = template.manifest(fake.settings({}))
    assert prepared({}, default) == []
    # The host has added the image's digest.
    pinned = copy.deepcopy(default)
    pinned["spec"]["containers"][0]["image"] += f"@sha256:{'0' * 64}"
    assert prepared({}, pinned) == []
    write, apply = prepared(fake.VARIANTS["claim"], default)
    assert "/opt/airflow/dags, /opt/airflow/plugins, /var/log/airflow" in write.uploads[PATH]
    assert apply.name == "Kubernetes | Admit only safe task pods while the template changes"
    # One that the policy would refuse is from the time before it, and is not refused yet.
    shaped = {**default, "spec": {**default["spec"], "hostNetwork": True}}
    assert prepared({}, shaped) == []


# Parts of the template itself that the policy would refuse, and words of the sentence.
OBJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"hostNetwork": True}, "(hostNetwork)"),
    ({"hostPID": True}, "(hostPID)"),
    ({"serviceAccountName": "airflow-control-plane"}, "the service account airflow-control-plane"),
    ({"securityContext": {"runAsNonRoot": True}}, "as its image's user"),
    ({"securityContext": {"runAsUser": 0}}, "as the user 0"),
    ({"securityContext": {"runAsUser": 50000}}, "write 50000 as runAsGroup"),
    ({"securityContext": {"runAsUser": 50000, "runAsGroup": 0}}, "write 50000 as runAsGroup"),
    (
        {"containers": [{"name": "base", "securityContext": {"runAsUser": 50000}}]},
        "allowPrivilegeEscalation: false",
    ),
    (
        {"containers": [{"name": "base", "securityContext": {"privileged": True}}]},
        "would have privileged",
    ),
    (
        {
            "containers": [
                {
                    "name": "base",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"add": ["NET_ADMIN"]},
                    },
                }
            ]
        },
        "would have capabilities.add",
    ),
]


@pytest.mark.parametrize(("spec", "words"), OBJECTIONS)
def test_a_template_that_the_policy_would_refuse_is_found_before_any_change(
    spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(DeployError) as error:
        fake.plan(fake.settings({"worker_pod_override": {"spec": spec}}))
    assert str(error.value).startswith("worker_pod_override: ")
    assert words in str(error.value)
    fake.plan(
        fake.settings({"worker_pod_override": {"spec": spec}, "kubernetes_pod_policy": False})
    )


def test_without_the_policy_it_is_taken_away() -> None:
    plan = fake.plan(fake.settings({"kubernetes_pod_policy": False}))
    (command,) = plan.named("Admit only safe task pods").commands
    assert command.endswith("pod-policy.py apply absent")


def test_the_policy_is_there_before_the_services_use_a_new_template(of_cluster: Plan) -> None:
    several = any("one host after the other" in name for name in of_cluster.names)
    assert (
        of_cluster.position("Write pod_template.yaml")
        < of_cluster.position("Admit only safe task pods")
        < of_cluster.position("one host after" if several else "Run airflow-scheduler")
    )


def test_the_rights_for_an_existing_cluster_bind_the_policy_to_the_namespace() -> None:
    text = Path("inventories/cluster-rights.yaml").read_text()
    *_, binding = yaml.safe_load_all(text)
    plan = fake.plan(fake.settings(fake.EXISTING))
    _, wanted = yaml.safe_load_all(plan.uploads[PATH])
    assert binding == wanted


# The program, with a kubectl that keeps objects as files

KUBECTL = """#!/bin/sh
cd "$(dirname "$0")" || exit
forbidden() {
    echo "Error from server (Forbidden): you may not" >&2
    exit 1
}
case $* in
create*) cat wanted ;;
get*) test ! -e closed || forbidden; cat "$2" 2>/dev/null || true ;;
auth*) test ! -e closed && ! test -e read-only ;;
apply*) test ! -e closed && test ! -e read-only || forbidden
    cat > new && mv new "$(sed 's/.*"kind": "\\([A-Za-z]*\\)".*/\\1/' new)" ;;
delete*) test ! -e closed && test ! -e read-only || forbidden; rm -f "$2" ;;
esac
"""


class Cluster:
    """A folder with a kubectl, and the program that uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kubectl = folder / "kubectl"
        kubectl.write_text(KUBECTL)
        kubectl.chmod(0o755)
        self.policy = folder / "policy.yaml"
        self.change("a")
        (folder / "host.env").write_text(
            f"KUBECTL={kubectl}\nPOD_POLICY_REFUSED={folder}/pod-policy-refused\nPOD_POLICY={self.policy}\n"
        )

    def change(self, expression: str) -> None:
        """Have another policy in the file."""
        self.policy.write_text(expression)
        kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        objects = [
            {"kind": kind, "metadata": {"name": "p"}, "spec": {"expression": expression}}
            for kind in kinds
        ]
        (self.folder / "wanted").write_text("\n".join(map(json.dumps, objects)))

    def run(self, *arguments: str) -> tuple[int, str]:
        """Status and last words of the program."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=os.environ | {"AIRFLOW_HOST_ENV": str(self.folder / "host.env")},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr.strip()

    @property
    def refused(self) -> bool:
        """Whether it was noted that only an admin can apply the policy."""
        return (self.folder / "pod-policy-refused").exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """One that has nothing yet."""
    return Cluster(tmp_path)


def test_the_program_applies_the_policy_once_and_takes_it_away(cluster: Cluster) -> None:
    code, said = cluster.run("check", "present")
    assert code == 1 and "ValidatingAdmissionPolicy p" in said and said.count("\n") == 0
    assert cluster.run("apply", "present") == (0, "")
    assert cluster.run("check", "present") == (0, "")
    cluster.change("b")
    assert cluster.run("check", "present")[0] == 1
    cluster.run("apply", "present")
    assert cluster.run("check", "present") == (0, "")
    assert cluster.run("check", "absent")[0] == 1
    assert cluster.run("apply", "absent") == (0, "")
    assert cluster.run("check", "absent") == (0, "")
    assert not cluster.refused


@pytest.mark.parametrize("right", ["closed", "read-only"])
def test_without_the_right_it_notes_so_until_an_admin_did_it(cluster: Cluster, right: str) -> None:
    (cluster.folder / right).touch()
    assert cluster.run("check", "present")[0] == 1
    assert cluster.run("apply", "present") == (0, "")
    assert cluster.refused
    assert cluster.run("check", "present") == (0, "")
    cluster.change("b")
    assert cluster.run("check", "present")[0] == 1
    (cluster.folder / right).unlink()
    assert cluster.run("check", "present")[0] == 1
    assert cluster.run("apply", "present") == (0, "")
    assert not cluster.refused
    assert cluster.run("check", "present") == (0, "")


def test_without_the_right_and_without_the_setting_there_is_nothing_to_do(cluster: Cluster) -> None:
    (cluster.folder / "closed").touch()
    cluster.run("apply", "present")
    assert cluster.run("check", "absent")[0] == 1
    assert cluster.run("apply", "absent") == (0, "")
    assert not cluster.refused
    assert cluster.run("check", "absent") == (0, "")

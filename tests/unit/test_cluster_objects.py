"""The programs that set up the cluster, with a kubectl that stands in for the real one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import layout
from tests.unit import fake
from tests.unit.stand_ins import KUBECTL, Host

PROGRAM = "cluster-objects.py"
SECRET = "hunter2-s3cr3t"
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota"}
GIVEN: dict[str, Any] = {
    **fake.VARIANTS["registry"],
    "kubernetes_extra_namespaces": ["team"],
    "kubernetes_extra_manifests": [
        {**QUOTA, "metadata": {"name": "here"}},
        {**QUOTA, "metadata": {"name": "there", "namespace": "elsewhere"}},
    ],
}


def deployed(folder: Path, given: dict[str, Any]) -> Host:
    """A host whose deploy wrote its lists of objects."""
    host = Host(folder, given)
    host.program("kubectl", KUBECTL)
    uploads = fake.plan(fake.settings(given)).uploads
    for name in ("KUBERNETES_OBJECTS", "KUBERNETES_UNWANTED"):
        path = folder / name
        path.write_text(uploads[host.values[name]])
        host.values[name] = str(path)
    for name, text in (("PODS_AUTHORITY", "the authority\n"), ("REGISTRY_LOGIN", f"{SECRET}\n")):
        (folder / name).write_text(text)
        host.values[name] = str(folder / name)
    return host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with an empty cluster."""
    (tmp_path / "cluster").mkdir()
    return deployed(tmp_path, GIVEN)


def test_the_cluster_gets_all_objects_once(host: Host) -> None:
    assert "lacks an object" in host.check(PROGRAM)
    assert host.cluster() == {}
    assert host.apply(PROGRAM) == ""
    assert host.check(PROGRAM) == ""
    found = host.cluster()
    for namespace in ("airflow", "team"):
        assert found[f"ConfigMap.{namespace}.airflow-authority"]["data"] == {
            "ca.pem": "the authority\n"
        }
        assert f"Role.{namespace}.airflow-control-plane" in found
    assert {name for name in found if "ResourceQuota" in name} == {
        "ResourceQuota.airflow.here",
        "ResourceQuota.elsewhere.there",
    }


def test_the_registrys_login_is_in_no_output_and_no_annotation(host: Host) -> None:
    done = host.run(PROGRAM, "apply")
    encoded = base64.b64encode(f"{SECRET}\n".encode()).decode()
    said = done.stdout + done.stderr + host.run(PROGRAM, "check").stderr
    assert SECRET not in said and encoded not in said
    for namespace in ("airflow", "team"):
        secret = host.cluster()[f"Secret.{namespace}.airflow-registry"]
        assert secret["data"] == {".dockerconfigjson": encoded}
        assert secret["type"] == "kubernetes.io/dockerconfigjson"
    # kubectl writes an annotation unless the server applies.
    applied = set((host.folder / "applied").read_text().splitlines())
    assert "Secret True" in applied
    assert {line for line in applied if line.endswith("True")} == {"Secret True"}


def test_another_authority_and_another_login_are_noticed(host: Host) -> None:
    host.apply(PROGRAM)
    for name in ("PODS_AUTHORITY", "REGISTRY_LOGIN"):
        Path(host.values[name]).write_text("another\n")
        assert host.check(PROGRAM) != ""
        assert host.apply(PROGRAM) == ""
        assert host.check(PROGRAM) == ""


def verbs(host: Host) -> list[str]:
    """What kubectl is asked to do by a check."""
    (host.folder / "verbs").unlink()
    host.check(PROGRAM)
    return (host.folder / "verbs").read_text().split()


def test_objects_as_they_were_applied_are_only_read(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    host = deployed(tmp_path, {**GIVEN, "worker_registry": None})
    host.apply(PROGRAM)
    assert {*verbs(host)} == {"get"}


@pytest.mark.parametrize("edited", ["live", "wanted", "list"])
def test_an_object_that_differs_is_noticed(edited: str, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    host = deployed(tmp_path, {**GIVEN, "worker_registry": None})
    host.apply(PROGRAM)
    role = tmp_path / "cluster/Role.airflow.airflow-control-plane"
    content = json.loads(role.read_text())
    if edited == "live":
        content["rules"][0]["verbs"] = ["*"]
    elif edited == "list":
        content["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    if edited == "wanted":  # a field goes, which the cluster still has
        path = Path(host.values["KUBERNETES_OBJECTS"])
        wanted = json.loads(path.read_text())
        for each in wanted["items"]:
            each.pop("automountServiceAccountToken", None)
        path.write_text(json.dumps(wanted))
    role.write_text(json.dumps(content))
    assert "has another, of" in host.check(PROGRAM)
    assert "diff" in verbs(host)


def test_unwanted_objects_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    unwanted = {
        f"{kind}.{namespace}.{name}"
        for namespace in ("airflow", "team")
        for kind, name in (
            ("Role", "airflow-pod-operator"),
            ("RoleBinding", "airflow-triggerer-account"),
            ("NetworkPolicy", "airflow-worker"),
            ("Secret", "airflow-registry"),
        )
    }
    unwanted.add("ServiceAccount.airflow-control.airflow-triggerer")
    before = {
        **GIVEN,
        "kubernetes_pod_operator": True,
        "kubernetes_network_policy": True,
        "dags_source": "git",
        **{key: fake.VARIANTS["git"][key] for key in ("dags_git_bundles",)},
    }
    (tmp_path / "before").mkdir()
    first = deployed(tmp_path / "before", before)
    (tmp_path / "before/cluster").symlink_to(tmp_path / "cluster")
    assert first.apply(PROGRAM) == ""
    assert set(first.cluster()) >= unwanted
    second = deployed(tmp_path, {**GIVEN, "worker_registry": None})
    second.apply(PROGRAM)
    assert second.check(PROGRAM) == ""
    assert not set(second.cluster()) & unwanted
    # The ConfigMap with the deploy's own DAGs, which are on the host again.
    assert "ConfigMap.airflow.airflow-deploy-dags" in before_names(first, before)
    assert "ConfigMap.airflow.airflow-deploy-dags" not in second.cluster()


def before_names(host: Host, given: dict[str, Any]) -> set[str]:
    """The names of the objects in the list that a deploy wrote."""
    items = json.loads(Path(host.values["KUBERNETES_OBJECTS"]).read_text())["items"]
    return {
        f"{each['kind']}.{each['metadata'].get('namespace')}.{each['metadata']['name']}"
        for each in items
    }


def test_a_cluster_that_does_not_answer_is_an_error(host: Host) -> None:
    host.program("kubectl", "echo 'no route to host' >&2; exit 2")
    assert host.check(PROGRAM).endswith("no route to host")
    assert host.apply(PROGRAM) == "no route to host"


def test_a_right_that_is_missing_leads_to_the_list_of_rights(host: Host) -> None:
    host.program("kubectl", "echo 'Error from server (Forbidden): namespaces' >&2; exit 1")
    assert "apply cluster-rights.yaml again" in host.apply(PROGRAM)


@pytest.mark.parametrize("accounts", [[], ["airflow-control-plane"]])
def test_accounts_are_replaced_alone(host: Host, accounts: list[str]) -> None:
    host.apply(PROGRAM)
    before = host.cluster()
    (host.folder / "applied").unlink()
    done = host.run(PROGRAM, "replace", *accounts)
    assert (done.returncode, done.stderr) == (0, "")
    assert host.cluster() == before
    applied = (host.folder / "applied").read_text().splitlines()
    # The scheduler's, and that which renews the tokens; not those of pods.
    assert applied == ["ServiceAccount False"] * (1 if accounts else 2)


def test_an_unknown_account_is_an_error(host: Host) -> None:
    assert "no such account" in host.run(PROGRAM, "replace", "nobody").stderr


# Claims

CLAIMS = {
    "": "there is no claim dags in the namespace",
    "Pending": "the claim dags has no volume (Pending: no such class)",
    "Lost": "the claim dags has no volume (Lost: no such class)",
    "Bound": "",
}


@pytest.mark.parametrize("phase", CLAIMS)
def test_a_claim_needs_a_volume(phase: str, tmp_path: Path) -> None:
    host = claiming(tmp_path, phase)
    arguments = ("claim.sh", "dags_claim", "dags", str(tmp_path), "airflow-dags")
    for verdict in (host.check(*arguments), host.apply(*arguments)):
        assert CLAIMS[phase] in verdict and bool(verdict) is bool(CLAIMS[phase])
        assert not verdict or verdict.startswith("dags_claim: ")


@pytest.mark.parametrize("phase", ["Pending", "Lost"])
def test_a_claim_may_wait_for_its_first_pod(phase: str, tmp_path: Path) -> None:
    host = claiming(tmp_path, phase, "event/dags.1")
    arguments = ("claim.sh", "dags_claim", "dags", str(tmp_path), "airflow-dags")
    for verdict in (host.check(*arguments), host.apply(*arguments)):
        assert (verdict == "") is (phase == "Pending")


def claiming(folder: Path, phase: str, waits: str = "") -> Host:
    """A host whose cluster has a claim in this phase, which may wait for its first pod."""
    host = Host(folder)
    answer = (
        f"*pvc*) echo '{phase}' ;; *WaitForFirstConsumer*) echo '{waits}' ;;"
        " *events*) echo no such class ;;"
    )
    host.program("kubectl", f'case "$*" in {answer} esac')
    host.program("sleep")
    host.program("runuser", 'shift 3; "$@"')
    return host


def test_a_claims_folder_is_on_the_host_and_readable(tmp_path: Path) -> None:
    host = claiming(tmp_path, "Bound")
    arguments = ("claim.sh", "logs_claim", "logs")
    missing = str(tmp_path / "none")
    assert f"the host has no folder {missing}" in host.check(*arguments, missing, "airflow")
    assert len(host.called("sleep")) == 0
    assert f"the host has no folder {missing}" in host.apply(*arguments, missing, "airflow")
    assert len(host.called("sleep")) == 60  # it may come a moment later
    host.program("runuser", 'test "$2" != airflow')
    verdict = host.check(*arguments, str(tmp_path), "airflow-dags", "airflow")
    assert f"{tmp_path} is not readable for the host's users airflow-dags and airflow" in verdict


# The pod template: the message of kubectl, and whether the deploy continues.
VERDICTS = {
    "pod/airflow-worker created (server dry run)": True,
    'Error from server (Forbidden): error when creating "STDIN": pods "airflow-worker" is'
    " forbidden: exceeded quota: few, requested: pods=1": True,
    'Error from server (BadRequest): error when creating "STDIN": Pod in version "v1" cannot be'
    ' handled as a Pod: strict decoding error: unknown field "spec.x"': False,
}


@pytest.mark.parametrize("said", VERDICTS)
def test_the_clusters_verdict_is_told_in_a_sentence(said: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    code = 0 if "created" in said else 1
    host.program("kubectl", f"cat >{tmp_path}/asked; echo '{said}' >&2; exit {code}")
    given = {"worker_pod_override": {"metadata": {"labels": {"a": "b"}}}}
    plan = fake.plan(fake.settings(given))
    (command,) = plan.named("Let the cluster check").commands
    program, verb, key, *shaping = command.split()
    assert (program, verb) == (f"{layout.LIB}/pod-template.sh", "apply")
    candidate = tmp_path / "candidate"
    candidate.write_text(plan.uploads[layout.POD_CANDIDATE])
    host.values["POD_CANDIDATE"] = str(candidate)
    assert host.check("pod-template.sh", key, *shaping) != ""
    sentence = host.apply("pod-template.sh", key, *shaping)
    assert (sentence == "") is VERDICTS[said]
    assert (host.check("pod-template.sh", key, *shaping) == "") is VERDICTS[said]
    assert (tmp_path / "asked").read_text() == candidate.read_text()
    assert yaml.safe_load(candidate.read_text())["metadata"]["labels"] == {"a": "b"}
    if not VERDICTS[said]:
        assert len(sentence.splitlines()) == 1
        assert sentence.startswith("worker_pod_override: the cluster refuses")
        assert sentence.endswith('unknown field "spec.x"') and "STDIN" not in sentence

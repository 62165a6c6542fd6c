"""The pod of a task: how the inventory's part of it is merged, and templates of one's own.

That Airflow merges in the same way is for tests/host to see, where Airflow is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api import DeployError

from tasks.worker import pod
from tests.unit import fake, formats

OWN: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"own": "yes"}},
    "spec": {
        "restartPolicy": "Never",
        "serviceAccountName": "airflow-worker",
        "securityContext": {"runAsUser": 50000},
        "containers": [
            {"name": "base", "env": [{"name": "AIRFLOW_HOME", "value": "/home/airflow"}]},
            {"name": "other", "image": "other:1"},
        ],
    },
}


def template_of(given: dict[str, Any]) -> dict[str, Any]:
    """The pod template that the deploy writes with these settings."""
    return formats.pod(fake.plan(fake.settings(given)))


def test_more_of_the_manifest_is_merged_into_the_pod() -> None:
    before = template_of({})
    more = {
        "metadata": {"labels": {"team": "a"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "serviceAccountName": "other",
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "containers": [
                {
                    "name": "base",
                    "resources": {"limits": {"cpu": "1"}},
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                },
                {"name": "second", "image": "second:1"},
            ],
        },
    }
    after = template_of({"worker_pod_override": more})
    base, second = after["spec"]["containers"]
    was = before["spec"]["containers"][0]
    assert after["metadata"] == {**before["metadata"], "labels": {"team": "a"}}
    assert after["spec"]["nodeSelector"] == {
        "disk": "ssd",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
    }
    assert after["spec"]["serviceAccountName"] == "other"
    assert after["spec"]["volumes"] == [*before["spec"]["volumes"], more["spec"]["volumes"][0]]  # type: ignore[index]
    assert base["volumeMounts"][:-1] == was["volumeMounts"]
    assert base["volumeMounts"][-1]["name"] == "scratch"
    assert base["resources"] == {"limits": {"cpu": "1"}}
    assert {**base, "volumeMounts": 0, "resources": 0} == {**was, "volumeMounts": 0, "resources": 0}
    assert second == {"name": "second", "image": "second:1"}


def test_containers_that_run_before_are_merged_by_name() -> None:
    ours = {"spec": {"containers": [], "initContainers": [{"name": "a", "image": "a:1"}]}}
    more = {
        "spec": {
            "initContainers": [
                {"name": "b", "image": "b:1"},
                {"name": "a", "env": [{"name": "X", "value": "1"}]},
            ]
        }
    }
    assert pod.merged(ours, more)["spec"]["initContainers"] == [
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
        {"name": "b", "image": "b:1"},
    ]


def test_a_false_value_changes_nothing() -> None:
    ours = {"spec": {"enableServiceLinks": True, "containers": [{"name": "base"}]}}
    assert pod.merged(ours, {"spec": {"enableServiceLinks": False}}) == ours


def test_merging_leaves_both_as_they_were() -> None:
    ours, more = {"spec": {"volumes": [{"name": "a"}]}}, {"spec": {"volumes": [{"name": "b"}]}}
    pod.merged(ours, more)
    assert (ours, more) == (
        {"spec": {"volumes": [{"name": "a"}]}},
        {"spec": {"volumes": [{"name": "b"}]}},
    )


def test_environment_variables_of_the_inventory_come_last_and_win() -> None:
    given = {"COLOUR": "green", "AIRFLOW_HOME": "/home/airflow", "NODE": "$(HOST_IP)"}
    env = template_of({"dags_env": given})["spec"]["containers"][0]["env"]
    values = {each["name"]: each.get("value") for each in env}
    assert len(values) == len(env)
    assert given.items() <= values.items()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A template of one's own."""
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(OWN))
    return path


def test_a_template_of_the_inventory_is_completed(own: Path) -> None:
    generated = template_of({})["spec"]["containers"][0]
    pod = template_of({"worker_pod_template": str(own), "dags_env": {"COLOUR": "green"}})
    base, other = pod["spec"]["containers"]
    assert base["image"] == generated["image"]
    assert base["env"][-1] == {"name": "AIRFLOW_HOME", "value": "/home/airflow"}
    names = [each["name"] for each in base["env"]]
    assert len(set(names)) == len(names)
    assert set(names) == {"COLOUR", *(each["name"] for each in generated["env"])}
    assert other == {"name": "other", "image": "other:1"}
    assert pod["metadata"] == {"labels": {"own": "yes"}}
    assert pod["spec"].keys() - OWN["spec"].keys() <= {"volumes", "nodeSelector"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("- a", "holds no Pod"),
        ("kind: Deployment", "holds no Pod"),
        ("kind: Pod", "must have the name base"),
        ("{kind: Pod, spec: {containers: [{name: worker}]}}", "not 'worker'"),
        ("{kind: Pod, spec: {containers: [{name: base}]}}", "restartPolicy: Never"),
    ],
)
def test_a_file_that_is_no_pod_for_tasks_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DeployError) as error:
        pod.own_template(str(path))
    sentence = str(error.value)
    assert sentence.startswith(f"worker_pod_template: {path}")
    assert words in sentence and "\n" not in sentence


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="No such file"):
        pod.own_template(str(tmp_path / "none.yaml"))

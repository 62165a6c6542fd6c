"""The pods of tasks: the cluster refuses a DAG that asks for more, and says why in a sentence."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml

from tests.e2e.attacks import pods
from tests.e2e.conftest import Shell
from tests.e2e.support import DAGS, SLACK, Airflow, Deploy, bring_dag, deploy
from tests.support import wait_for

ENDED = ("success", "failed")
WITH_OPERATOR: dict[str, object] = {"kubernetes_pod_operator": True}
LOOSER: dict[str, object] = {
    **WITH_OPERATOR,
    "kubernetes_allowed_host_folders": ["/srv"],
    "kubernetes_allowed_users": [998],
    "kubernetes_allowed_service_accounts": ["e2e-team"],
}


@pytest.fixture(scope="module")
def deployed(shell: Shell) -> Deploy:
    """The deploy with all accounts that there can be."""
    run = deploy(settings=WITH_OPERATOR)
    assert run.code == 0, run.output
    shell(
        "kubectl -n airflow create serviceaccount e2e-team --dry-run=client -o yaml"
        " | kubectl apply -f -"
    )
    return run


@pytest.fixture(scope="module")
def template(deployed: Deploy, shell: Shell) -> Any:
    """The pod template on the machine."""
    return yaml.safe_load(shell("cat /etc/airflow/pod_template.yaml"))


def answer(shell: Shell, pod: pods.Pod, who: str = "") -> str:
    """The cluster's answer to a pod; a dry run, so it makes none."""
    return shell(
        f"kubectl -n airflow create {who} --dry-run=server -f - 2>&1 <<'END' || true\n"
        f"{json.dumps(pod)}\nEND"
    )


def admitted(shell: Shell, pod: pods.Pod) -> bool:
    """Whether the cluster would make a pod."""
    return answer(shell, pod).endswith("created (server dry run)")


def test_the_policy_changes_nothing_the_second_time(deployed: Deploy) -> None:
    assert deploy(settings=WITH_OPERATOR).changed == []


@pytest.fixture(scope="module")
def others(shell: Shell) -> None:
    """An account in the namespace of tasks that is not for them."""
    make = f"kubectl -n airflow create serviceaccount {pods.OTHERS}"
    shell(f"kubectl -n airflow get serviceaccount {pods.OTHERS} || {make}")


@pytest.mark.parametrize("attempt", pods.REFUSED)
def test_the_cluster_refuses(attempt: str, template: pods.Pod, shell: Shell, others: None) -> None:
    change, words = pods.REFUSED[attempt]
    said = answer(shell, pods.changed(template, change))
    assert "ValidatingAdmissionPolicy 'airflow-pods-airflow'" in said
    assert words in said


@pytest.mark.parametrize("wish", pods.ADMITTED)
def test_the_cluster_admits(wish: str, template: pods.Pod, shell: Shell) -> None:
    pod = pods.changed(template, pods.ADMITTED[wish])
    assert admitted(shell, pod), answer(shell, pod)


def test_kubernetes_itself_makes_the_pods_of_a_job(template: pods.Pod, shell: Shell) -> None:
    pod = pods.changed(template, pods.of_a_job)
    said = answer(shell, pod, "--as=system:serviceaccount:kube-system:job-controller")
    assert said.endswith("created (server dry run)"), said


LABELS = {
    "executors": {"airflow-worker": "e2e", "kubernetes_executor": "True"},
    "tasks": {"a": "b"},
}
AS_TRIGGERER = "--as=system:serviceaccount:airflow-control:airflow-triggerer --dry-run=server"
AS_TASK = "--as=system:serviceaccount:airflow:airflow-pod-operator --dry-run=server"


@pytest.fixture(scope="module")
def labelled(template: pods.Pod, shell: Shell) -> Any:
    """A pod as the executor makes them, and one as a task does."""
    for name, labels in LABELS.items():
        # They never begin: the scheduler would believe the end of the first one.
        pod = pods.changed(
            template, lambda pod: pod["spec"].update(schedulingGates=[{"name": "example.com/e2e"}])
        )
        pod["metadata"] |= {"name": f"e2e-{name}", "labels": labels}
        shell(f"kubectl -n airflow apply -f - <<'END'\n{json.dumps(pod)}\nEND")
    yield
    shell(f"kubectl -n airflow delete pod {' '.join(f'e2e-{name}' for name in LABELS)}")


FINALIZED = json.dumps({"metadata": {"finalizers": ["example.com/e2e"]}})
TOLERATES = json.dumps({"spec": {"tolerations": [{"key": "e2e", "operator": "Exists"}]}})


@pytest.mark.parametrize("who", [AS_TASK, AS_TRIGGERER], ids=["task", "triggerer"])
@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ("annotate pod e2e-executors try_number=x", True),
        ("label pod e2e-executors airflow-worker- kubernetes_executor-", True),
        ("set image pod/e2e-executors base=example.com/other", True),
        ("label pod e2e-tasks airflow-worker=1", True),
        ("label pod e2e-tasks kubernetes_executor=True", True),
        (f"patch pod e2e-tasks --type=strategic -p '{TOLERATES}'", True),
        (f"patch pod e2e-tasks --type=strategic -p '{FINALIZED}'", True),
        ("label pod e2e-tasks c=d", False),
        ("annotate pod e2e-tasks try_number=x", False),
    ],
)
def test_code_of_dags_changes_only_pods_of_tasks(
    change: str, is_refused: bool, who: str, labelled: None, shell: Shell
) -> None:
    """The executor would believe what it says: a number that is none would end the scheduler."""
    said = shell(f"kubectl -n airflow {change} {who} 2>&1 || true")
    assert ("a task may not make or change a pod with the labels" in said) is is_refused, said
    assert is_refused or "server dry run" in said


@pytest.fixture(scope="module")
def running(template: pods.Pod, shell: Shell) -> Any:
    """A pod that runs: Kubernetes deletes one without a node at once, whatever the request says."""

    def sleeps(pod: pods.Pod) -> None:
        pods.base(pod).update(command=["sleep", "900"], args=[])

    pod = pods.changed(template, sleeps)
    pod["metadata"] |= {"name": "e2e-running", "labels": {"a": "b"}}
    shell(f"kubectl -n airflow apply -f - <<'END'\n{json.dumps(pod)}\nEND")
    shell("kubectl -n airflow wait pod e2e-running --for=condition=Ready --timeout=120s")
    yield
    shell("kubectl -n airflow delete pod e2e-running --now")


@pytest.mark.parametrize("who", [AS_TASK, AS_TRIGGERER], ids=["task", "triggerer"])
@pytest.mark.parametrize(("seconds", "is_refused"), [(601, True), (31536000, True), (600, False)])
def test_a_task_deletes_no_pod_so_that_it_goes_in_years(
    seconds: int, is_refused: bool, who: str, running: None, shell: Shell
) -> None:
    """Whoever deletes the namespace, as the removal does, would wait for it."""
    delete = f"delete pod e2e-running --wait=false --grace-period={seconds}"
    said = shell(f"kubectl -n airflow {delete} {who} 2>&1 || true")
    refused = "a task may not delete a pod that has more than 600 seconds to end"
    assert (refused in said) is is_refused, said
    assert is_refused or "server dry run" in said


@pytest.mark.parametrize("label", LABELS["executors"])
def test_a_task_makes_no_pod_of_the_executor(label: str, template: pods.Pod, shell: Shell) -> None:
    pod = pods.changed(template, lambda pod: None)
    pod["metadata"] |= {"name": "e2e-made", "labels": {label: "1"}}
    create = f"kubectl -n airflow create {AS_TASK} -f - 2>&1 <<'END' || true\n"
    said = shell(f"{create}{json.dumps(pod)}\nEND")
    assert "a task may not make or change a pod with the labels" in said
    pod["metadata"]["labels"] = {"dag_id": "other"}
    assert "created (server dry run)" in shell(f"{create}{json.dumps(pod)}\nEND")


@pytest.mark.parametrize("account", ["airflow-worker", "airflow-pod-operator", "e2e-team"])
def test_no_account_of_pods_gets_at_the_hosts_tokens(account: str, shell: Shell) -> None:
    """A pod reads the secrets of its namespace and acts as its accounts; these are elsewhere."""
    there = shell("kubectl -n airflow get secrets,serviceaccounts -o name")
    assert "airflow-worker" in there
    assert "control-plane" not in there and "triggerer" not in there
    assert "control-plane" in shell("kubectl -n airflow-control get serviceaccounts -o name")
    # A token in a secret would never end.
    assert shell("kubectl -n airflow-control get secrets -o name") == ""
    who = f"--as=system:serviceaccount:airflow:{account}"
    for right in ("create pods", "get secrets", "create serviceaccounts --subresource=token"):
        ask = f"kubectl -n airflow-control auth can-i {right} {who} || true"
        assert shell(ask) == "no", right


HALF_LIVED = """
import base64, json, sys, time
path = "/etc/airflow/kubeconfig.d/token"
credential = json.load(open(path))
head, claims, sign = credential["status"]["token"].split(".")
life = json.loads(base64.urlsafe_b64decode(claims + "==="))
life |= {"iat": life["iat"] - 900000, "exp": int(time.time()) + 303}
claims = base64.urlsafe_b64encode(json.dumps(life).encode()).decode().rstrip("=")
end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(life["exp"]))
credential["status"] = {"token": f"{head}.{claims}.{sign}", "expirationTimestamp": end}
json.dump(credential, open(path, "w"))
"""


def test_tokens_of_the_host_are_renewed_and_no_service_starts_again(
    airflow: Airflow, shell: Shell
) -> None:
    """The cluster refuses this token, which looks old: what runs meanwhile is what read it."""
    invocation = "systemctl show -P InvocationID airflow-scheduler airflow-triggerer"
    before, files = shell(invocation), "stat -c %U:%G:%a /etc/airflow/kubeconfig.d/token"
    modes = shell(files)
    shell(f"python3 -c {shlex.quote(HALF_LIVED)}")
    ask = "kubectl --kubeconfig=/etc/airflow/kubeconfig auth whoami 2>&1 || true"
    assert "Unauthorized" in shell(ask)
    wait_for(lambda: "control-plane" in shell(ask), 90 + SLACK, "the timer renews it")
    assert shell(files) == modes
    assert shell("systemctl is-failed airflow-token || true") != "failed"
    assert "a task ran as a pod" in shell("airflow-smoke-test")
    assert shell(invocation) == before


# In a DAG

# The words that refuse the attempt of each task.
ATTACKS = {
    "read_the_fernet_key": pods.FOLDER,
    "log_in_to_the_database": pods.FOLDER,
    "be_the_control_plane": pods.USER,
    "read_the_clusters_token": pods.SECRET,
    "be_the_scheduler_in_the_cluster": pods.NO_ACCOUNT,
}
BY_OPERATOR, HARMLESS = "start_a_pod_that_is_root", "ask_for_a_folder_of_its_own"


@pytest.fixture(scope="module")
def attacked(template: pods.Pod, airflow: Airflow, shell: Shell) -> str:
    """A run of the DAG that attacks, at its end."""
    text = (DAGS / "e2e_attacks.py").read_text()
    image = template["spec"]["containers"][0]["image"]
    text = text.replace("@IMAGE@", image).replace("@UID@", shell("id -u airflow"))
    bring_dag("e2e_attacks", shell, text)
    run = airflow.trigger("e2e_attacks")
    wait_for(lambda: airflow.run_state("e2e_attacks", run) in ENDED, 180 + SLACK, "it ends")
    return run


def test_only_the_harmless_task_ends_well(attacked: str, airflow: Airflow) -> None:
    states = {each["task_id"]: each["state"] for each in airflow.tasks("e2e_attacks", attacked)}
    assert states == {
        **dict.fromkeys((*ATTACKS, BY_OPERATOR), "failed"),
        HARMLESS: "success",
    }
    assert "may use []" in airflow.log("e2e_attacks", attacked, HARMLESS)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_task_shows_the_sentence(name: str, attacked: str, airflow: Airflow) -> None:
    """A pod that never was has no log: the sentence is among the task's events."""
    path = f"/eventLogs?dag_id=e2e_attacks&run_id={attacked.replace('+', '%2B')}&task_id={name}"
    events = airflow.request("GET", path)["event_logs"]
    said = "\n".join(str(each["extra"]) for each in events)
    assert ATTACKS[name] in said
    assert "stolen" not in airflow.log("e2e_attacks", attacked, name)


def test_a_pod_that_a_task_starts_is_refused_in_the_tasks_log(
    attacked: str, airflow: Airflow
) -> None:
    assert pods.USER in airflow.log("e2e_attacks", attacked, BY_OPERATOR)


# The scheduler


def test_a_task_cannot_make_the_scheduler_open_a_file(
    deployed: Deploy, airflow: Airflow, shell: Shell
) -> None:
    bring_dag(
        "e2e_template_file",
        shell,
        "from airflow.sdk import dag, task\n\n\n"
        "@dag(schedule=None)\ndef e2e_template_file():\n"
        '    @task(executor_config={"pod_template_file": "/var/log/airflow/rt.fifo"})\n'
        "    def block() -> None: ...\n\n    block()\n\n\ne2e_template_file()\n",
    )

    def refused() -> bool:
        errors = airflow.request("GET", "/importErrors?limit=100")["import_errors"]
        return any("pod_template_file of a task is not allowed" in e["stack_trace"] for e in errors)

    wait_for(refused, 60 + SLACK, "the web page says so")
    shell("rm /opt/airflow/dags/e2e_template_file.py")


ASK_THE_HOOK = """
from types import SimpleNamespace
from airflow import settings
from kubernetes.client import V1ObjectMeta, V1Pod
task_instance = SimpleNamespace(executor_config=%s)
settings.task_instance_mutation_hook(task_instance, dag_run=None)
print(settings.task_instance_mutation_hook.is_noop, task_instance.executor_config)
"""


@pytest.mark.parametrize(
    ("executor_config", "words"),
    [
        ('{"pod_template_file": "/x"}', "pod_template_file of a task"),
        (
            '{"pod_override": V1Pod(metadata=V1ObjectMeta(annotations={"try_number": "x"}))}',
            "pod_override of a task may not have try_number",
        ),
        (
            '{"pod_override": V1Pod(metadata=V1ObjectMeta(finalizers=["example.com/x"]))}',
            "pod_override of a task may not have finalizers",
        ),
        ("5", "executor_config of a task must be a dictionary"),
    ],
)
def test_nor_by_the_database(
    executor_config: str, words: str, deployed: Deploy, shell: Shell
) -> None:
    """As the scheduler has it, which does not read the DAG's file."""
    said = shell(f"/usr/local/lib/airflow/run python -c '{ASK_THE_HOOK % executor_config}'")
    last = said.splitlines()[-1]
    assert last.startswith("False {'pod_override': ") and words in last


# Settings


def test_settings_allow_more_by_name(
    deployed: Deploy, template: pods.Pod, airflow: Airflow, shell: Shell
) -> None:
    allowed = (
        pods.host_path("/srv"),
        pods.context(runAsUser=998, runAsGroup=998),
        pods.spec(serviceAccountName="e2e-team"),
    )
    for change in allowed:
        assert "denied request" in answer(shell, pods.changed(template, change))
    run = deploy(settings=LOOSER)
    assert run.code == 0, run.output
    assert "Kubernetes | Admit only safe task pods" in run.changed
    wait_for(
        lambda: all(admitted(shell, pods.changed(template, change)) for change in allowed),
        10 + SLACK,
        "the cluster goes by the new policy",
    )
    assert pods.FOLDER in answer(shell, pods.changed(template, pods.host_path("/")))


def test_the_policy_can_be_left_out_and_comes_back(
    deployed: Deploy, template: pods.Pod, shell: Shell
) -> None:
    root = pods.changed(template, pods.context(runAsUser=0))
    run = deploy(settings={**WITH_OPERATOR, "kubernetes_pod_policy": False})
    assert run.code == 0, run.output
    assert shell("kubectl get validatingadmissionpolicies -o name") == ""
    wait_for(lambda: admitted(shell, root), 10 + SLACK, "the cluster admits root")
    run = deploy(settings=WITH_OPERATOR)
    assert run.code == 0, run.output
    wait_for(lambda: pods.USER in answer(shell, root), 10 + SLACK, "the cluster refuses root again")
    assert "a task ran as a pod" in shell("airflow-smoke-test")

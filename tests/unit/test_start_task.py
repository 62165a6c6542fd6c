"""The program that the worker image starts with, by processes of this machine."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.unit.fake import FILES

SCRIPT = FILES / "image/start_task.py"
# In the place of Airflow's program: it reports its state, also in and after two forks.
PROGRAM = """
import gc, os, sys
if __name__ != "__main__":
    raise SystemExit("not run as a program")
def tell(who):
    print(who, "collects", gc.isenabled(), "frozen", gc.get_freeze_count() > 0, flush=True)
print(sys.argv[1:], os.path.basename(sys.argv[0]), sys.path[0] == os.getcwd(), flush=True)
tell("before")
for name in ("first", "second"):
    gc.unfreeze() if name == "second" else None
    if not (child := os.fork()):
        tell(name)
        os._exit(0)
    os.waitpid(child, 0)
    tell("parent")
os.umask(umask := os.umask(0))
print("umask", oct(umask), flush=True)
"""


def start(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a program and its arguments, in a folder."""
    words = [sys.executable, str(SCRIPT), *command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def airflow(tmp_path: Path) -> Path:
    """A folder in which `python -m` finds the program by its name."""
    package = tmp_path / "airflow/sdk/execution_time"
    package.mkdir(parents=True)
    (package / "execute_workload.py").write_text(PROGRAM)
    return tmp_path


def test_garbage_is_not_looked_for_until_the_task_is_forked_off(airflow: Path) -> None:
    module = "airflow.sdk.execution_time.execute_workload"
    done = start(airflow, "python", "-m", module, "--json-string", "{}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['--json-string', '{}'] execute_workload.py True",
        "before collects False frozen False",
        "first collects True frozen True",
        "parent collects True frozen True",
        # Later objects are collected, also when the task forks itself.
        "second collects True frozen False",
        "parent collects True frozen False",
        # Tasks of another user, with the same group, write logs into the same folders.
        "umask 0o2",
    ]


# A version of Airflow and of other packages whose modules hold what POSTPONED says of them. Each
# module says when it is imported.
PACKAGES = {
    "libcst/__init__.py": "print('libcst'); parse = str.upper\nclass CSTTransformer: real = True",
    "rich/__init__.py": "print('rich')",
    "rich/console.py": "class Console: real = True",
    "rich/traceback.py": "class Traceback: real = True",
    "structlog/__init__.py": "",
    "structlog/dev.py": "import rich\nfrom rich.console import Console\n"
    "from rich.traceback import Traceback\n",
    "airflow/__init__.py": "",
    "airflow/sdk/__init__.py": "",
    "airflow/sdk/definitions/__init__.py": "",
    "airflow/sdk/definitions/_internal/__init__.py": "",
    "airflow/sdk/definitions/_internal/decorators.py": """
import libcst as cst
class Remover(cst.CSTTransformer): pass
def remove(text):
    return cst.parse(text), Remover.real
""",
    "apache_airflow_core-{version}.dist-info/METADATA": "Name: apache-airflow-core\n"
    "Version: {version}\n",
}
USES = """
import atexit, sys
from airflow.sdk.definitions._internal.decorators import remove
import structlog.dev as dev
print("imported")
class Own(dev.Console): pass
print(remove("a"), isinstance(3, dev.Console), Own.real)
print(dev.rich.__name__, dev.Traceback().real, sys.modules["libcst"].CSTTransformer.real)
import libcst
print(libcst is sys.modules["libcst"])
atexit.register(print, "at the end")
"""


def started_with(folder: Path, version: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the place of Airflow's, with packages of that version of Airflow."""
    for name, text in PACKAGES.items():
        path = folder / name.format(version=version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{version}", version))
    task = folder / "airflow/sdk/execution_time/execute_workload.py"
    task.write_text(program)
    (task.parent / "__init__.py").touch()
    return start(folder, "python", "-m", "airflow.sdk.execution_time.execute_workload")


def test_rarely_used_modules_are_imported_when_they_are_used(airflow: Path) -> None:
    tested = runpy.run_path(str(SCRIPT), run_name="read")["AIRFLOW"]
    done = started_with(airflow, tested, USES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "imported",
        "rich",
        "libcst",
        "('A', True) False True",
        "rich True True",
        "True",
        "at the end",
    ]


def test_another_airflow_imports_all_as_it_says(airflow: Path) -> None:
    done = started_with(airflow, "3.3.999", USES)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["libcst", "rich", "imported"]
    assert lines[3:] == ["('A', True) False True", "rich True True", "True", "at the end"]


def test_the_process_ends_as_its_program_says(airflow: Path) -> None:
    assert started_with(airflow, "3.3.2", "import sys; sys.exit(3)").returncode == 3
    raised = started_with(airflow, "3.3.2", "raise KeyError('lost')")
    assert (raised.returncode, raised.stderr.splitlines()[-1]) == (1, "KeyError: 'lost'")
    waits = "import threading; threading.Timer(0.2, print, ['waited']).start()"
    assert started_with(airflow, "3.3.2", waits).stdout == "waited\n"
    assert started_with(airflow, "3.3.2", "print('last', end='')").stdout == "last"


# As Airflow reads the files that say which plugins it leaves out.
RULES = """
class _GlobIgnoreRule:
    @staticmethod
    def compile(pattern, base_dir, definition_file):
        if pattern == "!":
            raise ValueError("Invalid git pattern: !")
        return pattern
def rules(place):
    with open(place) as file:
        lines = file.read().split("\\n")
    return [_GlobIgnoreRule.compile(line, "top", place) for line in lines if line]
"""


def test_a_bad_airflowignore_among_the_plugins_ends_no_task(airflow: Path) -> None:
    package = airflow / "airflow/sdk/_shared/module_loading"
    package.mkdir(parents=True)
    (package / "file_discovery.py").write_text(RULES)
    (airflow / "bad").write_bytes(b"!\nold\nB\xfccher\n")
    # Root may read each file, but no folder.
    program = "from airflow.sdk._shared.module_loading.file_discovery import rules\n"
    done = started_with(airflow, "3.3.2", program + "print(rules('bad'), rules('airflow'))")
    assert done.stdout == "[None, 'old', None] []\n", done.stderr
    assert done.stderr.splitlines() == [
        "A line of bad is left out: Invalid git pattern: !",
        "airflow is left out: [Errno 21] Is a directory: 'airflow'",
    ]


# As Airflow's importer of DAGs leaves a process, in which a task then crashes for real.
IMPORTER = """
import signal
def load():
    def handler(number, frame):
        pass
    signal.signal(signal.SIGSEGV, handler)
"""
CRASH = """
import ctypes, os, resource, signal
from airflow.dag_processing.importers import python_importer
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))  # ends one that fails again and again
if not (child := os.fork()):
    python_importer.load()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGUSR1)
    print("still here", flush=True)
    ctypes.string_at(0)
print(signal.Signals(os.WTERMSIG(os.waitpid(child, 0)[1])).name)
"""


def test_a_segmentation_fault_ends_the_task(airflow: Path) -> None:
    importers = airflow / "airflow/dag_processing/importers"
    importers.mkdir(parents=True)
    (importers / "python_importer.py").write_text(IMPORTER)
    (airflow / "airflow/sdk/execution_time/execute_workload.py").write_text(CRASH)
    done = start(airflow, *TASK, "{}")
    assert done.stdout.splitlines() == ["still here", "SIGSEGV"], done.stderr
    # On the host, the policy of each process of Airflow does it.
    on_host = "import airflow_deploy_crashes; airflow_deploy_crashes.install()"
    path = f"{FILES}/usr/local/lib/airflow/python:{airflow}"
    done = subprocess.run(
        [sys.executable, "-c", on_host + CRASH],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["still here", "SIGSEGV"], done.stderr


def policy(executor: str = "KubernetesExecutor") -> dict[str, Any]:
    """The deploy's policy, in the place of Airflow."""
    stand_ins = {
        "airflow.configuration": {"conf": SimpleNamespace(get=lambda *_: executor)},
        "airflow.settings": {"task_instance_mutation_hook": SimpleNamespace()},
        "airflow.exceptions": {"AirflowClusterPolicyViolation": Exception},
        "airflow.policies": {"hookimpl": lambda function: function},
    }
    modules: dict[str, Any] = {"airflow": ModuleType("airflow")}
    for name, values in stand_ins.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(values)
    modules["airflow"].settings = modules["airflow.settings"]
    for name in (
        *("apart", "callbacks", "classes", "columns", "crashes"),
        *("keys", "links", "logs", "memory", "outages", "params", "proxies", "triggers"),
    ):
        module = modules[f"airflow_deploy_{name}"] = ModuleType(name)
        vars(module)["install"] = lambda: None
    # Airflow's models are not here.
    vars(modules["airflow_deploy_columns"]).update(
        objection_to_task=lambda task: task.too_large,
        objection_to_id=lambda dag: "",
        objection_to_weights=lambda dag: dag.too_large,
        objection_to_mapping=lambda dag: dag.too_many,
    )
    vars(modules["airflow_deploy_classes"])["objection_to_deadline"] = lambda alert: alert.foreign
    with mock.patch.dict(sys.modules, modules):
        return runpy.run_path(f"{FILES}/usr/local/lib/airflow/python/airflow_deploy_policy.py")


def mutated(*args: str) -> list[Any]:
    """The arguments and the variables of a container, after the deploy's policy saw its pod."""
    hook = policy()["pod_mutation_hook"]
    from kubernetes import client  # takes longer to load than the test itself

    given = [client.V1EnvVar(name="GREETING", value="hello")]
    container = client.V1Container(name="base", args=[*args], env=given)
    hook(client.V1Pod(spec=client.V1PodSpec(containers=[container])))
    return [container.args, {each.name: each.value for each in container.env}]


TASK = ("python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string")
TOKEN = '{"token": "e2e.$(GREETING).$x\'\\""}'


def test_the_token_of_a_task_is_in_no_argument_and_its_program_gets_it(airflow: Path) -> None:
    args, variables = mutated(*TASK, TOKEN)
    assert not [word for word in args if "e2e" in word]
    assert variables.pop("GREETING") == "hello"
    # As Kubernetes hands it over: https://kubernetes.io/docs/tasks/inject-data-application/
    given = {name: value.replace("$$", "$") for name, value in variables.items()}
    environment = {**os.environ, **given}
    expected = f"{['--json-string', TOKEN]}"
    # In the deploy's own image, and in one that starts the program itself.
    for command in ([sys.executable, str(SCRIPT), *args], [sys.executable, *args[1:]]):
        done = subprocess.run(command, cwd=airflow, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith(expected)
    assert "before collects True" in done.stdout  # only the deploy's image looks for garbage later


def test_other_pods_stay_as_they_are() -> None:
    for args in (("sh", "-c", "true"), ("python", "-c", "pass"), TASK[:3], ()):
        assert mutated(*args) == [[*args], {"GREETING": "hello"}]


def test_other_programs_are_run_as_they_are(tmp_path: Path) -> None:
    assert start(tmp_path, "sh", "-c", "echo $0 $1; exit 7", "a", "b").stdout == "a b\n"
    assert start(tmp_path, "sh", "-c", "exit 7").returncode == 7
    assert start(tmp_path, "python", "-c", "import gc; print(gc.isenabled())").stdout == "True\n"


OF_OTHERS = {"team": "data"}


@pytest.mark.parametrize(
    ("executor_config", "words"),
    [
        (None, ""),
        ({}, ""),
        ({"pod_override": SimpleNamespace(metadata=None)}, ""),
        ({"pod_override": SimpleNamespace(metadata=SimpleNamespace(labels=OF_OTHERS))}, ""),
        ({"pod_template_file": "/x"}, "pod_template_file of a task is not allowed"),
        *(
            (
                {"pod_override": SimpleNamespace(metadata=SimpleNamespace(**{kind: {name: "x"}}))},
                f"pod_override of a task may not have {name} as label or annotation",
            )
            for kind in ("labels", "annotations")
            for name in ("try_number", "map_index", "dag_id", "airflow-worker", "task_instance_id")
        ),
        (
            {
                "pod_override": SimpleNamespace(
                    metadata=SimpleNamespace(finalizers=["example.com/x"])
                )
            },
            "pod_override of a task may not have finalizers",
        ),
        ({"pod_override": SimpleNamespace(metadata=SimpleNamespace(finalizers=[]))}, ""),
        # Whoever writes to the table of DAGs chooses any value.
        (5, "executor_config of a task must be a dictionary"),
        ("pod_template_file", "executor_config of a task must be a dictionary"),
        ({"pod_override": SimpleNamespace(metadata=SimpleNamespace(labels=[{}]))}, ""),
        ({"pod_override": 5}, ""),
    ],
)
def test_a_task_names_no_other_task_to_the_executor(executor_config: Any, words: str) -> None:
    hooks = policy()
    task = SimpleNamespace(task_id="one", executor_config=executor_config, too_large="")
    if words:
        with pytest.raises(Exception, match=words):
            hooks["task_policy"](task)
    else:
        hooks["task_policy"](task)
    hooks["task_instance_mutation_hook"](task)
    if words:
        assert set(task.executor_config) == {"pod_override"}
        assert words in task.executor_config["pod_override"]
    else:
        assert task.executor_config == executor_config


BOTH = "KubernetesExecutor,LocalExecutor"


@pytest.mark.parametrize(
    ("callback", "executor", "is_refused"),
    [
        ({"executor": None}, "KubernetesExecutor", True),
        ({"executor": None}, BOTH, True),
        ({"executor": "KubernetesExecutor"}, "LocalExecutor,KubernetesExecutor", True),
        ({"executor": "LocalExecutor"}, BOTH, False),
        ({"executor": None}, "LocalExecutor,KubernetesExecutor", False),
        ({}, "KubernetesExecutor", False),  # of the triggerer
    ],
)
def test_a_callback_that_no_executor_runs_is_refused(
    callback: dict[str, Any], executor: str, is_refused: bool
) -> None:
    alert = SimpleNamespace(callback=SimpleNamespace(**callback), foreign="")
    hook = policy(executor)["dag_policy"]
    hook(SimpleNamespace(dag_id="some", deadline=None, too_large="", too_many=""))
    dag = SimpleNamespace(dag_id="some", deadline=[alert], too_large="", too_many="")
    if not is_refused:
        hook(dag)
        return
    with pytest.raises(Exception, match="some: a SyncCallback of a deadline needs"):
        hook(dag)


def test_a_deadline_that_the_scheduler_does_not_make_is_refused() -> None:
    alert = SimpleNamespace(callback=None, foreign="it has an object")
    dag = SimpleNamespace(dag_id="some", deadline=[alert], too_large="", too_many="")
    with pytest.raises(Exception, match="some: it has an object"):
        policy()["dag_policy"](dag)


def test_what_the_database_does_not_hold_is_refused() -> None:
    hooks = policy()
    task = SimpleNamespace(task_id="one", executor_config={}, too_large="retries is 7")
    with pytest.raises(Exception, match="one: retries is 7"):
        hooks["task_policy"](task)
    for said in (("it adds up to 7", ""), ("", "it adds up to 7")):
        dag = SimpleNamespace(dag_id="some", deadline=None, too_large=said[0], too_many=said[1])
        with pytest.raises(Exception, match="some: it adds up to 7"):
            hooks["dag_policy"](dag)

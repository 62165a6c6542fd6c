"""The deploy as a list of operations, without a host."""

from __future__ import annotations

import inspect
import re
import shlex
from base64 import b64encode

import pytest
from pyinfra.api.arguments import all_argument_meta

from tasks import layout
from tasks.layout import ROOT
from tasks.lib import operations
from tests.unit import fake, shell, shell_lines
from tests.unit.fake import Plan

SECRET = "hunter2-s3cr3t"


def test_every_operation_is_named(any_host: Plan) -> None:
    # pyinfra shows the arguments, whole files among them, of operations that have no name.
    assert not [each.name for each in any_host.operations if each.arguments]


def test_names_are_unique(any_host: Plan) -> None:
    assert len(set(any_host.names)) == len(any_host.names)


def test_names_are_imperative_sentences(any_host: Plan) -> None:
    for name in any_host.names:
        _, bar, sentence = name.rpartition(" | ")
        assert bar, f"{name} belongs to no @deploy"
        verb, _, thing = sentence.partition(" ")
        assert re.fullmatch(r"[A-Z][a-z]+(?<!ing)(?<!ed)(?<!s)", verb), name
        assert thing and not sentence.endswith("."), name


def test_commands_and_questions_are_shell(variants: dict[str, Plan]) -> None:
    texts: set[str] = set()
    for plan in variants.values():
        commands = [command for each in plan.operations for command in each.commands]
        assert len(commands) > 20 and len(plan.facts) > 20
        texts.update(commands, plan.facts)
    assert shell.unreadable(texts) == []


# A step with control flow is a program; see tasks/README.md. pyinfra makes these commands.
PYINFRAS = {"System | Create user airflow-dags"}
# The beginnings of its questions.
PYINFRAS_QUESTIONS = (
    "! (test -e /",
    "if command -v ",
    'if [ -n "$TMPDIR" ]',
    "for i in `cat /etc/passwd",
)
CONTROL_FLOW = re.compile(r"(^|[;&|{(]\s*|\b(then|do|else) )(for|while|case|if|until)\b")
# The lines of secret_file name the file and its folder up to four times: only the paths make them
# long. Other commands with an input have no such excuse.
SECRET_FILES = re.compile(
    r"umask 077; cat > (?P<new>\S+) && chown \S+ (?P=new) && chmod \d+ (?P=new)"
    r"|sync (?P<path>\S+)\.new && mv (?P=path)\.new (?P=path) && sync \S+"
)
# The frame that the deploy's own operations put around a question.
FRAME = re.compile(r"if \( (?P<asked>.*?)\s*\) >/dev/null 2>&1; then echo yes; fi", re.S)

# Control flow in all but name: the shell decides what runs. `|| true` only lets a command fail.
DISGUISED = re.compile(r"\|\|(?! true\b)|\{ [^}]*; \}")
# A test that has two ways to be true changes nothing.
EITHER = {
    "cd /etc/nginx; ! test sites-enabled/default -ef sites-available/default"
    " || dpkg -V nginx-common | grep -q /default$"
}


def is_short(command: str) -> bool:
    """Whether a command is one line without control flow, or calls or is a program."""
    text = command.strip()
    if "#!/bin/sh" in text:
        return True
    words = shlex.split(text)
    if words[0].startswith(layout.LIB) and text == shlex.join(words):
        return True
    return (
        "\n" not in text
        and len(text) <= 120
        and not CONTROL_FLOW.search(text)
        and (text in EITHER or not DISGUISED.search(text))
    )


@pytest.fixture(scope="module")
def every(variants: dict[str, Plan]) -> list[Plan]:
    """All deploys and removals."""
    names = fake.every_host()
    serving = [fake.plan(settings) for name, settings in names.items() if name not in variants]
    removals = [fake.removal_of(name, keep) for name in names for keep in (False, True)]
    return [*variants.values(), *serving, *removals]


def test_commands_are_short_lines(every: list[Plan]) -> None:
    long = {
        (each.name, command)
        for plan in every
        for each in plan.operations
        for command in each.commands
        if not is_short(command)
    }
    assert {name for name, command in long if not SECRET_FILES.fullmatch(command)} == PYINFRAS


def test_questions_are_short_lines(every: list[Plan]) -> None:
    questions = {question for plan in every for question in plan.facts}
    own = {each for each in questions if not each.startswith(PYINFRAS_QUESTIONS)}
    framed = {match["asked"] for each in own if (match := FRAME.fullmatch(each))}
    # The text that takes the lock is no question: it holds the lock while the connection lives.
    bare = {
        each
        for each in own
        if not FRAME.fullmatch(each)
        and layout.COMMAND_LOCK not in each
        and layout.DEPLOY_LOCK not in each
    }
    assert len(framed) > 30 and bare
    assert {each for each in framed | bare if not is_short(each)} == set()
    assert not EITHER - framed
    # None is left out that pyinfra does not ask; each deploy asks, whatever was planned before.
    asked = every[0].facts
    assert all(any(each.startswith(start) for each in asked) for start in PYINFRAS_QUESTIONS)


MOST_LINES = 100


def test_few_lines_of_shell_stand_in_strings() -> None:
    found = {
        path: shell_lines.of(path.read_text()) for path in sorted((ROOT / "tasks").rglob("*.py"))
    }
    assert sum(map(len, found.values())) <= MOST_LINES, found


def test_lines_of_shell_are_found_where_they_run() -> None:
    text = """
LOOK = "ls -l /srv"
NOBODYS = "not shell"

def some(name: str) -> None:
    run_unless(
        name="Write some file",
        test=LOOK,
        commands=[f"cd {LOOK}", *(f"rm {each}\\nsync {each}" for each in "ab"), "true"],
        already="it is there",
    )

@operation()
def other():
    again = "echo again" if host.get_fact(Command, command="date | cat") else "/srv"
    said_by(first, "ip address")
    yield again
"""
    assert sorted(shell_lines.of(text)) == [
        *("cd {}", "date | cat", "echo again", "ip address", "ls -l /srv", "rm {}", "sync {}")
    ]


def test_text_that_is_no_shell_would_be_noticed() -> None:
    assert len(shell.unreadable(["if true", "true", "echo 'a"])) == 2


def test_packages_that_may_be_impossible_come_before_the_cluster_and_the_database() -> None:
    plan = fake.plan(fake.settings({"airflow_extra_requirements": ["python-ldap"]}))
    positions = map(
        plan.position,
        (
            "Write the lock file of Airflow",
            "Install Airflow (",
            "Start minikube in the background",
            "Start and enable PostgreSQL",
        ),
    )
    assert sorted(found := [*positions]) == found


def test_a_secret_of_the_inventory_is_in_no_name_and_no_command() -> None:
    given = {
        "airflow_config": {"smtp": {"smtp_password": SECRET}},
        "airflow_connections": {
            "api": {"conn_type": "http", "password": SECRET, "extra": {"token": SECRET}}
        },
        "airflow_variables": {"api_key": SECRET},
    }
    plan = fake.plan(fake.settings(given))
    assert [dest for dest, text in plan.uploads.items() if SECRET in text] == [
        "/etc/airflow/airflow.cfg"
    ]
    said = [*plan.names, *plan.facts, *(c for each in plan.operations for c in each.commands)]
    assert not [text for text in said if SECRET in text]


def test_no_operation_has_a_parameter_that_pyinfra_would_take_away() -> None:
    own = {
        name: value
        for name, value in vars(operations).items()
        if callable(value) and hasattr(value, "_inner")  # how pyinfra marks them
    }
    assert own.keys() == {
        "ensure",
        "ensure_sent",
        "packages",
        "run_unless",
        "secret_file",
        "synced_folder",
    }
    for name, operation in own.items():
        parameters = inspect.signature(operation._inner).parameters
        assert parameters.keys().isdisjoint(all_argument_meta), name


def test_an_existing_cluster_gets_no_minikube() -> None:
    plan = fake.plan(fake.settings(fake.EXISTING))
    assert [name for name in plan.names if name.startswith("minikube")] == [
        "minikube | Install kubectl"
    ]
    # Each host has all programs.
    programs = {layout.START_MINIKUBE}
    assert not [dest for dest in plan.uploads.keys() - programs if "minikube" in dest]
    commands = [command for each in plan.operations for command in each.commands]
    assert not [c for c in commands if re.search(r"minikube|containerd|\bctr\b|buildah build", c)]


def test_a_given_image_is_not_built() -> None:
    plan = fake.plan(fake.settings({"worker_image": "registry.example/worker:1"}))
    assert not [name for name in plan.names if "the worker image" in name and "Try" not in name]
    assert "buildah" not in " ".join(plan.named("Install Debian packages").commands)
    assert "/opt/airflow/requirements/sbom.txt" not in plan.uploads


def test_the_registrys_password_is_in_no_command_and_in_no_file_that_pyinfra_shows() -> None:
    registry = {**fake.VARIANTS["registry"]["worker_registry"], "password": SECRET}
    plan = fake.plan(fake.settings({"worker_registry": registry}))
    login = b64encode(f"{registry['username']}:{SECRET}".encode()).decode()
    commands = [command for each in plan.operations for command in each.commands]
    said = [*plan.names, *plan.facts, *plan.uploads.values(), *commands]
    assert not [text for text in said if SECRET in text or login in text]
    assert any(command.startswith("umask 077; cat >") for command in commands)


def test_the_key_of_an_own_certificate_is_in_nothing_that_pyinfra_shows() -> None:
    plan = fake.plan(fake.settings(fake.VARIANTS["page with an own certificate"]))
    commands = [command for each in plan.operations for command in each.commands]
    said = [*plan.names, *plan.facts, *plan.uploads.values(), *commands]
    secret = fake.PAIR["key"].splitlines()[1]
    assert not [text for text in said if secret in text]
    write, _ = plan.named("Write the web page's own certificate").commands
    assert write.startswith("umask 077; cat > /etc/airflow/tls/web.pem.new")


def test_pods_are_sent_to_nginx_when_it_is_there() -> None:
    order = [
        "Create the host's certificate",
        "Apply Airflow's objects in the cluster",
        # An api-server of an earlier version runs until here.
        "Load the worker image",
        "Write nginx's site airflow",
        "Start and enable nginx",
        "Write pod_template.yaml",
        "Run airflow-api-server",
        "Start the timers",
    ]
    plan = fake.plan(fake.settings())
    places = [plan.position(name) for name in order]
    assert places == sorted(places)
    (command,) = plan.named("Start and enable nginx").commands
    assert command.startswith("/usr/local/lib/airflow/nginx.sh apply 0.0.0.0:8081 ")


def test_an_image_for_a_registry_is_pushed_and_tried_before_airflow_is_switched() -> None:
    plan = fake.plan(fake.settings(fake.VARIANTS["registry"]))
    (image,) = re.findall(r"image: (\S+)", plan.uploads["/etc/airflow/pod_template.candidate.yaml"])
    (push,), (again,) = plan.named("push it").commands, plan.named("Try the worker").commands
    repository, _, tag = image.rpartition(":")
    assert push.startswith(f"{layout.LIB}/image-push.sh apply {tag} ")
    assert f"WORKER_REPOSITORY={repository}\n" in plan.uploads[layout.HOST_ENV]
    assert again.startswith(f"{layout.LIB}/image-trial.sh apply {image} ")
    order = ["push it", "Apply Airflow's objects", "Try the worker", "airflow.cfg"]
    places = [plan.position(name) for name in order]
    assert places == sorted(places)


@pytest.mark.parametrize("driver", ["none", "podman", "kvm2"])
def test_the_image_that_pods_ask_for_is_the_one_that_is_loaded(driver: str) -> None:
    plan = fake.plan(fake.settings({**fake.ANOTHER_DRIVER, "minikube_driver": driver}))
    (image,) = re.findall(r"image: (\S+)", plan.uploads["/etc/airflow/pod_template.candidate.yaml"])
    repository, _, tag = image.rpartition(":")
    (build,), (load,) = (
        plan.named(f"{verb} the worker image").commands for verb in ("Build", "Load")
    )
    assert build.startswith(f"{layout.LIB}/image-build.sh apply {tag} ")
    assert f"WORKER_REPOSITORY={repository}\n" in plan.uploads[layout.HOST_ENV]
    assert any(f"image-load.sh check {image}\n" in fact for fact in plan.facts)
    assert load == f"{layout.LIB}/image-load.sh apply {image}"


@pytest.mark.parametrize("wanted", [True, False])
def test_the_smoke_test_is_optional(wanted: bool) -> None:
    plan = fake.plan(fake.settings({"airflow_smoke_test": wanted}))
    assert any(name.startswith("Smoke test | ") for name in plan.names) is wanted
    assert ("/opt/airflow/dags/airflow_smoke_test.py" in plan.uploads) is wanted


@pytest.mark.parametrize("wanted", [True, False])
def test_the_pod_operators_example_comes_with_its_rights(wanted: bool) -> None:
    plan = fake.plan(fake.settings({"kubernetes_pod_operator": wanted}))
    assert ("/opt/airflow/dags/example_pod_operator.py" in plan.uploads) is wanted


ORDER = [
    "Install Debian packages",
    "Create group airflow-dags",
    "Create user airflow-dags",
    "Create /etc/airflow/secrets",
    "Install Airflow",
    "Start minikube in the background",
    "Create database airflow",
    "Create the secrets",
    "Build the worker image",
    "Wait for minikube",
    "Write the kubeconfig of airflow-control-plane",
    "Load the worker image",
    "Create the key that signs backups",
    "Write airflow.cfg",
    "Migrate the database",
    "Create the web page's user",
    "Install the units",
    "Make systemd load and enable the units",
    "Run airflow-api-server",
    "Run airflow-scheduler",
    "Wait until Airflow is healthy",
    "Run a tiny DAG",
    "Delete Airflow's old accounts in the namespaces of tasks",
]


def test_earlier_accounts_are_deleted_in_each_namespace_of_tasks() -> None:
    plan = fake.plan(fake.settings({"kubernetes_extra_namespaces": ["team"]}))
    (command,) = plan.named("Delete Airflow's old accounts in the namespaces of tasks").commands
    for namespace in ("airflow", "team"):
        assert f"-n {namespace} rolebinding/airflow-control-plane serviceaccount/" in command
    # The new accounts have the same names, in another namespace. There only tokens go, which would
    # never end.
    (of_control,) = re.findall("-n airflow-control ([^']*)", command)
    assert of_control.split() == [
        "secret/airflow-control-plane-token",
        "secret/airflow-triggerer-token",
    ]


def test_each_operation_finds_its_requirements(plan: Plan) -> None:
    places = [plan.position(name) for name in ORDER]
    assert places == sorted(places)


def test_directories_are_made_before_files_are_written_into_them(any_host: Plan) -> None:
    # Otherwise pyinfra makes them, with other owners and modes.
    made = {
        name.rpartition(" ")[2]: at for at, name in enumerate(any_host.names) if "Create /" in name
    }
    assert made
    for at, each in enumerate(any_host.operations):
        for dest in each.uploads:
            assert made.get(dest.rpartition("/")[0], -1) < at, dest


@pytest.mark.parametrize("driver", ["none", "podman", "docker", "kvm2"])
def test_an_offline_deploy_downloads_no_program(driver: str) -> None:
    given = {**fake.ANOTHER_DRIVER, "offline_dir": "/srv/offline", "minikube_driver": driver}
    plan = fake.plan(fake.settings(given))
    commands = [command for each in plan.operations for command in each.commands]
    elsewhere = re.compile(r"curl.*https://(?!127[.])")
    assert not [command for command in commands if elsewhere.search(command)]
    assert "OFFLINE_DIR=/srv/offline\n" in plan.uploads[layout.HOST_ENV]

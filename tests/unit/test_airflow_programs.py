"""The programs that install Airflow, run it, and prepare its database."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit import fake, postgres, programs
from tests.unit.stand_ins import Host

VARIABLES = {
    "fernet-key": "AIRFLOW__CORE__FERNET_KEY",
    "jwt-secret": "AIRFLOW__API_AUTH__JWT_SECRET",
    "api-secret-key": "AIRFLOW__API__SECRET_KEY",
}
PROGRAMS = ("venv.sh", "prune-venvs.sh", "tools.sh", "secrets.sh", "migrate.sh", "user.sh")
VENV, LOCK = "3.3.2-abc", "/opt/airflow/requirements/3.3.2.txt"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with the folders of a deploy, which are below this one."""
    host = Host(tmp_path)
    host.values["RUN"] = str(programs.LIB / "run")
    host.values["HOMES"] = str(tmp_path)
    for name in ("SECRETS", "VENVS", "REQUIREMENTS", "UV", "airflow"):
        (tmp_path / name).mkdir()
        if name != "airflow":  # the home of its user
            host.values[name] = str(tmp_path / name)
    for name in ("MIGRATED", "VENV", "EXTRA_LOCK"):
        host.values[name] = str(tmp_path / name)
    return host


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("arguments", [(), ("check", "a", "b", "c", "d", "e"), ("make",)])
def test_a_wrong_call_shows_the_usage(program: str, arguments: tuple[str, ...], host: Host) -> None:
    if program == "venv.sh" and len(arguments) == 6:
        arguments = ("make", *arguments[1:])  # it takes any number of requirements
    done = host.run(program, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {program}"), done
    assert done.stdout == ""


# Virtual environments

# Makes a virtual environment, and leaves its lock behind, as uv does.
UV = """#!/bin/sh
echo uv "$@" >> {calls}
test "$UV_SYSTEM_CERTS $UV_LINK_MODE" = "true copy" || exit 3
case $1 in
venv) mkdir -p "$5/bin" ;;
pip)
    test -d "$(dirname "$5")" && touch "$(dirname "$5")/../.lock"
    if test "$2" = compile; then
        cat > {calls}.requirements
        while test "$1" != --output-file; do shift; done
        echo locked > "$2"
    fi ;;
esac
{end}
"""


def give_uv(host: Host, end: str = "") -> None:
    """Let uv be installed."""
    path = Path(host.values["UV"], "bin/uv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(UV.format(calls=host.calls, end=end))
    path.chmod(0o755)


def test_a_venv_is_installed_from_its_lock_and_then_the_extra_requirements(host: Host) -> None:
    give_uv(host)
    folder = Path(host.values["VENVS"], VENV)
    extra = ("boto3>=1; python_version < '4'", "httpx[http2]")
    arguments = ("venv.sh", str(folder), "/usr/bin/python3.11", LOCK, *extra)
    assert host.check(*arguments) == f"{folder} is not complete"
    assert host.apply(*arguments) == host.check(*arguments) == ""
    made, locked, resolved, more = host.called("uv")
    assert made == ["venv", "--quiet", "--python", "/usr/bin/python3.11", str(folder)]
    for words in (locked, more):
        assert {"--compile-bytecode", "--only-binary", f"{folder}/bin/python"} <= set(words)
    assert {"compile", "--only-binary", "--generate-hashes"} <= set(resolved)
    assert locked[-3:] == ["--require-hashes", "-r", LOCK]
    # The lock wins over the extra requirements.
    assert resolved[resolved.index("--constraint") + 1] == LOCK
    assert Path(f"{host.calls}.requirements").read_text().splitlines() == [*extra]
    assert more[-3:] == ["--no-deps", "-r", f"{host.values['EXTRA_LOCK']}.new"]
    # Every user could write to it.
    assert not (folder / ".lock").exists()


def test_a_venv_without_extra_requirements_has_only_the_lock(host: Host) -> None:
    give_uv(host)
    assert (
        host.apply("venv.sh", f"{host.values['VENVS']}/{VENV}", "/usr/bin/python3.11", LOCK) == ""
    )
    assert len(host.called("uv")) == 2


def test_a_venv_that_was_interrupted_begins_again(host: Host) -> None:
    give_uv(host, 'test "$1" = venv')
    folder = Path(host.values["VENVS"], VENV)
    arguments = ("venv.sh", str(folder), "/usr/bin/python3.11", LOCK)
    assert host.run("venv.sh", "apply", *arguments[1:]).returncode == 1
    assert host.check(*arguments) == f"{folder} is not complete"
    (folder / "left").touch()
    give_uv(host)
    assert host.apply(*arguments) == host.check(*arguments) == ""
    assert not (folder / "left").exists()


def test_a_venv_of_a_login_with_a_strict_umask_becomes_readable(host: Host) -> None:
    folder = Path(host.values["VENVS"], VENV)
    words = ("venv.sh", str(folder), "/usr/bin/python3.11", LOCK)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/airflow").touch(0o700)
    (folder / ".complete").touch()
    assert host.check(*words) == ""
    for path in (folder, folder / "bin"):
        path.chmod(0o700)
    assert host.check(*words) == f"the services' users can't read {folder}"
    assert host.apply(*words) == ""
    assert host.check(*words) == ""
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes["bin"] == modes["airflow"] == 0o755 and folder.stat().st_mode & 0o777 == 0o755


def test_the_venv_in_use_is_a_link_that_changes_in_the_switch() -> None:
    plan = fake.plan(fake.settings())
    order = ["Install Airflow", "Write pod_template", "Switch the command line", "Migrate the"]
    places = [plan.position(name) for name in order]
    assert places == sorted(places)
    changing = [
        each.name
        for each in plan.operations
        if any("/opt/airflow/venv.new" in command for command in each.commands)
    ]
    assert changing == [plan.names[places[2]]]


# The tools


def give_python(host: Host, name: str) -> str:
    """Let Python be installed, which makes virtual environments, as Debian names it."""
    pip = f'printf "#!/bin/sh\\n" > "$3/bin/pip"; chmod +x {host.values["UV"]}/bin/pip'
    host.program(name, f'mkdir -p "$3/bin" "$3/lib/{name}"; {pip}')
    return str(host.bin / name)


@pytest.mark.parametrize("name", ["uv", "sbom"])
def test_tools_are_installed_once_for_each_lock(name: str, host: Host) -> None:
    give_uv(host)
    uv, lock = Path(host.values["UV"]), Path(host.values["REQUIREMENTS"], f"{name}.txt")
    lock.write_text("one==1\n")
    python = give_python(host, "python3.11")
    (uv / "lib/python3.11").mkdir(parents=True)
    assert host.check("tools.sh", name, python) == f"{uv} does not have the packages of {lock}"
    assert host.apply("tools.sh", name, python) == host.check("tools.sh", name, python) == ""
    lock.write_text("one==2\n")
    assert host.check("tools.sh", name, python) == f"{uv} does not have the packages of {lock}"
    give_uv(host)
    assert host.apply("tools.sh", name, python) == host.check("tools.sh", name, python) == ""
    (uv / ".lock").touch()  # every user could write to it
    assert host.check("tools.sh", name, python) == f"uv left its lock in {uv}"
    give_uv(host)
    assert host.apply("tools.sh", name, python) == host.check("tools.sh", name, python) == ""


def test_tools_are_made_again_when_debian_has_another_python(host: Host) -> None:
    uv = Path(host.values["UV"])
    for name in ("uv", "sbom"):
        Path(host.values["REQUIREMENTS"], f"{name}.txt").write_text("one==1\n")
    python = give_python(host, "python3.11")
    for name in ("uv", "sbom"):
        give_uv(host)
        assert host.apply("tools.sh", name, python) == host.check("tools.sh", name, python) == ""
    python = give_python(host, "python3.13")
    assert host.check("tools.sh", "uv", python) == f"{uv} is not of the host's python3.13"
    assert host.apply("tools.sh", "uv", python) == host.check("tools.sh", "uv", python) == ""
    # Programs that the old one had are installed again, too.
    assert host.check("tools.sh", "sbom", python) != ""
    give_uv(host)
    assert host.apply("tools.sh", "sbom", python) == host.check("tools.sh", "sbom", python) == ""


def test_tools_have_only_the_packages_of_their_lock_with_hashes(host: Host) -> None:
    give_uv(host)
    lock = Path(host.values["REQUIREMENTS"], "sbom.txt")
    lock.touch()
    assert host.apply("tools.sh", "sbom", "/usr/bin/python3.11") == ""
    (words,) = host.called("uv")
    assert words[-3:] == ["--require-hashes", "-r", str(lock)] and "--only-binary" in words


# Programs of the virtual environment, and the database


# Runs a program as another user: here as the same.
AS_USER = """
case $1 in -u) shift 3 ;; --reuid=airflow | --reuid=airflow-dags) shift 3 ;; *) exit 9 ;; esac
exec "$@"
"""
# The command of the virtual environment: it records its arguments.
AIRFLOW = """#!/bin/sh
echo airflow "$@" >> {calls}
env | sort > {folder}/environment
pwd > {folder}/place
case "$*" in
"db migrate") psql -XAtqd airflow -c "update alembic_version set version_num = 'new'" ;;
"users "*) cat > {folder}/answers ;;
esac
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A database with the schemas' heads, and the table of the web page's users."""
    with postgres.server() as running:
        running.sql("create database airflow")
        running.sql(
            "create table alembic_version as select 'abc' as version_num;"
            "create table alembic_version_fab as select 'def' as version_num;"
            "create table ab_role as select 1 as id, 'User' as name union select 2, 'Admin';"
            "create table ab_user_role (user_id int default 1, role_id int);"
            "create table ab_user (username text, id int default 1, active boolean default true)",
            "airflow",
        )
        yield running


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets of a host, which its program makes in a second."""
    host = Host(tmp_path_factory.mktemp("secrets"))
    folder = host.folder / "SECRETS"
    folder.mkdir()
    host.values["SECRETS"] = str(folder)
    host.program("id", "echo 0")
    assert host.apply("secrets.sh") == ""
    return folder


@pytest.fixture
def airflow(host: Host, server: postgres.Server, secrets: Path) -> Host:
    """A host with secrets, a virtual environment in use, and a database."""
    server.sql(
        "update alembic_version set version_num = 'abc'; truncate ab_user, ab_user_role", "airflow"
    )
    export = " ".join(f"{name}={value}" for name, value in server.environment.items())
    export = export.replace("PATH=", f"PATH={host.bin}:")
    host.program("runuser", f"export {export}\n{AS_USER}")
    host.program("setpriv", f"export {export}\n{AS_USER}")
    host.program("id", "echo 0")
    shutil.copytree(secrets, host.values["SECRETS"], dirs_exist_ok=True)
    folder = Path(host.values["VENVS"], VENV, "bin")
    folder.mkdir(parents=True)
    (folder / "airflow").write_text(AIRFLOW.format(calls=host.calls, folder=host.folder))
    (folder / "airflow").chmod(0o755)
    Path(host.values["VENV"]).symlink_to(folder.parent)
    return host


ENCRYPTED = """
create table if not exists connection (is_encrypted boolean, is_extra_encrypted boolean);
create table if not exists variable (is_encrypted boolean);
create table if not exists trigger (encrypted_kwargs text);
truncate connection; truncate variable; truncate trigger;
"""
DATA = {
    "connection": "insert into connection values (false, true)",
    "variable": "insert into variable values (true)",
    "trigger": "insert into trigger values ('…')",
}


def backup(host: Host, name: str, key: str) -> Path:
    """Have a backup with this fernet-key."""
    secrets, top = Path(host.values["SECRETS"]), host.folder / "made"
    top.mkdir(exist_ok=True)
    (secrets / "fernet-key").write_text(key)
    subprocess.run(
        ["tar", "-C", "/", "-cf", top / "host.tar", f"{secrets}/fernet-key".lstrip("/")], check=True
    )
    path = Path(host.values["BACKUPS"], f"{name}.tar")
    subprocess.run(["tar", "-C", top, "-cf", path, "host.tar"], check=True)
    return path


@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("data", DATA)
def test_a_lost_key_that_data_needs_is_not_replaced(
    data: str, content: str | None, airflow: Host, server: postgres.Server
) -> None:
    server.sql(ENCRYPTED, "airflow")
    airflow.values["BACKUPS"] = str(airflow.folder)
    key = Path(airflow.values["SECRETS"], "fernet-key")

    def lose() -> None:
        key.unlink()
        if content is not None:
            key.write_text(content)

    Path(airflow.values["MIGRATED"]).write_text(f"{VENV} abc def\n")
    lose()
    assert airflow.apply("secrets.sh") == "", "nothing is encrypted with it"
    server.sql(DATA[data], "airflow")
    lose()
    said = airflow.apply("secrets.sh")
    assert "and 1 connections, variables and triggers are encrypted with it" in said
    assert "No readable backup in" in said and "delete from connection" in said
    backup(airflow, "before-upgrade-20260103T000000Z", "")
    right = backup(airflow, "airflow-20260102T023000Z", "AIRFLOW__CORE__FERNET_KEY=old\n")
    backup(airflow, "before-restore-20260101T000000Z", "AIRFLOW__CORE__FERNET_KEY=older\n")
    lose()
    said = airflow.apply("secrets.sh")
    assert (key.read_text() if key.exists() else None) == content
    # The command that it tells brings the key back.
    command = said.partition("then deploy again: ")[2].replace("sudo ", "")
    assert str(right) in command
    subprocess.run(["sh", "-c", command], check=True)
    assert airflow.check("secrets.sh") == ""
    assert key.read_text() == "AIRFLOW__CORE__FERNET_KEY=old\n"


def test_a_lost_key_is_not_replaced_while_the_database_is_away(airflow: Host) -> None:
    Path(airflow.values["MIGRATED"]).write_text(f"{VENV} abc def\n")
    Path(airflow.values["SECRETS"], "fernet-key").unlink()
    airflow.program("setpriv", "exit 2")
    assert "the database does not tell whether its data needs it" in airflow.apply("secrets.sh")
    assert not Path(airflow.values["SECRETS"], "fernet-key").exists()


def test_secrets_that_no_data_needs_are_made_again(airflow: Host) -> None:
    Path(airflow.values["MIGRATED"]).write_text(f"{VENV} abc def\n")
    for name in ("jwt-secret", "api-secret-key"):
        Path(airflow.values["SECRETS"], name).write_text("")
    assert airflow.apply("secrets.sh") == airflow.check("secrets.sh") == ""


def test_a_lost_password_of_a_user_is_not_replaced_by_one_that_is_not_the_users(
    airflow: Host, server: postgres.Server
) -> None:
    Path(airflow.values["MIGRATED"]).write_text(f"{VENV} abc def\n")
    password = Path(airflow.values["SECRETS"], "admin-password")
    password.unlink()
    assert airflow.apply("secrets.sh") == ""
    server.sql("insert into ab_user (username) values ('admin')", "airflow")
    password.unlink()
    assert "airflow-rotate admin-password makes a new one" in airflow.apply("secrets.sh")
    assert not password.exists()


def test_a_program_runs_as_the_services_do_in_the_venv_in_use(airflow: Host) -> None:
    done = airflow.run("run", "airflow", "config", "get-value", "it's one")
    assert done.returncode == 0, done.stderr
    assert airflow.called("airflow") == [["config", "get-value", "it's", "one"]]
    lines = (airflow.folder / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    home = f"{airflow.values['HOMES']}/airflow"
    assert environment["AIRFLOW_HOME"] == environment["HOME"] == home
    assert environment["AIRFLOW_CONFIG"] == "/etc/airflow/airflow.cfg"
    assert environment["KUBECONFIG"] == "/etc/airflow/kubeconfig"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    key = Path(airflow.values["SECRETS"], "fernet-key").read_text()
    assert key == f"AIRFLOW__CORE__FERNET_KEY={environment['AIRFLOW__CORE__FERNET_KEY']}\n"
    # Commands neither make nor check tokens and sessions.
    assert environment.keys() & set(VARIABLES.values()) == {"AIRFLOW__CORE__FERNET_KEY"}
    # The values of the host are no variables of Airflow's processes.
    assert environment.keys().isdisjoint(airflow.values.keys() - {"HOME"})
    assert (airflow.folder / "place").read_text().strip() == home
    called = airflow.called("setpriv")[0]
    assert called[:3] == ["--reuid=airflow", "--regid=airflow", "--init-groups"]
    # The environment itself, not the link, which may change while the program runs.
    assert called[3] == f"{airflow.values['VENVS']}/{VENV}/bin/airflow"


@pytest.mark.parametrize(
    "words",
    [
        "dags list --local",
        "dags list-import-errors",
        "dags report",
        "dags reserialize",
        "tasks list some",
        "tasks render some task 2026-01-01",
        "kubernetes generate-dag-yaml some",
        "dag-processor",
        "triggerer",
    ],
)
def test_a_command_that_reads_dags_has_the_rights_of_their_code(words: str, airflow: Host) -> None:
    (airflow.folder / "airflow-dags").mkdir()
    done = airflow.run("run", "airflow", *words.split())
    assert done.returncode == 0, done.stderr
    called = airflow.called("setpriv")[0]
    assert called[:3] == ["--reuid=airflow-dags", "--regid=airflow-dags", "--init-groups"]
    lines = (airflow.folder / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["AIRFLOW_HOME"] == f"{airflow.values['HOMES']}/airflow-dags"
    assert environment["KUBECONFIG"] == "/etc/airflow/kubeconfig-triggerer"
    assert environment.keys() & set(VARIABLES.values()) == {"AIRFLOW__CORE__FERNET_KEY"}


# Tells whether it could type into the terminal of who called it, and waits for Ctrl-C.
WAITS = """
import os, sys, time
try:
    try:
        os.open("/dev/tty", os.O_RDWR)
        print("has a terminal", flush=True)
    except OSError:
        os.write(1, f"none {sys.stdin.isatty()}".encode())
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(5)
"""


def test_code_of_dags_can_not_type_into_the_terminal_of_root() -> None:
    program = str(programs.LIB / "no-terminal.py")
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-I", program, sys.executable, "-c", WAITS])
    said = os.read(terminal, 1000).decode()
    assert said.startswith("none True")
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    os.close(terminal)


@pytest.mark.parametrize("option", ["-R", "--dag-regex", "--dag-re", "-yR", "-Ry"])
def test_clearing_runs_no_code_of_dags_with_the_keys(option: str, airflow: Host) -> None:
    done = airflow.run("run", "airflow", "tasks", "clear", "-y", option, "some")
    assert done.returncode == 1 and f"{option} would run the code of DAGs" in done.stderr
    assert airflow.called("setpriv") == []
    done = airflow.run("run", "airflow", "tasks", "clear", "-y", "-t", "some", "DAG-R")
    assert done.returncode == 0, done.stderr
    assert airflow.called("setpriv")[0][0] == "--reuid=airflow"


def test_a_second_airflow_is_refused(airflow: Host) -> None:
    done = airflow.run("run", "airflow", "standalone")
    assert done.returncode == 1 and "the services run already" in done.stderr
    assert airflow.called("airflow") == []


# In the place of Airflow: makes a database, or shows what a test finds in it.
TEST = """#!/usr/bin/python3
import os, sqlite3, sys
path = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///")
database = sqlite3.connect(path)
if sys.argv[1:] == ["db", "migrate"]:
    database.execute("create table connection (conn_id, password, port, is_encrypted)")
    database.execute("create table variable (key, val)")
    database.execute("create table slot_pool (pool, slots)")
    database.execute("insert into slot_pool values ('default_pool', 128)")
    database.commit()
    print("noise")
    sys.exit()
for table in ("connection", "variable", "slot_pool"):
    print(database.execute(f"select * from {table} order by 1").fetchall())
print(sys.argv[1:], os.environ["AIRFLOW__LOGGING__BASE_LOG_FOLDER"].startswith(f"{path[:-11]}/"))
print(path)
sys.exit(7)
"""
THERE = """
drop table if exists connection, variable, slot_pool;
create table connection (conn_id text, password text, port int, is_encrypted boolean);
create table variable (key text, val text);
create table slot_pool (pool text, slots int);
insert into connection values ('größe', 'g''"x', 5, true), ('none', null, null, false);
insert into slot_pool values ('default_pool', 9), ('own', 1);
"""


@pytest.mark.parametrize("words", ["dags test some", "tasks test some task"])
def test_a_test_has_a_database_of_its_own_with_the_objects_that_dags_use(
    words: str, airflow: Host, server: postgres.Server
) -> None:
    (airflow.folder / "airflow-dags").mkdir()
    program = Path(airflow.values["VENVS"], VENV, "bin/airflow")
    program.write_text(TEST)
    server.sql(THERE, "airflow")
    done = airflow.run("run", "airflow", *words.split())
    server.sql("drop table connection, variable, slot_pool", "airflow")
    assert done.returncode == 7, done.stderr
    *lines, path = done.stdout.splitlines()
    assert lines == [
        "[('größe', 'g\\'\"x', 5, 1), ('none', None, None, 0)]",
        "[]",
        "[('default_pool', 9), ('own', 1)]",
        f"{words.split()} True",
    ]
    assert not Path(path).parent.exists()
    assert airflow.called("setpriv")[0][:2] == ["--reuid=airflow-dags", "--regid=airflow-dags"]


def test_a_test_whose_database_can_not_be_made_says_why(airflow: Host) -> None:
    (airflow.folder / "airflow-dags").mkdir()
    program = Path(airflow.values["VENVS"], VENV, "bin/airflow")
    program.write_text("#!/bin/sh\necho no room; exit 3\n")
    done = airflow.run("run", "airflow", "dags", "test", "some")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "no room\n\n")


def test_a_test_takes_no_executor(airflow: Host) -> None:
    (airflow.folder / "airflow-dags").mkdir()
    done = airflow.run("run", "airflow", "dags", "test", "some", "--use-executor")
    assert done.returncode == 1 and "leave --use-executor out" in done.stderr
    assert airflow.called("airflow") == []


def test_commands_that_read_dags_reach_an_existing_database_as_their_role(airflow: Host) -> None:
    (airflow.folder / "airflow-dags").mkdir()
    url = "postgresql+psycopg2://team-dags@/team?host=db.example&port=5432"
    airflow.values["DAGS_URLS"] = f"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={url}"
    program = Path(airflow.values["VENVS"], VENV, "bin/airflow")
    program.write_text('#!/bin/sh\necho "$AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"\n')
    assert airflow.run("run", "airflow", "dags", "list").stdout == f"{url}\n"
    assert airflow.run("run", "airflow", "db", "check").stdout == "\n"


def test_only_root_can_run_a_program(airflow: Host) -> None:
    airflow.program("id", "echo 1000")
    done = airflow.run("run", "airflow", "version")
    assert done.returncode == 1 and "use sudo airflow" in done.stderr
    assert airflow.called("airflow") == []


def test_a_command_says_that_its_python_went_with_another_debian(airflow: Host) -> None:
    Path(airflow.values["VENVS"], VENV, "bin/python").symlink_to("/usr/bin/python3.gone")
    done = airflow.run("run", "airflow", "version")
    assert done.returncode == 1 and f"the Python of {airflow.values['VENVS']}" in done.stderr
    assert "deploy again" in done.stderr and airflow.called("airflow") == []


def test_the_command_has_no_option_that_only_logins_have(tmp_path: Path) -> None:
    logins = tmp_path / "environment"
    logins.write_text("AIRFLOW__CORE__EXECUTOR=x\nexport AIRFLOW__API__PORT=1\nLANG=C\n")
    command, run = tmp_path / "bin/airflow", tmp_path / "lib/airflow/run"
    for path, text in (
        (command, (programs.BIN / "airflow").read_text().replace("/etc/environment", str(logins))),
        (run, '#!/bin/sh\nenv | grep "^AIRFLOW__"; echo "$@"\n'),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    given = ("AIRFLOW__CORE__EXECUTOR=x", "AIRFLOW__API__PORT=1", "AIRFLOW__LOGGING__LEVEL=DEBUG")
    done = subprocess.run(
        ["env", *given, command, "version"], text=True, capture_output=True, check=True
    )
    assert done.stdout == "AIRFLOW__LOGGING__LEVEL=DEBUG\nairflow version\n"
    logins.unlink()
    subprocess.run([command], capture_output=True, check=True)


def test_the_command_is_the_one_of_the_venv(airflow: Host) -> None:
    done = airflow.run("../../bin/airflow", "dags", "trigger", "some")
    assert done.returncode == 0, done.stderr
    assert airflow.called("airflow") == [["dags", "trigger", "some"]]
    assert airflow.called("setpriv")[0][0] == "--reuid=airflow"


def test_a_schema_is_known_by_its_heads_and_the_venv(
    airflow: Host, server: postgres.Server
) -> None:
    migrated = Path(airflow.values["MIGRATED"])
    assert airflow.check("migrate.sh", VENV) == "the database has no schema yet"
    assert airflow.apply("migrate.sh", VENV) == ""
    assert migrated.read_text() == f"{VENV} new def\n"
    assert airflow.check("migrate.sh", VENV) == ""
    assert "not of 3.3.3-abc new def" in airflow.check("migrate.sh", "3.3.3-abc")
    server.sql("update alembic_version_fab set version_num = 'ghi'", "airflow")
    sentence = f"the schema is that of {VENV} new def, not of {VENV} new ghi"
    assert airflow.check("migrate.sh", VENV) == sentence
    server.sql("update alembic_version_fab set version_num = 'def'", "airflow")


def test_a_migration_that_fails_is_not_noted(airflow: Host) -> None:
    program = Path(airflow.values["VENVS"], VENV, "bin/airflow")
    program.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    assert airflow.apply("migrate.sh", VENV) == "broken"
    assert not Path(airflow.values["MIGRATED"]).exists()


def password_file(host: Host) -> str:
    """The file with the password of the web page's first user."""
    return f"{host.values['SECRETS']}/admin-password"


def test_the_first_users_password_is_in_no_argument(airflow: Host, server: postgres.Server) -> None:
    file = password_file(airflow)
    password = Path(file).read_text()
    words = ["admin", "Admin", file]
    assert airflow.check("user.sh", *words) == "the web page has no user admin"
    assert airflow.apply("user.sh", *words) == ""
    assert (airflow.folder / "answers").read_text() == password * 2
    assert password.strip() not in airflow.calls.read_text()
    (called,) = airflow.called("airflow")
    assert called[:4] == ["users", "create", "--role", "Admin"]
    assert called[-2:] == ["--username", "admin"]
    server.sql(
        "insert into ab_user values ('admin'); insert into ab_user_role values (1, 2)", "airflow"
    )
    assert airflow.check("user.sh", *words) == ""
    another = airflow.check("user.sh", "another", "Admin", file)
    assert another == "the web page has no user another"


def test_a_first_user_that_was_deleted_stays_so(airflow: Host, server: postgres.Server) -> None:
    words = ["admin", "Admin", password_file(airflow), f"{airflow.folder}/made"]
    # On a host that was deployed before there was a note.
    server.sql("insert into ab_user values ('admin')", "airflow")
    assert "does not say that admin was made" in airflow.check("user.sh", *words)
    assert airflow.apply("user.sh", *words) == ""
    assert airflow.called("airflow") == [] and airflow.check("user.sh", *words) == ""
    server.sql("truncate ab_user", "airflow")
    assert airflow.check("user.sh", *words) == ""
    assert airflow.apply("user.sh", *words) == ""
    assert airflow.called("airflow") == []
    words[0] = "adm"  # a name within another one is not that one
    assert airflow.check("user.sh", *words) == "the web page has no user adm"
    assert airflow.apply("user.sh", *words) == ""
    assert [each[:2] for each in airflow.called("airflow")] == [["users", "create"]]
    assert airflow.check("user.sh", *words) == ""


@pytest.mark.parametrize("verb", ["apply", "renew"])
@pytest.mark.parametrize("is_there", [True, False])
def test_an_own_user_is_made_again(
    airflow: Host, server: postgres.Server, is_there: bool, verb: str
) -> None:
    if is_there:
        server.sql("insert into ab_user values ('tester')", "airflow")
    file = Path(airflow.values["SECRETS"], "smoke-test-password")
    done = airflow.run("user.sh", verb, "tester", "User", str(file))
    assert done.returncode == 0, done.stderr
    *deleted, made = airflow.called("airflow")
    assert deleted == [["users", "delete", "--username", "tester"]] * is_there
    assert made[:4] == ["users", "create", "--role", "User"]
    assert made[-2:] == ["--username", "tester"]
    assert (airflow.folder / "answers").read_text().endswith(file.read_text() * 2)


@pytest.mark.parametrize(
    ("change", "is_now"),
    [
        ("insert into ab_user_role values (1, 2)", "active Admin,User"),
        ("delete from ab_user_role", "active without a role"),
        ("update ab_user_role set role_id = 2", "active Admin"),
        ("update ab_user set active = false", "inactive User"),
    ],
)
def test_an_own_user_that_somebody_changed_is_noticed(
    airflow: Host, server: postgres.Server, change: str, is_now: str
) -> None:
    words = ["tester", "User", password_file(airflow)]
    server.sql(
        "insert into ab_user values ('tester'); insert into ab_user_role values (1, 1)", "airflow"
    )
    assert airflow.check("user.sh", *words) == ""
    # A person's user may be so.
    made = f"{airflow.folder}/made"
    Path(made).write_text("tester\n")
    server.sql(change, "airflow")
    sentence = f"the user tester is {is_now}: it should be active User"
    assert airflow.check("user.sh", *words) == sentence
    assert airflow.check("user.sh", *words, made) == ""

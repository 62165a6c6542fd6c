"""The programs that make services of the host run: the commands that they give, and their order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tasks.layout import ROOT
from tasks.settings import Settings
from tests.unit import fake, postgres, programs, stand_ins

PROGRAMS = ROOT / "files/usr/local/lib/airflow"
URL = "https://127.0.0.1:8443/"
SITE = "0.0.0.0:8081,*:443"

# Each stub writes its name and arguments to a file, and ends as the test says.
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
{cases}
esac
"""


def run(tmp_path: Path, cases: str, *command: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a program with stubs, which act by the cases; return its end and the calls of stubs."""
    folder, calls, values = tmp_path / "bin", tmp_path / "calls", tmp_path / "host.env"
    folder.mkdir(exist_ok=True)
    calls.write_text("")
    values.write_text("STARTED_WITH=/run/airflow\n")
    for name in ("systemctl", "nginx", "curl", "sha256sum", "runuser", "journalctl", "sleep", "ss"):
        (folder / name).write_text(STUB.format(cases=cases))
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "AIRFLOW_HOST_ENV": str(values),
            "POSTGRES_CONFIG": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text()


ACTIVE = '"systemctl is-active "*) echo active ;;'
ARGUMENTS = {"nginx.sh": f"{SITE} {URL}", "metrics.sh": "9187", "postgres.sh": "15"}


@pytest.mark.parametrize("program", ARGUMENTS)
@pytest.mark.parametrize("arguments", [(), ("check",), ("make", "15")])
def test_a_wrong_call_shows_the_usage(
    program: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done, calls = run(tmp_path, "", program, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"usage: {program}")
    assert not calls


def test_each_program_shows_the_usage_of_the_comment_at_its_top(tmp_path: Path) -> None:
    environment = programs.host_env(tmp_path, fake.settings()) | {"PATH": "/usr/bin:/bin"}
    callers = [
        path
        for path in PROGRAMS.glob("*.sh")
        # The last one is called without arguments.
        if re.search(r"(\|\||\)) usage\b", path.read_text()) and path.name != "watch-node.sh"
    ]
    assert len(callers) > 20
    for path in callers:
        done = subprocess.run([path], env=environment, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), path.name
        lines = done.stderr.splitlines()
        assert lines and all(line.startswith(f"usage: {path.name} ") for line in lines), done.stderr


def test_a_new_file_takes_its_place_by_the_function_that_syncs_it() -> None:
    """Otherwise it may be empty after a loss of power."""
    pattern = re.compile(r"\bmv(?: -\w+)* \S+\.new\b")
    found = {path.name for path in PROGRAMS.glob("*.sh") if pattern.search(path.read_text())}
    assert found == {"lib.sh", "dags-switch.sh"}  # the latter has a link, which has no content
    # Those in Python have `put`. The others write a note, or files of a folder for their work.
    paths = [*PROGRAMS.glob("*.py"), *programs.BIN.iterdir()]
    found = {path.name for path in paths if ".write_text(" in path.read_text()}
    assert found == {"airflow-restore", "commands.py", "host-certificate.py", "pod-policy.py"}


# These read, and change nothing by it.
READERS = (
    "awk",
    "basename",
    "cat",
    "dirname",
    "grep",
    "id",
    "paste",
    "readlink",
    "sed",
    "sort",
    "tr",
    "wc",
)


def test_each_program_refuses_other_words_before_it_does_anything(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in READERS:
        (folder / name).symlink_to(f"/usr/bin/{name}")
    # A call of any other program would add a line to the error.
    environment = programs.host_env(tmp_path, fake.settings()) | {"PATH": str(folder)}
    synopsis = re.compile(r"^# (\S+\.sh) check\|apply\b([^:]*):", re.M)
    calls = [
        (path, re.sub(r"\[.*", "", of[2]).split(), not re.search(r"\[|\.\.\.", of[2]))
        for path in sorted(PROGRAMS.glob("*.sh"))
        if (of := synopsis.search(path.read_text())) and of[1] == path.name
    ]
    assert len(calls) > 30
    for path, words, counted in calls:
        arguments = [word.partition("|")[0].removesuffix("...") for word in words]
        wrong = [["remake", *arguments], ["", *arguments], ["remake"], []]
        wrong += [[action, *arguments, "more"] for action in ("check", "apply") if counted]
        # Words in small letters stand for themselves.
        wrong += [
            [action, *arguments[:place], "other", *arguments[place + 1 :]]
            for action in ("check", "apply")
            for place, word in enumerate(words)
            if word.islower()
        ]
        for command in wrong:
            done = subprocess.run(
                [path, *command], env=environment, text=True, capture_output=True, check=False
            )
            called = f"{path.name} {command}: {done.stderr}"
            assert (done.returncode, done.stdout) == (2, ""), called
            lines = done.stderr.splitlines()
            assert lines and all(each.startswith(f"usage: {path.name} ") for each in lines), called


@pytest.mark.parametrize("call", [("secrets.sh", "new", "other"), ("lost-secret.sh", "other")])
def test_a_secret_that_nobody_knows_is_a_wrong_call(call: tuple[str, ...], tmp_path: Path) -> None:
    environment = programs.host_env(tmp_path, fake.settings()) | {"PATH": "/usr/bin:/bin"}
    command = [str(PROGRAMS / call[0]), *call[1:]]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {call[0]}")


def test_a_site_with_an_error_is_not_loaded(tmp_path: Path) -> None:
    done, calls = run(tmp_path, '"nginx -t -q") exit 1 ;;', "nginx.sh", "apply", SITE, URL)
    assert done.returncode == 1
    assert calls == "nginx -t -q\n"


def test_nginx_that_does_not_serve_its_site_is_an_error(tmp_path: Path) -> None:
    done, calls = run(tmp_path, '"curl "*) echo 000; exit 7 ;;', "nginx.sh", "apply", SITE, URL)
    assert done.returncode == 1 and "does not serve its site" in done.stderr
    assert "systemctl reload-or-restart nginx.service" in calls


@pytest.mark.parametrize(("code", "status"), [("404", 0), ("200", 1)])
def test_the_check_asks_nginx_itself(code: str, status: int, tmp_path: Path) -> None:
    done, calls = run(
        tmp_path, f'{ACTIVE}\n"curl "*) echo {code} ;;', "nginx.sh", "check", SITE, URL
    )
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == status
    assert "reload" not in calls


@pytest.mark.parametrize(
    ("there", "moved"),
    [
        ("", ""),
        ("0.0.0.0:8081 *:443 127.0.0.1:1443", ""),
        ("0.0.0.0:8081 0.0.0.0:443", "*:443"),
        ("10.0.0.5:8081 [::]:443", "0.0.0.0:8081,*:443"),
        ("0.0.0.0:8081", ""),
    ],
)
def test_another_address_needs_a_restart_of_nginx(there: str, moved: str, tmp_path: Path) -> None:
    """A reload would fail in silence, since the port is taken: seen with nginx 1.22."""
    lines = "\\n".join(f"LISTEN 0 511 {each} 0.0.0.0:*" for each in there.split())
    listens = f"printf '{lines}\\n'"
    cases = f'{ACTIVE}\n"curl "*) echo 404 ;;\n"ss "*) {listens} ;;'
    done, calls = run(tmp_path, cases, "nginx.sh", "check", SITE, URL)
    assert done.returncode == (1 if moved else 0)
    assert done.stderr == (f"nginx does not listen at {moved}\n" if moved else "")
    # It listens there from its restart on.
    restarted = tmp_path / "restarted"
    after = f"test -e {restarted} || {listens}"
    cases = (
        f'"systemctl restart "*) touch {restarted} ;;\n"curl "*) echo 404 ;;\n"ss "*) {after} ;;'
    )
    done, calls = run(tmp_path, cases, "nginx.sh", "apply", SITE, URL)
    assert done.returncode == 0
    assert ("systemctl restart nginx.service" in calls) == bool(moved)
    assert ("systemctl reload-or-restart nginx.service" in calls) != bool(moved)


def test_an_address_that_nginx_never_takes_is_named(tmp_path: Path) -> None:
    taken = "printf 'LISTEN 0 511 192.0.2.7:443 0.0.0.0:*\\n'"
    cases = f'"curl "*) echo 404 ;;\n"ss "*) {taken} ;;'
    done, _ = run(tmp_path, cases, "nginx.sh", "apply", SITE, URL)
    assert done.returncode == 1
    missing = ",".join(each for each in SITE.split(",") if each.endswith(":443"))
    assert f"nginx does not listen at {missing}: look at journalctl" in done.stderr


@pytest.mark.parametrize("program", ["nginx.sh", "metrics.sh"])
@pytest.mark.parametrize(
    ("cases", "difference"),
    [
        ('"systemctl is-enabled "*) exit 1 ;;', "is not enabled"),
        ('"systemctl is-active "*) echo failed ;;', "is failed"),
        (f'{ACTIVE}\n"sha256sum "*) echo "/a: FAILED"; exit 1 ;;', "inputs changed: /a: FAILED"),
    ],
)
def test_the_check_says_why_a_service_does_not_run_as_it_should(
    cases: str, difference: str, program: str, tmp_path: Path
) -> None:
    done, calls = run(tmp_path, cases, program, "check", *ARGUMENTS[program].split())
    assert done.returncode == 1 and difference in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "restart" not in calls


def test_an_exporter_that_does_not_answer_shows_its_journal(tmp_path: Path) -> None:
    cases = '"curl "*) exit 7 ;;\n"journalctl "*) echo broken ;;'
    done, _ = run(tmp_path, cases, "metrics.sh", "apply", "9187")
    assert done.returncode == 1 and "broken" in done.stderr


def test_a_port_that_is_held_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    cases = f'"systemctl start "*.socket) test -e {tried} || {{ touch {tried}; exit 1; }} ;;'
    done, calls = run(tmp_path, cases, "metrics.sh", "apply", "9187")
    assert done.returncode == 0
    started = [line.rpartition(".")[2] for line in calls.splitlines() if " start " in line]
    assert started == ["socket", "socket", "service"]


REFUSED = "*pg_hba_file_rules*) {} ;;"  # PostgreSQL's answer about lines that it refuses


@pytest.mark.parametrize(("waiting", "restarts"), [(0, 0), (1, 1)])
def test_postgresql_restarts_only_for_an_option(
    waiting: int, restarts: int, tmp_path: Path
) -> None:
    (tmp_path / "15/main/conf.d").mkdir(parents=True)
    (tmp_path / "15/main/conf.d/airflow.conf").touch()
    (tmp_path / "15/main/pg_hba.conf").touch()
    cases = (
        f"{REFUSED.format('')}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo {waiting} ;;"
    )
    done, calls = run(tmp_path, cases, "postgres.sh", "apply", "15")
    assert done.returncode == 0
    assert calls.count("systemctl restart postgresql@15-main") == restarts
    done, calls = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == waiting and "systemctl" not in calls
    assert len(done.stderr.splitlines()) == waiting


@pytest.mark.parametrize("fails", ["systemctl restart", "systemctl reload", "refused"])
def test_files_that_postgresql_can_not_work_with_are_put_back(fails: str, tmp_path: Path) -> None:
    folder = tmp_path / "15/main"
    (folder / "conf.d").mkdir(parents=True)
    files = folder / "conf.d/airflow.conf", folder / "pg_hba.conf"
    for file in files:
        file.write_text("new")
        Path(f"{file}.before").write_text("before")
    refused = "echo airflow.conf line 3: it is no number" if fails == "refused" else ""
    cases = (
        f"{REFUSED.format(refused)}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo 1 ;;\n"
        f'"{fails}"*) test -e {files[0]}.before && exit 1 ;;'
    )
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == 1
    done, calls = run(tmp_path, cases, "postgres.sh", "apply", "15")
    assert done.returncode == 1 and "the earlier ones are back" in done.stderr
    assert refused.removeprefix("echo ") in done.stderr
    assert [file.read_text() for file in files] == ["before"] * 2
    assert calls.splitlines()[-1] == "systemctl reload-or-restart postgresql@15-main"


def test_once_postgresql_works_with_its_files_those_of_before_go(tmp_path: Path) -> None:
    (tmp_path / "15/main/conf.d").mkdir(parents=True)
    for name in ("conf.d/airflow.conf", "conf.d/airflow.conf.before", "pg_hba.conf"):
        (tmp_path / "15/main" / name).touch()
    cases = f"{REFUSED.format('')}\n*conf_load_time*) echo t ;;\n*pending_restart*) echo 0 ;;"
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert done.returncode == 1 and "has not started with its new files" in done.stderr
    assert run(tmp_path, cases, "postgres.sh", "apply", "15")[0].returncode == 0
    done, _ = run(tmp_path, cases, "postgres.sh", "check", "15")
    assert (done.returncode, done.stderr) == (0, "")


LSCLUSTERS = """#!/bin/sh
echo "pg_lsclusters $*" >> "$CALLS"
cat "$CLUSTERS" 2>/dev/null || true
"""


def cluster(
    tmp_path: Path, verb: str, clusters: str, port: str = "5432"
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the program of the cluster where pg_lsclusters lists these; returns calls beside it."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir(exist_ok=True)
    calls.write_text("")
    (tmp_path / "clusters").write_text(clusters)
    for name in ("pg_createcluster", "pg_conftool", "systemctl"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n')
    (folder / "pg_lsclusters").write_text(LSCLUSTERS)
    for path in folder.iterdir():
        path.chmod(0o755)
    done = subprocess.run(
        [PROGRAMS / "postgres-cluster.sh", verb, "15", port],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "CLUSTERS": str(tmp_path / "clusters"),
            "POSTGRES_CONFIG": str(tmp_path / "postgresql"),
            **programs.host_env(
                tmp_path, fake.settings(), {"POSTGRES_CLUSTER": tmp_path / "postgres-cluster"}
            ),
        },
        capture_output=True,
        text=True,
    )
    said = [line for line in calls.read_text().splitlines() if "pg_lsclusters" not in line]
    return done, said


OLD = "15 old 5432 online postgres /var/lib/postgresql/15/old /var/log/old.log\n"
MAIN = "15 main 5433 online postgres /var/lib/postgresql/15/main /var/log/main.log\n"


def test_the_cluster_main_is_made_where_the_package_made_none(tmp_path: Path) -> None:
    """Also where a deploy of before left a folder that is no cluster's."""
    left = tmp_path / "postgresql/15/main"
    (left / "conf.d").mkdir(parents=True)
    (left / "conf.d/airflow.conf").touch()
    (left / "pg_hba.conf").touch()
    done, calls = cluster(tmp_path, "check", OLD, "5433")
    assert done.returncode == 1 and "there is no cluster 15/main" in done.stderr and not calls
    done, calls = cluster(tmp_path, "apply", OLD, "5433")
    assert done.returncode == 0, done.stderr
    assert calls == ["pg_createcluster --port 5433 --encoding UTF8 --locale C.UTF-8 15 main"]
    assert not left.exists()
    assert (tmp_path / "postgres-cluster").read_text() == "15/main\n"  # for the removal


def test_the_cluster_main_has_the_port_that_all_is_told(tmp_path: Path) -> None:
    assert cluster(tmp_path, "check", OLD + MAIN, "5433")[0].returncode == 0
    done, _ = cluster(tmp_path, "check", OLD + MAIN, "5434")
    assert done.returncode == 1 and "port 5433, not 5434" in done.stderr
    _, calls = cluster(tmp_path, "apply", OLD + MAIN, "5434")
    assert calls == [
        "pg_conftool 15 main set port 5434",
        "systemctl try-restart postgresql@15-main",
    ]
    assert cluster(tmp_path, "apply", OLD + MAIN, "5433")[1] == []


@pytest.mark.parametrize("older", [False, True])
def test_the_removal_gets_postgresqls_own_file_also_after_an_upgrade(
    older: bool, tmp_path: Path
) -> None:
    """pg_upgradecluster brings the deploy's file to the new cluster, and leaves the other one."""
    there = tmp_path / "17/main"
    there.mkdir(parents=True)
    (there / "pg_hba.conf").write_text("the deploy's" if older else "its own")
    if older:
        (tmp_path / "15/main").mkdir(parents=True)
        (tmp_path / "15/main/pg_hba.conf").write_text("the deploy's")
        (tmp_path / "15/main/pg_hba.conf.before-airflow").write_text("its own")
    settings = Settings.from_data({}).for_release("trixie", (17, 5432))
    for command in fake.plan(settings).named("Keep PostgreSQL's own").commands:
        text = command.replace("/etc/postgresql", str(tmp_path))
        subprocess.run(["sh", "-ec", text.rpartition("\n")[2]], check=True)
    assert (there / "pg_hba.conf.before-airflow").read_text() == "its own"


def test_everything_is_told_the_same_cluster() -> None:
    settings = Settings.from_data(fake.VARIANTS["metrics"]).for_release("trixie", (15, 5433))
    plan = fake.plan(settings)
    config = plan.uploads["/etc/airflow/airflow.cfg"]
    assert config.count("?host=/var/run/postgresql&port=5433\n") == 2
    values = plan.uploads["/etc/airflow/host.env"]
    assert "\nPGCLUSTER=15/main\n" in values and "\nDATABASE_PORT=5433\n" in values
    (drop_in,) = [text for path, text in plan.uploads.items() if "exporter.service.d/air" in path]
    assert " port=5433 " in drop_in
    assert settings.environment == {"PGCLUSTER": "15/main"}
    (packages,) = plan.named("Install Debian packages").commands
    assert " postgresql-15 " in packages and "postgresql-17" not in packages
    made = plan.named("Create the PostgreSQL cluster").commands
    assert made == ["/usr/local/lib/airflow/postgres-cluster.sh apply 15 5433"]


SETTINGS = "select pg_get_userbyid(setrole), setdatabase, setconfig from pg_db_role_setting"


def assert_silent(server: postgres.Server, role: str) -> None:
    """What a role does is not in the server's log."""
    # psql shows each error, and goes on.
    ask = ["psql", "-XAtq", "-U", role, "postgres"]
    loud = "log_min_messages = debug1"
    statements = [
        f"set {loud}",
        f'alter role "{role}" set {loud}',
        f'alter role "{role}" reset log_min_messages',
        f'alter role "{role}" reset all',
        "do $$ begin raise log 'long %', repeat('x', 1 << 20); end $$",
        "do $$ begin raise 'long %', repeat('x', 1 << 20); end $$",
    ]
    before = (server.folder / "log").stat().st_size
    for each in statements:
        subprocess.run(ask, input=each, env=server.environment, text=True, capture_output=True)
    assert (server.folder / "log").stat().st_size == before


@pytest.mark.parametrize(("kind", "name"), [("role", "airflow-dags"), ("database", "airflow")])
def test_roles_and_the_database_are_made_once(kind: str, name: str, tmp_path: Path) -> None:
    with postgres.server() as server:
        host = stand_ins.Host(tmp_path)
        given = " ".join(f"{key}={value}" for key, value in server.environment.items())
        host.program("runuser", f'shift 3\nexec env {given} "$@"')
        server.sql("create role airflow login")
        words = ("postgres-make.sh", kind, name)
        assert host.check(*words) == f"the PostgreSQL cluster 15/main has no {kind} {name}"
        assert host.apply(*words) == ""
        assert host.check(*words) == "" and host.apply(*words) == ""
        owners = "select datname || ' ' || rolname || ' ' || datcollate from pg_database d"
        owners += " join pg_roles r on r.oid = datdba where datname = 'airflow'"
        assert server.sql(owners) == ("airflow airflow C.UTF-8" if kind == "database" else "")
        logins = server.sql("select rolname from pg_roles where rolcanlogin and not rolsuper")
        assert logins.split() == (["airflow", name] if kind == "role" else ["airflow"])
        if kind == "role":
            said = f"the connection limit of the role {name} is not 30"
            assert host.check(*words, "30") == said
            assert host.apply(*words, "30") == host.check(*words, "30") == ""
            limit = f"select rolconnlimit from pg_roles where rolname = '{name}'"
            assert server.sql(limit) == "30"
            assert server.sql(SETTINGS) == "airflow-dags|0|{log_min_messages=fatal}"
            # The role may do this itself, and then no session of it begins.
            for place in ("", " in database postgres"):
                own = f'alter role "{name}"{place} set local_preload_libraries = nothing'
                server.sql(f'set role "{name}"; {own}')
            said = f"the role {name} has other settings than log_min_messages=fatal"
            assert host.check(*words) == "" and host.check(*words, "30") == said
            assert host.apply(*words, "30") == host.check(*words, "30") == ""
            assert server.sql(SETTINGS) == "airflow-dags|0|{log_min_messages=fatal}"
            assert_silent(server, name)
    # A server that does not run is no reason to fail while the deploy is planned.
    assert host.check(*words) == f"the PostgreSQL cluster 15/main has no {kind} {name}"
    assert "15/main does not answer" in host.apply(*words)

"""The plugin that opens log files, with pipes, links and large files where logs should be."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import jinja2
import pytest

from tasks.worker import logs
from tests.unit import fake, formats
from tests.unit.fake import FILES

MODULES = FILES / "usr/local/lib/airflow/python"
NAME = "attempt=1.log"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, imported from its folder as Airflow's processes do."""
    monkeypatch.syspath_prepend(str(MODULES))
    with mock.patch.dict(sys.modules):  # other tests import it with modules of their own
        yield importlib.import_module("airflow_deploy_logs")


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A test that waits for a pipe fails."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of logs, and something beside it."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "logs/run").mkdir(parents=True)
    return tmp_path / "logs"


def read(plugin: Any, folder: Path) -> tuple[list[str], list[list[str]]]:
    """The log of an attempt as the page gets it: the files, and their lines."""
    handler = SimpleNamespace(local_base=str(folder))
    sources, streams = plugin.read_from_local(handler, folder / "run" / NAME)
    return [Path(each).name for each in sources], [list(each) for each in streams]


def test_files_and_links_among_the_logs_are_read(plugin: Any, folder: Path) -> None:
    (folder / "run" / NAME).write_bytes("one\nzwei ü\n".encode() + b"\xff no text")
    (folder / "inside").write_text("a line\n")
    (folder / "run" / f"{NAME}.link").symlink_to(folder / "inside")
    assert read(plugin, folder) == (
        [NAME, f"{NAME}.link"],
        [["one", "zwei ü", "\N{REPLACEMENT CHARACTER} no text"], ["a line"]],
    )


def test_nothing_else_is_read_and_nothing_waits(plugin: Any, folder: Path) -> None:
    run = folder / "run"
    os.mkfifo(run / NAME)
    os.mkfifo(folder / "pipe")
    (run / f"{NAME}.1").symlink_to(folder / "pipe")
    (run / f"{NAME}.2").symlink_to(folder.parent / "secret")
    (run / f"{NAME}.3").mkdir()
    (run / f"{NAME}.4").symlink_to("/dev/zero")
    (run / f"{NAME}.5").symlink_to(run / f"{NAME}.5")
    assert read(plugin, folder) == ([], [])


def test_of_very_many_files_some_are_read(
    plugin: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looked_at = folder / "run", []
    scandir = os.scandir

    class Folder:
        def __init__(self, path: Path) -> None:
            self.found = scandir(path)

        def __enter__(self) -> Iterator[Any]:
            for each in self.found:
                looked_at.append(each)
                yield each

        def __exit__(self, *_: object) -> None:
            self.found.close()

    monkeypatch.setattr(os, "scandir", Folder)
    monkeypatch.setattr(plugin, "MOST_NAMES", 200)
    for number in range(300):
        (run / f"{NAME}.{number}").touch()
    (run / "attempt=2.log").touch()
    (run / NAME).write_text("the log\n")
    names, (first, *_) = read(plugin, folder)
    assert names[0] == NAME and first == ["the log"]
    assert names == sorted(names) and len(names) == plugin.MOST_FILES
    assert len(looked_at) == 200
    assert plugin.files_of(folder / "absent" / NAME) == [folder / "absent" / NAME]


def test_a_file_that_is_too_long_is_shown_at_both_ends(
    plugin: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "SHOWN", 1 << 20)
    log = folder / "run" / NAME
    log.write_text("first\n" + "x" * (5 << 20) + "\nlast\n")
    _, (lines,) = read(plugin, folder)
    assert lines[0] == "first" and lines[-1] == "last"
    assert any("3 MiB are left out here" in line and str(log) in line for line in lines)
    assert sum(map(len, lines)) < 3 << 20


def test_a_line_without_an_end_takes_no_memory(plugin: Any, folder: Path) -> None:
    with (folder / "run" / NAME).open("w") as file:
        file.truncate(3 << 30)
    handler = SimpleNamespace(local_base=str(folder))
    _, (stream,) = plugin.read_from_local(handler, folder / "run" / NAME)
    tracemalloc.start()
    assert sum(len(line) for line in stream) < 2 * plugin.SHOWN + 1000
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


# Writing


class FileTaskHandler:
    """A stand-in of Airflow's, with the parameters that it has in 3.3.2."""

    def _read_from_local(self, worker_log_path: Path) -> None: ...

    def _read_from_logs_server(self, ti: object, worker_log_rel_path: str) -> None: ...


class OtherHandler:
    """A stand-in of that of another version."""

    def _read_from_local(self, worker_log_path: Path, more: object) -> None: ...


@pytest.fixture
def airflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The contents of stand-ins of Airflow's modules, which can be imported."""

    def made(local_relative_path: str) -> Path:
        found = folder / local_relative_path
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    modules: dict[str, dict[str, Any]] = {
        "airflow": {},
        "airflow.configuration": {"conf": SimpleNamespace(get=lambda *_: str(folder))},
        "airflow.sdk": {},
        "airflow.sdk.log": {"init_log_file": made},
        "airflow.utils": {},
        "airflow.utils.log": {},
        "airflow.utils.log.file_task_handler": {
            "FileTaskHandler": type("FileTaskHandler", (), dict(vars(FileTaskHandler)))
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    log = sys.modules["airflow.sdk.log"]
    monkeypatch.setattr(sys.modules["airflow.sdk"], "log", log, raising=False)
    return {name: vars(sys.modules[name]) for name in modules}


@pytest.fixture
def init_log_file(plugin: Any, airflow: dict[str, dict[str, Any]]) -> Any:
    """Airflow's function as the plugin leaves it."""
    plugin.install()
    handler = airflow["airflow.utils.log.file_task_handler"]["FileTaskHandler"]
    assert handler._read_from_local is plugin.read_from_local
    assert handler._read_from_logs_server(None, None, "x") == ([], [])
    return airflow["airflow.sdk.log"]["init_log_file"]


def test_another_version_keeps_its_own_functions(
    plugin: Any, airflow: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    airflow["airflow.utils.log.file_task_handler"]["FileTaskHandler"] = OtherHandler
    own = OtherHandler._read_from_local
    plugin.install()
    assert OtherHandler._read_from_local is own
    assert not hasattr(OtherHandler, "_read_from_logs_server")
    assert caplog.messages == [
        f"This version of Airflow has no {name} as 3.3.2 has it. Pipes and links among the logs may"
        " stop a service until the deploy knows this version."
        for name in ("_read_from_local", "_read_from_logs_server")
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_a_log_is_written(inside: bool, init_log_file: Any, folder: Path, tmp_path: Path) -> None:
    path = f"run/{NAME}" if inside else str(tmp_path / "dag_processor/file.py.log")
    for mode, expected in (("ab", "one"), ("ab", "oneone"), ("wb", "one")):
        with init_log_file(path).open(mode) as file:
            file.write(b"one")
        assert (folder / path).read_text() == expected


@pytest.mark.parametrize("mode", ["ab", "wb"])
@pytest.mark.parametrize("planted", ["pipe", "link", "folder", "linked folder", "socket"])
def test_a_file_in_the_place_of_the_log_costs_the_log_only(
    planted: str, mode: str, init_log_file: Any, folder: Path
) -> None:
    log, secret = folder / "run" / NAME, folder.parent / "secret"
    if planted == "pipe":
        os.mkfifo(log)
    elif planted == "link":
        log.symlink_to(secret)
    elif planted == "folder":
        log.mkdir()
    elif planted == "socket":
        os.mknod(log, 0o140600)
    else:
        (folder.parent / NAME).write_text("hunter2")
        (folder / "run").rmdir()
        (folder / "run").symlink_to(folder.parent)
    with init_log_file(f"run/{NAME}").open(mode) as file:
        assert file.write(b"one") == 3
    assert secret.read_text() == "hunter2"
    if planted == "linked folder":
        assert (folder.parent / NAME).read_text() == "hunter2"


# Names


# log_filename_template of Airflow 3.3.2.
AIRFLOWS_OWN = (
    "dag_id={{ ti.dag_id }}/run_id={{ ti.run_id }}/task_id={{ ti.task_id }}/"
    "{% if ti.map_index >= 0 %}map_index={{ ti.map_index }}/{% endif %}"
    "attempt={{ try_number|default(ti.try_number) }}.log"
)


def log_of(ids: str, map_index: int = -1, template: str = logs.FILE) -> str:
    """The name of a log, as airflow/utils/helpers.py renders it."""
    ti = SimpleNamespace(dag_id=ids, run_id=ids, task_id=ids, map_index=map_index, try_number=2)
    return str(jinja2.Template(template).render(ti=ti))


@pytest.mark.parametrize("ids", ["a", "b" * 247, "c.d-e_f", "ü" * 123])
def test_a_log_has_the_name_that_airflow_gives_it(ids: str) -> None:
    for index in (-1, 0):
        assert log_of(ids, index) == log_of(ids, index, AIRFLOWS_OWN)


@pytest.mark.parametrize("letter", ["a", "ü", "漢", "😀"])
def test_a_log_of_long_ids_fits_into_a_file_system(letter: str, tmp_path: Path) -> None:
    """Airflow allows ids of 250 characters, and a name of a file has at most 255 bytes."""
    names = {log_of(letter * length, 7) for length in range(248, 251)}
    assert len(names) == 3
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        assert name.replace("/", "").count(letter * 248) == 3  # it shows the ids
    with pytest.raises(OSError, match="name too long"):
        (tmp_path / log_of(letter * 250, template=AIRFLOWS_OWN)).parent.mkdir(parents=True)


def test_the_scheduler_has_these_names_and_pods_are_told_them() -> None:
    plan = fake.plan(fake.settings())
    assert formats.config_of(plan)["logging"]["log_filename_template"] == logs.FILE
    assert "LOG_FILENAME_TEMPLATE" not in str(formats.pod(plan))

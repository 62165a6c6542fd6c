"""The folder of this machine whose DAGs the deploy copies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyinfra.api import DeployError

from tasks.lib import progress
from tasks.worker import dags
from tests.unit import fake


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.py", b"x\r.py", b"x\n.py", b"a\\b.py", b"\x1b[2J.py", b"a.py.airflow-deploy-new"],
)
def test_a_file_that_can_not_be_copied_is_named(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.py").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    with pytest.raises(DeployError) as error:
        dags.given(fake.settings({"dags_local_folder": str(tmp_path)}))
    sentence = str(error.value)
    assert sentence.startswith("dags_local_folder: rename") and sentence.isprintable()
    assert sentence.isascii()


LOGINS = (".env", ".env.prod", ".netrc", "team/.aws/credentials", "team/.ssh/id_ed25519")
OTHERS = ("one.py", ".airflowignore", "team/.sqlfluff", "team/environment.env", "mün chen.py")


def test_logins_stay_on_this_machine_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "print_at_end", lambda words, **_: said.append(words))
    for name in (*LOGINS, *OTHERS, ".git/config", "__pycache__/one.pyc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s3cret")
    settings = fake.settings({"dags_local_folder": str(tmp_path)})
    assert dags.given(settings).keys() == set(OTHERS)
    uploads = fake.plan(settings).uploads
    copied = {path for path in uploads if path.startswith("/opt/airflow/dags/")}
    assert {f"/opt/airflow/dags/{name}" for name in OTHERS} <= copied
    assert not copied & {f"/opt/airflow/dags/{name}" for name in LOGINS}
    (sentence,) = (each for each in said if "dags_local_folder" in each)
    assert sentence.startswith("'.env' and 4 more of dags_local_folder")


def test_a_folder_below_one_that_is_left_out_is_copied(tmp_path: Path) -> None:
    folder = tmp_path / ".git/.env/dags"
    folder.mkdir(parents=True)
    (folder / "one.py").touch()
    assert dags.given(fake.settings({"dags_local_folder": str(folder)})).keys() == {"one.py"}

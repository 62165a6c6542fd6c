"""Users and roles of the web page: what the inventory may have, and the half of root."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import DeployError

from tasks.layout import USERS
from tasks.settings import Settings
from tests.unit import fake
from tests.unit.stand_ins import Host

ADA: dict[str, Any] = {"roles": ["Viewer"]}
# Keeps what it is given, and ends as the test wants.
RUN = """#!/bin/sh
echo "$@" >> {folder}/arguments
cat > {folder}/given
exit "$(cat {folder}/status)"
"""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"web_users": {"ada": {"roles": ["Viewr"]}}}, "the role Viewr, which does not exist"),
        ({"web_users": {"ada": {"roles": []}}}, "web_users.ada.roles"),
        ({"web_users": {"Ada": ADA}}, "web_users"),
        ({"web_users": {"../ada": ADA}}, "web_users"),
        ({"web_users": {"ada": {**ADA, "password": ""}}}, "web_users.ada.password"),
        ({"web_users": {"admin": ADA}}, "admin is web_admin_user"),
        ({"web_users": {"ada": ADA}, "web_admin_user": "ada"}, "ada is web_admin_user"),
        ({"web_users": {"airflow-smoke-test": ADA}}, "the smoke test's own user"),
        ({"web_roles": {"Viewer": {"DAGs": ["edit"]}}}, "web_roles: Viewer is Airflow's own"),
        ({"web_roles": {"team": {"DAGs": ["write"]}}}, "web_roles.team.DAGs.0"),
    ],
)
def test_what_can_not_work_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DeployError) as refused:
        Settings.from_data(given)
    assert sentence in str(refused.value)


def test_a_role_of_the_inventory_is_known() -> None:
    given = {"web_roles": {"team": {"DAGs": ["read"]}}, "web_users": {"ada": {"roles": ["team"]}}}
    assert Settings.from_data(given).web.users["ada"].roles == ["team"]


def test_no_password_is_in_a_command_or_a_name() -> None:
    plan = fake.plan(fake.settings({"web_users": {"ada": {**ADA, "password": "s3cret-word"}}}))
    (text,) = plan.named(f"Write {USERS}").inputs
    assert json.loads(text)["users"]["ada"]["password"] == "s3cret-word"
    for operation in plan.operations:
        assert "s3cret-word" not in str((operation.name, operation.commands))


def test_users_go_with_the_setting() -> None:
    (removal,) = (
        fake.plan(fake.settings()).named("Remove the users of an earlier inventory").commands[1:2]
    )
    assert removal.endswith("/users.py apply")


class Root(Host):
    """A host with users in the inventory, and a stand-in for the half that asks the database."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        run = folder / "run"
        run.write_text(RUN.format(folder=folder))
        run.chmod(0o755)
        self.kept = folder / "users"
        self.values |= {
            "RUN": str(run),
            "USERS": str(folder / "users.json"),
            "USER_PASSWORDS": str(self.kept),
        }
        self.ends_with(0)

    def ends_with(self, status: int) -> None:
        """Let the other half end so from now on."""
        (self.folder / "status").write_text(str(status))

    def want(self, **passwords: str | None) -> None:
        """Have an inventory with these users."""
        users = {name: {"password": password} for name, password in passwords.items()}
        Path(self.values["USERS"]).write_text(json.dumps({"roles": {}, "users": users}))

    def given(self) -> Any:
        """What the other half was given last."""
        return json.loads((self.folder / "given").read_text())

    def files(self) -> dict[str, str]:
        """The passwords that root can read."""
        return {path.name: path.read_text().strip() for path in self.kept.glob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A host."""
    return Root(tmp_path)


def test_the_host_makes_passwords_that_only_root_can_read(root: Root) -> None:
    root.want(ada=None, bob="given")
    assert "have a password of the host's" in root.check("users.py")
    assert not root.kept.exists()
    assert root.apply("users.py") == ""
    (password,) = root.files().values()
    assert len(password) > 20 and [*root.files()] == ["ada"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (root.kept, root.kept / "ada")]
    assert modes == [0o700, 0o600]
    assert (root.given()["passwords"], root.given()["renewed"]) == ({"ada": password}, ["ada"])
    assert root.check("users.py") == "" and root.apply("users.py") == ""
    # It counts for a user who is not there, and a later one of the person stays.
    assert (root.given()["passwords"], root.given()["renewed"]) == ({"ada": password}, [])
    assert root.files() == {"ada": password}
    assert password not in (root.folder / "arguments").read_text()


def test_a_password_that_the_database_did_not_get_is_given_again(root: Root) -> None:
    root.want(ada=None)
    root.ends_with(1)
    assert root.run("users.py", "apply").returncode == 1
    password = root.given()["passwords"]["ada"]
    assert root.files() == {}
    root.ends_with(0)
    assert "have a password of the host's" in root.check("users.py")
    assert root.apply("users.py") == ""
    assert root.given()["renewed"] == ["ada"] and root.files() == {"ada": password}


def test_a_password_goes_with_its_user_or_with_one_of_the_inventory(root: Root) -> None:
    root.want(ada=None, bob=None)
    assert root.apply("users.py") == ""
    root.want(bob=None)
    assert root.apply("users.py") == "" and [*root.files()] == ["bob"]
    root.want(bob="given")
    assert root.apply("users.py") == "" and not root.kept.exists()
    assert root.check("users.py") == ""


def test_a_difference_in_the_database_is_one(root: Root) -> None:
    root.want(ada="given")
    root.ends_with(1)
    assert root.run("users.py", "check").returncode == 1

"""sync-users.py check|apply < STATE: Airflow's database has the roles and the users that STATE has
as JSON, and no other user of the group GROUP, which marks those that the deploy made. Users that
people made stay as they are. Written by the deploy of Airflow; users.py starts it by way of run, in
Airflow's virtual environment.

Passwords are secret, so only names are printed.
"""

import json
import sys
from typing import Any

from airflow.providers.fab.auth_manager.models import Group, Resource, Role, User
from airflow.utils.session import create_session
from lib import fail, usage
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from werkzeug.security import check_password_hash

# The group gives no rights. It is in the database, so that a restored database has its own marks.
GROUP, LABEL = "inventory", "Users whom the deploy makes, corrects and removes"
FIELDS = ("email", "first_name", "last_name")
# Airflow itself gives this to each role when it starts.
HOME = ("can_read", "Website")
# The files of DAGs give these to roles, too.
OF_DAGS = ("DAG:", "DAG Run:")

Permissions = set[tuple[str, str]]


def permissions(wanted: dict[str, list[str]]) -> Permissions:
    """The permissions of a role of the inventory, in Airflow's terms."""
    words = {"menu": "menu_access"}
    return {HOME} | {
        (words.get(verb, f"can_{verb}"), resource)
        for resource, verbs in wanted.items()
        for verb in verbs
    }


def permissions_of(role: Role) -> Permissions:
    """The permissions of a role of the database."""
    return {(each.action.name, each.resource.name) for each in role.permissions}


def by_dags(found: Permissions) -> Permissions:
    """Those that a role may have from the files of DAGs."""
    return {each for each in found if each[1].startswith(OF_DAGS)}


def role_differs(session: Session, name: str, wanted: Permissions) -> bool:
    """Whether a role should change, or is not there."""
    role = session.scalars(select(Role).where(Role.name == name)).unique().one_or_none()
    if role is None:
        return True
    found = permissions_of(role)
    return found | wanted != found or found - by_dags(found) - wanted != set()


def user_of(session: Session, name: str) -> User | None:
    """The user with this name. Ends the program if a person made it."""
    found = session.scalar(select(User).where(func.lower(User.username) == name))
    if found is not None and GROUP not in [group.name for group in found.groups]:
        fail(
            f"web_users: the web page has a user {name} that the deploy did not make: choose"
            f" another name, delete the user, or put it into the group {GROUP} of the web page"
        )
    return found


def password_of(name: str, state: dict[str, Any]) -> str | None:
    """The password that a user who exists should have; None for the one it has."""
    made: str | None = state["passwords"].get(name) if name in state["renewed"] else None
    given: str | None = state["users"][name]["password"]
    return given or made


def user_differs(user: User, wanted: dict[str, Any], password: str | None) -> bool:
    """Whether a user of the database should change."""
    return (
        any(wanted[each] not in (None, getattr(user, each)) for each in FIELDS)
        or {role.name for role in user.roles} != {*wanted["roles"]}
        or (password is not None and not check_password_hash(user.password or "", password))
    )


def surplus(session: Session, names: set[str]) -> list[User]:
    """Users of an earlier inventory."""
    group = session.scalar(select(Group).where(Group.name == GROUP))
    # Airflow takes Ada and ada for one user.
    return [user for user in group.users if user.username.lower() not in names] if group else []


def differences(session: Session, state: dict[str, Any]) -> list[str]:
    """The roles and users that should change."""
    found = [
        f"role {name}"
        for name, wanted in state["roles"].items()
        if role_differs(session, name, permissions(wanted))
    ]
    for name, wanted in state["users"].items():
        user = user_of(session, name)
        if user is None or user_differs(user, wanted, password_of(name, state)):
            found.append(f"user {name}")
    return found + [f"user {user.username}" for user in surplus(session, {*state["users"]})]


def write_role(manager: Any, name: str, wanted: Permissions) -> None:
    """Give a role its permissions."""
    known = {*manager.session.scalars(select(Resource.name))}
    for resource in sorted({each[1] for each in wanted} - known):
        if not resource.startswith(OF_DAGS):
            names = ", ".join(sorted(known))
            fail(f"web_roles: {name}: Airflow has no {resource}: it has {names}")
    role = manager.find_role(name) or manager.add_role(name)
    kept = [each for each in role.permissions if each.resource.name.startswith(OF_DAGS)]
    given = [manager.create_permission(*each) for each in sorted(wanted)]
    role.permissions = [*given, *(each for each in kept if each not in given)]
    manager.session.commit()


def write_user(manager: Any, name: str, wanted: dict[str, Any], state: dict[str, Any]) -> None:
    """Make a user, or correct it."""
    session = manager.session
    roles = [manager.find_role(role) for role in wanted["roles"]]
    password = password_of(name, state)
    user = user_of(session, name)
    email = wanted["email"] or f"{name}@localhost"
    others = select(User).where(User.email == email, func.lower(User.username) != name)
    if (user is None or wanted["email"]) and (other := session.scalar(others)):
        fail(f"web_users: {name} has the email of {other.username}: write another one")
    if user is None:
        group = session.scalar(select(Group).where(Group.name == GROUP))
        manager.add_user(
            name,
            name if wanted["first_name"] is None else wanted["first_name"],
            wanted["last_name"] or "",
            email,
            roles,
            password=password or state["passwords"][name],
            groups=[group or Group(name=GROUP, label=LABEL)],
        )
        return
    if not user_differs(user, wanted, password):
        return
    for each in FIELDS:
        if wanted[each] is not None:
            setattr(user, each, wanted[each])
    user.roles = roles
    session.commit()
    if password is not None and not check_password_hash(user.password or "", password):
        # Everybody who used the earlier password is logged out.
        manager.reset_password(user.id, password)


def remove_user(manager: Any, user: User) -> None:
    """Delete a user, who is logged out."""
    manager.reset_user_sessions(user)
    user.roles, user.groups = [], []
    manager.session.delete(user)
    manager.session.commit()


def apply(state: dict[str, Any]) -> None:
    """Make the database equal; Airflow's own roles are there afterwards, too."""
    # It takes seconds to load.
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager = builder.sm
        for name, wanted in state["roles"].items():
            if role_differs(manager.session, name, permissions(wanted)):
                write_role(manager, name, permissions(wanted))
        # Deleted users first: another user may have the mail address now.
        for user in surplus(manager.session, {*state["users"]}):
            remove_user(manager, user)
        for name, wanted in state["users"].items():
            try:
                write_user(manager, name, wanted, state)
            except Exception as error:
                # The text of PostgreSQL's error has the values; Airflow wraps some.
                cause = error.__cause__ or error
                if not isinstance(cause, DBAPIError):
                    raise
                fail(f"web_users: {name}: {cause.orig.diag.message_primary or 'refused'}")


def main() -> None:
    """Compare, or change."""
    if sys.argv[1:] not in (["check"], ["apply"]):
        usage()
    state = json.load(sys.stdin)
    if sys.argv[1] == "apply":
        apply(state)
        return
    with create_session() as session:
        if found := differences(session, state):
            fail(f"these differ from the inventory: {', '.join(found)}")


if __name__ == "__main__":
    main()

"""Replace a key or a password of several hosts that are one Airflow:

    pyinfra INVENTORY tasks.day2.rotate.secret NAME

A host that is alone has the command airflow-rotate, whose steps these are. The first host makes the
new secret, and the others get it from there. Between two steps all services that hold the secret
restart on one host after the other, so each host can read the tokens and the data of the others. A
run that was cut off is continued by the next one, also without the first host: the others have the
files of a change, too, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyinfra import host
from pyinfra.api import DeployError, deploy
from pyinfra.facts.server import Command

from tasks import preflight
from tasks.day2 import smoke_test
from tasks.layout import ROTATE
from tasks.lib import connection, groups, members, progress, shell, terminal
from tasks.lib.operations import run_unless
from tasks.settings import HostSettings


@deploy("Rotate")
def secret(kind: str) -> None:
    """All hosts have a new secret of this kind, and the old one is not accepted any more."""
    terminal.show_only_text()
    progress.show()
    connection.disable_nagle()
    shell.use({})
    groups.end_with_the_first_failure()
    groups.check()
    given = groups.settings()
    if given.serves:
        return  # the secrets are those of Airflow's hosts
    if not given.members:
        raise DeployError(f"{host.name} is alone: run sudo airflow-rotate {kind} there")
    if kind not in KINDS:
        raise DeployError(
            f"there is no secret {kind}, there are: {', '.join(KINDS)}. Let the admin of a"
            " database, a registry or a store set its new login there, write it into the inventory,"
            " and deploy at once"
        )
    settings = preflight.check(given)
    if host.get_fact(Command, command="systemctl is-active airflow.target || true") != "active":
        raise DeployError(f"Airflow is stopped on {host.name}: deploy first; nothing was changed")
    shell.use(settings.environment)
    # A host with the packages or the configuration of another deploy can't be one of them.
    members.agree(name="Compare configuration and packages with the first host's")
    KINDS[kind](settings)
    smoke_test.run(settings)  # if the way to the cluster has changed


def _fernet_key(settings: HostSettings) -> None:
    """First all hosts can read with the new key too, then they encrypt with it."""
    kind = "fernet-key"
    _of_first(settings, "Make a new fernet-key", "begin", kind)
    _copy("Copy both keys, the old one first")
    _restart("Let Airflow read with both keys")
    _of_first(settings, "Put the new fernet-key first", "switch", kind)
    _copy("Copy both keys, the new one first")
    _restart("Let Airflow encrypt with the new fernet-key")
    _of_first(settings, "Encrypt all data with the new fernet-key", "encrypt", kind)
    _copy("Copy the new fernet-key alone")
    _of_all("Record the git repositories' connections as they are encrypted now", "record", kind)
    _restart("Let Airflow forget the old fernet-key")
    _end_of_all(settings, kind)


def _jwt_secret(settings: HostSettings) -> None:
    """First all hosts accept tokens of the new secret too, then they sign with it."""
    kind = "jwt-secret"
    _of_first(settings, "Make a new jwt-secret", "begin", kind)
    members.copy_from_first(name="Copy the keys to accept", kind="rotation")
    _of_all("Let the api-server accept both secrets", "accept-both", kind)
    _restart("Restart the api-servers with both secrets")
    _of_first(settings, "Use the new jwt-secret", "switch", kind)
    _copy("Copy the new jwt-secret")
    _restart("Let Airflow sign with the new jwt-secret")
    _of_all("Wait until no token of the old secret is valid (about 10 minutes)", "wait", kind)
    _of_all("Let the api-server accept the new secret only", "accept-one", kind)
    _restart("Restart the api-servers with the new secret")
    _end_of_all(settings, kind)


def _api_secret_key(settings: HostSettings) -> None:
    """Flask signs and reads with one key only, so until the last host has restarted, a page of the
    login that another host has signed asks for a login again."""
    kind = "api-secret-key"
    _of_first(settings, "Make a new api-secret-key", "begin", kind)
    _of_first(settings, "Use the new api-secret-key", "switch", kind)
    _copy("Copy the new api-secret-key")
    _restart("Let Airflow sign with the new api-secret-key")
    _end_of_all(settings, kind)


def _cluster_token(settings: HostSettings) -> None:
    """All hosts have the same accounts in the cluster, and new accounts end the tokens of all. So
    no host makes pods while that happens; running tasks continue."""
    kind = "cluster-token"
    # A host without a way to the cluster ends the run before another one has stopped.
    _of_all("Ask the cluster on all hosts", "ask", kind)
    _of_all("Stop the schedulers and the triggerers", "stop", kind)
    members.in_step(name="Wait until they have stopped on all hosts")
    _of_first(settings, "Replace Airflow's accounts in the cluster", "replace", kind)
    members.in_step(name="Wait until the cluster has the new accounts")
    _of_all("Get the new tokens of the cluster", "renew", kind)
    _restart("Start the schedulers and the triggerers")


def _admin_password(settings: HostSettings) -> None:
    """The user is in the database; the file tells root of each host its password."""
    _of_first(settings, "Replace the admin-password", "replace", "admin-password")
    _copy("Copy the new admin-password")


KINDS: Mapping[str, Callable[[HostSettings], None]] = {
    "fernet-key": _fernet_key,
    "jwt-secret": _jwt_secret,
    "api-secret-key": _api_secret_key,
    "cluster-token": _cluster_token,
    "admin-password": _admin_password,
}


def _of_first(settings: HostSettings, name: str, step: str, kind: str) -> None:
    if settings.is_first:
        _of_all(name, step, kind)


def _of_all(name: str, step: str, kind: str) -> None:
    run_unless(
        name=name,
        test=f"{ROTATE} check {step} {kind}",
        commands=[f"{ROTATE} apply {step} {kind}"],
        already="it is done, or another step comes first",
    )


def _end_of_all(settings: HostSettings, kind: str) -> None:
    """The first host goes last: as long as it has the files of a change, that is under way."""
    test = "true" if settings.is_first else f"{ROTATE} check end {kind}"
    run_unless(
        name=f"Remove the old {kind} from the other hosts",
        test=test,
        commands=[f"{ROTATE} apply end {kind}"],
        already="it is gone there, or this is the first host",
    )
    members.in_step(name=f"Wait until no other host has the old {kind}")
    _of_first(settings, f"End the change of the {kind}", "end", kind)


def _copy(name: str) -> None:
    members.copy_from_first(name=name, kind="secrets")


def _restart(name: str) -> None:
    members.ensure_in_turn(
        name=f"{name}, one host after the other",
        program="services.sh",
        already="its services run with their inputs as they are",
    )

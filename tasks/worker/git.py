"""Git repositories with DAGs: what must be known of them before and after Airflow reads them."""

from __future__ import annotations

import shlex
from itertools import product

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks.layout import BUNDLES, CONTROL_USER, DAGS_USER, GIT_CONNECTIONS, HOMES, RUN, STATE
from tasks.lib.operations import settled
from tasks.settings import HostSettings
from tasks.settings.types import digest
from tasks.worker import dags

PROGRAM = "/usr/local/lib/airflow/ask-git"
ASKED = f"{STATE}/git-asked"  # with which settings and connections all repositories answered


def connections(settings: HostSettings) -> list[str]:
    """Ids of the connections with which repositories are read."""
    found = {bundle.connection for bundle in settings.dags.git_bundles.values()}
    return sorted(name for name in found if name)


@deploy("Git")
def prepare(settings: HostSettings) -> None:
    """The dag-processor will start with these repositories and connections."""
    if settings.dags.git_bundles:
        _forget_unfit_clones(settings)
    if names := connections(settings):
        wanted = ", ".join(f"'{name}'" for name in names)
        # What is secret in there is encrypted, and the checksum differs with each time it is saved.
        query = (
            "select conn_id, md5(connection::text) from connection"
            f" where conn_id in ({wanted}) order by 1"
        )
        now = f"runuser -u postgres -- psql -XAtqd airflow -c {shlex.quote(query)}"
        settled(
            # The dag-processor asks for a connection only when it starts.
            name="Note the connections of the git repositories",
            test=f"{now} | cmp -s - {GIT_CONNECTIONS}",
            commands=[
                f"{now} > {GIT_CONNECTIONS}.new && mv {GIT_CONNECTIONS}.new {GIT_CONNECTIONS}"
            ],
            because="they are those that the dag-processor is to start with",
        )


def _forget_unfit_clones(settings: HostSettings) -> None:
    """Airflow would go on asking the address that it cloned a bundle from, and would never find a
    branch that came after its clone: https://github.com/apache/airflow/issues/71388."""
    tests = {}
    users = [DAGS_USER, *([CONTROL_USER] if settings.airflow.tasks_on_host else [])]
    for user, (name, bundle) in product(users, settings.dags.git_bundles.items()):
        folder, branch = f"{HOMES[user]}/{BUNDLES}/{name}", bundle.branch
        config, known = f"{folder}/bare/config", f"git -C {folder}/tracking_repo rev-parse"
        tests[folder] = (
            f"{{ test ! -e {config} || git config -f {config} remote.origin.url"
            f" | grep -qxF {shlex.quote(bundle.url)}; }} && {{ test ! -e {folder}/tracking_repo ||"
            f" runuser -u {user} -- sh -c '{known} --verify --quiet origin/{branch} ||"
            f" {known} --verify --quiet {branch}' >/dev/null; }}"
        )
    settled(
        name="Forget clones of other repositories and of fewer branches",
        test=" && ".join(tests.values()),
        commands=[f"{{ {test}; }} || rm -rf {folder}" for folder, test in tests.items()],
        because="all are of the addresses that the settings name, and have the branches",
    )


@deploy("Git")
def verify(settings: HostSettings) -> None:
    """Each repository let Airflow in, and has the branch and the folder."""
    if not settings.dags.git_bundles:
        return
    files.put(
        name="Write what asks the git repositories", src=f"files{PROGRAM}", dest=PROGRAM, mode="644"
    )
    # Only what was never asked: a server that is down for a while is no reason to fail.
    state = f"echo {digest(dags.bundles(settings))} | cat - $(ls {GIT_CONNECTIONS} 2>/dev/null)"
    settled(
        name="Ask the git repositories for their DAGs",
        test=f"{state} | cmp -s - {ASKED}",
        commands=[f"{RUN} python {PROGRAM}", f"{state} > {ASKED}.new && mv {ASKED}.new {ASKED}"],
        because="they answered with these settings",
    )

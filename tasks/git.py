"""Git repositories with DAGs: what must be known of them before and after Airflow reads them."""

from __future__ import annotations

import shlex

from pyinfra.api import deploy
from pyinfra.operations import files

from tasks import dags
from tasks.airflow import BUNDLES, RUN
from tasks.operations import settled
from tasks.settings import MEMORY, Settings, digest

PROGRAM = "/usr/local/lib/airflow/ask-git"
# The connections of the repositories as the dag-processor was given them: a checksum each.
CONNECTIONS = f"{MEMORY}/git-connections"
ASKED = f"{MEMORY}/git-asked"  # with which settings and connections all repositories answered


def connections(settings: Settings) -> list[str]:
    """Ids of the connections with which repositories are read."""
    found = {bundle.connection for bundle in settings.airflow_git_bundles.values()}
    return sorted(name for name in found if name)


@deploy("Git")
def prepare(settings: Settings) -> None:
    """The dag-processor will start with these repositories and connections."""
    if settings.airflow_git_bundles:
        _forget_other_repositories(settings)
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
            test=f"{now} | cmp -s - {CONNECTIONS}",
            commands=[f"{now} > {CONNECTIONS}.new && mv {CONNECTIONS}.new {CONNECTIONS}"],
            because="they are those that the dag-processor is to start with",
        )


def _forget_other_repositories(settings: Settings) -> None:
    """Airflow would go on asking the address that it cloned a bundle from."""
    tests = {}
    for name, bundle in settings.airflow_git_bundles.items():
        config = f"{BUNDLES}/{name}/bare/config"
        tests[f"{BUNDLES}/{name}"] = (
            f"test ! -e {config} ||"
            f" git config -f {config} remote.origin.url | grep -qxF {shlex.quote(bundle.url)}"
        )
    settled(
        name="Forget repositories that bundles had before",
        test=" && ".join(f"{{ {test}; }}" for test in tests.values()),
        commands=[f"{test} || rm -rf {folder}" for folder, test in tests.items()],
        because="all are of the addresses that the settings name",
    )


@deploy("Git")
def ask(settings: Settings) -> None:
    """Each repository let Airflow in, and has the branch and the folder."""
    if not settings.airflow_git_bundles:
        return
    files.put(
        name="Write what asks the git repositories", src=f"files{PROGRAM}", dest=PROGRAM, mode="644"
    )
    # Only what was never asked: a server that is down for a while is no reason to fail.
    state = f"echo {digest(dags.bundles(settings))} | cat - $(ls {CONNECTIONS} 2>/dev/null)"
    settled(
        name="Ask the git repositories for their DAGs",
        test=f"{state} | cmp -s - {ASKED}",
        commands=[f"{RUN} python {PROGRAM}", f"{state} > {ASKED}.new && mv {ASKED}.new {ASKED}"],
        because="they answered with these settings",
    )

"""All that makes dag-processor and triggerer write to the database; for the end-to-end tests."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.triggers.file import FileDeleteTrigger
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import Asset, AssetWatcher, BaseOperator, Variable, dag, task

# The triggerer deletes it and says so: an event of the asset, which starts a run.
WATCHED = Path("/var/lib/airflow-dags/e2e-rights")
asset = Asset(
    "e2e_rights",
    watchers=[
        AssetWatcher(name="file", trigger=FileDeleteTrigger(filepath=str(WATCHED), poke_interval=1))
    ],
)


def tell(context: Any) -> None:
    """Called by the dag-processor when the run has failed."""
    Variable.set("e2e_rights", f"called back for {context['run_id']}")


class Deferred(BaseOperator):
    """Waits in the triggerer."""

    def execute(self, context: Any) -> None:
        """Defer for two seconds."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=2)), method_name="go_on")

    def go_on(self, context: Any, event: Any = None) -> None:
        """End."""
        print("went on after", event)


@dag(schedule=None, catchup=False)
def e2e_rights_deferred() -> None:
    """A task that waits in the triggerer."""
    Deferred(task_id="wait")


@dag(schedule=[asset], catchup=False, is_paused_upon_creation=False, tags=["e2e"])
def e2e_rights_asset() -> None:
    """Runs when the file is gone."""

    @task(outlets=[Asset("e2e_rights_made")])
    def make() -> None:
        print("made")

    make()


@dag(schedule=None, catchup=False, on_failure_callback=tell)
def e2e_rights_callback() -> None:
    """Fails, which calls back."""
    BashOperator(task_id="fail", bash_command="exit 1")


e2e_rights_deferred()
e2e_rights_asset()
e2e_rights_callback()
